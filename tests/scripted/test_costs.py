"""What a message may cost, counted in system calls and calls of Python functions.

Times would depend on the machine. These numbers depend on nothing but the code, so they have no
margin, but for what happens now and then and not for each message. A change that makes something
cheaper should lower the number here; one that raises it has a reason for that.
"""

import gc
import socket
import sys
import time
from collections import Counter
from typing import ClassVar

import pytest

import amqplib.client_0_8 as amqp_0_8
import amqplib.client_0_9_1 as amqp_0_9_1
from amqplib.core.session import POLL_INTERVAL
from amqplib.core.transport import TCPTransport
from tests.helpers import memory
from tests.helpers.wire import VERSION_0_8, VERSION_0_9_1, delivery, method

pytestmark = pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='elsewhere, other things are calls'
)

#: Messages in a test.
COUNT = 200
BODY = b'x' * 128
#: content_type and delivery_mode, as they are on the wire.
PROPERTIES = b'\x90\0\x0atext/plain\x02'

#: Seconds after which something that should happen is taken not to happen.
PATIENCE = 10

#: Calls of Python functions for each message, with everything that they call.
PUBLISH = 7
CONFIRM = 4  # beside those of publishing
DELIVER = 5  # the callback is one of them
ACKNOWLEDGE = 7  # beside those of the delivery
ACKNOWLEDGE_ITSELF = 8  # likewise, by Message.ack
ITERATE = 4  # the body of the loop is one of them
GET = 24

#: Numbers that are looked at for each new channel: the last one taken, and the free one.
NUMBERS = 2

#: Calls that do not come with each message: of what is remembered from the first time on, and of
#: looking for what the broker may have sent.
ONCE = 100
LOOK = 60

#: What an idle channel may hold, in bytes.
CHANNEL_BYTES = 3072

SENDS = ('send', 'sendmsg')
RECEIVES = ('recv', 'recvmsg_into')


class CountedSocket(socket.socket):
    """A socket that counts what it is asked to do."""

    __slots__ = ()
    done: ClassVar[Counter] = Counter()


def counted(name):
    really = getattr(socket.socket, name)

    def method(self, *args):
        self.done[name] += 1
        return really(self, *args)

    setattr(CountedSocket, name, method)
    return method.__code__


#: The code of what counts, which does not count itself.
COUNTERS = [counted(name) for name in (*SENDS, *RECEIVES)]


class Counting:
    """Counts what this thread does with a connection in a `with` block.

    calls: calls of Python functions.
    sends, receives, polls: system calls.
    looks: how often a publisher may have polled for input in this time.
    """

    def __init__(self, connection):
        self._sock = connection.transport.sock
        self.calls = self.polls = 0

    def _note(self, frame, event, arg):
        if event == 'call':
            self.calls += frame.f_code not in COUNTERS
        elif event == 'c_call':
            self.polls += is_poll(arg)

    def __enter__(self):
        self._begin = time.monotonic()
        self._before = sys.getprofile()
        CountedSocket.done.clear()
        self._sock.__class__ = CountedSocket
        gc.disable()  # others may have asked to be called when it runs
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exc_info):
        sys.setprofile(self._before)
        gc.enable()
        self._sock.__class__ = socket.socket
        self.looks = 1 + (time.monotonic() - self._begin) / POLL_INTERVAL
        self.sends, self.receives = (
            sum(CountedSocket.done[name] for name in names) for names in (SENDS, RECEIVES)
        )


def is_poll(function):
    """Return whether a function is the system call that waits for sockets."""
    if type(function.__self__).__module__ == 'select':
        return function.__name__ == 'poll'
    return function.__name__ == 'select'


@pytest.fixture(params=['0-8', '0-9-1'])
def open_channel(request, play, connect):
    """A function that plays a script behind the opening of channel 1.

    It returns the channel and the broker.
    """
    version, amqp = {
        '0-8': (VERSION_0_8, amqp_0_8),
        '0-9-1': (VERSION_0_9_1, amqp_0_9_1),
    }[request.param]

    def start(script):
        def whole(peer):
            peer.handshake()
            peer.open_channel()
            script(peer)
            peer.expect_close()

        broker = play(whole, version=version)
        return connect(broker, cls=amqp.Connection).channel(), broker

    return start


# Publishing


@pytest.fixture
def published(open_channel):
    """What it costs to publish."""

    def take_all(peer):
        for _ in range(COUNT):
            peer.expect_method(1, 'basic.publish')
            assert peer.expect_content(1) == (PROPERTIES, BODY)

    channel, _ = open_channel(take_all)
    with Counting(channel.connection) as counted:
        for _ in range(COUNT):
            msg = amqp_0_8.Message(BODY, content_type='text/plain', delivery_mode=2)
            channel.basic_publish(msg, '', 'queue')
    channel.connection.close()
    return counted


def test_a_small_message_is_one_system_call(published):
    assert published.sends == COUNT
    # Now and then it looks for input, and receives only if there is some.
    assert published.polls <= published.looks
    assert published.receives <= published.looks


def test_calls_of_publishing(published):
    assert published.calls <= PUBLISH * COUNT + ONCE + LOOK * published.looks


def test_calls_of_confirmed_publishing(play, connect):
    def confirm_all(peer):
        peer.handshake()
        peer.open_channel()
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        for _ in range(COUNT):
            peer.expect_method(1, 'basic.publish')
            peer.expect_content(1)
        confirms = [
            method(1, 'basic.ack', number, False, version=VERSION_0_9_1)
            for number in range(1, COUNT + 1)
        ]
        peer.send_raw(b''.join(confirms))
        peer.expect_close()

    broker = play(confirm_all, version=VERSION_0_9_1)
    channel = connect(broker, cls=amqp_0_9_1.Connection).channel()
    channel.confirm_select(COUNT)
    with Counting(channel.connection) as counted:
        for _ in range(COUNT):
            channel.basic_publish(amqp_0_9_1.Message(BODY), '', 'queue')
        channel.wait_for_confirms(timeout=PATIENCE)
    channel.connection.close()
    assert counted.sends == COUNT
    calls = (PUBLISH + CONFIRM) * COUNT + ONCE
    assert counted.calls <= calls + LOOK * (counted.looks + counted.receives)


# Consuming


@pytest.fixture
def consume(open_channel):
    """A function that returns what it costs to hand out messages that have all arrived.

    acknowledge: None, or a function by which the program acknowledges each.
    iterated: whether they come from Channel.consume(), not by callbacks.
    """

    def measure(acknowledge=None, iterated=False):
        data = b''.join(
            delivery(1, 'tag', number, BODY, PROPERTIES) for number in range(1, COUNT + 1)
        )

        def send_all(peer):
            peer.expect_method(1, 'basic.consume')
            peer.send_method(1, 'basic.consume_ok', 'tag')
            peer.await_cue()
            peer.send_raw(data)
            for number in range(1, COUNT + 1 if acknowledge else 1):
                assert peer.expect_method(1, 'basic.ack').delivery_tag == number

        handed_out = []

        def on_message(msg):
            handed_out.append(msg)
            if acknowledge:
                acknowledge(msg)

        channel, broker = open_channel(send_all)
        if iterated:
            hand_out = iterate(channel.consume('queue', consumer_tag='tag'), on_message)
        else:
            channel.basic_consume('queue', 'tag', callback=on_message)
            hand_out = channel.wait
        broker.cue()
        await_bytes(channel, len(data))
        with Counting(channel.connection) as counted:
            while len(handed_out) < COUNT:
                hand_out()
        channel.connection.close()
        assert [msg.body for msg in handed_out] == [BODY] * COUNT
        return counted

    return measure


def acknowledge_by_tag(msg):
    msg.channel.basic_ack(msg.delivery_tag)


def iterate(consumer, on_message):
    """Return a function that calls another one with COUNT messages of a consumer."""

    def hand_out():
        for number, msg in enumerate(consumer, 1):
            on_message(msg)
            if number == COUNT:
                break

    return hand_out


def await_bytes(channel, count):
    """Wait until so many bytes are in the socket; none of them is read."""
    sock = channel.connection.transport.sock
    deadline = time.monotonic() + PATIENCE
    while len(peek(sock, count)) < count:
        assert time.monotonic() < deadline, f'{count} bytes did not arrive within {PATIENCE} s'
        time.sleep(0.005)


def peek(sock, count):
    """Return up to so many bytes that are in the socket."""
    try:
        return sock.recv(count, socket.MSG_PEEK | getattr(socket, 'MSG_DONTWAIT', 0))
    except BlockingIOError:
        return b''


def test_many_messages_are_few_system_calls(consume):
    consumed = consume()
    assert consumed.sends == 0
    assert consumed.receives <= COUNT // 10
    assert consumed.polls <= COUNT // 10


def test_calls_of_consuming(consume):
    assert consume().calls <= DELIVER * COUNT + ONCE


def test_an_acknowledgement_is_at_most_one_system_call(consume):
    consumed = consume(acknowledge_by_tag)
    assert consumed.sends <= COUNT
    assert consumed.receives <= COUNT // 10
    assert consumed.polls <= COUNT // 10


def test_calls_of_consuming_and_acknowledging(consume):
    assert consume(acknowledge_by_tag).calls <= (DELIVER + ACKNOWLEDGE + 1) * COUNT + ONCE


def test_calls_of_messages_that_acknowledge_themselves(consume):
    calls = consume(amqp_0_8.Message.ack).calls
    assert calls <= (DELIVER + ACKNOWLEDGE_ITSELF) * COUNT + ONCE


def test_calls_of_iterating(consume):
    assert consume(iterated=True).calls <= ITERATE * COUNT + ONCE


def test_calls_of_iterating_and_acknowledging(consume):
    calls = consume(acknowledge_by_tag, iterated=True).calls
    assert calls <= (ITERATE + ACKNOWLEDGE) * COUNT + ONCE


# Getting


@pytest.fixture
def got(open_channel):
    """What it costs to get messages one by one."""

    def answer_all(peer):
        for number in range(1, COUNT + 1):
            peer.expect_method(1, 'basic.get')
            peer.send_content(
                1, 'basic.get_ok', number, False, '', 'queue', 0, body=BODY, properties=PROPERTIES
            )

    channel, _ = open_channel(answer_all)
    bodies = []
    with Counting(channel.connection) as counted:
        while len(bodies) < COUNT:
            bodies.append(channel.basic_get('queue').body)
    channel.connection.close()
    assert bodies == [BODY] * COUNT
    return counted


def test_a_message_is_got_by_two_system_calls(got):
    assert got.sends == COUNT
    assert got.receives == COUNT
    # Where a call that receives cannot be made to wait, another one has to.
    assert got.polls <= (0 if TCPTransport._may_block else COUNT)


def test_calls_of_getting(got):
    assert got.calls <= GET * COUNT + ONCE


# Opening channels


class CountedDict(dict):
    """A dict that counts how often it is asked for a key."""

    asked = 0

    def __contains__(self, key):
        self.asked += 1
        return super().__contains__(key)


def test_numbers_that_are_looked_at_for_new_channels(open_channel):
    def open_all(peer):
        for number in range(2, COUNT + 2):
            peer.open_channel(number)

    connection = open_channel(open_all)[0].connection
    connection.channels = channels = CountedDict(connection.channels)
    opened = [connection.channel().channel_id for _ in range(COUNT)]
    connection.close()
    assert opened == list(range(2, COUNT + 2))
    assert channels.asked <= NUMBERS * COUNT


# Memory


@memory.is_measured
def test_memory_of_idle_channels(open_channel):
    def open_all(peer):
        for number in range(2, COUNT + 2):
            peer.open_channel(number)

    connection = open_channel(open_all)[0].connection
    with memory.traced() as traced_memory:
        before, _ = traced_memory()
        for _ in range(COUNT):
            connection.channel()
        gc.collect()
        after, _ = traced_memory()
    connection.close()
    assert (after - before) / COUNT <= CHANNEL_BYTES
