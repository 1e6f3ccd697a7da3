"""Frames to methods and methods to frames (specification 4.2).

A frame::

    octet   short     long    size octets   octet
    +------+---------+-------+-------------+------+
    | type | channel | size  | payload     | 0xCE |
    +------+---------+-------+-------------+------+

A method is one method frame. If it has content, one header frame follows on the same channel,
and then body frames until the announced number of octets is complete; frames of other channels
and heartbeats may come in between.

MethodReader takes complete methods out of a transport's read buffer. It does no I/O to do so:
given the same octets in whatever portions, it finds the same methods or the same error.
MethodWriter sends a method with its whole content as one write.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from io import BytesIO
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from amqplib.client_0_8.basic_message import Message
from amqplib.client_0_8.deadline import AT_ONCE, NEVER, Deadline
from amqplib.client_0_8.deliveries import LARGEST_HEADER, Deliveries, ReadMethod
from amqplib.client_0_8.exceptions import (
    AMQPException,
    AMQPTimeout,
    ConnectionLost,
    ProtocolError,
    ProtocolVersionRefused,
    WriteTimeout,
)
from amqplib.client_0_8.remembering import lru_cache
from amqplib.client_0_8.serialization import AMQPReader, AMQPWriter, encode_once
from amqplib.client_0_8.spec import (
    CHANNEL_ERROR,
    FRAME_BODY,
    FRAME_END,
    FRAME_ERROR,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    FRAME_MIN_SIZE,
    FRAME_OVERHEAD,
    METHODS,
    ROWS,
    SYNTAX_ERROR,
    UNEXPECTED_FRAME,
    Method,
    Signature,
)
from amqplib.client_0_8.transport import RECEIVE_SIZE, Octets, _AbstractTransport
from amqplib.client_0_8.turns import attempt

if TYPE_CHECKING:
    from typing import Protocol

    class Numbering(Protocol):
        """What numbers the messages of a channel: `given` is the last number."""

        given: int

        def take_back(self, number: int) -> None: ...


__all__ = ['MethodReader', 'MethodWriter']

#: Up to this many octets of arguments, properties and body, a method takes the shortest way.
SMALL = FRAME_MIN_SIZE - FRAME_OVERHEAD - 12  # which a content header has beside properties
#: The memory of bodies up to this size is used again.
LARGEST_REUSED = 2 * 1024 * 1024
#: At least so many octets of a body have to be missing to be received without a copy.
LEAST_DIRECT = 16384
#: So many frames of a body are received before others get their turn.
MOST_FRAMES = 8
#: Up to this many octets, a method and its content are joined; beyond, they are sent as pieces.
LARGEST_JOINED = 32768

_FRAME = Struct('>BHI')
_TYPE_AND_CHANNEL = Struct('>BH')
_SIGNATURE = Struct('>HH')
#: Class, weight (always 0), size of the body.
_CONTENT = Struct('>HHQ')
#: A frame header and what begins a content header.
_HEADER = Struct('>BHI2sHQ')
_NO_WEIGHT = b'\0\0'
#: A frame header, class and method id, delivery tag, a bit, the end of the frame.
_ACKNOWLEDGEMENT = Struct('>BHI4sQBB')
_ACKNOWLEDGEMENT_SIZE = _ACKNOWLEDGEMENT.size - FRAME_OVERHEAD
_END = bytes((FRAME_END,))
_DELIVER = METHODS['basic.deliver']
HEARTBEAT_FRAME = _FRAME.pack(FRAME_HEARTBEAT, 0, 0) + _END

#: Those that brokers send.
_CONTENT_METHODS = [
    row.signature for row in ROWS if row.content and row is not METHODS['basic.publish']
]
#: The octets that begin the methods with content -> their signature.
_CONTENT_PREFIXES = {row.prefix: row.signature for row in ROWS if row.content}

_new_message = Message.__new__


class _Body:
    """The octets of a body, as they arrive."""

    def __init__(self) -> None:
        self._buffer = BytesIO()
        self._size = 0
        # How far the buffer may be filled without growing; never less than the size.
        self._capacity = 0

    def add(self, octets: Octets) -> None:
        """Take the next octets."""
        self._buffer.write(octets)
        self._size += len(octets)
        self._capacity = max(self._capacity, self._size)

    def receive(self, most: int, source: _AbstractTransport, deadline: Deadline) -> int:
        """Receive up to so many octets to where they belong; return how many that were.

        The buffer never grows by more than what it holds, or one receive.
        """
        start = self._size
        end = start + min(most, max(start, RECEIVE_SIZE))
        if end > self._capacity:
            self._buffer.seek(end - 1)
            self._buffer.write(b'\0')
            self._capacity = end
        with self._buffer.getbuffer() as whole, whole[start:end] as room:
            count = source.receive_into(room, deadline)
        self._size += count
        self._buffer.seek(self._size)
        return count

    @property
    def reusable(self) -> bool:
        """Whether its memory should be kept for the next body, as new memory costs more."""
        return self._capacity <= LARGEST_REUSED

    def take(self) -> bytes:
        """Return the octets, and begin anew; large ones are not copied for that."""
        if self.reusable:
            self._buffer.seek(0)
            octets = self._buffer.read(self._size)
            self._buffer.seek(0)
            self._size = 0
            return octets
        self._buffer.truncate(self._size)
        return self._buffer.getvalue()


class _PartialMessage:
    """A method whose content has not all arrived."""

    __slots__ = ('args', 'body', 'missing', 'properties', 'signature')

    def __init__(self, signature: Signature, args: AMQPReader, body: _Body) -> None:
        self.signature = signature
        self.args = args
        # None until the content header has come.
        self.properties: Optional[bytes] = None
        # Octets of the body that are still to come.
        self.missing = 0
        self.body = body

    def add_header(self, payload: bytes) -> None:
        """Take the content header."""
        if len(payload) < _CONTENT.size + 2:
            raise ProtocolError(SYNTAX_ERROR, 'a content header is too short', self.signature)
        content_class, weight, self.missing = _CONTENT.unpack_from(payload)
        if content_class != self.signature[0] or weight:
            text = f'a content header of class {content_class} and weight {weight}'
            raise ProtocolError(UNEXPECTED_FRAME, text, self.signature)
        self.properties = payload[_CONTENT.size :]

    def add_body(self, octets: Octets) -> None:
        """Take the next octets of the body."""
        self.body.add(octets)
        self.missing -= len(octets)

    def receive_body(self, most: int, source: _AbstractTransport, deadline: Deadline) -> int:
        """Receive some of the next octets of the body; return how many that were."""
        count = self.body.receive(most, source, deadline)
        self.missing -= count
        return count


class MethodReader:
    """Takes methods with their content out of the read buffer of a transport.

    queue: the methods that are complete: (channel, signature, arguments, content).
    """

    def __init__(self, source: _AbstractTransport, message_class: type[Message] = Message) -> None:
        self.source = source
        #: What contents are made.
        self.message_class = message_class
        self.queue: deque[ReadMethod] = deque()
        self.running = True
        #: Where deliveries are known from, and where to put them.
        self.deliveries = Deliveries(message_class)
        #: The octets that begin a method -> what takes several such methods at once. It is given
        #: the octets, an offset, body_limit and the queue, and returns where what it took ends.
        self.short_ways: dict[bytes, Callable[[bytes, int, int, deque[ReadMethod]], int]] = {
            _DELIVER.prefix: self.deliveries.take
        }
        # The one that was used last, for the next content that comes in parts.
        self._spare_body: Optional[_Body] = None
        #: What to do with a broker that does not speak this version of AMQP.
        self.version_advice = ''
        self.partial_messages: dict[int, _PartialMessage] = {}
        #: The largest payload of a body frame; what the broker was told, once that is agreed on.
        self.body_limit = FRAME_MIN_SIZE
        # The first octets decide whether the peer speaks this protocol at all.
        self._started = False
        # A body frame of which only a part has come: its channel, and what is still to come.
        self._open_frame: Optional[tuple[int, int]] = None

    @property
    def incomplete(self) -> bool:
        """Whether a part of a method or of its content has come, and the rest has not."""
        return bool(self.partial_messages or self.source._read_buffer)

    @property
    def expected_types(self) -> dict[int, int]:
        """The frame type that must come next, of the channels where it is not a method."""
        return {
            channel: FRAME_HEADER if partial.properties is None else FRAME_BODY
            for channel, partial in self.partial_messages.items()
        }

    def read_method(self) -> ReadMethod:
        """Return the next method; waits until there is one."""
        # Who reads here wants to see all of them.
        ways, self.short_ways = self.short_ways, {}
        try:
            while not self.queue:
                self.receive(NEVER)
        finally:
            self.short_ways = ways
        return self.queue.popleft()

    def receive(self, deadline: Deadline) -> None:
        """Wait for octets, and put the methods that they complete on the queue.

        Raises AMQPTimeout, ConnectionLost, ProtocolError, ProtocolVersionRefused. Methods that
        were complete before the error are on the queue.
        """
        if self._open_frame is None or not self._receive_body(*self._open_frame, deadline):
            self.source.receive(deadline)
        if self.source._read_buffer:
            self.parse()

    def _receive_body(self, channel: int, missing: int, deadline: Deadline) -> bool:
        """Receive octets of a body to where they stay, if a lot is missing; return if it was."""
        partial = self.partial_messages[channel]
        if partial.missing < LEAST_DIRECT or not self.source.receives_into:
            return False
        for _ in range(MOST_FRAMES):
            missing -= partial.receive_body(missing, self.source, deadline)
            self._open_frame = channel, missing
            if missing or partial.missing < LEAST_DIRECT:
                break
            missing = self._size_of_next(channel, partial.missing)
            if not missing:
                break
            self._open_frame = channel, missing
            self.source._read_buffer = b''
            # All that came is in its place, so an interrupt of the next wait loses nothing.
            self.source.torn = False
        return True

    def _size_of_next(self, channel: int, most: int) -> int:
        """Return the size of the body frame that goes on, if nothing but its header is here.

        Else it is 0, and so it is if anything is wrong, which is found where frames are parsed.
        """
        data = self.source._read_buffer
        if len(data) != 1 + _FRAME.size or data[0] != FRAME_END:
            return 0
        kind, frame_channel, size = _FRAME.unpack_from(data, 1)
        fits = (
            kind == FRAME_BODY and frame_channel == channel and size <= min(most, self.body_limit)
        )
        return size if fits else 0

    def parse(self) -> None:
        """Put the methods that are complete in the read buffer on the queue."""
        data = self.source._read_buffer
        self._started = self._started or _is_amqp(data, self.version_advice)
        if not self._started:
            return
        offset, end = 0, len(data)
        try:
            if self._open_frame is not None:
                offset = self._continue_frame(data, 0)
            while end - offset >= _FRAME.size:
                following = offset
                if not self.partial_messages:
                    prefix = data[offset + 7 : offset + 11]
                    way = self.short_ways.get(prefix)
                    if way is not None:
                        following = way(data, offset, self.body_limit, self.queue)
                    if following == offset and prefix in _CONTENT_PREFIXES:
                        following = self._take_whole(data, offset, prefix)
                if following == offset:
                    following = self._take_next(data, offset)
                    if following == offset:
                        break
                offset = following
        except ProtocolError:
            self.running = False
            raise
        self.source._read_buffer = data[offset:]

    def _take_next(self, data: bytes, offset: int) -> int:
        """Take the frame at the offset; return where it ends; of a body frame, what is here of it.

        It is the offset again, if too little is here.
        """
        frame_type, channel, size = _FRAME.unpack_from(data, offset)
        start: int = offset + _FRAME.size
        end: int = start + size
        if size > self.body_limit or size > LARGEST_HEADER:
            self._check_size(frame_type, size)
        if end >= len(data):
            if frame_type != FRAME_BODY:
                return offset
            self._partial_for_body(channel, size)
            self._open_frame = channel, size
            return self._continue_frame(data, start)
        if data[end] != FRAME_END:
            if frame_type == FRAME_BODY:
                # Checked first, as it is where the frame comes in parts.
                self._partial_for_body(channel, size)
            raise _wrong_end(data[end])
        if frame_type == FRAME_METHOD:
            if size < _SIGNATURE.size:
                raise ProtocolError(SYNTAX_ERROR, f'a method frame of {size} octets')
            self._take_method(channel, data[start : start + 4], data[start + 4 : end])
        else:
            self._take_frame(frame_type, channel, data, start, end)
        return end + 1

    def _take_whole(self, data: bytes, offset: int, prefix: bytes) -> int:
        """Take a method with its content, if all of it is at the offset and small.

        This is how small messages come, and a shortcut of what follows. Return where it ends; the
        offset again for anything else, which is then taken frame by frame.

        prefix: the octets that would begin the method.
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
            or size > LARGEST_HEADER
            or header_size > LARGEST_HEADER
            or header_size < _CONTENT.size + 2
            or body_end >= len(data)
            or data[end] != FRAME_END
            or data[header_end] != FRAME_END
            or data[body_end] != FRAME_END
            or _FRAME.unpack_from(data, header_end + 1) != (FRAME_BODY, channel, body_size)
        ):
            return offset
        content = _new_message(self.message_class)
        content._raw_properties = data[header_start + _HEADER.size : header_end]
        content.body = data[body_start:body_end]
        if prefix == _DELIVER.prefix:
            arguments = self.deliveries.learn(data, offset, content)
        else:
            arguments = AMQPReader(data[offset + _FRAME.size + 4 : end])
        self.queue.append((channel, _CONTENT_PREFIXES[prefix], arguments, content))
        return body_end + 1

    def _continue_frame(self, data: bytes, start: int) -> int:
        """Take what has come of the body frame that is not complete."""
        assert self._open_frame is not None
        channel, missing = self._open_frame
        taken = min(missing, len(data) - start)
        following = start + taken
        partial = self.partial_messages[channel]
        partial.add_body(memoryview(data)[start:following])
        if following == len(data):  # the end octet is still to come
            self._open_frame = channel, missing - taken
            return following
        if data[following] != FRAME_END:
            raise _wrong_end(data[following])
        self._open_frame = None
        self._complete(channel, partial)
        return following + 1

    def _check_size(self, frame_type: int, size: int) -> None:
        if size > (self.body_limit if frame_type == FRAME_BODY else LARGEST_HEADER):
            text = f'a frame of type {frame_type} and {size} octets is too large'
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
        if prefix in _CONTENT_PREFIXES:
            if channel == 0:
                raise ProtocolError(CHANNEL_ERROR, 'a content on channel 0', signature)
            body, self._spare_body = self._spare_body or _Body(), None
            self.partial_messages[channel] = _PartialMessage(signature, args, body)
        else:
            self.queue.append((channel, signature, args, None))

    def _take_header(self, channel: int, payload: bytes) -> None:
        partial = self.partial_messages.get(channel)
        if partial is None or partial.properties is not None:
            raise _unexpected('a content header without a method', channel)
        partial.add_header(payload)
        self._complete(channel, partial)

    def _partial_for_body(self, channel: int, size: int) -> _PartialMessage:
        """Return what a body frame of this size belongs to."""
        partial = self.partial_messages.get(channel)
        if partial is None or partial.properties is None:
            raise _unexpected('a content body without a header', channel)
        if size > partial.missing:
            raise _unexpected('more content than was announced', channel)
        return partial

    def _complete(self, channel: int, partial: _PartialMessage) -> None:
        """Queue the method if its content is all there."""
        if not partial.missing:
            del self.partial_messages[channel]
            assert partial.properties is not None
            message = self.message_class.received(partial.properties, partial.body.take())
            if partial.body.reusable:
                self._spare_body = partial.body
            self.queue.append((channel, partial.signature, partial.args, message))


def _wrong_end(octet: int) -> ProtocolError:
    return ProtocolError(FRAME_ERROR, f'a frame ends in 0x{octet:02x}')


def _unexpected(what: str, channel: int) -> ProtocolError:
    return ProtocolError(UNEXPECTED_FRAME, f'{what} on channel {channel}')


def _is_amqp(data: bytes, advice: str) -> bool:
    """Return whether the stream begins with a method frame; False if that is not sure yet.

    A peer that does not speak this version answers with the protocol header of one that it
    speaks (specification 4.2.2); one that does not speak AMQP, with anything.
    """
    if data[0] == FRAME_METHOD:
        return True
    if data[:4] == b'AMQP'[: len(data)]:
        if len(data) < 8:
            return False
        # The first number is not one of the version, but of what is around AMQP: TLS, SASL.
        offered = '-'.join(map(str, data[5:8] if data[4] != 1 else data[4:8]))
        text = f'the broker does not speak this version of AMQP; it offers {offered}'
        raise ProtocolVersionRefused(0, text + advice)
    if data[0] == 21:
        raise ProtocolVersionRefused(
            0, 'the peer answered with a TLS alert: is this a TLS port? Then connect with ssl=True'
        )
    raise ProtocolVersionRefused(
        0, f'the peer does not speak AMQP: its first octets are {data[:16]!r}'
    )


@lru_cache(maxsize=256)
def _small_frames(
    channel: int, payload: bytes, properties: bytes
) -> tuple[Callable[..., bytes], bytes, bytes]:
    """Return the frames of a method with a small content: a shortcut of the general way.

    They are what the function returns for the first piece, the size of the body, the second piece
    and the size again; then body and end octet follow. Most messages are like others before.
    """
    size = _CONTENT.size + len(properties)
    first = b''.join(
        (
            _FRAME.pack(FRAME_METHOD, channel, len(payload)),
            payload,
            _END,
            _FRAME.pack(FRAME_HEADER, channel, size),
            payload[:2],
            _NO_WEIGHT,
        )
    )
    second = properties + _END + _TYPE_AND_CHANNEL.pack(FRAME_BODY, channel)
    return _two_pieces(len(first), len(second)).pack, first, second


@lru_cache(maxsize=128)
def _two_pieces(first: int, second: int) -> Struct:
    """Return what packs two pieces of these sizes, with the size of a body behind each."""
    return Struct(f'>{first}sQ{second}sI')


def acknowledgement_frame(channel: int, method: Method, delivery_tag: int, bit: Any) -> bytes:
    """Return the frame of a method of a delivery tag and one bit, as a writer does, but cheaply.

    Raises ValueError or TypeError that names the method and the field.
    """
    try:
        return _ACKNOWLEDGEMENT.pack(
            FRAME_METHOD, channel, _ACKNOWLEDGEMENT_SIZE, method.prefix, delivery_tag, bool(bit),
            FRAME_END,
        )  # fmt: skip
    except (StructError, ValueError):  # that one for what is negative, on PyPy
        encode_once(method, delivery_tag, bit)  # says what is wrong
        raise


class NumberedFrames(bytes):
    """The frames of a message that is to be confirmed, with its number, while they are queued."""

    sequence: Numbering
    number: int


class MethodWriter:
    """Sends methods with their content, each as one uninterrupted write.

    dest: the transport.
    frame_max: the largest frame, in octets.
    write_timeout: seconds that a write may take; None for no limit.
    """

    def __init__(self, dest: _AbstractTransport, frame_max: int) -> None:
        self.dest = dest
        self.frame_max = frame_max
        self.write_timeout: Optional[float] = None
        #: Held for the whole of a method with its content, and never taken twice.
        self.lock: Any = threading.RLock()
        #: Frames that must not wait for the lock; whoever holds it sends them before it leaves.
        #: Of the first one, a part may be sent.
        self.pending: deque[Octets] = deque()
        #: Whether an interrupt, such as Ctrl-C, cut a write.
        self.interrupted = False
        # The deadline that cut a write.
        self._cut_by: Optional[WriteTimeout] = None

    def write_method(
        self,
        channel: int,
        method_sig: Signature,
        args: Union[bytes, AMQPWriter] = b'',
        content: Optional[Message] = None,
    ) -> None:
        """Send a method whose arguments are encoded already; see write()."""
        if isinstance(args, AMQPWriter):
            args = args.getvalue()
        self.write(channel, _SIGNATURE.pack(*method_sig) + args, content)

    def write(
        self,
        channel: int,
        payload: bytes,
        content: Optional[Message] = None,
        deadline: Deadline = NEVER,
    ) -> None:
        """Send a method and its content: all of it is encoded first; see frames() and send()."""
        self.send(self.frames(channel, payload, content), deadline)

    def frames(
        self, channel: int, payload: bytes, content: Optional[Message] = None
    ) -> Union[bytes, list[Octets]]:
        """Return the frames of a method and its content; as a list of pieces, if they are large.

        payload: class id, method id and arguments.

        Raises ValueError or TypeError if the properties cannot be encoded or a frame would be too
        large.
        """
        if content is None:
            return self.method_frame(channel, payload)
        body: Octets = content.body
        if type(body) is not bytes:
            body = content.encode_body()
        properties = content._raw_properties
        if properties is None:
            properties = content._serialize_properties()
        size = len(body)
        # It needs no look at frame_max: every frame is smaller than the least that this can be.
        if size and size + len(properties) + len(payload) <= SMALL:
            pack, first, second = _small_frames(channel, payload, properties)
            return pack(first, size, second, size) + body + _END
        return self._large_frames(channel, payload, properties, body)

    def send(
        self,
        octets: Union[bytes, list[Octets]],
        deadline: Deadline = NEVER,
        sequence: Optional[Numbering] = None,
    ) -> Optional[int]:
        """Send whole frames as one uninterrupted write.

        sequence: what numbers them, by their place in the stream.

        Returns the number. Raises ConnectionLost or AMQPTimeout.
        """
        number: Optional[int]
        lock = self.lock
        if lock._is_owned():
            return self.enqueue(octets, sequence)
        if deadline is NEVER and self.write_timeout is None:
            try:
                with lock:
                    number = self._send(octets, deadline, sequence)
            except BaseException:
                # Where the exception comes right before or behind the block, `with` does not.
                if lock._is_owned():
                    lock.release()
                raise
        else:
            number = self._send_in_time(octets, deadline, sequence)
        if self.pending:
            self.flush()
        return number

    def enqueue(
        self, octets: Union[bytes, list[Octets]], sequence: Optional[Numbering] = None
    ) -> Optional[int]:
        """Have frames sent behind what is being sent; return their number.

        This is for who calls in the middle of a write or a read of the same thread.
        """
        whole = b''.join(octets) if type(octets) is list else octets
        if sequence is None:
            self.pending.append(whole)  # type: ignore[arg-type]
            return None
        numbered = NumberedFrames(whole)  # type: ignore[arg-type]
        numbered.sequence = sequence
        number = numbered.number = sequence.given = sequence.given + 1
        self.pending.append(numbered)
        return number

    def _large_frames(
        self, channel: int, payload: bytes, properties: bytes, body: Octets
    ) -> Union[bytes, list[Octets]]:
        head = self.method_frame(channel, payload)
        self._check_size(_CONTENT.size + len(properties), 'properties')
        pieces = [head, *self._content_pieces(channel, payload[:2], properties, body)]
        return b''.join(pieces) if len(body) <= LARGEST_JOINED else pieces

    def method_frame(self, channel: int, payload: bytes) -> bytes:
        """Return the frame of a method; raise ValueError if it would be too large."""
        if len(payload) > self.frame_max - FRAME_OVERHEAD:
            self._check_size(len(payload), 'arguments')
        return _FRAME.pack(FRAME_METHOD, channel, len(payload)) + payload + _END

    def _check_size(self, size: int, what: str) -> None:
        largest = self.frame_max - FRAME_OVERHEAD
        if size > largest:
            text = f'the {what} take {size} octets, more than fit into a frame ({largest})'
            raise ValueError(text)

    def _content_pieces(
        self, channel: int, class_id: bytes, properties: bytes, body: Octets
    ) -> Iterator[Octets]:
        """Return the header frame and the body frames, with the body as it is in memory."""
        size = _CONTENT.size + len(properties)
        header = _HEADER.pack(FRAME_HEADER, channel, size, class_id, 0, len(body))
        yield header + properties + _END
        largest = self.frame_max - FRAME_OVERHEAD
        view = memoryview(body)
        end = b''
        for start in range(0, len(body), largest):
            piece = view[start : start + largest]
            yield end + _FRAME.pack(FRAME_BODY, channel, len(piece))
            yield piece
            end = _END
        yield end

    def _send_in_time(
        self, octets: Any, deadline: Deadline, sequence: Optional[Numbering]
    ) -> Optional[int]:
        if self.write_timeout is not None:
            deadline = deadline.earlier(Deadline(self.write_timeout))
        numbers: list[Optional[int]] = []

        def send() -> None:
            numbers.append(self._send(octets, deadline, sequence))

        if not attempt(self.lock, deadline, send):
            raise AMQPTimeout(0, f'other threads were sending for {deadline.seconds} s')
        return numbers[0]

    def _send(
        self, octets: Any, deadline: Deadline, sequence: Optional[Numbering]
    ) -> Optional[int]:
        """Send octets, or a list of such, while holding the lock; return their number."""
        dest = self.dest
        if dest.cut:
            raise self._cut_short()
        number, before = None, dest.sent
        try:
            while True:
                # A channel.open, for instance, must not overtake the close-ok that made its number
                # free.
                while self.pending:
                    self._send_urgent(deadline)
                if sequence is None:
                    break
                before = dest.sent
                number = sequence.given = sequence.given + 1
                if not self.pending or self._let_pass(sequence, number, deadline):
                    break
                number = None
            (dest.send_pieces if type(octets) is list else dest.send)(octets, deadline)
            if self.pending:
                self._send_what_came_meanwhile(deadline)
        except BaseException as error:
            if number is not None and dest.sent == before and not dest.cut:
                sequence.take_back(number)  # type: ignore[union-attr]
            if isinstance(error, AMQPTimeout):
                raise self._timed_out(error) from None
            self.interrupted = dest.cut
            raise
        return number

    def _let_pass(self, sequence: Numbering, number: int, deadline: Deadline) -> bool:
        """Send what a nested call has queued before a number was taken.

        Returns whether the number is free: the nested call may have taken it at the same time.
        """
        others = [
            frames.number
            for frames in list(self.pending)
            if isinstance(frames, NumberedFrames) and frames.sequence is sequence
        ]
        if number in others:
            return False
        before = sum(other < number for other in others)
        while before:
            before -= isinstance(self.pending[0], NumberedFrames)
            self._send_urgent(deadline)
        return True

    def _send_what_came_meanwhile(self, deadline: Deadline) -> None:
        try:
            while self.pending:
                self._send_urgent(deadline)
        except AMQPTimeout:
            # It stays queued. What the caller has sent is sent.
            if self.dest.cut:
                raise

    def _send_urgent(self, deadline: Deadline) -> None:
        if self.dest.cut:
            # Whoever cut it says why; what the broker said may still have to be read.
            self.pending.clear()
        if self.pending:
            sent = self.dest.sent
            try:
                self.dest.send(self.pending[0], deadline)
            finally:
                # Also if an interrupt comes right behind it: it must not be sent again.
                if self.dest.sent != sent:
                    self.pending.popleft()

    def _send_urgent_at_once(self) -> None:
        dest, pending = self.dest, self.pending
        if dest.cut:
            # Whoever cut it says why; what the broker said may still have to be read.
            pending.clear()
        while pending:
            sent = dest.send_at_once(pending[0])
            if sent < len(pending[0]):
                pending[0] = memoryview(pending[0])[sent:]
                dest.cut = False
                raise AMQPTimeout(0, 'the socket is full')
            pending.popleft()
            dest.cut = False

    def _timed_out(self, error: AMQPTimeout) -> AMQPTimeout:
        """Return the error for a write that ended so: by whether any of it was sent."""
        if not self.dest.cut:
            return error
        text = f'{error.amqp_reply_text}, in the middle of a write: the outcome is unknown'
        self._cut_by = WriteTimeout(error.amqp_reply_code, text)
        return WriteTimeout(*self._cut_by.args)

    def _cut_short(self) -> AMQPException:
        """Return the error for a write after one that was cut: it would be taken for its rest.

        It is the same one, if another thread comes here before the first has told anybody.
        """
        if self._cut_by is not None:
            return WriteTimeout(*self._cut_by.args)
        if self.interrupted:
            return ConnectionLost(0, 'a write was interrupted')
        return ConnectionLost(0, 'a write was cut short: nothing more can be sent')

    def write_soon(self, channel: int, payload: bytes) -> None:
        """Send a method without waiting for another thread's write.

        If there is one, that thread sends this method when it is done.
        """
        self.pending.append(self.method_frame(channel, payload))
        self.flush()

    def flush(self) -> None:
        """Send the frames of write_soon(), unless another thread is about to.

        What the socket does not take at once stays queued: a thread that reads must not wait
        here, as the broker may be waiting for it to read.
        """
        if self.lock._is_owned():
            return  # by this thread, in the middle of a write
        try:
            while self.pending and attempt(self.lock, AT_ONCE, self._send_urgent_at_once):
                pass
        except AMQPTimeout:
            pass  # the socket is full
        except AMQPException:
            raise
        except BaseException:
            self.interrupted = self.dest.cut
            raise

    def send_heartbeat(self) -> None:
        """Send a heartbeat, unless something else is being sent or waits to be."""
        if not self.pending:
            attempt(self.lock, AT_ONCE, self._send_heartbeat)
        self.flush()

    def _send_heartbeat(self) -> None:
        # If the socket is full, the peer has more to read than a heartbeat.
        if not self.dest.cut and self.dest.is_ready(0, write=True)[1]:
            self.pending.append(HEARTBEAT_FRAME)
