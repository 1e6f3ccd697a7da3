"""Which of the threads that wait reads the socket.

There is no thread of the library that reads. Of the threads that wait, one has the role of the
reader: it reads, and does at once what the others wait for. When it has its own, it leaves the
role to another one.
"""

from __future__ import annotations

import threading
from typing import Any, Callable

from amqplib.core.deadline import Deadline
from amqplib.core.locks import Mutex

#: Seconds after which a thread that waits looks whether another one still reads. It is woken when
#: that one stops; this is for an interrupt at that very moment.
_WAIT_STEP = 1.0


class ReaderRole:
    """The role, and the threads that wait for what the reader brings.

    is_mine: function() -> whether the calling thread is the reader.
    re_enterable: whether the reader calls a handler, which may read in turn. Anywhere else, the
        reader is in the middle of something.
    handed_over: whether the last reader has woken another thread to read.
    waiters: what a thread sleeps on -> function that says whether what it waits for has come.
    """

    def __init__(self) -> None:
        self._mutex = Mutex()
        self.is_mine = self._mutex.is_mine
        self.re_enterable = False
        self.handed_over = False
        self.waiters: dict[Any, Callable[[], object]] = {}

    def try_read(self, work: Callable[..., object], *args: Any) -> bool:
        """Do work that reads if no other thread reads; return whether it was done."""
        self.handed_over = False
        try:
            return self._mutex.try_run(work, *args)
        finally:
            if self.waiters:
                self._hand_over()

    def wait_for_reader(self, ready: Callable[[], object], deadline: Deadline) -> bool:
        """Wait until it is ready or no thread reads any more; return False at the deadline."""
        waiter = threading.Lock()
        waiter.acquire()
        self.waiters[waiter] = ready
        try:
            # What happened before it was listed, this thread has to see for itself.
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
                # It was woken, perhaps to read: if it leaves instead, another one has to.
                self._hand_over()

    def wake_ready(self) -> None:
        """Wake the threads whose wait is over."""
        for waiter, ready in list(self.waiters.items()):
            if ready():
                self._wake(waiter)

    def is_taken(self) -> bool:
        """Return whether a thread reads."""
        return not self._mutex.try_run(_do_nothing)

    def _hand_over(self) -> None:
        """Wake a thread to read, if none does."""
        if not self.is_taken():
            for waiter in list(self.waiters)[:1]:
                self.handed_over = True
                self._wake(waiter)

    def _wake(self, waiter: Any) -> None:
        if self.waiters.pop(waiter, None) is not None:
            waiter.release()


def _do_nothing() -> None:
    pass
