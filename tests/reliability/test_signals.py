"""Ctrl-C and other signals: their exceptions are raised at once, and the connection stays usable.

What is interrupted runs in a Python of its own, against a scripted or the real broker.
"""

import contextlib
import hashlib
import random
import signal
import sys
import time

import pytest

from amqplib.core import heartbeat
from tests.helpers.checks import error_of
from tests.helpers.children import Child, interrupted, posix_only, run_in_child
from tests.helpers.packages import only_0_9_1
from tests.helpers.threads import Worker
from tests.helpers.waiting import BUSY, PATIENCE, lasting
from tests.helpers.wire import content, delivery, frame, method, method_payload, split_frames

pytestmark = posix_only

#: Seconds from when the child says that it is ready until it is in its call.
MOMENT = 0.3


def ready():
    print('ready', flush=True)


def interrupt(child):
    """Press Ctrl-C when the child is in its call, which has to end soon after."""
    child.expect('ready')
    time.sleep(MOMENT)
    child.signal(signal.SIGINT)
    with lasting(most=BUSY):
        child.expect('interrupted')


def interrupted_said():
    print('interrupted', flush=True)


# --- Ctrl-C -------------------------------------------------------------------------------------


@pytest.mark.parametrize('heartbeat', [0, 1])
def test_ctrl_c_in_a_wait_leaves_all_usable(amqp, address, heartbeat):
    with Child(interrupt_a_wait, amqp, address, heartbeat) as child:
        interrupt(child)


def interrupt_a_wait(amqp, address, heartbeat):
    connection = amqp.Connection(host=address, heartbeat=heartbeat)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True)[0]
    got = []
    channel.basic_consume(queue, no_ack=True, callback=lambda message: got.append(message.body))
    with interrupted():
        ready()
        channel.wait()
    interrupted_said()
    channel.basic_publish(amqp.Message('after it'), routing_key=queue)
    channel.wait(timeout=PATIENCE)
    assert got == ['after it'], got
    connection.close()


def test_ctrl_c_in_a_wait_that_another_thread_reads_for(amqp, address):
    with Child(interrupt_a_follower, amqp, address) as child:
        interrupt(child)


def interrupt_a_follower(amqp, address):
    from tests.helpers.threads import Worker
    from tests.helpers.waiting import poll

    connection = amqp.Connection(host=address, heartbeat=0)
    reading, channel = connection.channel(), connection.channel()
    queue = reading.queue_declare(exclusive=True, auto_delete=False)[0]
    reading.basic_consume(queue, no_ack=True)
    worker = Worker(reading.wait)
    poll(connection._session.role.is_taken)
    with interrupted():
        ready()
        channel.wait()
    interrupted_said()
    assert channel.queue_declare(queue, passive=True)[2] == 1
    channel.basic_publish(amqp.Message('x'), routing_key=queue)
    worker.result()
    connection.close()


def test_ctrl_c_in_a_callback_leaves_all_usable(amqp, address):
    with Child(interrupt_a_callback, amqp, address) as child:
        interrupt(child)


def interrupt_a_callback(amqp, address):
    connection = amqp.Connection(host=address)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True, auto_delete=False)[0]
    got = []

    def callback(message):
        got.append(message.body)
        message.delivery_info['channel'].basic_ack(message.delivery_tag)
        if message.body == '1':
            ready()
            time.sleep(60)

    for number in range(3):
        channel.basic_publish(amqp.Message(str(number)), routing_key=queue)
    channel.basic_consume(queue, callback=callback)
    with interrupted():
        while True:
            channel.wait()
    interrupted_said()
    channel.wait(timeout=PATIENCE)
    assert got == ['0', '1', '2'], got
    connection.close()


LARGE = bytes(200_000)


@pytest.mark.parametrize('timed_out', [False, True])
def test_ctrl_c_between_two_frames_of_a_large_body_leaves_all_usable(amqp, play, timed_out):
    start = method(1, 'basic.deliver', 'tag', 1, False, '', 'q')
    whole = start + content(1, LARGE, frame_max=65536)
    first = len(start) + len(frame(2, 1, bytes(14))) + 7  # up to where the body begins
    second = first + (65536 - 8) + 1 + 7  # up to where its second frame does

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.await_cue()
        # The rest of the first body frame is received to where it belongs.
        peer.send_raw(whole[:first])
        time.sleep(MOMENT)
        peer.send_raw(whole[first:second])
        peer.await_cue()
        peer.send_raw(whole[second:])
        peer.expect_close()

    broker = play(script)
    with Child(interrupt_a_body, amqp, broker.address, timed_out) as child:
        child.expect('ready')
        broker.cue()
        if timed_out:
            child.expect('timed out')
        time.sleep(3 * MOMENT)
        child.signal(signal.SIGINT)
        child.expect('interrupted')
        broker.cue()


def interrupt_a_body(amqp, address, timed_out):
    connection = amqp.Connection(host=address)
    channel = connection.channel()
    got = []
    channel.callbacks['tag'] = got.append
    ready()
    if timed_out:
        error_of(lambda: channel.wait(timeout=4 * MOMENT), amqp.AMQPTimeout)
        print('timed out', flush=True)
    with interrupted():
        channel.wait()
    interrupted_said()
    channel.wait(timeout=PATIENCE)
    assert [message.body for message in got] == [LARGE]
    connection.close()


def test_ctrl_c_in_a_call_ends_its_channel_only(amqp, play):
    def script(peer):
        peer.handshake()
        peer.open_channel(1)
        peer.expect_method(1, 'queue.declare')
        peer.expect_method(1, 'channel.close')
        peer.send_method(1, 'queue.declare_ok', 'late', 0, 0)
        peer.open_channel(2)
        peer.send_method(1, 'channel.close_ok')
        peer.expect_method(2, 'basic.get')
        peer.send_method(2, 'basic.get_empty', '')
        peer.open_channel(1)
        peer.expect_close()

    with Child(interrupt_a_call, amqp, play(script).address) as child:
        interrupt(child)


def interrupt_a_call(amqp, address):
    connection = amqp.Connection(host=address)
    channel = connection.channel()
    with interrupted():
        ready()
        channel.queue_declare('q')
    interrupted_said()
    for call in (lambda: channel.queue_declare('q'), lambda: channel.wait(timeout=5)):
        assert 'interrupted' in str(error_of(call))
    other = connection.channel()
    assert other.channel_id == 2
    assert other.basic_get('q') is None
    assert connection.channel().channel_id == 1
    connection.close()


def test_ctrl_c_in_a_large_write_ends_the_connection_and_no_more_is_written(amqp, play):
    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.await_cue()
        data.append(peer.rest())

    data = []
    broker = play(script, receive_buffer=65536)
    with Child(interrupt_a_write, amqp, broker.address) as child:
        interrupt(child)
        child.expect('closed')
        broker.cue()
    broker.finish()
    assert len(data[0]) > 100_000
    frames, rest = split_frames(data[0])
    published = method_payload('basic.publish', 0, '', 'q', False, False)
    assert frames[0] == (1, 1, published)
    assert [kind for kind, _, _ in frames[1:]] == [2] + [3] * (len(frames) - 2)
    # Only zeros of the body, from where the last whole frame ends.
    assert rest.strip(b'\0')[:1] in (b'', b'\3')
    assert len(rest.strip(b'\0')) <= 8


def interrupt_a_write(amqp, address):
    connection = amqp.Connection(host=address)
    channel = connection.channel()
    with interrupted():
        ready()
        channel.basic_publish(amqp.Message(bytes(50_000_000)), routing_key='q')
    interrupted_said()
    for call in (
        connection.channel,
        lambda: channel.basic_publish(amqp.Message('x'), routing_key='q'),
        lambda: channel.queue_declare('q'),
    ):
        assert 'interrupted' in str(error_of(call, amqp.ConnectionLost))
    channel.close()
    connection.close()
    print('closed', flush=True)


@pytest.mark.parametrize('of', ['connection', 'channel'])
def test_ctrl_c_in_close_closes(amqp, play, of):
    def script(peer):
        peer.handshake()
        peer.open_channel()
        if of == 'channel':
            peer.expect_method(1, 'channel.close')
        peer.expect_method(0, 'connection.close')
        if of == 'channel':
            peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    with Child(interrupt_close, amqp, play(script).address, of) as child:
        interrupt(child)


def interrupt_close(amqp, address, of):
    connection = amqp.Connection(host=address)
    channel = connection.channel()
    with interrupted():
        ready()
        (channel if of == 'channel' else connection).close(timeout=None)
    interrupted_said()
    assert not channel.is_open
    error_of(lambda: channel.queue_declare('q'))
    if of == 'channel':
        connection.close()
    assert connection.transport is None
    error_of(connection.channel)


def test_ctrl_c_while_connecting_leaves_nothing_open(amqp, play):
    def script(peer):
        peer.expect_login()
        peer.expect_end()

    with Child(interrupt_connecting, amqp, play(script).address) as child:
        interrupt(child)


def interrupt_connecting(amqp, address):
    from tests.helpers.leaks import open_descriptors

    before = open_descriptors()
    with interrupted():
        ready()
        amqp.Connection(host=address, connect_timeout=None)
    assert open_descriptors() == before
    interrupted_said()


class Interruption(BaseException):
    """What a signal handler raises."""


class Alarm(TimeoutError):
    """The same, by the class that many programs use, and sockets too."""


class Complaint(Exception):
    """The same, by a class that only the program knows."""


KINDS = {kind.__name__: kind for kind in (Interruption, Alarm, Complaint)}


@pytest.mark.parametrize('kind', KINDS)
def test_interruptions_at_any_moment_leave_a_usable_or_a_lost_connection(amqp, address, kind):
    run_in_child(interrupt_at_random, amqp, address, 150, 1, kind)


@only_0_9_1
def test_interruptions_at_any_moment_leave_the_numbers_of_confirms_right(amqp, address):
    run_in_child(interrupt_confirms_at_random, amqp, address, 150)


def interrupt_confirms_at_random(amqp, address, times):
    interrupt_at_random(amqp, address, times, 1, 'Interruption', Confirming)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('seed', range(2))
def test_thousands_of_interruptions_at_any_moment(amqp, address, seed, kind):
    run_in_child(interrupt_at_random, amqp, address, 3000, seed, kind, seconds=500)


def interrupt_at_random(amqp, address, times, seed, kind, cls=None):
    """Interrupt publishing, getting, calls and waiting; each time, all goes on or says why not."""
    interruption = KINDS[kind]
    # Where it strikes a finalizer, Python prints that and goes on.
    sys.unraisablehook = lambda unraisable: None
    moments = random.Random(seed)
    armed = [False]

    def strike(number, where):
        if armed[0]:
            armed[0] = False
            raise interruption

    signal.signal(signal.SIGALRM, strike)
    session = None
    struck = lost = 0
    while struck < times:
        session = session or (cls or Interruptible)(amqp, address)
        try:
            armed[0] = True
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.0001, 0.004))
            repeat_while(armed, session.step)
        except interruption:
            struck += 1
        except amqp.AMQPException as error:
            # It struck where the error that it caused was raised instead.
            check_that_it_says_so(error)
        armed[0] = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not session.usable():
            lost += 1
            session = None
    assert lost < struck
    if session is not None:
        session.connection.close()


def repeat_while(armed, step):
    # A function, as a loop that ends a block: in Python 3.13, `try` does not cover its jump.
    while armed[0]:
        step()


def test_interruptions_keep_no_lock_of_the_heartbeats():
    run_in_child(interrupt_the_heartbeats, 300)


def interrupt_the_heartbeats(times):
    """Interrupt what each connection does with them; another thread is not held up then."""

    def strike(number, where):
        raise Interruption

    signal.signal(signal.SIGALRM, strike)
    moments = random.Random(1)
    nobody = Interruption()
    for _ in range(times):
        with contextlib.suppress(Interruption):
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.00001, 0.0002))
            while True:
                heartbeat.unwatch(nobody)
    signal.setitimer(signal.ITIMER_REAL, 0)
    Worker(heartbeat.unwatch, nobody).result()


def check_that_it_says_so(error):
    assert 'interrupted' in str(error), repr(error)


class Interruptible:
    """A connection on which much is done."""

    def __init__(self, amqp, address):
        self.amqp = amqp
        self.connection = amqp.Connection(host=address, rpc_timeout=PATIENCE)
        self.open()
        self.numbers = self.got = 0

    def open(self):
        self.channel = self.connection.channel()
        self.queue = self.channel.queue_declare(exclusive=True, auto_delete=False)[0]

    def step(self):
        self.publish()
        message = self.channel.basic_get(self.queue, no_ack=True)
        if message is not None:
            assert len(message.body) % 50_000 == 8
            number = int.from_bytes(message.body[:8], 'big')
            assert number > self.got, 'a message came twice'
            self.got = number
        with contextlib.suppress(self.amqp.AMQPTimeout):
            self.channel.wait(timeout=0.0005)

    def publish(self):
        self.numbers += 1
        body = self.numbers.to_bytes(8, 'big') + bytes(self.numbers % 3 * 50_000)
        return self.channel.basic_publish(self.amqp.Message(body), routing_key=self.queue)

    def check(self):
        assert self.channel.queue_declare(self.queue, passive=True)[0] == self.queue

    def usable(self):
        """Return whether the connection goes on, after a check that it does or says why not."""
        if self.channel.is_open:
            try:
                self.check()
                return True
            except self.amqp.AMQPException as error:
                check_that_it_says_so(error)
        try:
            self.open()
            return True
        except self.amqp.AMQPException as error:
            check_that_it_says_so(error)
            assert self.connection.transport is None
            self.connection.close()
            return False


class Confirming(Interruptible):
    """The same with confirms: all that are waited for have to come, and no others."""

    def open(self):
        super().open()
        self.channel.confirm_select(outstanding_limit=3)

    def step(self):
        super().step()
        self.channel.wait_for_confirms(timeout=PATIENCE)

    def check(self):
        super().check()
        self.channel.wait_for_confirms(timeout=PATIENCE)
        number = self.publish()
        self.channel.wait_for_confirms(timeout=PATIENCE)
        nowhere = ('', 'amqplib-test-nowhere')
        assert self.channel.basic_publish(self.amqp.Message(b''), *nowhere) == number + 1


# --- Signals whose handlers return --------------------------------------------------------------


@pytest.mark.parametrize('kind', ['SIGALRM', 'SIGUSR1'])
def test_bodies_are_whole_in_a_storm_of_signals(amqp, address, kind):
    run_in_child(transfer_in_a_storm, amqp, address, kind, 12_000_000)


def transfer_in_a_storm(amqp, address, kind, size):
    import os
    import threading

    caught = []
    signal.signal(getattr(signal, kind), lambda number, where: caught.append(number))
    done = threading.Event()
    if kind == 'SIGALRM':
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    else:

        def storm():
            while not done.wait(0.001):
                os.kill(os.getpid(), signal.SIGUSR1)

        thread = threading.Thread(target=storm)
        thread.start()
    with amqp.Connection(host=address, rpc_timeout=60, write_timeout=60) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=False)[0]
        body = random.Random(0).getrandbits(size * 8).to_bytes(size, 'big')
        channel.basic_publish(amqp.Message(body), routing_key=queue)
        channel.basic_publish(amqp.Message(body[::-1]), routing_key=queue)
        for expected in (body, body[::-1]):
            got = []
            while not got or got[0] is None:
                got = [channel.basic_get(queue, no_ack=True)]
            digests = [hashlib.sha256(data).digest() for data in (got[0].body, expected)]
            assert digests[0] == digests[1]
    done.set()
    if kind == 'SIGALRM':
        signal.setitimer(signal.ITIMER_REAL, 0)
    else:
        thread.join()
    assert len(caught) > 20, len(caught)


def test_messages_are_whole_and_in_order_in_a_storm_of_signals(amqp, play):
    """The messages are small, and the peer sends them in odd portions."""
    data = b''.join(delivery(1, 'tag', number, b'%d' % number) for number in range(2000))

    def script(peer):
        peer.handshake()
        peer.open_channel()
        portions = random.Random(1)
        position = 0
        while position < len(data):
            step = portions.randint(1, 300)
            peer.send_raw(data[position : position + step])
            position += step
        peer.expect_close()

    run_in_child(consume_in_a_storm, amqp, play(script).address, 2000)


def consume_in_a_storm(amqp, address, count):
    caught = []
    signal.signal(signal.SIGALRM, lambda number, where: caught.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    with amqp.Connection(host=address) as connection:
        channel = connection.channel()
        got = []
        channel.callbacks['tag'] = lambda message: got.append(int(message.body))
        while len(got) < count:
            channel.wait(timeout=PATIENCE)
        assert got == list(range(count))
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert caught
