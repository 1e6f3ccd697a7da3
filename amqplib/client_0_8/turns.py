"""Taking turns: locks that are held for a piece of work, and who of the waiting threads reads.

A signal handler may raise an exception, such as KeyboardInterrupt, behind any call. A lock that
was taken just then would never be released. So locks are taken in a way that leaves a trace before
Python code goes on.
"""

from __future__ import annotations

import threading
from typing import Any, Callable

from amqplib.client_0_8.deadline import AT_ONCE, Deadline
from amqplib.client_0_8.exceptions import AMQPTimeout

#: Seconds after which a thread that follows looks whether another one leads. It is woken when
#: that one stops; this is for an interrupt that comes right then.
_FOLLOW_STEP = 1.0

# Arguments of acquire() for map(): whether to wait.
_WAIT, _DO_NOT_WAIT = (True,), (False,)


def attempt(lock: Any, deadline: Deadline, work: Callable[..., Any], *args: Any) -> bool:
    """Do the work while holding the lock; return whether that could be had before the deadline."""
    remaining = deadline.remaining()
    seconds = (-1.0 if remaining is None else remaining,)
    taken: list[bool] = []
    try:
        # In one step: either the lock is not taken, or the list says that it is.
        taken += map(lock.acquire, _WAIT, seconds)
        if taken[0]:
            work(*args)
        return taken[0]
    finally:
        if True in taken:
            lock.release()


class Turns:
    """The role of the reader, which one thread has at a time: it leads, and the others follow.

    The one that leads also does what the others wait for. It tells them when something is ready,
    and when it stops, so that another one can lead.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        #: Whether the thread that led last has woken another one to lead.
        self.handed_over = False
        #: What a thread sleeps on -> whether what it waits for has come.
        self.followers: dict[Any, Callable[[], object]] = {}

    def lead(self, work: Callable[..., Any], *args: Any) -> bool:
        """Do the work if no other thread leads; return whether that was so."""
        taken: list[bool] = []
        try:
            # As attempt() does, without a call more for each wait.
            taken += map(self._lock.acquire, _DO_NOT_WAIT)
            if taken[0]:
                self.handed_over = False
                work(*args)
            return taken[0]
        finally:
            if True in taken:
                self._lock.release()
            if self.followers:
                self._hand_over()

    def follow(self, ready: Callable[[], object], deadline: Deadline) -> None:
        """Wait until it is ready, or nobody leads any more; raise AMQPTimeout."""
        waiter = threading.Lock()
        waiter.acquire()
        self.followers[waiter] = ready
        try:
            # What happened before it was listed, this thread has to see for itself.
            while not ready() and self.is_led():
                remaining = deadline.remaining()
                step = _FOLLOW_STEP if remaining is None else min(_FOLLOW_STEP, remaining)
                if waiter.acquire(timeout=step):
                    return
                if deadline.expired() and not ready():
                    raise AMQPTimeout(0, f'nothing arrived within {deadline}')
        finally:
            if self.followers.pop(waiter, None) is None:
                # It was woken, perhaps to lead: if it leaves instead, another one has to.
                self._hand_over()

    def is_led(self) -> bool:
        """Return whether a thread has the role."""
        return not attempt(self._lock, AT_ONCE, _do_nothing)

    def wake_ready(self) -> None:
        """Wake the threads whose wait is over."""
        for waiter, ready in list(self.followers.items()):
            if ready():
                self._wake(waiter)

    def _hand_over(self) -> None:
        """Wake a thread to lead, if none does."""
        if not self.is_led():
            for waiter in list(self.followers)[:1]:
                self.handed_over = True
                self._wake(waiter)

    def _wake(self, waiter: Any) -> None:
        if self.followers.pop(waiter, None) is not None:
            waiter.release()


def _do_nothing() -> None:
    pass
