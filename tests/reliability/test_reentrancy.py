"""Finalizers and signal handlers that call the library on a thread that is inside it.

Each of their calls is done or refused; the stream stays intact in both directions, every message
comes once and in order, and the interrupted call goes on.
"""

import contextlib
import gc
import itertools
import signal
import sys
import threading
from functools import partial

import pytest

from tests.helpers.checks import error_of
from tests.helpers.children import posix_only, run_in_child
from tests.helpers.interrupts import FOLDER, at_line, lines
from tests.helpers.packages import mostly_0_9_1, only_0_9_1
from tests.helpers.waiting import PATIENCE

# There are thousands of lines; the limit is for what hangs.
pytestmark = pytest.mark.timeout(400)

#: The name of the connection under test, by which the peer's record of it is found.
NAME = 'tested'

SMALL = 'small'
#: More than a frame.
LARGE = 'large'.ljust(140_000, '.')


class Setting:
    """A connection to an answering peer, with a channel to work on and another for the others.

    numbers: channel -> (sequence number, body) of what was published.
    """

    def __init__(self, amqp, deliveries=0, confirms=False):
        from tests.helpers.answering_peer import AnsweringPeer

        self.amqp = amqp
        self.peer = AnsweringPeer(amqp, deliveries)
        self.connection = amqp.Connection(
            host=self.peer.address, connection_name=NAME, rpc_timeout=PATIENCE
        )
        self.served = self.peer.served[NAME]
        self.channel, self.other = self.connection.channel(), self.connection.channel()
        self.numbers = {self.channel: [], self.other: []}
        self.refusals = self.done = self.count = 0
        self.got = []
        if confirms:
            for channel in self.numbers:
                channel.confirm_select()

    def publish(self, channel, body=SMALL):
        self.count += 1
        body = f'{self.count} {body}'
        number = channel.basic_publish(self.amqp.Message(body), routing_key='q')
        self.numbers[channel].append((number, body[:64].rstrip('.')))

    def take(self, message):
        self.got.append(int(message.body))
        self.channel.basic_ack(message.delivery_tag)

    def nested(self, action):
        """Do what a finalizer would, and count what came of it."""
        try:
            action()
        except self.amqp.ReentrancyError:
            self.refusals += 1
        else:
            self.done += 1

    def check(self):
        """End the connection; check that all is whole, and what the peer got is what was sent."""
        for channel in self.numbers:
            channel.queue_declare('q')
        if self.numbers[self.channel] and self.numbers[self.channel][0][0]:
            for channel in self.numbers:
                channel.wait_for_confirms(timeout=PATIENCE)
        places = {channel: channel.channel_id for channel in self.numbers}
        self.connection.close()
        assert self.served.ended.wait(PATIENCE)
        assert self.served.errors == []
        for channel, published in self.numbers.items():
            arrived = self.served.published[places[channel]]
            if any(number for number, _ in published):
                assert dict(published) == dict(enumerate(arrived, 1))
                assert len(published) == len(arrived)
            else:
                assert sorted(body for _, body in published) == sorted(arrived)
        self.peer.close()


# --- At each line -------------------------------------------------------------------------------


def calls(setting):
    """Return name -> a call, into which something else is called."""
    channel, connection = setting.channel, setting.connection

    def open_and_close():
        connection.channel().close()

    def get_reply():
        assert channel.queue_declare('reply')[0] == 'reply'

    def wait_for_confirms():
        setting.publish(channel)
        channel.wait_for_confirms(timeout=PATIENCE)

    def consume():
        setting.got.clear()
        with connection.channel() as consuming:
            tag = consuming.basic_consume('q', callback=lambda m: setting.got.append(int(m.body)))
            assert tag
            while len(setting.got) < setting.peer.deliveries:
                consuming.wait(timeout=PATIENCE)
        expected = list(range(1, setting.peer.deliveries + 1))
        assert setting.got == expected, setting.got

    return {
        'publish': lambda: setting.publish(channel),
        'publish a large body': lambda: setting.publish(channel, LARGE),
        'call': get_reply,
        'consume': consume,
        'open and close': open_and_close,
        'wait for confirms': wait_for_confirms,
    }


def actions(setting):
    """Return name -> what is called in the middle of such a call."""
    connection, other = setting.connection, setting.other

    def close_a_channel():
        setting.pooled.close()

    def wait():
        with contextlib.suppress(setting.amqp.AMQPTimeout):
            other.wait(timeout=0)

    return {
        'publish': lambda: setting.publish(other),
        'publish on the same channel': lambda: setting.publish(setting.channel),
        'publish a large body': lambda: setting.publish(other, LARGE),
        'acknowledge': lambda: other.basic_ack(1),
        'call': lambda: other.queue_declare('nested'),
        'open a channel': lambda: connection.channel().close(),
        'close a channel': close_a_channel,
        'wait': wait,
    }


CALLS = list(calls(type('Nothing', (), {'channel': None, 'connection': None})()))
ACTIONS = [
    'publish', 'publish on the same channel', 'publish a large body', 'acknowledge', 'call',
    'open a channel', 'close a channel', 'wait',
]  # fmt: skip


@mostly_0_9_1
@pytest.mark.parametrize('action', ACTIONS)
def test_a_call_into_any_line_of_another_call(amqp, action):
    run_in_child(call_into_any_line, amqp, action, False, seconds=380)


@only_0_9_1
@pytest.mark.parametrize('action', ['publish', 'publish on the same channel', 'call'])
def test_a_call_into_any_line_with_confirms(amqp, action):
    run_in_child(call_into_any_line, amqp, action, True, seconds=380)


def call_into_any_line(amqp, action, confirms):
    for name in CALLS:
        if name == 'wait for confirms' and not confirms:
            continue
        setting = Setting(amqp, 5, confirms)
        act = actions(setting)[action]
        call = calls(setting)[name]
        for line in lines():
            if action == 'close a channel':
                setting.pooled = setting.connection.channel()
            if not at_line(line, partial(setting.nested, act), call):
                break
        assert line.number > 5, (name, line.number)
        assert setting.done + setting.refusals == line.number
        assert setting.done, name
        setting.check()


@mostly_0_9_1
def test_closing_the_connection_in_any_line_of_a_call(amqp):
    run_in_child(close_in_any_line, amqp, seconds=380)


def close_in_any_line(amqp):
    for name in ('publish', 'publish a large body', 'call', 'consume'):
        for line in lines():
            setting = Setting(amqp, 5)
            close = setting.connection.close
            reached = False
            try:
                reached = at_line(line, partial(setting.nested, close), calls(setting)[name])
            except amqp.AMQPConnectionException as error:
                reached = True
                check_that_it_says_so(error)
            if not reached:
                setting.check()
                break
            assert setting.done + setting.refusals == 1
            setting.connection.close()
            assert setting.connection.transport is None
            assert setting.served.ended.wait(PATIENCE)
            assert setting.served.closing
            assert setting.served.errors == []
            setting.peer.close()


def check_that_it_says_so(error):
    assert 'closed by this program' in str(error), repr(error)


# --- Finalizers ---------------------------------------------------------------------------------


class Finalized:
    """A cycle whose finalizer makes a call, and leaves another such cycle.

    So whenever the collector runs, which may be at any allocation, a call interrupts whatever was
    being done.
    """

    def __init__(self, call):
        self.call, self.cycle = call, self

    def __del__(self):
        if self.call():
            Finalized(self.call)


@contextlib.contextmanager
def collecting_all_the_time(setting, act, most):
    """Have the collector call, at most so many times, until the end of the block."""
    active, thread = True, threading.get_ident()

    def call():
        # Not in a thread of the peer, which cannot wait for itself.
        mine = threading.get_ident() == thread
        if active and mine and setting.done + setting.refusals < most:
            setting.nested(act)
        return active

    traced = itertools.count()

    def trace(frame, event, arg):
        # The threads of the peer may make most of the garbage, and so do the collecting.
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if next(traced) % 50 == 0:
            gc.collect(0)
        return trace

    before = gc.get_threshold(), sys.gettrace()
    gc.collect()
    gc.freeze()
    gc.set_threshold(1)
    Finalized(call)
    sys.settrace(trace)
    try:
        yield
    finally:
        active = False
        sys.settrace(before[1])
        gc.set_threshold(*before[0])
        gc.unfreeze()


def finalizer_of(setting, name):
    """Return what a finalizer does."""
    if name != 'close a channel':
        return actions(setting)[name]
    pool = [setting.connection.channel() for _ in range(500)]
    return lambda: pool and pool.pop().close()


FINALIZERS = ['publish', 'acknowledge', 'close a channel', 'call', 'wait']


@mostly_0_9_1
@pytest.mark.parametrize('finalizer', FINALIZERS)
def test_finalizers_while_messages_are_consumed(amqp, finalizer):
    run_in_child(consume_with_finalizers, amqp, finalizer, False, seconds=380)


@only_0_9_1
def test_finalizers_that_publish_with_confirms_while_messages_are_consumed(amqp):
    run_in_child(consume_with_finalizers, amqp, 'publish', True, seconds=380)


def consume_with_finalizers(amqp, finalizer, confirms):
    count = 1000
    setting = Setting(amqp, count, confirms)
    act = finalizer_of(setting, finalizer)
    setting.channel.basic_consume('q', callback=setting.take)
    with collecting_all_the_time(setting, act, 2 * count):
        while len(setting.got) < count:
            setting.channel.wait(timeout=PATIENCE)
    assert setting.got == list(range(1, count + 1))
    assert setting.done + setting.refusals > count // 10
    setting.check()
    assert setting.served.acknowledged[1] == setting.got


@mostly_0_9_1
@pytest.mark.parametrize('finalizer', FINALIZERS)
def test_finalizers_while_large_bodies_are_published(amqp, finalizer):
    run_in_child(publish_with_finalizers, amqp, finalizer, False, seconds=380)


@only_0_9_1
def test_finalizers_that_publish_while_large_bodies_are_published_with_confirms(amqp):
    run_in_child(publish_with_finalizers, amqp, 'publish', True, seconds=380)


def publish_with_finalizers(amqp, finalizer, confirms):
    setting = Setting(amqp, 0, confirms)
    act = finalizer_of(setting, finalizer)
    with collecting_all_the_time(setting, act, 3000):
        for _ in range(100):
            setting.publish(setting.channel, LARGE)
    assert setting.done + setting.refusals > 100
    setting.check()


# --- Signal handlers ----------------------------------------------------------------------------


@posix_only
def test_a_signal_handler_while_the_thread_waits_for_the_broker(amqp, play):
    """The handler may publish and close, which is sent at once; calls that wait are refused."""
    broker = play(answer_late)
    run_in_child(handle_while_waiting, amqp, broker.address)


def answer_late(peer):
    peer.handshake()
    for channel in (1, 2, 3):
        peer.open_channel(channel)
    peer.expect_method(1, 'queue.declare')
    # Nothing is sent, so the client sleeps until the signal comes.
    peer.expect_method(2, 'basic.publish')
    assert peer.expect_content(2)[1] == b'from the handler'
    peer.expect_method(2, 'basic.ack')
    peer.expect_method(3, 'channel.close')
    peer.send_method(1, 'queue.declare_ok', 'q', 0, 0)
    peer.send_method(3, 'channel.close_ok')
    peer.open_channel(3)
    peer.expect_close()


def handle_while_waiting(amqp, address):
    connection = amqp.Connection(host=address)
    channel, other, pooled = (connection.channel() for _ in range(3))
    told = []

    def handle(number, where):
        calls = (
            lambda: other.queue_declare('q'),
            connection.channel,
            lambda: other.wait(timeout=1),
            lambda: channel.queue_declare('another'),
        )
        told.extend(error_of(call, amqp.ReentrancyError) for call in calls)
        other.basic_publish(amqp.Message('from the handler'), routing_key='q')
        other.basic_ack(1)
        pooled.close()

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    assert channel.queue_declare('q')[0] == 'q'
    assert len(told) == 4
    assert not pooled.is_open
    channel_3 = None
    while channel_3 is None:
        # Its number is free when the close-ok has been read.
        with contextlib.suppress(amqp.AMQPTimeout):
            other.wait(timeout=0.01)
        if 3 not in connection.numbers.lingering:
            channel_3 = connection.channel()
    assert channel_3.channel_id == 3
    connection.close()


@pytest.mark.parametrize('amqp_name', ['client_0_8', 'client_0_9_1'])
def test_the_error_is_one_of_the_library_and_says_so(amqp_name):
    package = sys.modules[f'amqplib.{amqp_name}']
    assert issubclass(package.ReentrancyError, package.AMQPException)
    assert not issubclass(package.ReentrancyError, package.AMQPConnectionException)
    assert 'ReentrancyError' in package.__all__
