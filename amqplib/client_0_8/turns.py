"""Taking turns: locks that are held for a piece of work, and who of the waiting threads reads.

A signal handler may raise an exception, such as KeyboardInterrupt, behind any call; so may a
tracer before any line. Such an exception may come between the taking of a lock and the block
that releases it, or in that block before it does. So who takes a lock here looks at the end, in
two places of which one exception can only skip one, whether the lock is still its own. That
is known as locks are never taken twice: who owns one already has to do without.
"""

from __future__ import annotations

import _thread
import threading
from typing import Any, Callable

from amqplib.client_0_8.deadline import AT_ONCE, Deadline
from amqplib.client_0_8.exceptions import AMQPTimeout

#: Seconds after which a thread that follows looks whether another one leads. It is woken when
#: that one stops; this is for an interrupt that comes right then.
_FOLLOW_STEP = 1.0


def attempt(lock: Any, deadline: Deadline, work: Callable[..., Any], *args: Any) -> bool:
    """Do the work while holding the lock; return whether that could be had before the deadline.

    lock: an RLock. A thread that holds it already does the work too.
    """
    if lock._is_owned():
        work(*args)
        return True
    remaining = deadline.remaining()
    taken: bool = False
    # No return among these lines: right before it, none of the two would see an exception.
    try:
        try:
            taken = lock.acquire(timeout=-1 if remaining is None else remaining)
            if taken:
                work(*args)
        finally:
            if lock._is_owned():
                lock.release()
    except BaseException:
        if lock._is_owned():
            lock.release()
        raise
    return taken


def start_thread(run: Callable[[], Any], name: str) -> None:
    """Start a daemon thread; return when it is about to run.

    Another thread starts it, as no signal handler raises there: threading has locks of its own,
    which an exception could leave taken.
    """
    started = _thread.allocate_lock()
    started.acquire()
    errors: list[RuntimeError] = []

    def start() -> None:
        try:
            threading.Thread(target=run, name=name, daemon=True).start()
        except RuntimeError as error:
            errors.append(error)
        finally:
            started.release()

    _thread.start_new_thread(start, ())
    started.acquire()
    if errors:
        raise errors[0]


class Turns:
    """The role of the reader, which one thread has at a time: it leads, and the others follow.

    The one that leads also does what the others wait for. It tells them when something is ready,
    and when it stops, so that another one can lead.
    """

    def __init__(self) -> None:
        #: Held by the thread that leads.
        self.lock: Any = threading.RLock()
        #: Whether the thread that leads is where it may do so anew: in a handler that is called
        #: when all that was read before is in its place.
        self.at_safe_point = False
        #: Whether the thread that led last has woken another one to lead.
        self.handed_over = False
        #: What a thread sleeps on -> whether what it waits for has come.
        self.followers: dict[Any, Callable[[], object]] = {}

    def is_reading(self) -> bool:
        """Return whether this thread is in the middle of reading, so that it cannot do so anew."""
        return not self.at_safe_point and self.lock._is_owned()

    def lead(self, work: Callable[..., Any], *args: Any) -> bool:
        """Do the work, if that is possible now; return whether it was.

        It is not while another thread leads, or this one is in the middle of it.
        """
        lock = self.lock
        if lock._is_owned():
            return self._lead_on(work, *args)
        taken: bool = False
        try:
            try:
                taken = lock.acquire(False)
                if taken:
                    self.handed_over = self.at_safe_point = False
                    work(*args)
            finally:
                if lock._is_owned():
                    lock.release()
        except BaseException:
            if lock._is_owned():
                lock.release()
            raise
        finally:
            if self.followers:
                self._hand_over()
        return taken

    def _lead_on(self, work: Callable[..., Any], *args: Any) -> bool:
        """Do the work within that of this thread."""
        if not self.at_safe_point:
            return False
        self.at_safe_point = False
        try:
            work(*args)
            return True
        finally:
            self.at_safe_point = True

    def call_at_safe_point(self, work: Callable[..., Any], *args: Any) -> None:
        """Call what may read anew, from the thread that leads."""
        before = self.at_safe_point
        self.at_safe_point = True
        try:
            work(*args)
        finally:
            self.at_safe_point = before

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
                    raise AMQPTimeout(0, f'nothing arrived within {deadline.seconds} s')
        finally:
            if self.followers.pop(waiter, None) is None:
                # It was woken, perhaps to lead: if it leaves instead, another one has to.
                self._hand_over()

    def is_led(self) -> bool:
        """Return whether a thread has the role."""
        return self.lock._is_owned() or not attempt(self.lock, AT_ONCE, _do_nothing)

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
