"""Which of the waiting threads reads the socket.

The library has no thread that reads. Of the threads that wait, one has the role of the reader: it
reads for all of them. When its own wait is over, it hands the role to another one.
"""

from __future__ import annotations

import threading
from typing import Any, Callable

from amqplib.core.deadline import Deadline
from amqplib.core.locks import Mutex

#: Seconds after which a waiting thread checks whether another thread still reads. The reader wakes
#: a thread when it stops; this is for the case that it is interrupted at that very moment.
_WAIT_STEP = 1.0


class ReaderRole:
    """The role of the reader, and the threads that wait.

    is_mine: function() -> whether the calling thread is the reader.
    re_enterable: whether the reader is calling a handler, which may read in turn. At any other
        time, the reader is in the middle of something.
    handed_over: whether the last reader has woken another thread to read.
    waiters: the lock that a thread sleeps on -> function that says whether its wait is over.
    """

    def __init__(self) -> None:
        self._mutex = Mutex()
        self.is_mine = self._mutex.is_mine
        self.re_enterable = False
        self.handed_over = False
        self.waiters: dict[Any, Callable[[], object]] = {}

    def try_read(self, work: Callable[..., object], *args: Any) -> bool:
        """Run a function that reads, unless another thread reads; return whether it was run."""
        self.handed_over = False
        try:
            return self._mutex.try_run(work, *args)
        finally:
            if self.waiters:
                self._hand_over()

    def wait_for_reader(self, ready: Callable[[], object], deadline: Deadline) -> bool:
        """Wait until ready() is true or no thread reads any more; return False at the deadline."""
        waiter = threading.Lock()
        waiter.acquire()
        self.waiters[waiter] = ready
        try:
            # The reader does not report what happened before this waiter was listed.
            while not ready() and self.is_taken():
                remaining = deadline.remaining()
                step = _WAIT_STEP if remaining is None else min(_WAIT_STEP, remaining)
                if waiter.acquire(timeout=step):
                    break
                if deadline.expired() and not ready():
                    return False
            return True
        finally:
            if self.waiters.pop(waiter, None) is None:
                # This thread was woken, perhaps to read. If it does not read, another one must.
                self._hand_over()

    def wake_ready(self) -> None:
        """Wake the threads whose wait is over."""
        for waiter, ready in list(self.waiters.items()):
            if ready():
                self._wake(waiter)

    def is_taken(self) -> bool:
        """Return whether some thread reads."""
        return not self._mutex.is_free()

    def _hand_over(self) -> None:
        """Wake a thread to read, if no thread reads."""
        if not self.is_taken():
            for waiter in list(self.waiters)[:1]:
                self.handed_over = True
                self._wake(waiter)

    def _wake(self, waiter: Any) -> None:
        if self.waiters.pop(waiter, None) is not None:
            waiter.release()
