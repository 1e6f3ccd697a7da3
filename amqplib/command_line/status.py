"""How a command ends: its exit status, and a line on standard error that says why."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Callable

from amqplib.core.log import escaped
from amqplib.exceptions import AMQPException, MessageNacked, NotFound

#: Exit statuses. A command that a signal ended has 128 + its number: 130 after Ctrl-C.
DONE, FAILED, USAGE, NOTHING, REFUSED = range(5)
INTERRUPTED = 128

#: The password in a URL.
_PASSWORD = re.compile(r'(://[^\s/@:]*):\S*@')


class Failure(Exception):
    """The reason why a command did not do what it should, and its exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


def report(text: object) -> None:
    """Write a line to standard error, if that is possible, without any password."""
    line = escaped(_PASSWORD.sub(r'\1:***@', ' '.join(str(text).split())))
    if sys.stderr is not None:  # else it was closed when the program started
        with contextlib.suppress(OSError, ValueError):
            print(f'amqplib: {line}', file=sys.stderr, flush=True)


@contextlib.contextmanager
def errors_say(what_was_done: Callable[[], str]) -> Iterator[None]:
    """Add to the error or the interrupt that ends the block how far the work has come."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f'interrupted; {what_was_done()}') from None
    except (AMQPException, OSError, TypeError, ValueError) as error:
        raise Failure(f'{error}; {what_was_done()}', status_of(error)) from error


def text_of(error: Exception) -> str:
    """Return what to report of an error; of a file, its name and what is wrong with it."""
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    return str(error)


def status_of(error: Exception) -> int:
    """Return the exit status for an error."""
    if isinstance(error, NotFound):
        return NOTHING
    return REFUSED if isinstance(error, MessageNacked) else FAILED


def count(number: int, what: str = 'message') -> str:
    """Return a number with its unit: '1 message', '2,000 messages'."""
    return f'{number:,} {what}' if number == 1 else f'{number:,} {what}s'
