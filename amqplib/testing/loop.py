"""The thread of a broker: sockets, timers, and calls from other threads."""

from __future__ import annotations

import contextlib
import heapq
import selectors
import socket
import threading
from collections import deque
from time import monotonic
from typing import Any, Callable, Optional

from amqplib.core import log, threads

#: How long other threads wait for a call to be run; the loop takes far less.
CALL_TIMEOUT = 30.0
#: How long the loop waits at most, in seconds: what selectors can wait is limited.
MAX_WAIT = 3600.0


class Timer:
    """A call at a moment, which can be cancelled."""

    __slots__ = ('callback', 'when')

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Optional[Callable[[], object]] = callback

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        """Make sure that it never runs."""
        self.callback = None


class Timers:
    """Timers by their moments. Those that are cancelled are dropped when they are many."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._enough = 64

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, timer: Timer) -> None:
        """Add a timer."""
        heapq.heappush(self._heap, timer)
        if len(self._heap) > self._enough:
            self._heap = [one for one in self._heap if one.callback is not None]
            heapq.heapify(self._heap)
            self._enough = 2 * len(self._heap) + 64

    def take(self, now: float) -> list[Timer]:
        """Take out those whose moment has come."""
        due = []
        while self._heap and self._heap[0].when <= now:
            due.append(heapq.heappop(self._heap))
        return due

    def time_to_next(self) -> Optional[float]:
        """Return how long it is to the next one, in seconds; None if there is none."""
        return max(0.0, self._heap[0].when - monotonic()) if self._heap else None


class _Call:
    """A call from another thread: outcome is (result, exception) once it has been run."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.outcome: Optional[tuple[Any, Optional[Exception]]] = None
        self.done = threading.Event()
        self._function = function
        self._args = args

    def run(self) -> None:
        try:
            self.outcome = self._function(*self._args), None
        except Exception as error:  # noqa: BLE001 - raised in the other thread
            self.outcome = None, error
        finally:
            self.done.set()


class Loop:
    """Runs callbacks in a thread of its own, one at a time.

    now: the moment at which the current turn began, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.now = monotonic()
        self._selector = selectors.DefaultSelector()
        self._calls: deque[_Call] = deque()
        self._soon: deque[Callable[[], object]] = deque()
        self._timers = Timers()
        self._stopping = self._ended = False
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self.watch(self._woken, selectors.EVENT_READ, self._on_woken)
        self._thread: Optional[threading.Thread] = None

    def start(self, name: str) -> None:
        """Start the thread, once."""
        if self._thread is not None or self._ended:
            raise RuntimeError('a broker can be started only once, and not in a child process')
        self._thread = threads.start(name, self._run)
        if self._thread is None:
            raise RuntimeError('no thread can be started')

    def stop(self) -> None:
        """End the thread, from another thread."""
        self._stopping = True
        if self._thread is None:
            self.abandon()
        else:
            self._wake()
            self._thread.join(CALL_TIMEOUT)

    # For the thread itself

    def watch(self, sock: socket.socket, events: int, callback: Callable[[int], object]) -> None:
        """Call back when the socket is ready for these events; 0 means never."""
        known = sock in self._selector.get_map()
        if events and known:
            self._selector.modify(sock, events, callback)
        elif events:
            self._selector.register(sock, events, callback)
        elif known:
            self._selector.unregister(sock)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call back at this moment."""
        timer = Timer(when, callback)
        self._timers.add(timer)
        return timer

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back after so many seconds."""
        return self.call_at(monotonic() + seconds, callback)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call back at the end of this turn."""
        self._soon.append(callback)

    # For other threads

    @property
    def is_running(self) -> bool:
        """Whether calls are run."""
        return self._thread is not None and not (self._stopping or self._ended)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function in the thread; return its result, or raise its exception."""
        if threading.current_thread() is self._thread:
            return function(*args)
        call = _Call(function, args)
        self._calls.append(call)
        # Looked at after that: at its end the thread drops the calls that it finds.
        if self.is_running:
            self._wake()
            if not call.done.wait(CALL_TIMEOUT):
                raise RuntimeError('the broker does not answer')
        if call.outcome is None:
            raise RuntimeError('the broker is not running')
        result, error = call.outcome
        if error is not None:
            raise error
        return result

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it has been woken already, or has ended
            self._waker.send(b'\0')

    def abandon(self) -> None:
        """Close the descriptors, where there is no thread, as in the child of a fork."""
        self._ended = True
        self._release()

    # The thread

    def _on_woken(self, events: int) -> None:
        self._woken.recv(4096)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._ended = True
            while self._calls:
                self._calls.popleft().done.set()
            self._release()

    def _release(self) -> None:
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _turn(self) -> None:
        ready = self._selector.select(self._time_to_wait())
        self.now = monotonic()
        for key, events in ready:
            if self._is_watched(key):  # an earlier callback may have closed it
                self._guard(key.data, events)
        for timer in self._timers.take(self.now):  # those that they set come in the next turn
            if timer.callback is not None:
                self._guard(timer.callback)
        while self._calls:
            self._guard(self._calls.popleft().run)
        while self._soon:
            self._guard(self._soon.popleft())

    def _is_watched(self, key: selectors.SelectorKey) -> bool:
        current = self._selector.get_map().get(key.fd)
        return current is not None and current.fileobj is key.fileobj

    def _time_to_wait(self) -> float:
        if self._calls or self._soon:
            return 0
        wait = self._timers.time_to_next()
        return MAX_WAIT if wait is None else min(wait, MAX_WAIT)

    @staticmethod
    def _guard(callback: Callable[..., object], *args: Any) -> None:
        try:
            callback(*args)
        except Exception as error:  # noqa: BLE001 - one client must not end it for the others
            log.warning('the broker for tests failed: %r', error)
