"""Attempts, and the pauses between them, on a clock that only the pauses advance."""

import contextlib
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from amqplib.core import reconnecting
from amqplib.core.reconnecting import WORK, Loop
from amqplib.exceptions import (
    AMQPChannelException,
    AMQPException,
    AMQPTimeout,
    ConnectionLost,
    ConsumerCancelled,
    LoginRefused,
    NotFound,
    ResourceLocked,
)

LOST = ConnectionLost(0, 'the broker closed the socket')
URLS = ('amqp://me:pw@a', 'amqp://b:1', 'amqps://c')


class Clock:
    """In place of the module time. Every sleep is noted, and advances it."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []
        self.on_sleep = lambda: None

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        self.on_sleep()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(reconnecting, 'time', clock)
    # The longest pauses.
    monkeypatch.setattr(reconnecting, 'uniform', lambda low, high: high)
    return clock


class Broker:
    """In place of the class Connection.

    errors: what goes wrong when connecting, one after the other; None is no error.
    close_error: what goes wrong when closing.
    """

    def __init__(self, *errors):
        self.errors = list(errors)
        self.close_error = None
        self.asked = []
        self.opened = []

    def __call__(self, **arguments):
        self.asked.append(arguments)
        if any(self.errors[:1]):
            raise self.errors.pop(0)
        del self.errors[:1]
        self.opened.append(ConnectionLike(self))
        return self.opened[-1]

    def hosts(self):
        return [arguments['host'] for arguments in self.asked]

    def closed(self):
        return [connection.closed for connection in self.opened]


class ConnectionLike:
    def __init__(self, broker):
        self.broker = broker
        self.closed = 0

    def __exit__(self, kind, error, traceback):
        try:
            self.close()
        except AMQPException:
            if error is None:
                raise

    def close(self):
        self.closed += 1
        if self.broker.close_error is not None:
            raise self.broker.close_error


def loop(make, url='amqp://a', first=1, most=30, retry=(), stop=None, **arguments):
    return Loop(make, url, (first, most), retry, stop, arguments).attempts()


def work(attempts, error=None):
    """Go through the loop with a block that may fail."""
    for attempt in attempts:
        with attempt:
            if error is not None:
                raise error


def pauses(caplog):
    """Return the seconds of each pause, as they are logged."""
    found = [record.args[-1] for record in caplog.records if 'trying again' in record.msg]
    caplog.clear()
    return found


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level(logging.DEBUG, 'amqplib')


# --- Blocks and their ends ---


def test_a_block_without_an_error_ends_the_loop(clock):
    broker = Broker()
    for attempt in loop(broker, heartbeat=5):
        with attempt as connection:
            assert connection is broker.opened[-1]
            assert not connection.closed
    assert broker.closed() == [1]
    assert broker.asked == [{'host': 'a', 'virtual_host': '/', 'heartbeat': 5}]
    assert clock.slept == []


def test_a_block_that_is_left_early_ends_the_loop():
    broker = Broker()
    for attempt in loop(broker):
        with attempt:
            continue
    for attempt in loop(broker):
        with attempt:
            break
    assert broker.closed() == [1, 1]


@pytest.mark.parametrize(
    'error',
    [
        LOST,
        AMQPTimeout(0, 'no reply'),
        ConsumerCancelled(0, 'gone'),
        ResourceLocked(405, 'exclusive to a lost connection'),
        LoginRefused.by_hanging_up('who knows'),
        AMQPChannelException(541, 'crashed'),
    ],
    ids=repr,
)
def test_after_a_recoverable_error_there_is_another_attempt(caplog, error):
    """The error may come from connecting or from the block."""
    broker = Broker(error, None, error)
    blocks = []
    for attempt in loop(broker):
        with attempt:
            blocks.append(attempt)
            if len(blocks) == 1:
                raise error
    assert len(set(blocks)) == 2
    assert broker.closed() == [1, 1]
    assert pauses(caplog) == [1, 2, 4]


@pytest.mark.parametrize(
    'error', [LoginRefused(403, 'by word'), NotFound(404, 'x'), ValueError(), KeyboardInterrupt()]
)
def test_every_other_error_comes_through(clock, error):
    broker = Broker()
    with pytest.raises(type(error)) as caught:
        work(loop(broker), error)
    assert caught.value is error
    assert broker.closed() == [1]
    with pytest.raises(type(error)):
        next(loop(Broker(error)))
    assert clock.slept == []


@pytest.mark.parametrize('retry', [NotFound, (KeyError, AMQPChannelException), [NotFound]])
def test_other_errors_can_be_named(retry):
    error = NotFound(404, 'the node of the queue is down')
    broker = Broker(error)
    for attempt in loop(broker, retry=retry):
        with attempt:
            if len(broker.opened) == 1:
                raise error
    assert broker.closed() == [1, 1]


def test_an_error_of_closing_is_one_of_the_block():
    broker = Broker()
    broker.close_error = LOST
    for attempt in loop(broker):
        with attempt:
            if len(broker.opened) == 2:
                broker.close_error = None
    assert broker.closed() == [1, 1]
    broker.close_error = NotFound(404, 'an exchange of a message')
    with pytest.raises(NotFound):
        work(loop(broker))


def test_an_error_of_closing_never_hides_that_of_the_block():
    broker = Broker()
    broker.close_error = NotFound(404, 'x')
    with pytest.raises(ValueError, match='own'):
        work(loop(broker), ValueError('own'))


def test_an_error_that_the_program_catches_is_followed_by_another_attempt(caplog):
    broker = Broker()
    for attempt in loop(broker):
        try:
            with attempt:
                if len(broker.opened) == 1:
                    raise ValueError('its own matter')
        except ValueError:
            continue
    assert pauses(caplog) == [1]


def test_an_attempt_is_for_one_block():
    broker = Broker()
    for attempt in loop(broker):
        with attempt:
            with pytest.raises(RuntimeError, match='one block'), attempt:
                pass
            assert broker.closed() == [0]
        with pytest.raises(RuntimeError, match='one block'), attempt:
            pass
    assert broker.closed() == [1]


def test_an_attempt_without_its_block_is_an_error():
    broker = Broker()
    with pytest.raises(RuntimeError, match='with attempt as conn'):
        for _ in loop(broker):
            pass
    assert broker.closed() == [1]


def test_a_loop_that_is_left_leaves_nothing_open(caplog):
    broker = Broker()
    broker.close_error = LOST
    for _ in loop(broker):
        break
    with contextlib.suppress(ValueError):
        for _ in loop(broker):
            raise ValueError('own')
    gc.collect()  # PyPy needs it
    assert broker.closed() == [1, 1]
    assert caplog.messages == ['closing failed: the broker closed the socket'] * 2


def test_an_interrupt_before_the_connection_is_closed_leaves_it_to_the_loop(monkeypatch):
    broker, interrupts = Broker(), [KeyboardInterrupt]

    def interrupted(conn, kind, error, traceback):
        if interrupts:
            raise interrupts.pop()

    monkeypatch.setattr(ConnectionLike, '__exit__', interrupted)
    with pytest.raises(KeyboardInterrupt):
        work(loop(broker))
    gc.collect()  # PyPy needs it
    assert broker.closed() == [1]


def test_errors_are_not_kept_alive():
    class Witness(ConnectionLost):
        pass

    broker = Broker(Witness(0, 'a'))
    gc.collect()
    gc.disable()
    try:
        for attempt in loop(broker):
            with attempt:
                if len(broker.opened) == 1:
                    raise Witness(0, 'b')
        assert not [one for one in gc.get_objects() if isinstance(one, Witness)]
    finally:
        gc.enable()


# --- Pauses ---


def fail(times, *errors):
    return Broker(*[LOST] * times, *errors)


def test_pauses_double_up_to_the_most(caplog, clock):
    next(loop(fail(7)))
    assert pauses(caplog) == [1, 2, 4, 8, 16, 30, 30]
    assert clock.now == pytest.approx(1000 + 91)
    next(loop(fail(4), first=0.5, most=1))
    assert pauses(caplog) == [0.5, 1, 1, 1]
    next(loop(fail(2), first=60, most=30))
    assert pauses(caplog) == [60, 30]
    next(loop(fail(2), first=0))
    assert pauses(caplog) == [0, 0]


def test_pauses_differ(caplog, monkeypatch):
    monkeypatch.setattr(reconnecting, 'uniform', lambda low, high: (low + high) / 2)
    next(loop(fail(3)))
    assert pauses(caplog) == [0.75, 1.5, 3]


@pytest.mark.parametrize(('worked', 'expected'), [(WORK - 1, [1, 2, 4]), (WORK, [1, 2, 1])])
def test_pauses_start_anew_after_a_minute_of_work(caplog, clock, worked, expected):
    broker = fail(2)
    for attempt in loop(broker):
        with attempt:
            clock.now += worked
            if len(broker.opened) == 1:
                raise LOST
    assert pauses(caplog) == expected


@pytest.mark.parametrize('asked', [1, 2, 3, 4])
def test_stop_ends_the_loop_before_the_next_attempt(caplog, asked):
    """stop() is asked at the beginning, and before, during and after a pause."""
    broker = fail(9)
    answers = [False] * (asked - 1) + [True]
    assert list(loop(broker, first=0, stop=lambda: answers.pop(0))) == []
    assert answers == []
    assert len(broker.asked) == min(asked - 1, 1)
    next_step = {2: 'stopping', 3: 'trying again in 0.0 s', 4: 'trying again in 0.0 s'}
    assert [text.rpartition('; ')[2] for text in caplog.messages] == [
        step for number, step in next_step.items() if number == asked
    ]


def test_stop_ends_a_pause_at_once(clock):
    """A signal handler that sets a flag ends a pause of any length."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    clock.on_sleep = lambda: len(clock.slept) == 5 and os.kill(os.getpid(), signal.SIGTERM)
    try:
        broker = fail(1)
        assert list(loop(broker, first=1e9, most=1e9, stop=lambda: received)) == []
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(broker.asked) == 1
    assert len(clock.slept) == 5
    assert max(clock.slept) < 0.5


def test_an_interrupt_ends_a_pause(clock):
    def interrupt():
        raise KeyboardInterrupt

    clock.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        next(loop(fail(1)))


COOPERATIVE = """
from {library} import {patch}
import amqplib.client_0_9_1 as amqp

{patch}.{name}()
from {library} import spawn

stopping = []
url = 'amqp://127.0.0.1:{port}'
waiting = spawn(list, amqp.reconnecting(url, first=1e9, most=1e9, stop=lambda: stopping))
spawn(stopping.append, True)
print(waiting.{result}())
"""


@pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='gevent and eventlet are installed for CPython'
)
@pytest.mark.parametrize(
    ('library', 'patch', 'name', 'result'),
    [('gevent', 'monkey', 'patch_all', 'get'), ('eventlet', 'patcher', 'monkey_patch', 'wait')],
)
def test_a_cooperative_thread_pauses_without_holding_up_the_others(library, patch, name, result):
    """Another cooperative thread runs during the pause, and tells it to stop."""
    with socket.socket() as held:  # it does not listen, and nobody else can
        held.bind(('127.0.0.1', 0))
        program = COOPERATIVE.format(
            library=library, patch=patch, name=name, result=result, port=held.getsockname()[1]
        )
        command = [sys.executable, '-W', 'ignore::DeprecationWarning', '-c', program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ('[]\n', 0), done.stderr


# --- URLs ---


def test_several_urls_take_turns_and_a_round_is_followed_by_a_pause(caplog):
    broker = Broker(*[LOST] * 4)
    for attempt in loop(broker, URLS):
        with attempt:
            if len(broker.opened) == 1:
                raise LOST
    assert broker.hosts() == ['a', 'b', 'c', 'a', 'b', 'c']
    why = 'ConnectionLost: the broker closed the socket'
    assert caplog.messages == [
        f'a:5672: {why}; trying the next URL',
        f'b:1: {why}; trying the next URL',
        f'c:5671: {why}; trying again in 1.0 s',
        f'a:5672: {why}; trying the next URL',
        f'b:1: {why}; trying again in 2.0 s',
    ]
    assert 'pw' not in caplog.text


def test_what_the_log_says_is_printable(caplog):
    next(loop(Broker(ConnectionLost(0, 'a\nb')), 'amqp://h%0aost'))
    (message,) = caplog.messages
    assert message.isprintable()


# --- Arguments ---


@pytest.mark.parametrize(
    ('arguments', 'error', 'name'),
    [
        ({'url': 'amqp://a:b'}, ValueError, 'url'),
        ({'url': None}, TypeError, 'url'),
        ({'url': []}, ValueError, 'url'),
        ({'first': -1}, ValueError, 'first'),
        ({'first': '1'}, TypeError, 'first'),
        ({'first': None}, TypeError, 'first'),
        ({'most': float('nan')}, ValueError, 'most'),
        ({'most': True}, TypeError, 'most'),
        ({'stop': True}, TypeError, 'stop'),
        ({'retry': None}, TypeError, 'retry'),
        ({'retry': [NotFound, 404]}, TypeError, 'retry'),
        ({'retry': KeyboardInterrupt}, TypeError, 'retry'),
    ],
)
def test_a_wrong_argument_is_refused_before_the_first_attempt(arguments, error, name):
    with pytest.raises(error, match=f'^{name}: '):
        loop(SimpleNamespace(), **arguments)
