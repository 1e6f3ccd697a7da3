"""Sixteen threads on one connection, a channel each: nothing mixed, lost, starved or stuck."""

import random
import socket
import struct
import sys
import threading
import time
import zlib

import pytest

from amqplib.core import reader_role
from tests.helpers.checks import check_closed
from tests.helpers.nodes import close_connections
from tests.helpers.packages import only_0_8
from tests.helpers.threads import Worker
from tests.helpers.waiting import PATIENCE, lasting, poll
from tests.helpers.wire import delivery

THREADS = 16
#: More than two frames.
LARGEST = 300_000
NOISE = random.Random(7).getrandbits(LARGEST * 8 * 2).to_bytes(LARGEST * 2, 'big')
HEAD = struct.Struct('>III')


@pytest.fixture
def hasty_switches():
    """Let threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def make_body(sender, number, size):
    data = NOISE[number % LARGEST : number % LARGEST + size]
    return HEAD.pack(sender, number, zlib.crc32(data)) + data


def read_body(body):
    """Return (sender, number) of a body, after checking that it is whole."""
    body = body.encode() if isinstance(body, str) else body
    sender, number, checksum = HEAD.unpack(body[: HEAD.size])
    assert zlib.crc32(body[HEAD.size :]) == checksum
    return sender, number


class Member:
    """One of many threads: it publishes to the next one, and consumes what the one before sends."""

    def __init__(self, amqp, connection, number):
        self.amqp = amqp
        self.number = number
        self.channel = connection.channel()
        self.queue = self.channel.queue_declare(exclusive=True, auto_delete=False)[0]
        self.sent = self.calls = 0
        self.got = []
        self.sizes = random.Random(number)

    def take(self, message):
        self.got.append(read_body(message.body))
        self.channel.basic_ack(message.delivery_tag)

    def run(self, following, preceding, stop):
        self.channel.basic_qos(0, 10, False)
        self.channel.basic_consume(self.queue, callback=self.take)
        while not stop.is_set():
            self.publish(following)
            # Do not fall far behind the thread that sends to this one.
            while len(self.got) < preceding.sent - 5 and not stop.is_set():
                self.channel.wait(timeout=PATIENCE)
            name = self.channel.queue_declare(self.queue, passive=True)[0]
            assert name == self.queue
            self.calls += 1

    def publish(self, following):
        size = self.sizes.choice([0, 10, 1000, 131_000, 140_000, LARGEST])
        body = make_body(self.number, self.sent, size)
        self.channel.basic_publish(self.amqp.Message(body), routing_key=following.queue)
        self.sent += 1

    def finish(self, preceding):
        while len(self.got) < preceding.sent:
            self.channel.wait(timeout=PATIENCE)


def work_together(amqp, connection, seconds):
    members = [Member(amqp, connection, number) for number in range(THREADS)]
    stop, all_done = threading.Event(), threading.Barrier(THREADS)

    def run(position):
        following = members[(position + 1) % THREADS]
        preceding = members[position - 1]
        members[position].run(following, preceding, stop)
        all_done.wait(PATIENCE)  # nobody publishes any more
        members[position].finish(preceding)

    workers = [Worker(run, position) for position in range(THREADS)]
    time.sleep(seconds)
    stop.set()
    for worker in workers:
        worker.result(3 * PATIENCE)
    for position, member in enumerate(members):
        preceding = members[position - 1]
        assert member.got == [(preceding.number, number) for number in range(preceding.sent)]
    return members


def check_progress(members, least):
    """Check that each thread had its share."""
    calls = sorted(member.calls for member in members)
    assert calls[0] >= least, calls
    assert calls[0] * 10 >= calls[len(calls) // 2], calls


def test_sixteen_threads_publish_call_and_consume_at_once(amqp, dial):
    connection = dial(heartbeat=1)
    check_progress(work_together(amqp, connection, 3), 3)
    assert connection.channel().queue_declare(exclusive=True)[1] == 0


def test_sixteen_threads_that_take_turns_all_the_time(amqp, dial, hasty_switches):
    check_progress(work_together(amqp, dial(), 2), 1)


@only_0_8  # what TLS changes is below what the packages differ in
def test_sixteen_threads_over_tls(amqp, authority, own_node):
    """With TLS, reading and writing must not happen at the same time."""
    options = {'ca_certs': authority.file}
    with amqp.Connection(host=own_node.tls_address, ssl=options, heartbeat=1) as connection:
        check_progress(work_together(amqp, connection, 3), 1)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_sixteen_threads_for_a_minute(amqp, dial):
    check_progress(work_together(amqp, dial(heartbeat=1), 60), 50)


# --- Channels -----------------------------------------------------------------------------------


@pytest.mark.parametrize('end', ['close', 'error'])
def test_channels_that_many_threads_open_and_close_have_numbers_of_their_own(
    amqp, dial, hasty_switches, end
):
    connection = dial()
    in_use = set()
    lock = threading.Lock()

    def open_and_close():
        for _ in range(15):
            channel = connection.channel()
            number = channel.channel_id
            with lock:
                assert number not in in_use
                in_use.add(number)
            assert connection.channels[number] is channel
            assert channel.queue_declare(exclusive=True)[1] == 0
            assert connection.channels[number] is channel
            with lock:
                in_use.remove(number)
            if end == 'close':
                channel.close()
            else:
                with pytest.raises(amqp.NotFound):
                    channel.queue_declare('amqplib-test-no-such-queue', passive=True)

    for worker in [Worker(open_and_close) for _ in range(THREADS)]:
        worker.result()
    assert list(connection.channels) == [0]
    assert connection.channel().channel_id == 1


@pytest.fixture
def calls():
    """A list that grows with each call of a function in the threads that the test starts."""
    events = []
    threading.setprofile(lambda frame, event, arg: events.append(event))
    yield events
    threading.setprofile(None)


def seldom_wake(threads, calls):
    """Return whether waiting threads do nothing except check now and then whether to read.

    Each checks once in a step of its wait; forty calls are plenty for that.
    """
    begun, before = time.monotonic(), len(calls)
    time.sleep(0.3)
    looks = 1 + (time.monotonic() - begun) / reader_role._WAIT_STEP
    return len(calls) - before < threads * looks * 40


def test_threads_sleep_while_they_wait(amqp, calls, dial):
    """When a method arrives for one of them, the others go on sleeping."""
    connection = dial(heartbeat=0)
    channels = [connection.channel() for _ in range(8)]
    queues = [channel.queue_declare(exclusive=True)[0] for channel in channels]
    for channel, queue in zip(channels, queues):
        channel.basic_consume(queue, no_ack=True)
    workers = [Worker(channel.wait) for channel in channels]
    sender = dial(heartbeat=0).channel()
    for woken in (3, 6):
        sender.basic_publish(amqp.Message('x'), routing_key=queues[woken])
        workers[woken].result()
        assert seldom_wake(len(workers), calls)
    connection.close()
    for worker in workers:
        worker.ended()


def test_number_is_not_free_before_the_close_is_confirmed(amqp, session, monkeypatch):
    """Nor does a thread get it that learns of the close while another is about to confirm it."""

    def script(peer):
        peer.open_channel(2)
        peer.await_cue()
        peer.send_method(1, 'channel.close', 404, 'gone', 50, 10)
        peer.expect_method(3, 'channel.open')
        peer.mark()
        peer.expect_method(1, 'channel.close_ok')
        peer.confirm_channel(3)
        peer.send_raw(delivery(2, 'tag'))
        peer.open_channel(1)
        peer.expect_close()

    def pause(*args):
        about_to.set()
        go_on.wait(PATIENCE)
        send_urgent(*args)

    ours = session(script, rpc_timeout=10)
    about_to, go_on = threading.Event(), threading.Event()
    send_urgent = ours.connection._session.send_urgent
    monkeypatch.setattr(ours.connection._session, 'send_urgent', pause)
    reader = Worker(ours.connection.channel().wait)
    ours.broker.cue()
    assert about_to.wait(PATIENCE)
    with pytest.raises(amqp.NotFound):
        ours.channel.queue_declare('q')
    opener = Worker(ours.connection.channel)
    ours.broker.await_mark()
    go_on.set()
    assert opener.result().channel_id == 3
    reader.result()
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


def test_close_ok_that_had_to_wait_is_sent_before_the_next_method(amqp, session):
    """The close-ok frees the number of the channel, which the next method may open again."""

    def script(peer):
        peer.send_method(1, 'channel.close', 404, 'gone', 50, 10)
        peer.expect_method(1, 'channel.close_ok')
        peer.open_channel(1)
        peer.expect_close()

    ours = session(script, rpc_timeout=10)
    busy, free = threading.Event(), threading.Event()

    def write():
        busy.set()
        free.wait(PATIENCE)

    writer = Worker(ours.connection._session.outbox.run_idle, write)
    assert busy.wait(PATIENCE)
    with pytest.raises(amqp.NotFound):
        ours.channel.wait(timeout=10)
    free.set()
    writer.result()
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


# --- The end ------------------------------------------------------------------------------------


def busy_threads(amqp, connection):
    """Start threads that wait, publish and call until the connection ends; return them."""
    waiting = [connection.channel() for _ in range(4)]
    publishing = [connection.channel() for _ in range(4)]
    calling = [connection.channel() for _ in range(4)]
    opening = [connection] * 2
    queue = calling[0].queue_declare(exclusive=True, auto_delete=False)[0]
    waiting[0].basic_consume(queue, no_ack=True)
    rounds = [0]

    def for_ever(do):
        def run():
            while True:
                do()
                rounds[0] += 1

        return run

    body = bytes(LARGEST)
    todo = [channel.wait for channel in waiting]
    todo += [
        lambda channel=channel: channel.basic_publish(amqp.Message(body), routing_key=queue)
        for channel in publishing
    ]
    todo += [
        lambda channel=channel: channel.queue_declare(queue, passive=True) for channel in calling
    ]
    todo += [lambda: connection.channel().close() for _ in opening]
    workers = [Worker(for_ever(do)) for do in todo]
    poll(lambda: rounds[0] > 100, 'some work')
    return workers


@pytest.mark.parametrize('round_number', range(3))
def test_close_by_one_thread_ends_the_calls_of_all_others(amqp, address, round_number):
    connection = amqp.Connection(host=address, heartbeat=5)
    sock = connection.transport.sock
    workers = busy_threads(amqp, connection)
    with lasting(most=PATIENCE):
        connection.close()
    for worker in workers:
        error = worker.ended()
        assert type(error) is amqp.AMQPConnectionException, repr(error)
        assert 'closed by this program' in str(error)
    poll(lambda: sock.fileno() == -1)


@pytest.mark.parametrize('round_number', range(3))
def test_loss_of_the_connection_ends_all_calls_with_its_cause(amqp, address, round_number):
    connection = amqp.Connection(host=address, heartbeat=5)
    sock = connection.transport.sock
    workers = busy_threads(amqp, connection)
    with lasting(most=PATIENCE):
        sock.shutdown(socket.SHUT_RDWR)
        errors = [worker.ended() for worker in workers]
    assert {type(error) for error in errors} == {amqp.ConnectionLost}, errors
    assert len({error.args for error in errors}) == 1, errors
    assert len(set(map(id, errors))) == len(errors)
    poll(lambda: sock.fileno() == -1)
    check_closed(connection, sock, errors[0])


def test_close_by_the_broker_ends_all_calls_with_its_reason(amqp, dial, controlled):
    connection = dial(host=controlled.address, heartbeat=0)
    workers = busy_threads(amqp, connection)
    close_connections(controlled, 'out for lunch')
    errors = [worker.ended() for worker in workers]
    assert {type(error) for error in errors} <= {amqp.ConnectionForced}, errors
    assert all('out for lunch' in str(error) for error in errors)


def test_reset_wakes_threads_that_wait_and_one_that_writes(amqp, play, connect):
    count = 6

    def script(peer):
        peer.handshake()
        for number in range(1, count + 1):
            peer.open_channel(number)
        peer.await_cue()
        peer.reset()

    broker = play(script, receive_buffer=4096)
    connection = connect(broker)
    sock = connection.transport.sock
    channels = [connection.channel() for _ in range(count)]
    workers = [Worker(channel.wait) for channel in channels[1:]]
    body = bytes(50_000_000)
    writer = Worker(lambda: channels[0].basic_publish(amqp.Message(body), routing_key='q'))
    time.sleep(0.3)
    broker.cue()
    errors = [worker.ended() for worker in [*workers, writer]]
    assert {type(error) for error in errors} == {amqp.ConnectionLost}, errors
    assert len({error.args for error in errors}) == 1, errors
    poll(lambda: sock.fileno() == -1)
    check_closed(connection, sock, errors[0], channels)


def test_two_threads_may_close_the_connection_at_once(amqp, address):
    for _ in range(30):
        connection = amqp.Connection(host=address, heartbeat=0)
        start = threading.Barrier(3)

        def close(connection=connection, start=start):
            start.wait(PATIENCE)
            connection.close()

        for worker in [Worker(close) for _ in range(3)]:
            assert worker.ended() is None
        assert connection.transport is None


def test_thread_that_reads_and_fails_leaves_the_reading_to_another(play, connect):
    """The callback of the reader raises; the other threads still get their messages."""

    def script(peer):
        peer.handshake()
        peer.open_channel(1)
        peer.open_channel(2)
        peer.await_cue()
        peer.send_raw(delivery(1, 'tag', 1))
        peer.await_cue()
        peer.send_raw(delivery(2, 'tag', 2))
        peer.expect_close()

    broker = play(script)
    connection = connect(broker)
    failing, other = connection.channel(), connection.channel()
    got = []

    def fail(message):
        raise ZeroDivisionError

    failing.callbacks['tag'] = fail
    other.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    first = Worker(failing.wait)
    second = Worker(other.wait)
    broker.cue()
    assert type(first.ended()) is ZeroDivisionError
    broker.cue()
    second.result()
    assert got == [2]
    connection.close()
