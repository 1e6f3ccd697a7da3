"""Connecting again after a loss; reconnecting() of the clients imports it.

The connection of an attempt is made by the loop, before the block begins: a context manager cannot
suppress an error of its own beginning.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle
from random import uniform
from typing import Any, Callable, Generic, Optional, TypeVar, Union

from amqplib.core import log, urls
from amqplib.core.checks import check_callable
from amqplib.core.deadline import Deadline
from amqplib.exceptions import AMQPException

#: Seconds of work after which the pauses are short again.
WORK = 60.0

#: Seconds between two calls of stop() in a pause. The sleep cannot be longer, because it goes on
#: after a signal handler that sets a flag.
_STEP = 0.1

Opened = TypeVar('Opened')
ErrorClasses = Union[type[Exception], Iterable[type[Exception]]]


class Attempt(Generic[Opened]):
    """A connection for one block, ``with attempt as conn``, which closes it.

    outcome: None until the block is left; then '', or the error that ended it, as text.
    """

    def __init__(self, connection: Any, is_retried: Callable[[BaseException], bool]) -> None:
        self._connection = connection
        self._is_retried = is_retried
        self._is_used = self._is_left = False
        self.outcome: Optional[str] = None

    def __enter__(self) -> Opened:
        if self._is_used:
            raise RuntimeError('an attempt is for one block: the loop has the next one')
        self._is_used = True
        opened: Opened = self._connection
        return opened

    def __exit__(self, kind: object, error: Optional[BaseException], traceback: object) -> bool:
        self._is_left = True
        try:
            self._connection.__exit__(kind, error, traceback)
        except AMQPException as failed:  # only if the block had no error
            self.outcome = _in_words(failed)
            if not self._is_retried(failed):
                raise
            return True
        self.outcome = '' if error is None else _in_words(error)
        return error is not None and self._is_retried(error)

    def end(self) -> None:
        """Close the connection if no block has: it was never used, or an interrupt came first."""
        if not self._is_used or (self._is_left and self.outcome is None):
            self._is_used = True
            try:
                self._connection.close()
            except AMQPException as error:
                log.warning('closing failed: %s', error)


class Loop(Generic[Opened]):
    """The state of one reconnecting(), which has the same arguments.

    make: the class Connection.

    Raises ValueError and TypeError for wrong arguments.
    """

    def __init__(
        self,
        make: Callable[..., Opened],
        url: Union[str, Iterable[str]],
        pauses: tuple[float, float],
        retry: ErrorClasses,
        stop: Optional[Callable[[], object]],
        arguments: Mapping[str, Any],
    ) -> None:
        check_callable('stop', stop)
        self._make = make
        self._places = [urls.merge(place, arguments) for place in urls.parse_all(url)]
        # Not by map(): PyPy would take its TypeError for one of the unpacking.
        self._first = _seconds('first', pauses[0])
        self._most = _seconds('most', pauses[1])
        self._retry = _classes(retry)
        self._stop = stop or _never
        self._longest = self._first

    def attempts(self) -> Iterator[Attempt[Opened]]:
        """Yield attempts until one succeeds, or stop() is true."""
        for where, connection in self._connections():
            began = time.monotonic()
            attempt: Attempt[Opened] = Attempt(connection, self._is_retried)
            try:
                yield attempt
            finally:
                attempt.end()
            if attempt.outcome is None:
                raise RuntimeError('an attempt needs its block, `with attempt as conn:`')
            if not attempt.outcome:
                return
            if time.monotonic() - began >= WORK:
                self._longest = self._first
            if not self._pause(where, attempt.outcome):
                return

    def _connections(self) -> Iterator[tuple[str, Opened]]:
        """Yield (address, connection), with a pause whenever all URLs have failed in a row."""
        failed = 0
        for place in cycle(self._places):
            if self._stop():
                return
            where = urls.address(place)
            try:
                connection = self._make(**place)
            except Exception as error:
                if not self._is_retried(error):
                    raise
                failed += 1
                why = _in_words(error)
                if failed % len(self._places):
                    log.warning('%s: %s; trying the next URL', where, why)
                elif not self._pause(where, why):
                    return
            else:
                failed = 0
                yield where, connection

    def _is_retried(self, error: BaseException) -> bool:
        recoverable = isinstance(error, AMQPException) and error.recoverable
        return recoverable or isinstance(error, self._retry)

    def _pause(self, where: str, why: str) -> bool:
        """Log an error, and wait; return False as soon as stop() is true."""
        if self._stop():
            log.warning('%s: %s; stopping', where, why)
            return False
        seconds = self._longest * uniform(0.5, 1)  # so that not all programs come back at once
        self._longest = min(2 * self._longest, self._most)
        log.warning('%s: %s; trying again in %.1f s', where, why, seconds)
        end = time.monotonic() + seconds
        while not self._stop():
            remaining = end - time.monotonic()
            if remaining <= 0:
                return True
            time.sleep(min(remaining, _STEP))
        return False


def _in_words(error: BaseException) -> str:
    return f'{type(error).__name__}: {error}'


def _never() -> bool:
    return False


def _seconds(name: str, value: float) -> float:
    if value is None:
        raise TypeError(f'{name}: {value!r} is not a number of seconds')
    Deadline(value, name)
    return value


def _classes(retry: ErrorClasses) -> tuple[type[Exception], ...]:
    classes = tuple(retry) if isinstance(retry, Iterable) else (retry,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Exception)):
            raise TypeError(f'retry: {cls!r} is not a class of exceptions')
    return classes
