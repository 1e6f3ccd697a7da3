"""Published messages, and their places in queues."""

from __future__ import annotations

import re
from typing import Any, Optional

from amqplib.core.memoize import lru_cache
from amqplib.core.message import Message
from amqplib.core.raw_values import join_properties, join_table, split_properties, split_table
from amqplib.core.serialization import encode_shortstr
from amqplib.core.spec import INTERNAL_ERROR
from amqplib.testing.arguments import MAX_TIME, type_of
from amqplib.testing.errors import Refusal, precondition_failed

#: What a message is taken to occupy besides its body and properties, in bytes.
OVERHEAD = 400
#: The largest body, in bytes; RabbitMQ 3 has this limit.
MAX_MESSAGE = 128 * 1024 * 1024
_NUMBER = re.compile('[+-]?[0-9]+')


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
        number = _NUMBER.match(text)
        if number is None:
            raise precondition_failed(f"invalid expiration '{text}': no_integer")
        rest, milliseconds = text[number.end() :], int(number[0])
        if rest:
            raise precondition_failed(
                f'invalid expiration \'{text}\': {{leftover_string,"{rest}"}}'
            )
        if milliseconds < 0:
            wrong = f'{{value_negative,{milliseconds}}}'
            raise precondition_failed(f"invalid expiration '{text}': {wrong}")
        return min(milliseconds, MAX_TIME) / 1000


def _keys_in(headers: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return the routing keys in a header CC or BCC."""
    keys = headers.get(name, [])
    if not isinstance(keys, list):
        wrong = f'{{unacceptable_type_in_header,"{name}",{type_of(keys)}}}'
        raise precondition_failed(f'invalid message: {wrong}')
    return tuple(key for key in keys if isinstance(key, str))


def without_header(properties: bytes, name: str) -> bytes:
    """Return a property list without a header."""
    values = split_properties(properties)
    headers = split_table(values['application_headers'])
    headers.pop(encode_shortstr(name), None)
    values['application_headers'] = join_table(headers)
    return join_properties(values)


#: The properties of most messages are those of an earlier one.
properties_of = lru_cache(maxsize=256)(Properties)


#: An entry of x-death.
Death = dict[str, Any]

#: Routing keys that receivers may see, and those that they may not.
Keys = tuple[tuple[str, ...], tuple[str, ...]]


class Published:
    """A message as it was published; it may be in several queues.

    exchange, routing_key: where it was published to.
    keys: the keys by which it is routed: its own with those in its header CC, and those in BCC.
    content: its body and raw properties, as they are sent.
    size: what counts as its size, in bytes.
    deaths: where it was a dead letter before, the latest first.
    """

    __slots__ = (
        'content',
        'deaths',
        'exchange',
        'keys',
        'properties',
        'routing_key',
        'size',
    )

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        content: Message,
        deaths: tuple[Death, ...] = (),
        keys: Optional[Keys] = None,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.content = content
        raw = content.raw_properties or b''
        self.properties = properties = properties_of(raw)
        if properties.hidden:
            self.content = Message.received(without_header(raw, 'BCC'), content.body)
        self.keys = keys or ((routing_key, *properties.copies), properties.hidden)
        self.size = len(content.body)
        self.deaths = deaths

    @property
    def routing_keys(self) -> tuple[str, ...]:
        """All keys by which it is routed."""
        visible, hidden = self.keys
        return visible + hidden

    @property
    def cost(self) -> int:
        """What it is taken to occupy, in bytes."""
        return self.size + len(self.properties.raw) + OVERHEAD

    def copy(self) -> Message:
        """Return a copy of the message, which a program may change."""
        copy = Message.received(self.content.raw_properties or b'', self.content.body)
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

    def has_expired(self, now: float, now_too: bool) -> bool:
        """Return whether it has expired before a moment, or at it too."""
        if self.expires is None:
            return False
        return self.expires <= now if now_too else self.expires < now

    def __lt__(self, other: Entry) -> bool:
        return self.position < other.position
