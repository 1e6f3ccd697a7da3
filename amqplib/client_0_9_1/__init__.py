"""AMQP 0-9-1: ``import amqplib.client_0_9_1 as amqp``.

This is the client for new programs: it works with every RabbitMQ, including version 4, which
refuses 0-8. It has the names of amqplib.client_0_8, plus what this version of the protocol adds.
"""

from typing import TYPE_CHECKING, Any

# So that `amqp.transport` and the like are found as in client_0_8.
from amqplib.client_0_9_1 import exceptions, method_framing, serialization, transport  # noqa: F401
from amqplib.client_0_9_1.basic_message import Message
from amqplib.client_0_9_1.channel import Channel
from amqplib.client_0_9_1.connection import Connection, reconnecting
from amqplib.core import abstract_channel  # noqa: F401
from amqplib.exceptions import *  # noqa: F403

if TYPE_CHECKING:
    from amqplib.client_0_9_1.publisher import Publisher

__all__ = ['Channel', 'Connection', 'Message', 'Publisher', 'reconnecting']
__all__ += exceptions.__all__


def __getattr__(name: str) -> Any:
    # Imported only by programs that use it.
    if name == 'Publisher':
        from amqplib.client_0_9_1.publisher import Publisher  # noqa: PLC0415

        return Publisher
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
