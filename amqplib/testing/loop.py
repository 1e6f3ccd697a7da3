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


class Loop:
    """Runs callbacks in a thread of its own, one at a time.

    now: the moment at which the current turn began, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.now = monotonic()
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], object]] = deque()
        self._soon: deque[Callable[[], object]] = deque()
        self._timers: list[Timer] = []
        self._stopping = False
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self.watch(self._woken, selectors.EVENT_READ, self._on_woken)
        self._thread: Optional[threading.Thread] = None

    def start(self, name: str) -> None:
        """Start the thread."""
        self._thread = threads.start(name, self._run)
        if self._thread is None:
            raise RuntimeError('no thread can be started')

    def stop(self) -> None:
        """End the thread, from another thread."""
        self._stopping = True
        if self._thread is None:
            self._release()
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
        heapq.heappush(self._timers, timer)
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
        return self._thread is not None and not self._stopping

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function in the thread; return its result, or raise its exception."""
        if threading.current_thread() is self._thread:
            return function(*args)
        if not self.is_running:
            raise RuntimeError('the broker is not running')
        done = threading.Event()
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append((function(*args), None))
            except Exception as error:  # noqa: BLE001 - raised in the other thread
                outcome.append((None, error))
            done.set()

        self._calls.append(run)
        self._wake()
        if not done.wait(CALL_TIMEOUT):
            raise RuntimeError('the broker does not answer')
        result, error = outcome[0]
        if error is not None:
            raise error
        return result

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been woken already
            self._waker.send(b'\0')

    # The thread

    def _on_woken(self, events: int) -> None:
        self._woken.recv(4096)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._release()

    def _release(self) -> None:
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _turn(self) -> None:
        ready = self._selector.select(self._time_to_wait())
        self.now = monotonic()
        for key, events in ready:
            if key.fileobj in self._selector.get_map():  # an earlier callback may have closed it
                self._guard(key.data, events)
        due = []
        while self._timers and self._timers[0].when <= self.now:
            due.append(heapq.heappop(self._timers))
        for timer in due:  # those that they set come in the next turn
            if timer.callback is not None:
                self._guard(timer.callback)
        for waiting in (self._calls, self._soon):
            while waiting:
                self._guard(waiting.popleft())

    def _time_to_wait(self) -> Optional[float]:
        if self._calls or self._soon:
            return 0
        return max(0.0, self._timers[0].when - monotonic()) if self._timers else None

    @staticmethod
    def _guard(callback: Callable[..., object], *args: Any) -> None:
        try:
            callback(*args)
        except Exception as error:  # noqa: BLE001 - one client must not end it for the others
            log.warning('the broker for tests failed: %r', error)
