"""Bytes as methods with their content (specification 4.2; encoding.py draws a frame).

A Decoder does no I/O. Given the same bytes in whatever portions, it finds the same methods or the
same error. Where a large body is to be received without a copy, it hands out the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from io import BytesIO
from struct import Struct
from typing import TYPE_CHECKING, Optional, Union

from amqplib.core.fast_decoding import (
    MAX_HEADER,
    ArrivedMethod,
    Deliveries,
    FastPath,
    Inbox,
    QueuedMethod,
    not_open,
)
from amqplib.core.message import Message
from amqplib.core.spec import (
    CHANNEL_ERROR,
    DELIVER,
    FRAME_BODY,
    FRAME_END,
    FRAME_ERROR,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    FRAME_MIN_SIZE,
    SYNTAX_ERROR,
    UNEXPECTED_FRAME,
)
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import ProtocolError, ProtocolVersionRefused

if TYPE_CHECKING:
    from amqplib.core.spec import Protocol, Signature

__all__ = ['ArrivedMethod', 'Decoder']

#: Room for that many bytes of a body is handed out at least, or for as many as there are already.
ROOM_SIZE = 131072
#: The memory of bodies up to this size is used again.
MAX_REUSED = 2 * 1024 * 1024
#: At least so many bytes of a body have to be missing to be received without a copy.
MIN_DIRECT = 16384

_FRAME = Struct('>BHI')
_SIGNATURE = Struct('>HH')
#: Class, weight (always 0), size of the body.
_CONTENT = Struct('>HHQ')
#: A frame header and what begins a content header.
_HEADER = Struct('>BHI2sHQ')


_new_message = Message.__new__
_new_arguments = AMQPReader.__new__


class _Body:
    """The bytes of a body, as they arrive."""

    def __init__(self) -> None:
        self._buffer = BytesIO()
        self._size = 0
        # How far the buffer may be filled without growing; never less than the size.
        self._capacity = 0

    def add(self, data: Union[bytes, memoryview]) -> None:
        """Take the next bytes."""
        self._buffer.write(data)
        self._size += len(data)
        self._capacity = max(self._capacity, self._size)

    def room(self, wanted: int) -> memoryview:
        """Return memory for up to so many of the next bytes.

        The buffer never grows by more than what it holds, or ROOM_SIZE.
        """
        start = self._size
        end = start + min(wanted, max(start, ROOM_SIZE))
        if end > self._capacity:
            self._buffer.seek(end - 1)
            self._buffer.write(b'\0')
            self._capacity = end
        return self._buffer.getbuffer()[start:end]

    def fill(self, count: int) -> None:
        """Note that so many bytes are in the room."""
        self._size += count
        self._buffer.seek(self._size)

    @property
    def reusable(self) -> bool:
        """Whether its memory should be kept for the next body, as new memory costs more."""
        return self._capacity <= MAX_REUSED

    def take(self) -> bytes:
        """Return the bytes, and begin anew; many are not copied for that."""
        if self.reusable:
            self._buffer.seek(0)
            data = self._buffer.read(self._size)
            self._buffer.seek(0)
            self._size = 0
            return data
        self._buffer.truncate(self._size)
        return self._buffer.getvalue()


class PartialMessage:
    """A method whose content has not all arrived."""

    __slots__ = ('args', 'body', 'missing', 'properties', 'signature')

    def __init__(self, signature: Signature, args: AMQPReader, body: Optional[_Body]) -> None:
        self.signature = signature
        self.args = args
        # None until the content header has come.
        self.properties: Optional[bytes] = None
        # Bytes of the body that are still to come.
        self.missing = 0
        # None if they are not to be kept.
        self.body = body

    def add_header(self, payload: bytes) -> None:
        """Take the content header."""
        if len(payload) < _CONTENT.size + 2:
            raise ProtocolError(SYNTAX_ERROR, 'a content header is too short', self.signature, '')
        content_class, weight, self.missing = _CONTENT.unpack_from(payload)
        if content_class != self.signature[0] or weight:
            text = f'a content header of class {content_class} and weight {weight}'
            raise ProtocolError(UNEXPECTED_FRAME, text, self.signature, '')
        self.properties = payload[_CONTENT.size :]

    def add_body(self, data: memoryview) -> None:
        """Take the next bytes of the body."""
        if self.body is not None:
            self.body.add(data)
        self.missing -= len(data)


class Decoder:
    """Finds methods with their content in the bytes of a connection.

    protocol: the version that is spoken.
    message_class: what contents are made.
    inboxes: channel number -> inbox, which says whether contents are to be collected for it.

    queue: the methods that are complete: (channel, (signature, arguments, content)).
    body_limit: the largest payload of a body frame; what the broker was told, once that is agreed.
    open_frame: the body frame of which only a part has come: its channel, and what is missing.
    fast_paths: the bytes that begin a method -> what takes several such methods at once.
    """

    def __init__(
        self,
        protocol: Protocol,
        message_class: type[Message],
        inboxes: Mapping[int, Inbox],
    ) -> None:
        self.queue: deque[QueuedMethod] = deque()
        self.body_limit = FRAME_MIN_SIZE
        self.fast_paths: dict[bytes, FastPath] = {}
        self.partial_messages: dict[int, PartialMessage] = {}
        self._protocol = protocol
        self._message_class = message_class
        self._inboxes = inboxes
        self._deliveries = Deliveries(message_class, inboxes)
        # What is not decoded yet: the beginning of a frame.
        self._buffer = b''
        # The body that was used last, for the next content that comes in parts.
        self._spare_body: Optional[_Body] = None
        # The first bytes decide whether the peer speaks this protocol at all.
        self._started = False
        self.open_frame: Optional[tuple[int, int]] = None
        self.add_fast_path(self._deliveries)

    def add_fast_path(self, path: FastPath) -> None:
        """Have a kind of method taken by a fast path."""
        self.fast_paths[path.prefix] = path

    @property
    def incomplete(self) -> bool:
        """Whether a part of a method or of its content has come, and the rest has not."""
        return bool(self.partial_messages or self._buffer)

    def is_last(self, channel: int, signature: Signature) -> bool:
        """Return whether this is the method that has become complete last."""
        if not self.queue:
            return False
        last_channel, method = self.queue[-1]
        return last_channel == channel and method[0] == signature

    # Large bodies

    def room(self) -> Optional[memoryview]:
        """Return memory for the next bytes of a large body; None if it is not their turn."""
        if self.open_frame is None:
            return None
        channel, missing = self.open_frame
        partial = self._partial(channel)
        if partial.missing < MIN_DIRECT or not missing or partial.body is None:
            return None
        return partial.body.room(missing)

    def take_room(self, count: int, after: bytes) -> None:
        """Take bytes that were put in the room, and those after them, if it is full."""
        assert self.open_frame is not None
        channel, missing = self.open_frame
        partial = self.partial_messages[channel]
        assert partial.body is not None
        partial.body.fill(count)
        partial.missing -= count
        missing -= count
        # Behind a room that was not for all of the frame, more of its payload comes.
        size = 0 if missing else self._size_of_next(after, channel, partial.missing)
        self.open_frame = channel, size or missing
        if after and not size:
            self.take(after)

    def _size_of_next(self, after: bytes, channel: int, limit: int) -> int:
        """Return the size of the body frame that goes on, if this is its header and no more.

        Else it is 0, and so it is if anything is wrong, which is found where frames are parsed.
        """
        if len(after) != 1 + _FRAME.size or after[0] != FRAME_END:
            return 0
        kind, frame_channel, size = _FRAME.unpack_from(after, 1)
        fits = (
            kind == FRAME_BODY and frame_channel == channel and size <= min(limit, self.body_limit)
        )
        return size if fits else 0

    # Frames

    def take(self, received: bytes) -> None:
        """Take the next bytes, and queue the methods that they complete.

        Raises ProtocolError, ProtocolVersionRefused; what was complete before is on the queue.
        """
        data = self._buffer + received if self._buffer else received
        self._buffer = data
        self._started = self._started or _is_amqp(data, self._protocol)
        if not self._started:
            return
        offset, end = 0, len(data)
        try:
            if self.open_frame is not None:
                offset = self._continue_frame(data, 0)
            while end - offset >= _FRAME.size:
                following = offset
                if not self.partial_messages:
                    prefix = data[offset + 7 : offset + 11]
                    path = self.fast_paths.get(prefix)
                    if path is not None:
                        following = path.take(data, offset, self.body_limit, self.queue)
                    if following == offset and prefix in self._protocol.content_prefixes:
                        following = self._take_whole(data, offset, prefix)
                if following == offset:
                    following = self._take_next(data, offset)
                    if following == offset:
                        break
                offset = following
        finally:
            # Also after an error: what came before it must not be taken again.
            self._buffer = data[offset:]

    def _take_next(self, data: bytes, offset: int) -> int:
        """Take the frame at the offset; return where it ends; of a body frame, what is here of it.

        It is the offset again, if too little is here.
        """
        frame_type, channel, size = _FRAME.unpack_from(data, offset)
        start: int = offset + _FRAME.size
        end: int = start + size
        if size > self.body_limit or size > MAX_HEADER:
            self._check_size(frame_type, size)
        if end >= len(data):
            if frame_type != FRAME_BODY:
                return offset
            self._partial_for_body(channel, size)
            self.open_frame = channel, size
            return self._continue_frame(data, start)
        if data[end] != FRAME_END:
            if frame_type == FRAME_BODY:
                # Checked first, as it is where the frame comes in parts.
                self._partial_for_body(channel, size)
            raise _wrong_end(data[end])
        if frame_type == FRAME_METHOD:
            if size < _SIGNATURE.size:
                raise ProtocolError(SYNTAX_ERROR, f'a method frame of {size} bytes')
            self._take_method(channel, data[start : start + 4], data[start + 4 : end])
        else:
            self._take_frame(frame_type, channel, data, start, end)
        return end + 1

    def _take_whole(self, data: bytes, offset: int, prefix: bytes) -> int:
        """Take a method with its content, if all of it is at the offset and small.

        This is how small messages come, and a shortcut of what follows. Return where it ends; the
        offset again for anything else, which is then taken frame by frame.

        prefix: the bytes that would begin the method.
        """
        frame_type, channel, size = _FRAME.unpack_from(data, offset)
        end: int = offset + _FRAME.size + size
        header_start = end + 1
        if len(data) < header_start + _HEADER.size:
            return offset
        kind, header_channel, header_size, content_class, weight, body_size = _HEADER.unpack_from(
            data, header_start
        )
        header_end = header_start + _FRAME.size + header_size
        body_start = header_end + 1 + _FRAME.size
        body_end: int = body_start + body_size
        if (
            frame_type != FRAME_METHOD
            or kind != FRAME_HEADER
            or header_channel != channel
            or content_class != prefix[:2]
            or weight
            or not channel
            or not 0 < body_size <= self.body_limit
            or size > MAX_HEADER
            or header_size > MAX_HEADER
            or header_size < _CONTENT.size + 2
            or body_end >= len(data)
            or data[end] != FRAME_END
            or data[header_end] != FRAME_END
            or data[body_end] != FRAME_END
            or _FRAME.unpack_from(data, header_end + 1) != (FRAME_BODY, channel, body_size)
        ):
            return offset
        message = _new_message(self._message_class)
        message.raw_properties = data[header_start + _HEADER.size : header_end]
        message.body = data[body_start:body_end]
        if prefix == DELIVER.prefix:
            arguments = self._deliveries.remember(data, offset, message)
        else:
            arguments = _new_arguments(AMQPReader)
            arguments.input = arguments.data = data[offset + _FRAME.size + 4 : end]
        self.queue.append((channel, (_SIGNATURE.unpack(prefix), arguments, message)))
        return body_end + 1

    def _continue_frame(self, data: bytes, start: int) -> int:
        """Take what has come of the body frame that is not complete."""
        assert self.open_frame is not None
        channel, missing = self.open_frame
        taken = min(missing, len(data) - start)
        following = start + taken
        partial = self._partial(channel)
        partial.add_body(memoryview(data)[start:following])
        if following == len(data):  # the end byte is still to come
            self.open_frame = channel, missing - taken
            return following
        if data[following] != FRAME_END:
            raise _wrong_end(data[following])
        self.open_frame = None
        self._complete(channel, partial)
        return following + 1

    def _check_size(self, frame_type: int, size: int) -> None:
        if size > (self.body_limit if frame_type == FRAME_BODY else MAX_HEADER):
            text = f'a frame of type {frame_type} and {size} bytes is too large'
            raise ProtocolError(FRAME_ERROR, text)

    def _take_frame(self, frame_type: int, channel: int, data: bytes, start: int, end: int) -> None:
        """Take a frame that is not one of a method."""
        if frame_type == FRAME_HEADER:
            self._take_header(channel, data[start:end])
        elif frame_type == FRAME_BODY:
            partial = self._partial_for_body(channel, end - start)
            partial.add_body(memoryview(data)[start:end])
            self._complete(channel, partial)
        elif frame_type != FRAME_HEARTBEAT:
            raise ProtocolError(FRAME_ERROR, f'a frame of unknown type {frame_type}')
        elif channel or end > start:
            code = UNEXPECTED_FRAME if channel else FRAME_ERROR
            raise ProtocolError(code, 'a heartbeat with a channel or a payload')

    def _take_method(self, channel: int, prefix: bytes, arguments: bytes) -> None:
        if channel in self.partial_messages:
            raise _unexpected('a method in the middle of a content', channel)
        signature: Signature = _SIGNATURE.unpack(prefix)
        args = AMQPReader(arguments)
        if prefix not in self._protocol.content_prefixes:
            self.queue.append((channel, (signature, args, None)))
            return
        if channel == 0:
            raise ProtocolError(CHANNEL_ERROR, 'a content on channel 0', signature, '')
        inbox = self._inboxes.get(channel)
        if inbox is None:
            raise not_open(channel, signature, self._protocol.name_of(signature))
        body = None
        if inbox.keeps_content:
            body, self._spare_body = self._spare_body or _Body(), None
        self.partial_messages[channel] = PartialMessage(signature, args, body)

    def _take_header(self, channel: int, payload: bytes) -> None:
        partial = self.partial_messages.get(channel)
        if partial is None or partial.properties is not None:
            raise _unexpected('a content header without a method', channel)
        partial.add_header(payload)
        self._complete(channel, partial)

    def _partial_for_body(self, channel: int, size: int) -> PartialMessage:
        """Return what a body frame of this size belongs to."""
        if channel not in self.partial_messages:
            raise _unexpected('a content body without a header', channel)
        partial = self._partial(channel)
        if partial.properties is None:
            raise _unexpected('a content body without a header', channel)
        if size > partial.missing:
            raise _unexpected('more content than was announced', channel)
        return partial

    def _partial(self, channel: int) -> PartialMessage:
        """Return what is here of a message; of one that nobody wants any more, nothing is kept."""
        partial = self.partial_messages[channel]
        inbox = self._inboxes.get(channel)
        if inbox is None or not inbox.keeps_content:
            partial.body = None
        return partial

    def _complete(self, channel: int, partial: PartialMessage) -> None:
        """Queue the method if its content is all there."""
        if partial.missing:
            return
        del self.partial_messages[channel]
        assert partial.properties is not None
        if partial.body is None:
            return
        message = self._message_class.received(partial.properties, partial.body.take())
        if partial.body.reusable:
            self._spare_body = partial.body
        self.queue.append((channel, (partial.signature, partial.args, message)))


def _wrong_end(end: int) -> ProtocolError:
    return ProtocolError(FRAME_ERROR, f'a frame ends in 0x{end:02x}')


def _unexpected(what: str, channel: int) -> ProtocolError:
    return ProtocolError(UNEXPECTED_FRAME, f'{what} on channel {channel}')


#: Versions whose names are not just their numbers, by what is in their protocol headers.
_VERSIONS = {(1, 0, 0): '1.0', (1, 1, 8, 0): '0-8', (1, 1, 0, 9): '0-9', (1, 1, 0, 10): '0-10'}


def _version_of(header: bytes) -> str:
    """Return the name of the version that a protocol header stands for."""
    numbers = tuple(header[4:8])
    if numbers[0] != 1:
        # The first number is not one of the version, but of what is around AMQP: TLS, SASL.
        numbers = numbers[1:]
    return _VERSIONS.get(numbers) or '-'.join(map(str, numbers))


def _is_amqp(data: bytes, protocol: Protocol) -> bool:
    """Return whether the stream begins with a method frame; False if that is not sure yet.

    A peer that does not speak this version answers with the protocol header of one that it
    speaks (specification 4.2.2); one that does not speak AMQP, with anything.
    """
    if data[0] == FRAME_METHOD:
        return True
    if data[:4] == b'AMQP'[: len(data)]:
        if len(data) < 8:
            return False
        text = f'the broker speaks AMQP {_version_of(data)}, not {protocol.name}'
        raise ProtocolVersionRefused(0, text + protocol.version_advice)
    if data[0] == 21:
        raise ProtocolVersionRefused(
            0, 'the peer answered with a TLS alert: is this a TLS port? Then connect with ssl=True'
        )
    raise ProtocolVersionRefused(
        0, f'the peer does not speak AMQP: its first bytes are {data[:16]!r}'
    )
