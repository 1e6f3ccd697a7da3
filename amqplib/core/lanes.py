"""The lanes of a Publisher: those in use, those that are idle, those left over.

A lane is left over if its call has ended before all was settled: the program has left the loop over
publish_all(), for instance. A later call settles the rest.
"""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Callable

from amqplib.core.locks import Mutex
from amqplib.core.outgoing import MessageIds
from amqplib.exceptions import AMQPConnectionException, AMQPTimeout, ReentrancyError

if TYPE_CHECKING:
    from amqplib.core.deadline import Deadline
    from amqplib.core.lane import Lane, Refused
    from amqplib.core.link import Link

#: Seconds after which a thread that waits for a lane looks again. It is woken before that, unless
#: an exception has come between.
_WAIT_STEP = 1.0

_MINE = 'this thread is in the middle of another call, perhaps of an open publish_all()'


class Lanes:
    """Hands out lanes, each to one call at a time.

    make: function() -> Lane.
    most: how many there may be.
    link: gives them channels.
    process: the id of the process that they belong to.
    in_children: id of a child process -> the lanes that take their place there.
    ids: makes the message ids.
    is_closed: whether no more are handed out.
    """

    def __init__(self, make: Callable[[], Lane], most: int, link: Link) -> None:
        self._make = make
        self.most = most
        self.link = link
        link.make_room = self._make_room
        self.process = os.getpid()
        self.in_children: dict[int, Lanes] = {}
        self.ids = MessageIds()
        self.is_closed = False
        # All that exist; weak, so that one that an interrupt has left without an owner goes.
        self._all: weakref.WeakSet[Lane] = weakref.WeakSet()
        self._idle: deque[Lane] = deque()
        self._left: deque[Lane] = deque()
        # The first message that was refused on those. Only one is kept, as close() may come late.
        self._refused: list[Refused] = []
        # Held by the thread that settles what is left over.
        self._settling = Mutex()
        # The locks that threads sleep on.
        self._waiters: deque[Any] = deque()

    def take(self, deadline: Deadline) -> Lane:
        """Return a lane; raise AMQPTimeout if all are in use until the deadline.

        Raises ReentrancyError if all are in use by this thread.
        """
        taken: list[Lane] = []
        while not taken:
            if not self._wait(lambda: self._try_to_take(taken) or bool(self._left), deadline):
                raise AMQPTimeout(0, f'{self.most} calls were in progress for {deadline}')
            if not taken:
                self.settle_left(deadline)
        taken[0].thread = threading.get_ident()
        return taken[0]

    def _try_to_take(self, taken: list[Lane]) -> bool:
        if self.is_closed:
            raise AMQPConnectionException(0, 'the publisher was closed by this program')
        try:
            taken.append(self._idle.pop())
        except IndexError:
            if len(self._all) >= min(self.most, self.link.room):
                return False
            taken.append(self._make())
            self._all.add(taken[0])
        return True

    def put(self, lane: Lane) -> None:
        """Take back a lane on which all is settled."""
        lane.thread = None
        self._idle.append(lane)
        self._wake()

    def leave(self, lane: Lane) -> None:
        """Take back a lane of which settle_left() is to settle the rest."""
        lane.thread = None
        self._left.append(lane)
        self._wake()

    def drop(self, lane: Lane) -> None:
        """Give up a lane with what is on it."""
        try:
            lane.give_up()
        finally:
            self._all.discard(lane)
            self._wake()

    def settle_all(self, deadline: Deadline) -> list[Refused]:
        """Wait until no lane is in use, and settle what is left over.

        Returns the first message that was refused of those, with its error, or an empty list.

        Raises AMQPTimeout at the deadline; ReentrancyError if this thread itself uses a lane.
        """
        self.settle_left(deadline)
        while self._in_use() > 0:
            if not self._wait(lambda: bool(self._left) or self._in_use() <= 0, deadline):
                text = f'{self._in_use()} calls were still in progress after {deadline}'
                raise AMQPTimeout(0, text)
            self.settle_left(deadline)
        refused, self._refused = self._refused, []
        return refused

    def settle_left(self, deadline: Deadline) -> None:
        """Settle what is left over."""
        if self._settling.is_mine():
            raise ReentrancyError.of_call()
        if not self._settling.run_in_time(deadline, self._settle_left, deadline):
            raise AMQPTimeout(0, f'another thread did not settle what was left within {deadline}')

    def _settle_left(self, deadline: Deadline) -> None:
        while self._left:
            lane = self._left[0]
            try:
                while lane.outstanding:
                    self.link.settle(lane, deadline)
            except BaseException:
                lane.requeue()  # its channel may be in any state
                raise
            self._refused += islice(lane.refused, 0 if self._refused else 1)
            lane.refused.clear()
            self.put(self._left.popleft())

    def _make_room(self, lane: Lane, deadline: Deadline) -> None:
        """Close the channel of a lane that is not in use, for another one that has none.

        Raises ReentrancyError if this thread itself uses all channels.
        """
        if self._left and not self._settling.is_mine():
            self.settle_left(deadline)
        with suppress(IndexError):
            self.drop(self._idle.pop())
            return
        try:
            users = {one.thread for one in self._all if one is not lane and one.has_channel}
        except RuntimeError:
            return  # another thread has added one
        if users == {threading.get_ident()}:
            raise ReentrancyError(0, _MINE)

    def _in_use(self) -> int:
        return len(self._all) - len(self._idle) - len(self._left)

    def _wait(self, ready: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait until ready() is true; return False at the deadline."""
        while not ready():
            self._check_that_others_use_them()
            waiter = threading.Lock()
            waiter.acquire()
            try:
                self._waiters.append(waiter)
                # A lane that came back before the lock was listed has not released it.
                if ready():
                    self._wake()
                    break
                seconds = deadline.remaining()
                if seconds == 0:
                    return False
                waiter.acquire(timeout=_WAIT_STEP if seconds is None else min(_WAIT_STEP, seconds))
            finally:
                # A lock that stays listed would be woken in place of a thread that waits.
                with suppress(ValueError):
                    self._waiters.remove(waiter)
        return True

    def _check_that_others_use_them(self) -> None:
        """Raise ReentrancyError if only this thread itself could give back a lane."""
        if self._all_are_used_here():
            # One that the program has left may only not be collected yet, always so on PyPy.
            gc.collect()
        if self._all_are_used_here():
            raise ReentrancyError(0, _MINE)

    def _all_are_used_here(self) -> bool:
        try:
            threads = [lane.thread for lane in self._all]
        except RuntimeError:
            return False  # another thread has added one
        return 0 < self._in_use() <= threads.count(threading.get_ident())

    def _wake(self) -> None:
        """Wake a thread that waits."""
        with suppress(IndexError):
            self._waiters.popleft().release()
