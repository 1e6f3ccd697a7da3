"""AMQP 0-8: ``import amqplib.client_0_8 as amqp``.

This is the client for programs that were written for amqplib 1.0.2. It works with RabbitMQ up to
version 3.13; for RabbitMQ 4 and newer, import amqplib.client_0_9_1 instead.
"""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from amqplib.client_0_8.publisher import Publisher

__all__ = ['Channel', 'Connection', 'Message', 'Publisher', 'reconnecting']
__all__ += exceptions.__all__


def __getattr__(name: str) -> Any:
    # Imported only by programs that use it.
    if name == 'Publisher':
        from amqplib.client_0_8.publisher import Publisher  # noqa: PLC0415

        return Publisher
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
