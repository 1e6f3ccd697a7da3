"""Standard input, or a file, as bytes: whole, or line by line without waiting for more lines."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from typing import Callable, Optional

from amqplib.command_line.status import Failure

_READ_SIZE = 1 << 18


@contextlib.contextmanager
def open_input(path: Optional[str]) -> Iterator[int]:
    """Yield the descriptor of a file; None stands for standard input."""
    if path is not None:
        with open(path, 'rb') as file:
            yield file.fileno()
    elif sys.stdin is None:
        raise Failure('standard input is closed')
    else:
        yield sys.stdin.fileno()


def read_chunks(descriptor: int, before_waiting: Callable[[], object]) -> Iterator[bytes]:
    """Yield what can be read until the end; call a function before each wait for more."""
    while True:
        if not _is_ready(descriptor):
            before_waiting()
        chunk = _read(descriptor)
        if not chunk:
            return
        yield chunk


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _READ_SIZE)
    except OSError as error:
        raise OSError(f'cannot read the input: {error.strerror}') from error


def _is_ready(descriptor: int) -> bool:
    if os.name == 'nt':  # where select() is for sockets only
        return False
    return bool(select.select([descriptor], [], [], 0)[0])


def read_lines(descriptor: int, before_waiting: Callable[[], object]) -> Iterator[bytes]:
    """Yield each line as soon as it is there, without its newline."""
    begun: list[bytes] = []  # the parts of a line that has not ended
    for chunk in read_chunks(descriptor, before_waiting):
        first, *others = chunk.split(b'\n')
        begun.append(first)
        if others:
            yield b''.join(begun)
            yield from others[:-1]
            begun = others[-1:]
    last = b''.join(begun)
    if last:
        yield last
