"""Heartbeats (specification 4.2.7): one daemon thread for all connections of the process.

It sends a heartbeat where nothing else was sent for half an interval, so that a callback that
computes for long costs no connection, and gives up a connection whose peer has sent no octet
for two intervals. It holds connections by weak references only, starts when the first one needs
it, and ends with the last one.

What was sent and received is known from counters that the transport keeps: sending and
receiving do not look at the clock for this.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Optional

from amqplib.client_0_8 import log
from amqplib.client_0_8.deadline import LONGEST
from amqplib.client_0_8.transport import _AbstractTransport, wait_for
from amqplib.client_0_8.turns import start_thread

#: How often in an interval a connection is looked at.
LOOKS_PER_INTERVAL = 4
#: Looks without anything sent before a heartbeat is.
_IDLE_LOOKS = LOOKS_PER_INTERVAL // 2
#: Intervals without an octet after which the peer is taken for dead.
SILENT_INTERVALS = 2


if TYPE_CHECKING:
    from typing import Protocol

    class Watched(Protocol):
        """What the thread needs of a connection."""

        transport: Optional[_AbstractTransport]

        def _send_heartbeat(self) -> None: ...

        def _went_silent(self, seconds: float) -> None: ...


class _Pulse:
    """What the thread knows of one connection."""

    def __init__(self, connection: Watched, transport: _AbstractTransport, interval: float) -> None:
        self._connection = weakref.ref(connection)
        self._interval = interval
        self._sent = transport.sent
        self._received = transport.received
        self._idle_looks = 0
        self._heard_at = monotonic()
        self.due = self._heard_at + interval / LOOKS_PER_INTERVAL

    def is_of(self, connection: Watched) -> bool:
        return self._connection() is connection

    def look(self, now: float) -> bool:
        """Send a heartbeat or give up, if it is time; return whether to go on."""
        connection = self._connection()
        transport = None if connection is None else connection.transport
        if connection is None or transport is None:
            return False
        self.due = now + self._interval / LOOKS_PER_INTERVAL
        if self._has_heard(transport):
            self._heard_at = now
        elif now - self._heard_at >= SILENT_INTERVALS * self._interval:
            connection._went_silent(now - self._heard_at)
            return False
        if self._should_send(transport):
            connection._send_heartbeat()
        return True

    def _has_heard(self, transport: _AbstractTransport) -> bool:
        """Return whether octets have come, read or not, since the last look."""
        before, self._received = self._received, transport.received
        if transport.received != before:
            return True
        try:
            # While the program computes, nobody reads: what waits in the socket counts.
            return wait_for(transport.sock, 0, read=True)[0]
        except OSError:
            return True  # closed just now: its own thread knows why

    def _should_send(self, transport: _AbstractTransport) -> bool:
        if transport.sent != self._sent:
            self._sent = transport.sent
            self._idle_looks = 0
            return False
        self._idle_looks += 1
        return self._idle_looks >= _IDLE_LOOKS


class _Monitor:
    """The thread and what it watches.

    It has no lock that an interrupt or a finalizer could find taken: the dict is changed by single
    operations, and only the thread itself takes `_running`.
    """

    def __init__(self) -> None:
        # A dict for its order and its atomic operations; the values say nothing.
        self._pulses: dict[_Pulse, None] = {}
        # Held by the thread while it runs.
        self._running = threading.Lock()
        # Free when the thread has something new to look at.
        self._news = threading.Lock()

    def watch(self, connection: Watched, transport: _AbstractTransport, interval: float) -> None:
        # First listed: a thread that is about to end looks again.
        self._pulses[_Pulse(connection, transport, interval)] = None
        if not self._running.locked():
            start_thread(self._run, 'amqplib heartbeats')
        self._wake()

    def unwatch(self, connection: Watched) -> None:
        for pulse in list(self._pulses):
            if pulse.is_of(connection):
                self._drop(pulse)
        self._wake()

    def _wake(self) -> None:
        if self._news.locked():
            with contextlib.suppress(RuntimeError):  # another thread was faster
                self._news.release()

    def _run(self) -> None:
        # Who lists a connection just when the thread ends may not see that it does.
        while self._pulses and self._running.acquire(blocking=False):
            try:
                while self._pulses:
                    self._look_at_all()
            finally:
                self._running.release()

    def _look_at_all(self) -> None:
        """Wait until one is due or there is news, and look at those that are due."""
        moments = [pulse.due for pulse in list(self._pulses)]
        if not moments:
            return
        self._news.acquire(timeout=min(max(0.0, min(moments) - monotonic()), LONGEST))
        now = monotonic()
        for pulse in [pulse for pulse in list(self._pulses) if pulse.due <= now]:
            if not _look(pulse, now):
                self._drop(pulse)

    def _drop(self, pulse: _Pulse) -> None:
        self._pulses.pop(pulse, None)


def _look(pulse: _Pulse, now: float) -> bool:
    try:
        return pulse.look(now)
    except Exception:  # noqa: BLE001  (it is logged)
        log.warning('a heartbeat failed', exc_info=True)
        return True


# Made when it is first needed: gevent and eventlet may replace the locks after the import.
_monitors: dict[str, _Monitor] = {}


def watch(connection: Watched, transport: _AbstractTransport, interval: float) -> None:
    """Keep a connection alive, with `interval` in seconds, until it is closed."""
    # Of two threads that come here at once, both get the same one.
    monitor = _monitors.get('the one') or _monitors.setdefault('the one', _Monitor())
    monitor.watch(connection, transport, interval)


def unwatch(connection: Watched) -> None:
    """Stop watching a connection; nothing happens if it is not watched."""
    monitor = _monitors.get('the one')
    if monitor is not None:
        monitor.unwatch(connection)


def forget_all() -> None:
    """Begin anew, in a forked child: the thread and the connections are its parent's."""
    # The locks of the old one may be held for ever.
    _monitors.clear()
