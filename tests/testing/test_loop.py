"""The thread of a broker: its timers, calls from other threads, and its end."""

import os
import threading

import pytest

import amqplib.client_0_9_1 as amqp
from amqplib.testing import Broker
from amqplib.testing.loop import Loop, Timer, Timers
from tests.helpers.checks import error_of
from tests.helpers.children import posix_only, run_in_child
from tests.helpers.waiting import PATIENCE
from tests.reliability.test_forks import expect_good_end, forked


@pytest.fixture
def loop():
    """A running loop."""
    loop = Loop()
    loop.start('loop under test')
    yield loop
    loop.stop()


@pytest.mark.parametrize('seconds', [2**32 / 1000, float('inf')])
def test_a_timer_may_be_further_away_than_a_selector_can_wait(loop, seconds):
    loop.call(loop.call_later, seconds, print)
    for _ in range(3):
        assert loop.call(lambda: 'an answer') == 'an answer'


def test_timers_that_are_cancelled_are_not_kept():
    timers = Timers()
    keep = [Timer(float(when), print) for when in range(100)]
    for timer in keep:
        timers.add(timer)
    for when in range(10_000):
        timer = Timer(1000.0 + when, print)
        timers.add(timer)
        timer.cancel()
    assert len(timers) < 500
    assert timers.take(99.0) == keep


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_calls_that_the_thread_does_not_get_to_are_refused(loop):
    """However it ends; the call of another thread came in its last turn."""
    begun, refused = threading.Event(), []

    def last_turn():
        begun.set()
        while not loop._calls:  # the other thread waits for an answer now
            pass
        raise SystemExit

    def ask():
        begun.wait(PATIENCE)
        refused.append(error_of(lambda: loop.call(print), RuntimeError))

    asking = threading.Thread(target=ask)
    asking.start()
    assert 'not running' in str(error_of(lambda: loop.call(last_turn), RuntimeError))
    asking.join(PATIENCE)
    assert 'not running' in str(refused[0])
    assert 'not running' in str(error_of(lambda: loop.call(print), RuntimeError))


def test_a_broker_is_started_once():
    broker = Broker()
    with broker:
        with pytest.raises(RuntimeError, match='only once'):
            broker.start()
        with amqp.Connection(broker.host) as connection:
            assert connection.channel().is_open
    with pytest.raises(RuntimeError, match='only once'):
        broker.start()


def test_a_broker_is_closed_by_several_threads():
    """While clients work, and others look into it."""
    for _ in range(20):
        broker = Broker()
        broker.start()
        connection = amqp.Connection(broker.host, heartbeat=0)
        threads = [
            *(threading.Thread(target=broker.close) for _ in range(3)),
            threading.Thread(target=error_of, args=(connection.channel, amqp.AMQPException)),
            threading.Thread(
                target=lambda broker=broker: error_of(
                    lambda: [broker.messages(f'q{n}') for n in range(1000)], Exception
                )
            ),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


# Forks


@posix_only
def test_a_child_holds_no_connection_of_a_broker_open():
    run_in_child(fork_beside_a_broker)


@posix_only
def test_a_broker_is_not_started_in_a_child():
    run_in_child(fork_before_the_start)


def fork_before_the_start():
    broker = Broker()

    def start_in_child():
        error = error_of(broker.start, RuntimeError)
        assert 'in a child process' in str(error), error
        with Broker() as own, amqp.Connection(own.host) as connection:
            assert connection.channel().is_open

    expect_good_end(forked(start_in_child))
    with broker, amqp.Connection(broker.host) as connection:
        assert connection.channel().is_open


def fork_beside_a_broker():
    with Broker() as broker:
        connection = amqp.Connection(broker.host, rpc_timeout=5)
        stop, go_on = os.pipe()

        def use_in_child():
            os.close(go_on)
            error = error_of(broker.drop_connections, RuntimeError)
            assert 'not running' in str(error), error
            broker.close()
            os.read(stop, 1)

        child = forked(use_in_child)
        broker.drop_connections()
        error = error_of(connection.channel, amqp.AMQPException)
        assert isinstance(error, amqp.ConnectionLost), error
        os.close(go_on)
        expect_good_end(child)
        with amqp.Connection(broker.host) as another:
            assert another.channel().is_open
