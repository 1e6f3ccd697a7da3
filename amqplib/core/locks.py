"""Locks that an exception cannot leave taken.

A signal handler may raise, such as KeyboardInterrupt, between any two bytecodes: also right after
a lock was taken, and right before it is released. ``with lock:`` does not always cover these two
moments. So a `Mutex` looks in two places, of which one exception can skip only one, whether the
calling thread still holds the lock. That is known, as nobody takes it twice.

No function here returns from within a ``try``: right before that, neither place would see the
exception.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, TypeVar, cast

from amqplib.core.deadline import Deadline
from amqplib.exceptions import ReentrancyError

Result = TypeVar('Result')


class Mutex:
    """A lock that one thread holds for a piece of work.

    lock: for the one place where a call of run() would cost too much; used as run() uses it.
    is_mine: function() -> whether the calling thread holds it. Then a finalizer or a signal handler
        has interrupted the work and calls again.
    """

    __slots__ = ('is_mine', 'lock')

    def __init__(self) -> None:
        self.lock: Any = cast(Any, threading.RLock())
        # Which threading.Condition asks too, so whatever replaces RLock has it.
        self.is_mine: Callable[[], bool] = self.lock._is_owned

    def run(self, work: Callable[..., Result], *args: Any) -> Result:
        """Wait for the lock, do the work, and return what it returns."""
        if self.is_mine():
            raise ReentrancyError.of_call()
        try:
            with self.lock:
                result = work(*args)
        except BaseException:
            self.release_if_mine()
            raise
        return result

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
        taken = False
        try:
            try:
                taken = bool(self.lock.acquire(timeout=timeout))
                if taken:
                    work(*args)
            finally:
                if self.is_mine():
                    self.lock.release()
        except BaseException:
            self.release_if_mine()  # if the other one was interrupted
            raise
        return taken

    def release_if_mine(self) -> None:
        """Release the lock if an exception has left it with the calling thread."""
        if self.is_mine():
            self.lock.release()
