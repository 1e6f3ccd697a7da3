"""Heartbeats (specification 4.2.7): one daemon thread for all connections of the process.

It sends a heartbeat where nothing else was sent for half an interval, so that a callback that
computes for long costs no connection, and gives up a connection whose peer has sent no octet
for two intervals. It holds connections by weak references only, starts when the first one needs
it, and ends with the last one. Where there can be no thread, there are no heartbeats.

What was sent and received is known from counters that the transport keeps: sending and
receiving do not look at the clock for this.
"""

from __future__ import annotations

import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Optional

from amqplib.client_0_8 import log, threads
from amqplib.client_0_8.transport import _AbstractTransport, wait_for

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
    """The thread and what it watches."""

    def __init__(self) -> None:
        # Taken as it is: an interrupt within the condition's own way of taking it would keep it.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._pulses: list[_Pulse] = []
        self._thread: Optional[threading.Thread] = None

    def watch(self, connection: Watched, transport: _AbstractTransport, interval: float) -> None:
        with self._lock:
            self._pulses.append(_Pulse(connection, transport, interval))
            if self._thread is None:
                self._thread = threads.start('amqplib heartbeats', self._run)
            self._changed.notify()

    def is_running(self) -> bool:
        return self._thread is not None

    def unwatch(self, connection: Watched) -> None:
        with self._lock:
            self._pulses = [pulse for pulse in self._pulses if not pulse.is_of(connection)]
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._pulses:
                    self._thread = None
                    return
                self._changed.wait(max(0.0, min(pulse.due for pulse in self._pulses) - monotonic()))
                now = monotonic()
                due = [pulse for pulse in self._pulses if pulse.due <= now]
            for pulse in due:
                if not _look(pulse, now):
                    self._drop(pulse)

    def _drop(self, pulse: _Pulse) -> None:
        with self._lock:
            if pulse in self._pulses:
                self._pulses.remove(pulse)


def _look(pulse: _Pulse, now: float) -> bool:
    try:
        return pulse.look(now)
    except Exception:  # noqa: BLE001  (it is logged)
        log.warning('a heartbeat failed', exc_info=True)
        return True


#: Made when it is first used: gevent or eventlet may have taken over the locks by then.
_monitor: Optional[_Monitor] = None


def are_possible() -> bool:
    """Return whether there is, or can be, a thread to send them."""
    return (_monitor is not None and _monitor.is_running()) or threads.can_be_started()


def watch(connection: Watched, transport: _AbstractTransport, interval: float) -> None:
    """Keep a connection alive, with `interval` in seconds, until it is closed."""
    global _monitor  # noqa: PLW0603 - if two threads are here, there are two for a while
    if _monitor is None:
        _monitor = _Monitor()
    _monitor.watch(connection, transport, interval)


def unwatch(connection: Watched) -> None:
    """Stop watching a connection; nothing happens if it is not watched."""
    if _monitor is not None:
        _monitor.unwatch(connection)


def forget_all() -> None:
    """Begin anew, in a forked child: the thread and the connections are its parent's."""
    global _monitor  # noqa: PLW0603 - the locks of the old one may be held for ever
    _monitor = None
