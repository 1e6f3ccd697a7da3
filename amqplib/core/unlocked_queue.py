"""A Queue without the locks of the standard one. Channel imports it when it is needed.

An exception of a signal handler in the middle of Queue.put() or Queue.get() can leave their lock
locked, and a finalizer in the middle of put() may call the library, which may put in the next item.
The operations of a deque need no lock.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from queue import Empty, Queue
from typing import Any, Optional, TypeVar

from amqplib.core.deadline import NO_WAIT, Deadline

Item = TypeVar('Item')

#: Seconds after which a waiting thread looks again. It is woken before that, unless an exception
#: has come between.
_WAIT_STEP = 1.0


class UnlockedQueue(Queue[Item]):
    """A Queue of unlimited size.

    task_done() and join() are those of Queue, with its lock, which put() and get() do not take.
    """

    def __init__(self) -> None:
        super().__init__()
        # The locks that threads sleep on.
        self._waiters: deque[Any] = deque()

    def qsize(self) -> int:
        return len(self.queue)

    def empty(self) -> bool:
        return not self.queue

    def full(self) -> bool:
        return False

    def put(self, item: Item, block: bool = True, timeout: Optional[float] = None) -> None:
        self.unfinished_tasks += 1
        self._put(item)
        with suppress(IndexError):
            self._waiters.popleft().release()

    def get(self, block: bool = True, timeout: Optional[float] = None) -> Item:
        deadline = Deadline(timeout) if block else NO_WAIT
        while True:
            try:
                item: Item = self._get()
            except IndexError:
                if deadline.expired():
                    raise Empty from None
            else:
                return item
            self._wait(deadline)

    def _wait(self, deadline: Deadline) -> None:
        """Wait until there may be an item, but not for long."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            if not self.queue:  # else it was put in before this was listed
                waiter.acquire(timeout=deadline.earlier(Deadline(_WAIT_STEP)).remaining() or 0)
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)
