"""What is to be sent to a client, and has not been taken by its socket yet."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Optional

from amqplib.core.encoding import Encoder
from amqplib.core.spec import FRAME_MIN_SIZE

if TYPE_CHECKING:
    from amqplib.core.message import Message
    from amqplib.testing.memory import Memory

#: With so many bytes that the client does not take, nothing more is delivered to it.
MAX_BACKLOG = 1024 * 1024
#: Pieces are sent together until they have so many bytes.
MAX_JOINED = 256 * 1024


class BrokerEncoder(Encoder):
    """Makes frames as RabbitMQ does: a header may be larger than frame_max."""

    def check_size(self, size: int, what: str) -> None:
        """Allow every size."""


class Output:
    """What is to be sent to a client. What its socket does not take counts as memory.

    size: in bytes.
    """

    def __init__(self, sock: socket.socket, memory: Memory) -> None:
        self.size = 0
        self._sock = sock
        self._memory = memory
        self._counted = 0
        self._pieces: deque[Any] = deque()
        self._encoder = BrokerEncoder(FRAME_MIN_SIZE)

    @property
    def has_room(self) -> bool:
        """Whether the client takes what it is sent."""
        return self.size < MAX_BACKLOG

    def limit_frames(self, frame_max: int) -> None:
        """Write no larger frames from now on."""
        self._encoder.frame_max = frame_max

    def write(self, data: Any) -> None:
        """Add bytes."""
        self._pieces.append(data)
        self.size += len(data)

    def write_method(self, number: int, payload: bytes, content: Optional[Message]) -> None:
        """Add a method with its content.

        payload: the payload of its method frame.
        """
        frames = self._encoder.frames(number, payload, content)
        for piece in frames if isinstance(frames, list) else (frames,):
            self.write(piece)

    def flush(self) -> None:
        """Send what the socket takes, or raise OSError."""
        with contextlib.suppress(BlockingIOError):
            self._send()
        self._count()

    def _send(self) -> None:
        while self._pieces:
            data, sent = self._next(), 0
            try:
                sent = self._sock.send(data)
                self.size -= sent
            finally:
                if sent < len(data):
                    self._pieces.appendleft(memoryview(data)[sent:])

    def _next(self) -> Any:
        """Take out the next pieces, joined, but not all of them if they are many."""
        joined, size = [self._pieces.popleft()], 0
        while self._pieces and (size := size + len(joined[-1])) < MAX_JOINED:
            joined.append(self._pieces.popleft())
        return joined[0] if len(joined) == 1 else b''.join(joined)

    def _count(self) -> None:
        before, self._counted = self._counted, self.size
        if before != self.size:
            self._memory.take(self.size)
            self._memory.give_back(before)

    def discard(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self.size = 0
        self._count()
