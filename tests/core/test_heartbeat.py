"""The thread of the heartbeats: when it sends, when it gives up, and how long it lives."""

import gc
import socket
import threading
import time

import pytest

from amqplib.core import heartbeat
from tests.helpers.interrupts import (
    Interrupt,
    each_interruption,
    raise_interrupt,
    traces_instructions,
)
from tests.helpers.waiting import poll

LONG = 30
NAME = 'amqplib heartbeats'


@pytest.fixture(autouse=True)
def monitor():
    """A monitor of the test's own."""
    heartbeat.discard_all()
    yield
    heartbeat.discard_all()


class TransportLike:
    """A transport, as far as it is looked at.

    is_heard: whether something has been received whenever somebody looks.
    """

    def __init__(self):
        self.sock, self.peer = socket.socketpair()
        self.sent = self._received = 0
        self.is_heard = True

    @property
    def received(self):
        self._received += self.is_heard
        return self._received


class SessionLike:
    """A session, as far as it is watched.

    on_heartbeat: called when one is to be sent.
    """

    def __init__(self):
        self.transport = TransportLike()
        self.beats = threading.Semaphore(0)
        self.silent = threading.Event()
        self.silent_seconds = None
        self.threads = set()
        self.on_heartbeat = lambda: None

    def send_heartbeat(self):
        self.threads.add(threading.current_thread())
        self.transport.sent += 1
        self.beats.release()
        self.on_heartbeat()

    def went_silent(self, seconds):
        self.silent_seconds = seconds
        self.silent.set()

    def beats_again(self, times=1):
        """Return whether heartbeats come, as many as that."""
        return all(self.beats.acquire(timeout=LONG) for _ in range(times))

    def close(self):
        heartbeat.unwatch(self)
        self.transport.sock.close()
        self.transport.peer.close()


@pytest.fixture
def new_session():
    sessions = []

    def new():
        sessions.append(SessionLike())
        return sessions[-1]

    yield new
    for session in sessions:
        session.close()
    for thread in set().union(*(session.threads for session in sessions)):
        thread.join(LONG)
        assert not thread.is_alive()


@pytest.fixture
def session(new_session):
    return new_session()


# --- What it does ---


def test_heartbeats_are_sent_where_nothing_else_is(session):
    heartbeat.watch(session, 0.01)
    assert session.beats_again(5)
    assert not session.silent.is_set()


def test_no_heartbeat_is_sent_where_something_else_is(new_session):
    busy, idle = new_session(), new_session()
    looks = []

    class Counter(TransportLike):
        """A transport that has sent something between any two checks."""

        @property
        def sent(self):
            looks.append(1)
            return len(looks)

        @sent.setter
        def sent(self, value):
            pass

    busy.transport.sock.close()
    busy.transport.peer.close()
    busy.transport = Counter()
    heartbeat.watch(busy, 0.01)
    heartbeat.watch(idle, 0.01)
    assert idle.beats_again(5)
    assert len(looks) > 5
    assert not busy.beats.acquire(blocking=False)


def test_peer_that_says_nothing_for_two_intervals_is_given_up(session):
    session.transport.is_heard = False
    begun = time.monotonic()
    heartbeat.watch(session, 0.02)
    assert session.silent.wait(LONG)
    assert time.monotonic() - begun >= session.silent_seconds >= 0.04


def test_bytes_that_wait_in_the_socket_are_heard(new_session):
    quiet, computing = new_session(), new_session()
    quiet.transport.is_heard = computing.transport.is_heard = False
    computing.transport.peer.send(b'x')
    heartbeat.watch(computing, 0.01)
    heartbeat.watch(quiet, 0.05)
    assert quiet.silent.wait(LONG)
    assert not computing.silent.is_set()


def test_socket_that_was_closed_just_now_is_left_to_its_own_thread(new_session):
    closed, other = new_session(), new_session()
    closed.transport.sock.close()
    closed.transport.is_heard = other.transport.is_heard = False
    heartbeat.watch(closed, 0.01)
    heartbeat.watch(other, 0.05)
    assert other.silent.wait(LONG)
    assert not closed.silent.is_set()


def test_error_of_one_session_is_logged_and_harms_no_other(new_session, caplog):
    broken, other = new_session(), new_session()
    broken.on_heartbeat = lambda: 1 // 0
    heartbeat.watch(broken, 0.01)
    heartbeat.watch(other, 0.01)
    assert broken.beats_again(3)
    assert other.beats_again(3)
    assert 'ZeroDivisionError' in caplog.text


# --- The thread ---


def test_one_thread_serves_all_sessions(new_session):
    sessions = [new_session() for _ in range(5)]
    for session in sessions:
        heartbeat.watch(session, 0.01)
    for session in sessions:
        assert session.beats_again(2)
    (thread,) = set().union(*(session.threads for session in sessions))
    assert thread.name == NAME
    assert thread.daemon


def test_thread_ends_with_the_last_session_and_begins_again_with_the_next(new_session):
    one, other = new_session(), new_session()
    for session in (one, other):
        heartbeat.watch(session, 0.01)
        assert session.beats_again()
    (thread,) = one.threads
    heartbeat.unwatch(one)
    assert other.beats_again(2)
    assert thread.is_alive()
    heartbeat.unwatch(other)
    thread.join(LONG)
    assert not thread.is_alive()
    heartbeat.watch(one, 0.01)
    # Not by the number of its heartbeats, of which some may be left of those before.
    poll(lambda: len(one.threads) == 2, 'a heartbeat of another thread', LONG)


def test_thread_ends_at_once_however_long_the_interval(session):
    heartbeat.watch(session, 1000)
    threads = [thread for thread in threading.enumerate() if thread.name == NAME]
    heartbeat.unwatch(session)
    heartbeat.unwatch(session)
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def test_watching_a_session_does_not_keep_it_alive(new_session):
    session = SessionLike()
    heartbeat.watch(session, 0.01)
    assert session.beats_again()
    (thread,) = session.threads
    session.transport.sock.close()
    session.transport.peer.close()
    del session
    while thread.is_alive():
        gc.collect()
        thread.join(0.01)


def test_short_interval_does_not_wait_for_a_long_one(new_session):
    slow, quick = new_session(), new_session()
    heartbeat.watch(slow, 1000)
    heartbeat.watch(quick, 0.01)
    assert quick.beats_again(3)


@traces_instructions
@pytest.mark.parametrize('step', ['watch', 'unwatch'])
def test_interrupt_between_any_two_instructions_harms_no_other_session(new_session, step):
    made = []

    def prepare():
        heartbeat.discard_all()
        one, other = new_session(), new_session()
        made.append((one, other))
        if step == 'watch':
            return lambda: heartbeat.watch(one, 1000), raise_interrupt
        heartbeat.watch(one, 1000)
        return lambda: heartbeat.unwatch(one), raise_interrupt

    for result in each_interruption(heartbeat, prepare):
        one, other = made[-1]
        assert isinstance(result, Interrupt)
        heartbeat.watch(other, 0.004)
        assert other.beats_again()
        (thread,) = other.threads
        one.close()
        other.close()
        thread.join(LONG)
        assert not thread.is_alive()
