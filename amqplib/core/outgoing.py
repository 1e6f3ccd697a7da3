"""Messages that a Publisher keeps until the broker has them, encoded to be sent again if need be.

Each has a message_id, by which receivers recognize it when it comes twice. If the program has set
none, one is put between the encoded properties; the program's Message stays as it is.
"""

from __future__ import annotations

import os
from itertools import product
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from amqplib.core.arguments import encode_publish
from amqplib.core.encoding import END, SMALL, frames_with_gap
from amqplib.core.memoize import lru_cache
from amqplib.core.message import Message, check_message
from amqplib.core.raw_values import join_properties, split_properties
from amqplib.core.serialization import with_context
from amqplib.core.spec import BASIC_PROPERTIES

if TYPE_CHECKING:
    from amqplib.core.encoding import Encoder, Frames

#: Exchange, routing key, and whether the broker returns the message if no queue takes it.
Place = tuple[str, str, bool]

#: A message that is not settled yet: the Message; where it goes; its properties and its body as
#: they were when it was encoded; its message id in two parts, the first of which is b'' if the
#: program has set it. It is a plain tuple because there is one for each message.
Outgoing = tuple[Message, Place, bytes, bytes, bytes, bytes]

_NAMES = [name for name, _ in BASIC_PROPERTIES]
_AFTER_MESSAGE_ID = _NAMES[_NAMES.index('message_id') + 1 :]

_RANDOM_BYTES = 8
#: Bytes that the hexadecimal digits at the end of a message id stand for: enough for ever.
_END_BYTES = 5
_END_SIZE = 2 * _END_BYTES


class MessageIds:
    """The message ids of a Publisher, encoded as short strings of one size.

    start: how they begin, with the size.
    ends: an iterator of what makes the difference; any number of threads may use it.
    """

    def __init__(self) -> None:
        text = os.urandom(_RANDOM_BYTES).hex().encode() + b'-'
        self.start = bytes((len(text) + _END_SIZE,)) + text
        # Quicker than to format numbers.
        digits = [b'%02x' % byte for byte in range(256)]
        self.ends = map(b''.join, product(digits, repeat=_END_BYTES))


class Plan(NamedTuple):
    """How messages with the same place and the same properties are encoded for a channel.

    before, after: the properties around the end of the message id.
    given_id: the message id that the program has set, encoded as a short string; else b''.
    room: up to this size of the body, the frames are small.
    pack, first, third: see frames_with_gap.
    """

    payload: bytes
    before: bytes
    given_id: bytes
    after: bytes
    room: int
    pack: Callable[..., bytes]
    first: bytes
    third: bytes


def plan(channel: int, place: Place, properties: bytes, start: bytes) -> Plan:
    """Return how to encode messages; raise ValueError or TypeError if that is not possible.

    properties: encoded.
    start: of message ids.
    """
    # What is large would fill the memory.
    make = _plan if len(properties) <= SMALL else _plan.__wrapped__
    return make(channel, place, properties, start)


@lru_cache(maxsize=256)
def _plan(channel: int, place: Place, properties: bytes, start: bytes) -> Plan:
    """Do what plan() does, and remember it: most messages resemble earlier ones."""
    exchange, routing_key, mandatory = place
    payload = encode_publish(0, exchange, routing_key, mandatory, False)
    before, given_id, after = _around_message_id(properties)
    if given_id:
        gap = len(given_id)
    else:
        before, gap = before + start, _END_SIZE
    pack, first, before, third = frames_with_gap(channel, payload, before, gap, after)
    room = SMALL - len(before) - gap - len(after) - len(payload)
    return Plan(payload, before, given_id, after, room, pack, first, third)


def _around_message_id(properties: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what is before a message id, the id if it is there and not empty, and what follows."""
    try:
        values = split_properties(properties)
    except ValueError as error:
        raise with_context(error, 'properties') from None
    given_id = values.get('message_id', b'')
    values['message_id'] = b''
    joined = join_properties(values)
    after = sum(len(values.get(name, b'')) for name in _AFTER_MESSAGE_ID)
    where = len(joined) - after
    return joined[:where], given_id if len(given_id) > 1 else b'', joined[where:]


def encode(message: Message, place: Place, ids: MessageIds) -> Outgoing:
    """Encode a message; raise ValueError or TypeError if it cannot be sent."""
    check_message(message)
    body = bytes(message.encode_body())
    properties = message.encode_properties()
    try:
        given_id = plan(1, place, properties, ids.start).given_id
    except TypeError:
        exchange, routing_key, mandatory = place
        encode_publish.__wrapped__(0, exchange, routing_key, mandatory, False)
        raise
    if given_id:
        return message, place, properties, body, b'', given_id
    return message, place, properties, body, ids.start, next(ids.ends)


def given_key(outgoing: Outgoing) -> Optional[tuple[Place, bytes]]:
    """Return what messages with the same message id have in common; None if theirs is a new one."""
    _, place, _, _, id_start, id_end = outgoing
    return None if id_start else (place, id_end)


def plan_of(outgoing: Outgoing, channel: int) -> Plan:
    """Return how a message is encoded for a channel."""
    _, place, properties, _, id_start, _ = outgoing
    return plan(channel, place, properties, id_start)


def small_frames(outgoing: Outgoing, channel: int) -> Optional[bytes]:
    """Return the frames for a channel if they are small, whatever the largest frame is."""
    body, id_end = outgoing[3], outgoing[5]
    found, size = plan_of(outgoing, channel), len(body)
    if not 0 < size <= found.room:
        return None
    packed: bytes = found.pack(found.first, size, found.before, id_end, found.third, size)
    return packed + body + END


def frames_of(outgoing: Outgoing, channel: int, encoder: Encoder) -> Frames:
    """Return the frames for a channel; raise ValueError if one would be too large."""
    small = small_frames(outgoing, channel)
    if small is not None:
        return small
    found = plan_of(outgoing, channel)
    properties = found.before + outgoing[5] + found.after
    return encoder.frames_of(channel, found.payload, properties, outgoing[3])
