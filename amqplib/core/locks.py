"""Locks that no exception leaves locked.

A signal handler may raise an exception, such as KeyboardInterrupt, between any two bytecodes: right
after a lock was acquired, for instance, or right before it is released. ``with lock:`` does not
always cover these two moments. Therefore a `Mutex` checks in two places whether the calling thread
still holds the lock; one exception can skip only one of them. The check is unambiguous, because no
thread acquires the lock twice.

No function here returns from within a ``try``: an exception right before the return would escape
both places.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, TypeVar, cast

from amqplib.core.deadline import Deadline
from amqplib.exceptions import ReentrancyError

Result = TypeVar('Result')


class Mutex:
    """A lock that a thread holds while it runs a function.

    lock: for the one place where a call of run() would cost too much, which does what run() does.
    is_mine: function() -> whether the calling thread holds the lock. If so, a finalizer or a signal
        handler has interrupted the function, and calls again.
    """

    __slots__ = ('is_mine', 'lock')

    def __init__(self) -> None:
        self.lock: Any = cast(Any, threading.RLock())
        # threading.Condition uses it too, so any replacement of RLock has it.
        self.is_mine: Callable[[], bool] = self.lock._is_owned

    def run(self, work: Callable[..., Result], *args: Any) -> Result:
        """Wait for the lock, run the function, and return its result."""
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
        """Run the function if the lock is free before the deadline; return whether it was."""
        remaining = deadline.remaining()
        return self.try_run(work, *args, timeout=-1 if remaining is None else remaining)

    def try_run(self, work: Callable[..., object], *args: Any, timeout: float = 0) -> bool:
        """Run the function if the lock is free; return whether it was.

        If the calling thread itself holds the lock, it is not free.

        timeout: seconds to wait for the lock; -1 for no limit.
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
            self.release_if_mine()  # if the release above was interrupted
            raise
        return taken

    def is_free(self) -> bool:
        """Return whether no thread holds the lock."""
        return self.try_run(_do_nothing)

    def release_if_mine(self) -> None:
        """Release the lock if an exception has left it with the calling thread."""
        if self.is_mine():
            self.lock.release()


def _do_nothing() -> None:
    pass
