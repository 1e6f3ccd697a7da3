"""Published messages, and their places in queues."""

from __future__ import annotations

from typing import Any, Optional

from amqplib.core.memoize import lru_cache
from amqplib.core.message import Message
from amqplib.core.properties import split_properties
from amqplib.core.serialization import split_table
from amqplib.core.spec import INTERNAL_ERROR
from amqplib.testing.errors import Refusal, precondition_failed

#: What a message is taken to occupy besides its body and properties, in bytes.
OVERHEAD = 400
#: The largest body, in bytes; RabbitMQ 3 has this limit.
MAX_MESSAGE = 128 * 1024 * 1024
MAX_EXPIRATION = 2**32 - 1


class Properties:
    """The properties of a message: as they were published, and what the broker looks at.

    raw: the property flags and list.
    headers: dict; empty if there are none or if they cannot be decoded.
    """

    __slots__ = (
        'copies', 'delivery_mode', 'expiration', 'headers', 'hidden', 'priority', 'raw',
        'reply_to', 'user_id',
    )  # fmt: skip

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        try:
            split_table(split_properties(raw).get('application_headers', b'\0\0\0\0'))
        except ValueError as error:
            raise Refusal(INTERNAL_ERROR, f'the properties cannot be decoded: {error}') from None
        decoded = Message.received(raw, b'').properties
        self.headers: dict[str, Any] = decoded.get('application_headers', {})
        self.expiration: Optional[str] = decoded.get('expiration')
        self.delivery_mode: Optional[int] = decoded.get('delivery_mode')
        self.priority: int = decoded.get('priority') or 0
        self.reply_to: Optional[str] = decoded.get('reply_to')
        self.user_id: Optional[str] = decoded.get('user_id')
        self.copies = _keys_in(self.headers, 'CC')
        self.hidden = _keys_in(self.headers, 'BCC')

    @property
    def time_to_live(self) -> Optional[float]:
        """The expiration in seconds; None if there is none."""
        if self.expiration is None:
            return None
        text = self.expiration
        if not (text.isascii() and text.isdigit() and int(text) <= MAX_EXPIRATION):
            raise precondition_failed(f"invalid expiration '{text}': not a number of milliseconds")
        return int(text) / 1000


def _keys_in(headers: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return the routing keys in a header CC or BCC."""
    keys = headers.get(name, [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise precondition_failed(f'unacceptable type in {name} header: it is not a list of texts')
    return tuple(keys)


#: The properties of most messages are those of an earlier one.
properties_of = lru_cache(maxsize=256)(Properties)


class Published:
    """A message as it was published; it may be in several queues.

    exchange, routing_key: where it was published to.
    routing_keys: all keys by which it is routed: its own, and those in its headers CC and BCC.
    content: its body and raw properties, as they are sent.
    size: what counts as its size, in bytes.
    """

    __slots__ = ('content', 'exchange', 'properties', 'routing_key', 'routing_keys', 'size')

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        content: Message,
        properties: Optional[Properties] = None,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.content = content
        if properties is None:
            properties = properties_of(content.raw_properties)
        self.properties = properties
        self.routing_keys = (routing_key, *properties.copies, *properties.hidden)
        self.size = len(content.body)

    def copy(self) -> Message:
        """Return a copy of the message, which a program may change."""
        copy = Message.received(self.properties.raw, self.content.body)
        copy.delivery_info = {'exchange': self.exchange, 'routing_key': self.routing_key}
        return copy


class Entry:
    """A message in a queue.

    position: its place in the order of the queue.
    expires: the moment when it expires; None for never.
    """

    __slots__ = ('expires', 'message', 'position', 'redelivered')

    def __init__(
        self, message: Published, position: tuple[int, int], expires: Optional[float]
    ) -> None:
        self.message = message
        self.position = position
        self.expires = expires
        self.redelivered = False

    def __lt__(self, other: Entry) -> bool:
        return self.position < other.position

    @property
    def cost(self) -> int:
        """What it is taken to occupy, in bytes."""
        return self.message.size + len(self.message.properties.raw) + OVERHEAD
