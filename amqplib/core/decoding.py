"""Bytes -> methods with their content (specification 4.2; encoding.py draws a frame).

A Decoder does no I/O. The same bytes give the same methods or the same error, in whatever portions
they come. So that a large body can be received without a copy, it provides the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from io import BytesIO
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
    CONTENT_START,
    CONTENT_TOO_LARGE,
    DELIVER,
    FRAME_BODY,
    FRAME_END,
    FRAME_ERROR,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    FRAME_MIN_SIZE,
    FRAME_START,
    HEADER_START,
    SIGNATURE,
    SYNTAX_ERROR,
    UNEXPECTED_FRAME,
)
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import MessageTooLarge, ProtocolError, ProtocolVersionRefused

if TYPE_CHECKING:
    from amqplib.core.spec import Protocol, Signature

#: The room for a body has at least this many bytes, or as many as have arrived already.
ROOM_SIZE = 131072
#: The memory of bodies up to this size is reused.
MAX_REUSED = 2 * 1024 * 1024
#: A body is received without a copy if at least this many bytes are missing.
MIN_DIRECT = 16384
#: More bytes than any content header can announce.
NO_LIMIT = 1 << 64

_new_message = Message.__new__
_new_arguments = AMQPReader.__new__


class _Memory(BytesIO):
    """The memory of a body."""

    def close(self) -> None:
        """Do nothing.

        The collector calls this before the memory is freed. If a view of it is garbage too, closing
        would fail, which Python reports on standard error, from 3.13 on.
        """


class _Body:
    """The bytes of a body, as they arrive."""

    def __init__(self) -> None:
        self._buffer = _Memory()
        self._size = 0
        # The size to which the buffer can be filled without growing.
        self._capacity = 0
        # The memory handed out last. While it is in use, the buffer cannot grow; after an
        # interrupt, the frames of the error may still refer to it.
        self._room = memoryview(b'')

    def add(self, data: Union[bytes, memoryview]) -> None:
        """Take the next bytes."""
        self._buffer.write(data)
        self._size += len(data)
        self._capacity = max(self._capacity, self._size)

    def room(self, wanted: int) -> memoryview:
        """Return memory for up to this many of the next bytes.

        The buffer never grows by more than what it holds, or ROOM_SIZE.
        """
        self._room.release()
        start = self._size
        end = start + min(wanted, max(start, ROOM_SIZE))
        if end > self._capacity:
            self._buffer.seek(end - 1)
            self._buffer.write(b'\0')
            self._capacity = end
        self._room = self._buffer.getbuffer()[start:end]
        return self._room

    def fill(self, count: int) -> None:
        """Record that this many bytes were put into the room."""
        self._room.release()
        self._size += count
        self._buffer.seek(self._size)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._size

    @property
    def reusable(self) -> bool:
        """Whether to keep its memory for the next body, because new memory is expensive."""
        return self._capacity <= MAX_REUSED

    def take(self) -> bytes:
        """Return the bytes, and start an empty body; a large one is not copied."""
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
        # How many bytes of the body are missing.
        self.missing = 0
        # None if the body is not kept.
        self.body = body

    @property
    def size(self) -> int:
        """How many bytes of it are kept."""
        body = 0 if self.body is None else self.body.size
        return len(self.args.data) + len(self.properties or b'') + body

    def add_header(self, payload: bytes) -> None:
        """Take the content header."""
        if len(payload) < CONTENT_START.size + 2:
            raise ProtocolError(SYNTAX_ERROR, 'a content header is too short', self.signature, '')
        content_class, weight, self.missing = CONTENT_START.unpack_from(payload)
        if content_class != self.signature[0] or weight:
            text = f'a content header of class {content_class} and weight {weight}'
            raise ProtocolError(UNEXPECTED_FRAME, text, self.signature, '')
        self.properties = payload[CONTENT_START.size :]

    def add_body(self, data: memoryview) -> None:
        """Take the next bytes of the body."""
        if self.body is not None:
            self.body.add(data)
        self.missing -= len(data)


class Decoder:
    """Finds methods with their content in the bytes of a connection.

    protocol: the version of the protocol.
    message_class: the class of the messages.
    inboxes: channel number -> inbox, which says whether contents for it are kept.

    queue: the complete methods: (channel, (signature, arguments, content)).
    body_limit: the largest payload of a body frame; frame_max, once it is negotiated.
    max_message_size: the largest body of a message.
    header_limit: the largest payload of a method or header frame.
    open_frame: the body frame that has arrived in part: its channel, and how much is missing.
    fast_paths: the prefix of a method -> its fast path.
    """

    def __init__(
        self, protocol: Protocol, message_class: type[Message], inboxes: Mapping[int, Inbox]
    ) -> None:
        self.queue: deque[QueuedMethod] = deque()
        self.body_limit = FRAME_MIN_SIZE
        self.max_message_size = NO_LIMIT
        self.header_limit = MAX_HEADER
        self.fast_paths: dict[bytes, FastPath] = {}
        self.partial_messages: dict[int, PartialMessage] = {}
        self._protocol = protocol
        self._message_class = message_class
        self._inboxes = inboxes
        self._deliveries = Deliveries(message_class, inboxes)
        # The undecoded beginning of a frame.
        self._buffer = b''
        # The body that was used last, to be reused for the next content that comes in parts.
        self._spare_body: Optional[_Body] = None
        # Whether the first bytes have shown that the peer speaks this protocol.
        self._started = False
        self.open_frame: Optional[tuple[int, int]] = None
        self.add_fast_path(self._deliveries)

    def add_fast_path(self, path: FastPath) -> None:
        """Use a fast path for its kind of method."""
        self.fast_paths[path.prefix] = path

    @property
    def incomplete(self) -> bool:
        """Whether a method or its content has arrived only in part."""
        return bool(self.partial_messages or self._buffer)

    def is_last(self, channel: int, signature: Signature) -> bool:
        """Return whether this is the last method that became complete."""
        if not self.queue:
            return False
        last_channel, method = self.queue[-1]
        return last_channel == channel and method[0] == signature

    # Large bodies

    def room(self) -> Optional[memoryview]:
        """Return memory for the next bytes of a large body; None if something else comes next."""
        if self.open_frame is None:
            return None
        channel, missing = self.open_frame
        if self.partial_messages[channel].missing < MIN_DIRECT or not missing:
            return None
        body = self._partial(channel).body
        return None if body is None else body.room(missing)

    def take_room(self, count: int, after: bytes) -> None:
        """Take the bytes that were put into the room, and if it is full, the bytes after them."""
        assert self.open_frame is not None
        channel, missing = self.open_frame
        partial = self.partial_messages[channel]
        assert partial.body is not None
        partial.body.fill(count)
        partial.missing -= count
        missing -= count
        # If the room did not hold the whole frame, the bytes after it are more of its payload.
        size = 0 if missing else self._size_of_next(after, channel, partial.missing)
        self.open_frame = channel, size or missing
        if after and not size:
            self.take(after)

    def _size_of_next(self, after: bytes, channel: int, limit: int) -> int:
        """Return the size of the next body frame, if these bytes are exactly its header.

        Returns 0 for anything else, including errors, which the general way then finds.
        """
        if len(after) != 1 + FRAME_START.size or after[0] != FRAME_END:
            return 0
        kind, frame_channel, size = FRAME_START.unpack_from(after, 1)
        fits = (
            kind == FRAME_BODY and frame_channel == channel and size <= min(limit, self.body_limit)
        )
        return size if fits else 0

    # Frames

    def take(self, received: bytes) -> None:
        """Take the next bytes, and queue the methods that they complete.

        Raises ProtocolError, ProtocolVersionRefused, MessageTooLarge; earlier methods are on the
        queue.
        """
        data = self._buffer + received if self._buffer else received
        self._buffer = data
        self._started = self._started or _is_amqp(data, self._protocol)
        if not self._started:
            return
        offset, end = 0, len(data)
        # Larger bodies are taken frame by frame, which finds out whether they are too large.
        whole = self.body_limit
        if whole > self.max_message_size:  # noqa: PLR1730  (faster than min)
            whole = self.max_message_size
        try:
            if self.open_frame is not None:
                offset = self._continue_frame(data, 0, self._partial(self.open_frame[0]))
            while end - offset >= FRAME_START.size:
                following = offset
                if not self.partial_messages:
                    prefix = data[offset + 7 : offset + 11]
                    path = self.fast_paths.get(prefix)
                    if path is not None:
                        following = path.take(data, offset, whole, self.queue)
                    if following == offset and prefix in self._protocol.content_prefixes:
                        following = self._take_whole(data, offset, prefix, whole)
                if following == offset:
                    following = self._take_next(data, offset)
                    if following == offset:
                        break
                offset = following
        finally:
            # Also after an error: what came before it must not be taken again.
            self._buffer = data[offset:]

    def _take_next(self, data: bytes, offset: int) -> int:
        """Take the frame at the offset; return the offset after it.

        If it is incomplete, a body frame is taken as far as it is here, and for any other frame the
        offset is returned unchanged.
        """
        frame_type, channel, size = FRAME_START.unpack_from(data, offset)
        start: int = offset + FRAME_START.size
        end: int = start + size
        if size > self.body_limit or size > self.header_limit:
            self._check_size(frame_type, size)
        if end >= len(data):
            if frame_type != FRAME_BODY:
                return offset
            partial = self._partial_for_body(channel, size)
            self.open_frame = channel, size
            return self._continue_frame(data, start, partial)
        if data[end] != FRAME_END:
            if frame_type == FRAME_BODY:
                # Checked first, as for a frame that comes in parts.
                self._partial_for_body(channel, size)
            raise _wrong_end(data[end])
        if frame_type == FRAME_METHOD:
            if size < SIGNATURE.size:
                raise ProtocolError(SYNTAX_ERROR, f'a method frame of {size} bytes')
            self._take_method(channel, data[start : start + 4], data[start + 4 : end])
        else:
            self._take_frame(frame_type, channel, data, start, end)
        return end + 1

    def _take_whole(self, data: bytes, offset: int, prefix: bytes, body_limit: int) -> int:
        """Take a small method with its content, if all of it is here.

        This is a shortcut for small messages. Returns the offset after it; for anything else, the
        offset unchanged, and it is then taken frame by frame.

        prefix: the class id and method id at the offset.
        body_limit: the largest body that is taken here.
        """
        frame_type, channel, size = FRAME_START.unpack_from(data, offset)
        end: int = offset + FRAME_START.size + size
        header_start = end + 1
        if len(data) < header_start + HEADER_START.size:
            return offset
        kind, header_channel, header_size, content_class, weight, body_size = (
            HEADER_START.unpack_from(data, header_start)
        )
        header_end = header_start + FRAME_START.size + header_size
        body_start = header_end + 1 + FRAME_START.size
        body_end: int = body_start + body_size
        if (
            frame_type != FRAME_METHOD
            or kind != FRAME_HEADER
            or header_channel != channel
            or content_class != prefix[:2]
            or weight
            or not channel
            or not 0 < body_size <= body_limit
            or size > self.header_limit
            or header_size > self.header_limit
            or header_size < CONTENT_START.size + 2
            or body_end >= len(data)
            or data[end] != FRAME_END
            or data[header_end] != FRAME_END
            or data[body_end] != FRAME_END
            or FRAME_START.unpack_from(data, header_end + 1) != (FRAME_BODY, channel, body_size)
        ):
            return offset
        message = _new_message(self._message_class)
        message.raw_properties = data[header_start + HEADER_START.size : header_end]
        message.body = data[body_start:body_end]
        if prefix == DELIVER.prefix:
            arguments = self._deliveries.remember(data, offset, message)
            self._pass_on(channel, (DELIVER.signature, arguments, message))
        else:
            arguments = _new_arguments(AMQPReader)
            arguments.input = arguments.data = data[offset + FRAME_START.size + 4 : end]
            self.queue.append((channel, (SIGNATURE.unpack(prefix), arguments, message)))
        return body_end + 1

    def _continue_frame(self, data: bytes, start: int, partial: PartialMessage) -> int:
        """Take what has arrived of the open body frame."""
        assert self.open_frame is not None
        channel, missing = self.open_frame
        taken = min(missing, len(data) - start)
        following = start + taken
        partial.add_body(memoryview(data)[start:following])
        if following == len(data):  # the frame end is still missing
            self.open_frame = channel, missing - taken
            return following
        if data[following] != FRAME_END:
            raise _wrong_end(data[following])
        self.open_frame = None
        self._complete(channel, partial)
        return following + 1

    def _check_size(self, frame_type: int, size: int) -> None:
        if size > (self.body_limit if frame_type == FRAME_BODY else self.header_limit):
            text = f'a frame of type {frame_type} and {size} bytes is too large'
            raise ProtocolError(FRAME_ERROR, text)

    def _take_frame(self, frame_type: int, channel: int, data: bytes, start: int, end: int) -> None:
        """Take a frame that is not a method frame."""
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
        signature: Signature = SIGNATURE.unpack(prefix)
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
        if partial.missing > self.max_message_size and self._partial(channel).body is not None:
            text = f'a message of {partial.missing} bytes'
            text += f'; max_message_size is {self.max_message_size}'
            name = self._protocol.name_of(partial.signature)
            raise MessageTooLarge(CONTENT_TOO_LARGE, text, partial.signature, name)
        self._complete(channel, partial)

    def _partial_for_body(self, channel: int, size: int) -> PartialMessage:
        """Return the partial message that a body frame of this size belongs to."""
        if channel not in self.partial_messages:
            raise _unexpected('a content body without a header', channel)
        partial = self._partial(channel)
        if partial.properties is None:
            raise _unexpected('a content body without a header', channel)
        if size > partial.missing:
            raise _unexpected('more content than was announced', channel)
        return partial

    def _partial(self, channel: int) -> PartialMessage:
        """Return the partial message; drop its body if the channel no longer keeps contents."""
        partial = self.partial_messages[channel]
        inbox = self._inboxes.get(channel)
        if inbox is None or not inbox.keeps_content:
            partial.body = None
        return partial

    def _complete(self, channel: int, partial: PartialMessage) -> None:
        """Queue the method if its content is complete."""
        if partial.missing:
            return
        del self.partial_messages[channel]
        assert partial.properties is not None
        if partial.body is None:
            return
        message = self._message_class.received(partial.properties, partial.body.take())
        if partial.body.reusable:
            self._spare_body = partial.body
        method = partial.signature, partial.args, message
        if partial.signature == DELIVER.signature:
            self._pass_on(channel, method)
        else:
            self.queue.append((channel, method))

    def _pass_on(self, channel: int, delivery: ArrivedMethod) -> None:
        """Put a complete delivery where its fast path puts those that follow.

        Each receive ends in the middle of a message. If that one went to the queue, all deliveries
        behind it would have to follow it there.
        """
        if not self.queue and DELIVER.prefix in self.fast_paths:
            inbox = self._inboxes.get(channel)
            target = None if inbox is None else inbox.delivery_queue
            if target is not None:
                target.append(delivery)
                return
        self.queue.append((channel, delivery))


def _wrong_end(end: int) -> ProtocolError:
    return ProtocolError(FRAME_ERROR, f'a frame ends in 0x{end:02x}')


def _unexpected(what: str, channel: int) -> ProtocolError:
    return ProtocolError(UNEXPECTED_FRAME, f'{what} on channel {channel}')


#: The names of versions that differ from the numbers in their protocol headers.
_VERSIONS = {(1, 0, 0): '1.0', (1, 1, 8, 0): '0-8', (1, 1, 0, 9): '0-9', (1, 1, 0, 10): '0-10'}


def _version_of(header: bytes) -> str:
    """Return the name of the version in a protocol header."""
    numbers = tuple(header[4:8])
    if numbers[0] != 1:
        # The first number is a protocol id: AMQP itself, TLS or SASL.
        numbers = numbers[1:]
    return _VERSIONS.get(numbers) or '-'.join(map(str, numbers))


def _is_amqp(data: bytes, protocol: Protocol) -> bool:
    """Return whether the stream begins with a method frame; False if that is not known yet.

    A peer that does not speak this version answers with the protocol header of a version that it
    speaks (specification 4.2.2). A peer that does not speak AMQP may answer with anything.
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
