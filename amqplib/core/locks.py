"""Locks that an exception cannot leave taken.

A signal handler may raise, such as KeyboardInterrupt, between any two bytecodes: also right after
a lock was taken, and right before it is released. ``with lock:`` does not always cover these two
moments. A `Mutex` does: what the inner statement misses, the outer one sees, as the lock itself
knows which thread holds it.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, TypeVar, cast

from amqplib.core.deadline import Deadline
from amqplib.exceptions import ReentrancyError

Result = TypeVar('Result')


class Mutex:
    """A lock that one thread holds for a piece of work.

    is_mine: function() -> whether the calling thread holds it. Then a finalizer or a signal handler
        has interrupted the work and calls again.
    """

    __slots__ = ('_lock', 'is_mine')

    def __init__(self) -> None:
        self._lock: Any = cast(Any, threading.RLock())
        # Which threading.Condition asks too, so whatever replaces RLock has it.
        self.is_mine: Callable[[], bool] = self._lock._is_owned

    def run(self, work: Callable[..., Result], *args: Any) -> Result:
        """Wait for the lock, do the work, and return what it returns."""
        if self.is_mine():
            raise ReentrancyError.of_call()
        try:
            with self._lock:
                return work(*args)
        except BaseException:
            self._release_if_mine()
            raise

    def run_in_time(self, deadline: Deadline, work: Callable[..., object], *args: Any) -> bool:
        """Do the work if the lock can be had before the deadline; return whether it could."""
        remaining = deadline.remaining()
        return self.try_run(work, *args, timeout=-1 if remaining is None else remaining)

    def try_run(self, work: Callable[..., object], *args: Any, timeout: float = 0) -> bool:
        """Do the work if the lock can be had; return whether it could.

        It cannot, if the calling thread holds it already.

        timeout: seconds to wait for it; -1 for no limit.
        """
        if self.is_mine():
            return False
        try:
            try:
                if not self._lock.acquire(timeout=timeout):
                    return False
                work(*args)
                # Before the return, which is outside of what is caught.
                self._lock.release()
            except BaseException:
                self._release_if_mine()
                raise
        except BaseException:
            self._release_if_mine()  # if the other one was interrupted
            raise
        return True

    def _release_if_mine(self) -> None:
        if self.is_mine():
            self._lock.release()
