"""The lanes of a Publisher: those in use, those that wait for the next call, those left over."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable

from amqplib.core.outgoing import MessageIds
from amqplib.exceptions import AMQPConnectionException, AMQPTimeout

if TYPE_CHECKING:
    from amqplib.core.deadline import Deadline
    from amqplib.core.lane import Lane, Refused
    from amqplib.core.link import Link

#: Seconds after which a thread that waits for a lane looks again. It is woken before that, unless
#: an exception has come between.
_WAIT_STEP = 1.0


class Lanes:
    """Hands out lanes, each to one call at a time.

    make: function() -> Lane.
    most: how many there may be.
    link: gives them channels.
    process: the id of the process that they belong to.
    ids: makes the message ids.
    is_closed: whether no more are handed out.
    """

    def __init__(self, make: Callable[[], Lane], most: int, link: Link) -> None:
        self._make = make
        self.most = most
        self.link = link
        self.process = os.getpid()
        self.ids = MessageIds()
        self.is_closed = False
        # All that exist: one that an exception has left with nobody is not missed.
        self._all: weakref.WeakSet[Lane] = weakref.WeakSet()
        self._idle: deque[Lane] = deque()
        self._left: deque[Lane] = deque()
        # The locks that threads sleep on.
        self._waiters: deque[Any] = deque()

    def take(self, deadline: Deadline) -> Lane:
        """Return a lane; raise AMQPTimeout if all are in use until the deadline."""
        taken: list[Lane] = []
        if not self._wait(lambda: self._try_to_take(taken), deadline):
            raise AMQPTimeout(0, f'{self.most} calls were in progress for {deadline}')
        return taken[0]

    def _try_to_take(self, taken: list[Lane]) -> bool:
        if self.is_closed:
            raise AMQPConnectionException(0, 'the publisher was closed by this program')
        try:
            taken.append(self._idle.pop())
        except IndexError:
            if len(self._all) >= self.most:
                return False
            taken.append(self._make())
            self._all.add(taken[0])
        return True

    def put(self, lane: Lane) -> None:
        """Take back a lane on which all is settled."""
        self._idle.append(lane)
        self._wake()

    def leave(self, lane: Lane) -> None:
        """Take back a lane of which settle_left() is to settle the rest."""
        self._left.append(lane)
        self._wake()

    def drop(self, lane: Lane) -> None:
        """Give up a lane with what is on it."""
        try:
            lane.give_up()
        finally:
            self._all.discard(lane)
            self._wake()

    def settle_left(self, deadline: Deadline) -> Iterator[Refused]:
        """Settle what was left over; return what was refused."""
        while self._left:
            lane = self._left[0]
            while lane.outstanding:
                self.link.settle(lane, deadline)
            yield from lane.refused
            lane.refused.clear()
            self.put(self._left.popleft())

    def wait_until_idle(self, deadline: Deadline) -> None:
        """Wait until no lane is in use; raise AMQPTimeout at the deadline."""

        def in_use() -> int:
            return len(self._all) - len(self._idle) - len(self._left)

        if not self._wait(lambda: in_use() <= 0, deadline):
            raise AMQPTimeout(0, f'{in_use()} calls were still in progress after {deadline}')

    def _wait(self, ready: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait until ready() is true; return False at the deadline."""
        while not ready():
            waiter = threading.Lock()
            waiter.acquire()
            self._waiters.append(waiter)
            # A lane that came back before this was listed has woken nobody.
            if ready():
                self._wake()
                break
            remaining = deadline.remaining()
            if remaining == 0:
                return False
            waiter.acquire(timeout=_WAIT_STEP if remaining is None else min(_WAIT_STEP, remaining))
        return True

    def _wake(self) -> None:
        """Wake a thread that waits."""
        with suppress(IndexError):
            self._waiters.popleft().release()
