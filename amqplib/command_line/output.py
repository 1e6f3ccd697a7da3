"""Standard output for bytes: nothing counts as written before flush() has returned."""

from __future__ import annotations

import os
import select
import sys
from typing import Callable

from amqplib.command_line.status import Failure

#: Seconds between two looks whether the command should stop, while nobody reads the output.
_STEP = 0.2
#: Bytes that a pipe takes without blocking, once it takes any.
_PIECE = getattr(select, 'PIPE_BUF', 512)


def never() -> bool:
    return False


class Output:
    """Collects what is to be written, and writes it when it is flushed.

    size: how many bytes are to be written.
    stop: asked while the reader of a pipe is slow; if it returns true, flush() gives up.

    Raises Failure if standard output is closed.
    """

    def __init__(self, stop: Callable[[], bool] = never) -> None:
        if sys.stdout is None:
            raise Failure('standard output is closed')
        self._descriptor = sys.stdout.fileno()
        self._stop = stop
        self._pending: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> None:
        self._pending.append(data)
        self.size += len(data)

    def flush(self) -> None:
        """Hand everything to the operating system.

        Raises OSError; KeyboardInterrupt if it should stop.
        """
        rest = memoryview(b''.join(self._pending))
        self._pending.clear()
        self.size = 0
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError as error:
            raise OSError(f'cannot write to standard output: {error.strerror}') from error

    def _write_some(self, data: memoryview) -> int:
        if os.name == 'nt':  # where select() is for sockets only
            return os.write(self._descriptor, data)
        while not select.select([], [self._descriptor], [], _STEP)[1]:
            if self._stop():
                raise KeyboardInterrupt('interrupted')
        return os.write(self._descriptor, data[:_PIECE])
