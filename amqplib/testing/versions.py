"""The versions of AMQP, seen from the broker: which method is handled by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Optional

import amqplib
from amqplib.client_0_8 import spec as spec_0_8
from amqplib.client_0_9_1 import spec as spec_0_9_1
from amqplib.core.arguments import Decoder, Decoders, Encoders
from amqplib.core.message import Message
from amqplib.core.spec import Method, Protocol, Signature

#: (channel or session, values of the fields, content) -> values of the reply, or None.
Handle = Callable[[Any, tuple[Any, ...], Optional[Message]], Optional[tuple[Any, ...]]]

MECHANISMS = 'PLAIN AMQPLAIN'
LOCALES = 'en_US'


class Handling:
    """How a method is handled.

    reply: the name of the method with which the values that handle() returns are sent.
    """

    __slots__ = ('decode', 'handle', 'reply', 'row')

    def __init__(self, row: Method, decode: Decoder, handle: Handle, reply: str) -> None:
        self.row = row
        self.decode = decode
        self.handle = handle
        self.reply = reply


class Version:
    """A version of AMQP.

    numbers: as in connection.start.
    capabilities: what the broker announces.
    handlers: name of a method -> function(channel or session, *values), for a method with content
        function(channel, content, *values). It returns the values of the reply, or None.
    """

    def __init__(
        self,
        protocol: Protocol,
        numbers: tuple[int, int],
        capabilities: tuple[str, ...],
        handlers: Mapping[str, Callable[..., Any]],
    ) -> None:
        self.protocol = protocol
        self.encoders = Encoders(protocol.methods, protocol.field_types)
        decoders = Decoders(protocol.methods)
        self.handlings: dict[Signature, Handling] = {}
        self._numbers = numbers
        self._capabilities = capabilities
        for name, row in protocol.methods.items():
            if name in handlers:
                reply = protocol.by_signature[row.replies[0]].name if row.replies else name
                handle = _with_content if row.content else _without_content
                self.handlings[row.signature] = Handling(
                    row, decoders[name], handle(handlers[name], row), reply
                )

    def start(self) -> tuple[Any, ...]:
        """Return the values of connection.start."""
        properties = {
            'product': 'amqplib.testing',
            'version': amqplib.__version__,
            'platform': 'Python',
            'information': 'A broker for tests, not for production',
            'capabilities': dict.fromkeys(self._capabilities, True),
        }
        return (*self._numbers, properties, MECHANISMS, LOCALES)


def _with_content(handler: Callable[..., Any], row: Method) -> Handle:
    return lambda target, values, content: handler(target, content, *values)


def _without_content(handler: Callable[..., Any], row: Method) -> Handle:
    names = [name for name, _ in row.fields]
    if 'nowait' not in names:
        return lambda target, values, content: handler(target, *values)
    nowait = names.index('nowait')

    def handle(
        target: Any, values: tuple[Any, ...], content: Optional[Message]
    ) -> Optional[tuple[Any, ...]]:
        answer: Optional[tuple[Any, ...]] = handler(target, *values)
        return None if values[nowait] else answer

    return handle


def versions(handlers: Mapping[str, Callable[..., Any]]) -> dict[bytes, Version]:
    """Return protocol header -> version."""
    of_0_8 = Version(spec_0_8.PROTOCOL, (8, 0), (), handlers)
    of_0_9_1 = Version(spec_0_9_1.PROTOCOL, (0, 9), CAPABILITIES, handlers)
    return {
        spec_0_8.PROTOCOL.header: of_0_8,
        b'AMQP\x01\x01\x09\x01': of_0_8,
        spec_0_9_1.PROTOCOL.header: of_0_9_1,
        b'AMQP\x01\x01\x00\x09': of_0_9_1,
    }


#: What the broker announces on 0-9-1; RabbitMQ announces nothing on 0-8.
CAPABILITIES = (
    'publisher_confirms',
    'exchange_exchange_bindings',
    'basic.nack',
    'consumer_cancel_notify',
    'connection.blocked',
    'consumer_priorities',
    'authentication_failure_close',
    'per_consumer_qos',
    'direct_reply_to',
)
