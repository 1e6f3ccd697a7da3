"""Names of amqplib 1.0.2 that the clients themselves do not use, but programs do.

Each client offers them under the old names, in its modules transport and method_framing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union

from amqplib.core import transport
from amqplib.core.deadline import NO_DEADLINE
from amqplib.core.decoding import Decoder
from amqplib.core.encoding import Encoder
from amqplib.core.fast_decoding import Inbox
from amqplib.core.message import Message
from amqplib.core.spec import (
    FRAME_BODY,
    FRAME_END,
    FRAME_ERROR,
    FRAME_HEADER,
    FRAME_START,
    SHARED_ROWS,
)
from amqplib.core.streams import AMQPReader, AMQPWriter, payload_of
from amqplib.exceptions import AMQPTimeout, ProtocolError

if TYPE_CHECKING:
    from amqplib.core.session import Session
    from amqplib.core.spec import Protocol, Signature


#: The signatures of the methods with content that brokers send.
CONTENT_METHODS = [
    row.signature for row in SHARED_ROWS if row.content and row.name != 'basic.publish'
]


class LegacyTransport(transport.AbstractTransport):
    """A transport that can read and write single frames."""

    _read_buffer = b''

    def _read(self, n: int) -> bytes:
        """Wait for n bytes and take them."""
        while len(self._read_buffer) < n:
            arrived: list[bytes] = []
            receive(self, arrived)
            self._read_buffer += arrived[0]
        data, self._read_buffer = self._read_buffer[:n], self._read_buffer[n:]
        return data

    def read_frame(self) -> tuple[int, int, bytes]:
        """Take one frame: (frame type, channel, payload)."""
        frame_type, channel, size = FRAME_START.unpack(self._read(FRAME_START.size))
        payload = self._read(size)
        end = self._read(1)[0]
        if end != FRAME_END:
            raise ProtocolError(FRAME_ERROR, f'a frame ends in 0x{end:02x}')
        return frame_type, channel, payload

    def _write(self, data: bytes) -> None:
        self.send(data)

    def write_frame(self, frame_type: int, channel: int, payload: bytes) -> None:
        """Send one frame."""
        header = FRAME_START.pack(frame_type, channel, len(payload))
        self.send(b''.join((header, payload, bytes((FRAME_END,)))))


class LegacyTCPTransport(transport.TCPTransport, LegacyTransport):
    """A LegacyTransport over plain TCP."""


class LegacySSLTransport(transport.SSLTransport, LegacyTransport):
    """A LegacyTransport over TLS."""


def receive(source: transport.AbstractTransport, arrived: list[Any]) -> None:
    """Wait for bytes, and append them to the list; limited by the timeout of the socket alone."""
    if not source.receive(arrived):
        limit = source.limit_of(NO_DEADLINE)
        raise AMQPTimeout(0, f'nothing arrived within {limit}')


class AnyInbox(Inbox):
    """The inbox of all channels, for reading methods without a connection."""

    def get(self, channel: int) -> AnyInbox:
        """Return the inbox of a channel."""
        return self


class MethodReader:
    """Reads methods with their content, one after the other.

    source: a transport.
    queue: the methods that are complete.
    running: whether nothing wrong was received.
    """

    _protocol: ClassVar[Protocol]

    def __init__(self, source: Any, decoder: Optional[Decoder] = None) -> None:
        self.source = source
        self.running = True
        if decoder is None:
            decoder = Decoder(self._protocol, Message, AnyInbox())  # type: ignore[arg-type]
        self._decoder = decoder

    @property
    def queue(self) -> deque[Any]:
        return self._decoder.queue

    @property
    def partial_messages(self) -> dict[int, Any]:
        """The methods whose content has not all arrived, by channel."""
        return self._decoder.partial_messages

    @property
    def expected_types(self) -> dict[int, int]:
        """The frame type that must come next, of the channels where it is not a method."""
        return {
            channel: FRAME_HEADER if partial.properties is None else FRAME_BODY
            for channel, partial in self.partial_messages.items()
        }

    def read_method(self) -> tuple[int, Signature, AMQPReader, Optional[Message]]:
        """Return the next method; waits until there is one."""
        decoder = self._decoder
        # A program that reads here wants all methods.
        paths, decoder.fast_paths = decoder.fast_paths, {}
        try:
            while not decoder.queue:
                arrived: list[bytes] = []
                receive(self.source, arrived)
                decoder.take(arrived[0])
        except ProtocolError:
            self.running = False
            raise
        finally:
            decoder.fast_paths = paths
        channel, method = decoder.queue.popleft()
        return (channel, *method)


class MethodWriter:
    """Writes methods with their content, each as one uninterrupted write.

    dest: a transport.
    frame_max: the largest frame, in bytes.
    """

    def __init__(self, dest: Any, frame_max: int, session: Optional[Session] = None) -> None:
        self.dest = dest
        self.frame_max = frame_max
        self._session = session

    def write_method(
        self,
        channel: int,
        method_sig: Signature,
        args: Union[bytes, AMQPWriter] = b'',
        content: Optional[Message] = None,
    ) -> None:
        """Send a method whose arguments are already encoded."""
        frames = Encoder(self.frame_max).frames(channel, payload_of(method_sig, args), content)
        if self._session is not None:
            self._session.send(frames, self._session.closed)
        elif isinstance(frames, bytes):
            self.dest.send(frames)
        else:
            self.dest.send_pieces(frames)
