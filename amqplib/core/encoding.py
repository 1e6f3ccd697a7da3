"""A method with its content, as frames (specification 4.2).

A frame::

    octet   short     long    size octets   octet
    +------+---------+-------+-------------+------+
    | type | channel | size  | payload     | 0xCE |
    +------+---------+-------+-------------+------+

A method is one method frame. If it has content, one header frame follows on the same channel,
and then body frames until the announced number of bytes is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, Callable, Optional, Union

from amqplib.core.arguments import encode_publish
from amqplib.core.memoize import lru_cache
from amqplib.core.spec import (
    CONTENT_START,
    FRAME_BODY,
    FRAME_END,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    FRAME_MIN_SIZE,
    FRAME_OVERHEAD,
    FRAME_START,
    HEADER_START,
)

if TYPE_CHECKING:
    from amqplib.core.message import Message
    from amqplib.core.serialization import BytesLike

    #: The data for one write: bytes, or pieces that are not worth joining.
    Frames = Union[bytes, list[BytesLike]]

#: With at most this many bytes of arguments, properties and body, a method takes the fast path.
SMALL = FRAME_MIN_SIZE - FRAME_OVERHEAD - CONTENT_START.size
#: With at most this many bytes of body, the frames are joined; else they are sent as pieces.
MAX_JOINED = 32768

_TYPE_AND_CHANNEL = Struct('>BH')
_NO_WEIGHT = b'\0\0'
#: The frame of an acknowledgement, the same as from an Encoder, but by a single call: frame type,
#: channel, size, class and method id, delivery tag, a bit, frame end.
_ACKNOWLEDGEMENT = Struct('>BHI4sQBB')
pack_acknowledgement = _ACKNOWLEDGEMENT.pack
ACKNOWLEDGEMENT_SIZE = _ACKNOWLEDGEMENT.size - FRAME_OVERHEAD
END = bytes((FRAME_END,))

HEARTBEAT_FRAME = FRAME_START.pack(FRAME_HEARTBEAT, 0, 0) + END


class Encoder:
    """Makes frames of methods.

    frame_max: the largest frame, in bytes.
    """

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max

    def frames(self, channel: int, payload: bytes, content: Optional[Message] = None) -> Frames:
        """Return the frames of a method and its content; large ones as a list of pieces.

        payload: class id, method id and arguments.

        Raises ValueError or TypeError if the properties cannot be encoded or a frame would be too
        large.
        """
        if content is None:
            return self.method_frame(channel, payload)
        body = content.encode_body()
        return self.frames_of(channel, payload, content.encode_properties(), body)

    def publish_frames(
        self,
        channel: int,
        content: Message,
        ticket: int,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
    ) -> Frames:
        """Return the frames of basic.publish, like frames(), but with less work for small bodies.

        Raises TypeError also if an argument is not hashable.
        """
        body = content.body
        if type(body) is not bytes:
            body = content.encode_body()
        properties = content.raw_properties
        if properties is None:
            properties = content.encode_properties()
        size = len(body)
        if size and size + len(properties) <= SMALL:
            pack, first, second, room = _small_publish(
                channel, ticket, exchange, routing_key, mandatory, immediate, properties
            )
            # No check against frame_max: every frame is smaller than its minimum.
            if size <= room:
                small: bytes = pack(first, size, second, size) + body + END
                return small
        payload = encode_publish(ticket, exchange, routing_key, mandatory, immediate)
        return self.frames_of(channel, payload, properties, body)

    def method_frame(self, channel: int, payload: bytes) -> bytes:
        """Return the frame of a method; raise ValueError if it would be too large."""
        if len(payload) > self.frame_max - FRAME_OVERHEAD:
            self.check_size(len(payload), 'arguments')
        return FRAME_START.pack(FRAME_METHOD, channel, len(payload)) + payload + END

    def frames_of(self, channel: int, payload: bytes, properties: bytes, body: BytesLike) -> Frames:
        """Return the frames of a method and its content, whose properties are encoded already."""
        head = self.method_frame(channel, payload)
        self.check_size(CONTENT_START.size + len(properties), 'properties')
        pieces = [head, *self._content_pieces(channel, payload[:2], properties, body)]
        return b''.join(pieces) if len(body) <= MAX_JOINED else pieces

    def check_size(self, size: int, what: str) -> None:
        """Raise ValueError if the payload of a frame would be too large."""
        largest = self.frame_max - FRAME_OVERHEAD
        if size > largest:
            text = f'the {what} take {size} bytes, more than fit into a frame ({largest})'
            raise ValueError(text)

    def _content_pieces(
        self, channel: int, class_id: bytes, properties: bytes, body: BytesLike
    ) -> Iterator[BytesLike]:
        """Return the header frame and the body frames, without copying the body."""
        size = CONTENT_START.size + len(properties)
        header = HEADER_START.pack(FRAME_HEADER, channel, size, class_id, 0, len(body))
        yield header + properties + END
        largest = self.frame_max - FRAME_OVERHEAD
        view = memoryview(body)
        end = b''
        for start in range(0, len(body), largest):
            piece = view[start : start + largest]
            yield end + FRAME_START.pack(FRAME_BODY, channel, len(piece))
            yield piece
            end = END
        yield end


def method_frame(channel: int, payload: bytes) -> bytes:
    """Return the frame of a method that is known to fit into any frame."""
    return FRAME_START.pack(FRAME_METHOD, channel, len(payload)) + payload + END


@lru_cache(maxsize=256)
def _small_publish(
    channel: int,
    ticket: int,
    exchange: str,
    routing_key: str,
    mandatory: bool,
    immediate: bool,
    properties: bytes,
) -> tuple[Callable[..., bytes], bytes, bytes, int]:
    """Return the parts of the frames of basic.publish with a small body.

    The returned function packs the first piece, the size of the body, the second piece and the size
    again; body and end byte follow. The number is the size up to which a body is small. All this is
    cached because most messages resemble earlier ones.
    """
    payload = encode_publish(ticket, exchange, routing_key, mandatory, immediate)
    first = _up_to_body_size(channel, payload, len(properties))
    second = properties + _from_frame_end(channel)
    room = SMALL - len(payload) - len(properties)
    return _two_pieces(len(first), len(second)).pack, first, second, room


def frames_with_gap(
    channel: int, payload: bytes, before: bytes, gap: int, after: bytes
) -> tuple[Callable[..., bytes], bytes, bytes, bytes]:
    """Return the parts of such frames for properties with a gap, which differs in each message.

    before, after: the properties around the gap.
    gap: its size.

    The returned function packs the first piece, the size of the body, the second piece, what is in
    the gap, the third piece and the size again; body and end byte follow.
    """
    first = _up_to_body_size(channel, payload, len(before) + gap + len(after))
    third = after + _from_frame_end(channel)
    return _three_pieces(len(first), len(before), gap, len(third)).pack, first, before, third


def _up_to_body_size(channel: int, payload: bytes, properties_size: int) -> bytes:
    pieces = (
        FRAME_START.pack(FRAME_METHOD, channel, len(payload)),
        payload,
        END,
        FRAME_START.pack(FRAME_HEADER, channel, CONTENT_START.size + properties_size),
        payload[:2],
        _NO_WEIGHT,
    )
    return b''.join(pieces)


def _from_frame_end(channel: int) -> bytes:
    return END + _TYPE_AND_CHANNEL.pack(FRAME_BODY, channel)


@lru_cache(maxsize=128)
def _two_pieces(first: int, second: int) -> Struct:
    """Return a Struct of two pieces of these sizes, with the size of a body after each."""
    return Struct(f'>{first}sQ{second}sI')


@lru_cache(maxsize=128)
def _three_pieces(first: int, second: int, gap: int, third: int) -> Struct:
    return Struct(f'>{first}sQ{second}s{gap}s{third}sI')
