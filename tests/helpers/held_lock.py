"""A thread that is held just before it takes a lock."""

import contextlib
import threading

from tests.helpers.threads import Worker
from tests.helpers.waiting import PATIENCE


class HeldLock:
    """A lock that holds one thread back until let_go(); other threads take it as usual.

    The held thread has then done everything that it does before it takes the lock.
    """

    def __init__(self, lock):
        self._lock = lock
        self._is_owned = lock._is_owned
        self._held = None
        self._asked, self._let_go = threading.Event(), threading.Event()

    def hold(self, call):
        """Make a call in a thread until it asks for the lock; return the `Worker`."""

        def held():
            self._held = threading.get_ident()
            return call()

        worker = Worker(held)
        assert self._asked.wait(PATIENCE), 'the call never asked for the lock'
        return worker

    def let_go(self):
        """Let the held thread take the lock."""
        self._let_go.set()

    def acquire(self, *args, **kwargs):
        if threading.get_ident() == self._held:
            self._asked.set()
            assert self._let_go.wait(PATIENCE)
        return self._lock.acquire(*args, **kwargs)

    def release(self):
        self._lock.release()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *exc_info):
        self.release()


@contextlib.contextmanager
def held_before_writing(connection, call):
    """Hold a call in another thread, just before it takes the lock of the outbox, until the end."""
    mutex = connection._session.outbox._mutex
    lock = mutex.lock = HeldLock(mutex.lock)
    try:
        yield lock.hold(call)
    finally:
        lock.let_go()
