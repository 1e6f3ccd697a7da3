"""Forked children: they do not disturb their parent's connections, nor use them.

Each test runs in a Python of its own, which forks; its children end as any program does.
"""

import contextlib
import gc
import multiprocessing
import os
import sys
import threading
import time

import pytest

from amqplib.testing import Broker
from tests.helpers.checks import error_of
from tests.helpers.children import posix_only, run_in_child
from tests.helpers.packages import only_0_8
from tests.helpers.threads import Worker, heartbeat_threads
from tests.helpers.waiting import PATIENCE

pytestmark = posix_only


def forked(do):
    """Fork; the child calls `do` and ends as a program does. Return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        do()
    except SystemExit:
        raise  # of a child of this child
    # No exception may escape: the child has its parent's stack.
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    # Through all that Python does at its end.
    sys.exit(0)


def expect_good_end(child, seconds=PATIENCE):
    """Wait for the end of a child, which has to be a good one."""
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, f'the child ended with status {status}'
            return
        if time.monotonic() > end:
            os.kill(child, 9)
            os.waitpid(child, 0)
            raise AssertionError('the child did not end')
        time.sleep(0.01)


def nothing():
    pass


def collect():
    gc.collect()


def check_that_use_is_refused(amqp, connection, channel, descriptor):
    """In a child: check that each call says what to do, at once, and that the socket is closed."""
    with contextlib.suppress(OSError):
        os.fstat(descriptor)
        raise AssertionError('the descriptor of the parent is open')
    for call in (
        connection.channel,
        lambda: connection.wait(timeout=5),
        lambda: channel.queue_declare('q'),
        lambda: channel.basic_publish(amqp.Message('x'), routing_key='q'),
        lambda: channel.basic_publish(amqp.Message(bytes(300_000)), routing_key='q'),
        lambda: channel.wait(timeout=5),
        lambda: channel.basic_ack(1),
    ):
        error = error_of(call, amqp.AMQPConnectionException)
        assert 'connect after the fork' in str(error), error
    assert connection.transport is None
    assert not channel.is_open
    channel.close()
    connection.close()


def round_trip(amqp, channel, text='x'):
    """Publish and get a message."""
    queue = channel.queue_declare(exclusive=True)[0]
    channel.basic_publish(amqp.Message(text), routing_key=queue)
    message = channel.basic_get(queue, no_ack=True)
    assert message.body == text
    channel.queue_delete(queue)


# --- What the broker sees -----------------------------------------------------------------------


@pytest.mark.parametrize('tls', [False, True], ids=['plain', 'tls'])
def test_child_that_ends_sends_nothing_and_closes_nothing(amqp, play, authority, tls):
    def script(peer):
        peer.handshake()
        peer.open_channel()
        for number in range(3):
            # Whatever else a child had sent would come first; so would an end.
            peer.expect_method(1, 'basic.get')
            peer.send_method(1, 'basic.get_empty', str(number))
        peer.expect_close()

    broker = play(script, tls=authority.server() if tls else None)
    run_in_child(fork_beside, amqp, broker.address, authority.file if tls else None)


def fork_beside(amqp, address, ca_file):
    options = {'ssl': {'ca_certs': ca_file}} if ca_file else {}
    connection = amqp.Connection(host=address, **options)
    channel = connection.channel()
    channel.basic_get('q')
    expect_good_end(forked(collect))
    channel.basic_get('q')
    expect_good_end(forked(lambda: connection.close() if connection.transport else None))
    channel.basic_get('q')
    connection.close()


# --- With a real broker -------------------------------------------------------------------------


@pytest.mark.parametrize('heartbeat', [0, 60])
def test_child_that_ends_does_not_disturb_its_parent(amqp, address, heartbeat):
    run_in_child(fork_and_go_on, amqp, address, heartbeat)


def fork_and_go_on(amqp, address, heartbeat):
    connection = amqp.Connection(host=address, heartbeat=heartbeat)
    channel = connection.channel()
    got = []
    queue = channel.queue_declare(exclusive=True)[0]
    channel.basic_consume(queue, callback=got.append, no_ack=True)
    for number, do in enumerate((nothing, collect)):
        expect_good_end(forked(do))
        channel.basic_publish(amqp.Message('x'), routing_key=queue)
        channel.wait(timeout=PATIENCE)
        assert len(got) == number + 1
    # An exit that skips everything, as children of multiprocessing have.
    child = os.fork()
    if not child:
        os._exit(0)
    expect_good_end(child)
    round_trip(amqp, connection.channel())
    connection.close()


@pytest.mark.parametrize('heartbeat', [0, 60])
def test_use_in_the_child_says_to_connect_after_the_fork(amqp, address, heartbeat):
    run_in_child(use_after_fork, amqp, address, heartbeat)


def use_after_fork(amqp, address, heartbeat):
    connection = amqp.Connection(host=address, heartbeat=heartbeat)
    channel = connection.channel()
    descriptor = connection.transport.sock.fileno()
    expect_good_end(
        forked(lambda: check_that_use_is_refused(amqp, connection, channel, descriptor))
    )
    round_trip(amqp, channel)
    connection.close()


@only_0_8  # the heartbeat thread, for which this takes seconds, is the same
@pytest.mark.parametrize('heartbeat', [0, 1])
def test_child_may_have_a_connection_of_its_own(amqp, address, heartbeat):
    run_in_child(connect_in_the_child, amqp, address, heartbeat)


def connect_in_the_child(amqp, address, heartbeat):
    parents = amqp.Connection(host=address, heartbeat=heartbeat)
    channel = parents.channel()

    def use_own():
        with amqp.Connection(host=address, heartbeat=heartbeat) as own:
            assert len(heartbeat_threads()) == (1 if heartbeat else 0)
            for _ in range(3):
                round_trip(amqp, own.channel())
            if heartbeat:
                # Without heartbeats, the broker resets it after three seconds.
                time.sleep(3.7)
                round_trip(amqp, own.channel())

    children = [forked(use_own) for _ in range(2)]
    for _ in range(20):
        round_trip(amqp, channel)
    # Those of the parent go on all the while.
    for child in children:
        expect_good_end(child)
    round_trip(amqp, channel)
    parents.close()


def test_child_of_a_child(amqp, address):
    run_in_child(fork_twice, amqp, address)


def fork_twice(amqp, address):
    connection = amqp.Connection(host=address)
    channel = connection.channel()
    descriptor = connection.transport.sock.fileno()

    def fork_again():
        with amqp.Connection(host=address) as own:
            check_that_use_is_refused(amqp, connection, channel, -1)
            expect_good_end(forked(lambda: error_of(own.channel, amqp.AMQPConnectionException)))
            round_trip(amqp, own.channel())

    expect_good_end(forked(fork_again))
    os.fstat(descriptor)
    round_trip(amqp, channel)
    connection.close()


def test_processes_of_multiprocessing(amqp, address):
    run_in_child(fork_by_multiprocessing, amqp, address)


def fork_by_multiprocessing(amqp, address):
    connection = amqp.Connection(host=address, heartbeat=1)
    channel = connection.channel()
    context = multiprocessing.get_context('fork')

    def work():
        error = error_of(lambda: round_trip(amqp, channel), amqp.AMQPConnectionException)
        assert 'connect after the fork' in str(error)
        with amqp.Connection(host=address, heartbeat=1) as own:
            round_trip(amqp, own.channel())

    processes = [context.Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0, process.exitcode
    round_trip(amqp, channel)
    connection.close()


def test_fork_while_other_threads_use_the_connection(amqp, address):
    """The locks that other threads hold at the fork are never released in the child."""
    run_in_child(fork_among_threads, amqp, address, 6)


@pytest.mark.soak
def test_many_forks_while_other_threads_use_the_connection(amqp, address):
    run_in_child(fork_among_threads, amqp, address, 60, seconds=100)


def keep_busy(amqp, connection, address, stop):
    """Start threads that use the connection in all ways until `stop`; return them and a queue.

    The last of them reads, and ends by a last message.
    """
    reading, writing, calling = (connection.channel() for _ in range(3))
    queue = reading.queue_declare(exclusive=True, auto_delete=False)[0]
    reading.basic_consume(queue, no_ack=True)
    body = bytes(400_000)

    def until_stopped(do):
        while not stop.is_set():
            do()

    todo = [
        lambda: writing.basic_publish(amqp.Message(body), routing_key=queue),
        lambda: calling.queue_declare(queue, passive=True),
        lambda: connection.channel().close(),
        lambda: amqp.Connection(host=address, heartbeat=1).close(),
        lambda: reading.wait(timeout=PATIENCE),
    ]
    return [Worker(until_stopped, do) for do in todo], queue


def fork_among_threads(amqp, address, times):
    connection = amqp.Connection(host=address, heartbeat=1)
    channel = connection.channel()
    stop = threading.Event()
    workers, queue = keep_busy(amqp, connection, address, stop)

    def use_both():
        check_that_use_is_refused(amqp, connection, channel, -1)
        gc.collect()
        with amqp.Connection(host=address, heartbeat=1, rpc_timeout=PATIENCE) as own:
            round_trip(amqp, own.channel())

    for number in range(times):
        expect_good_end(forked(use_both))
        time.sleep(0.001 * (number % 7))
    stop.set()
    *others, reader = workers
    for worker in others:
        worker.result()
    channel.basic_publish(amqp.Message('the last'), routing_key=queue)
    reader.result()
    round_trip(amqp, channel)
    connection.close()


def test_a_publisher_connects_anew_in_a_child(amqp):
    with Broker() as broker:
        run_in_child(fork_a_publisher, amqp, broker.url)
        arrived = [msg.body.decode() for msg in broker.messages('tasks')]
    numbers = {who: [int(body[1:]) for body in arrived if body[0] == who] for who in 'abcd'}
    assert all(found == list(range(len(found))) for found in numbers.values())
    assert len(numbers['c']) == len(numbers['d']) == 5


def fork_a_publisher(amqp, url):
    def setup(channel):
        channel.queue_declare('tasks', auto_delete=False)

    ours = amqp.Publisher(url, setup, timeout=PATIENCE)
    stop, some = threading.Event(), threading.Semaphore(0)

    def publish(who, until):
        number = 0
        while not until(number):
            ours.publish(amqp.Message(f'{who}{number}'), '', 'tasks')
            number += 1
            some.release()

    def publish_a_few():
        workers = [Worker(publish, who, (5).__eq__) for who in 'cd']
        for worker in workers:
            worker.result()
        ours.close()

    workers = [Worker(publish, who, lambda number: stop.is_set()) for who in 'ab']
    for _ in range(20):
        assert some.acquire(timeout=PATIENCE)
    child = forked(publish_a_few)
    for _ in range(20):
        assert some.acquire(timeout=PATIENCE)
    expect_good_end(child)
    stop.set()
    for worker in workers:
        worker.result()
    ours.close()
