"""Heartbeats (specification 4.2.7): one daemon thread for all connections of the process.

It sends a heartbeat if nothing else was sent for half an interval, so that a long callback does not
cost the connection. It ends a connection whose peer has sent no byte for two intervals. It holds
connections by weak references only, starts when the first one needs it, and ends with the last one.
If no thread can be started, there are no heartbeats.

Counters of the transport say what was sent and received, so sending and receiving do not have to
read the clock.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Optional

from amqplib.core import log, threads
from amqplib.core.transport import AbstractTransport, poll_socket

#: How often a connection is polled in an interval.
POLLS_PER_INTERVAL = 4
#: Polls without anything sent after which a heartbeat is sent.
_MAX_IDLE_POLLS = POLLS_PER_INTERVAL // 2
#: Intervals without a received byte after which the peer counts as dead.
SILENT_INTERVALS = 2


if TYPE_CHECKING:
    from typing import Protocol

    class Watched(Protocol):
        """What the thread needs to know of a session."""

        transport: AbstractTransport

        def send_heartbeat(self) -> None: ...

        def went_silent(self, seconds: float) -> None: ...


class _Pulse:
    """What the thread keeps for one session."""

    def __init__(self, session: Watched, interval: float) -> None:
        self._session = weakref.ref(session)
        self._interval = interval
        self._sent = session.transport.sent
        self._received = session.transport.received
        self._idle_polls = 0
        self._heard_at = monotonic()
        self.due = self._heard_at + interval / POLLS_PER_INTERVAL

    def poll(self, now: float) -> bool:
        """Send a heartbeat or end the session, if it is time; return whether to go on."""
        session = self._session()
        if session is None:
            return False
        self.due = now + self._interval / POLLS_PER_INTERVAL
        if self._has_heard(session.transport):
            self._heard_at = now
        elif now - self._heard_at >= SILENT_INTERVALS * self._interval:
            session.went_silent(now - self._heard_at)
            return False
        if self._should_send(session.transport):
            session.send_heartbeat()
        return True

    def _has_heard(self, transport: AbstractTransport) -> bool:
        """Return whether bytes have arrived, read or not, since the last poll."""
        before, self._received = self._received, transport.received
        if transport.received != before:
            return True
        try:
            # While the program computes, nobody reads: bytes in the socket count too.
            return poll_socket(transport.sock, 0, read=True)[0]
        except OSError:
            return True  # just closed: its own thread knows why

    def _should_send(self, transport: AbstractTransport) -> bool:
        if transport.sent != self._sent:
            self._sent = transport.sent
            self._idle_polls = 0
            return False
        self._idle_polls += 1
        return self._idle_polls >= _MAX_IDLE_POLLS


class _Monitor:
    """The thread and the sessions that it watches.

    There is no lock here, so none can be left locked: the thread and others change shared data only
    by single operations of a dict and a list.
    """

    def __init__(self) -> None:
        self._pulses: dict[int, _Pulse] = {}
        # The thread that takes the only entry runs; it puts the entry back when it ends.
        self._right_to_run = [True]
        # The thread sleeps on this lock; releasing it wakes the thread.
        self._alarm = threading.Lock()
        self._alarm.acquire()

    def watch(self, session: Watched, interval: float) -> None:
        self._pulses[id(session)] = _Pulse(session, interval)
        if self._right_to_run:
            threads.start('amqplib heartbeats', self._run)
        self._wake()

    def unwatch(self, session: Watched) -> None:
        self._pulses.pop(id(session), None)
        self._wake()

    def is_running(self) -> bool:
        return not self._right_to_run

    def _wake(self) -> None:
        if self._alarm.locked():
            with suppress(RuntimeError):  # another thread has just done so
                self._alarm.release()

    def _run(self) -> None:
        while self._pulses and self._take_right():
            try:
                while self._pulses:
                    self._poll_all()
            finally:
                # A session that was added meanwhile may have found the right taken: check again.
                self._right_to_run.append(True)

    def _take_right(self) -> bool:
        try:
            return self._right_to_run.pop()
        except IndexError:
            return False  # another thread runs

    def _poll_all(self) -> None:
        next_due = min([pulse.due for pulse in list(self._pulses.values())], default=0.0)
        self._alarm.acquire(timeout=max(0.0, next_due - monotonic()))
        now = monotonic()
        for key, pulse in list(self._pulses.items()):
            if pulse.due <= now and not _poll(pulse, now) and self._pulses.get(key) is pulse:
                self._pulses.pop(key, None)


def _poll(pulse: _Pulse, now: float) -> bool:
    try:
        return pulse.poll(now)
    except Exception:  # noqa: BLE001  (it is logged)
        import traceback  # noqa: PLC0415 - rarely needed

        log.warning('a heartbeat failed: %s', traceback.format_exc())
        return True


#: Created on first use: gevent or eventlet may have replaced the locks by then.
_monitor: Optional[_Monitor] = None


def are_possible() -> bool:
    """Return whether there is, or can be, a thread that sends heartbeats."""
    return (_monitor is not None and _monitor.is_running()) or threads.can_be_started()


def watch(session: Watched, interval: float) -> None:
    """Keep a session alive, with `interval` in seconds, until it ends."""
    global _monitor  # noqa: PLW0603 - if two threads come here at once, there are two for a while
    if _monitor is None:
        _monitor = _Monitor()
    _monitor.watch(session, interval)


def unwatch(session: Watched) -> None:
    """Stop watching a session; does nothing if it is not watched."""
    if _monitor is not None:
        _monitor.unwatch(session)


def discard_all() -> None:
    """Start afresh in a forked child: the thread and the sessions are the parent's."""
    global _monitor  # noqa: PLW0603
    _monitor = None
