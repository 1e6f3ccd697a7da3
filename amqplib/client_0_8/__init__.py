"""AMQP 0-8: ``import amqplib.client_0_8 as amqp``."""

# So that `amqp.exceptions` and the like are found.
from amqplib.client_0_8 import (  # noqa: F401
    abstract_channel,
    basic_message,
    exceptions,
    method_framing,
    serialization,
    transport,
)
from amqplib.client_0_8.basic_message import Message
from amqplib.client_0_8.channel import Channel
from amqplib.client_0_8.connection import Connection, reconnecting
from amqplib.exceptions import *  # noqa: F403

__all__ = ['Channel', 'Connection', 'Message', 'reconnecting']
__all__ += exceptions.__all__
