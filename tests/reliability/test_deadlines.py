"""Deadlines: each call ends in time, whatever arrives meanwhile, and nothing is lost by it."""

import contextlib
import math
import select
import signal
import socket
import threading
import time

import pytest

from amqplib.core import deadline, transport
from tests.helpers.children import posix_only
from tests.helpers.receiving import receive_at_most
from tests.helpers.threads import Worker
from tests.helpers.waiting import BUSY, lasting, poll
from tests.helpers.wire import FRAME_HEARTBEAT, delivery, frame, method

HEARTBEAT = frame(FRAME_HEARTBEAT, 0, b'')


@pytest.fixture
def many_signals():
    """A signal every 50 ms; the list that it fills, one entry a signal."""
    caught = []
    before = signal.signal(signal.SIGALRM, lambda number, where: caught.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    yield caught
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def about_a_second():
    with lasting(least=0.95, most=1 + BUSY):
        yield


def stall(peer):
    peer.stall()


def flood(data):
    """Return a script that sends these bytes without end.

    There should be so many that each receive of the client finds some.
    """

    def script(peer):
        peer.mark()
        with contextlib.suppress(OSError):
            while not peer.broker._finished.is_set():
                peer.send_raw(data)

    return script


def nothing_to_read(sock):
    return select.select([sock], [], [], 0)[0] == []


# --- Ending in time -----------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize('of', ['channel', 'connection'])
def test_signals_neither_shorten_nor_prolong_a_wait(amqp, session, many_signals, of):
    ours = session(stall)
    with about_a_second(), pytest.raises(amqp.AMQPTimeout):
        getattr(ours, of).wait(timeout=1)
    assert len(many_signals) >= 10
    assert ours.channel.is_open


@posix_only
def test_signals_neither_shorten_nor_prolong_a_call(amqp, session, many_signals):
    ours = session(stall, rpc_timeout=1)
    with about_a_second(), pytest.raises(amqp.AMQPTimeout):
        ours.channel.queue_declare('q')
    assert len(many_signals) >= 10


@posix_only
def test_signals_neither_shorten_nor_prolong_connecting(amqp, play, many_signals):
    broker = play(stall)
    with about_a_second(), pytest.raises(amqp.AMQPTimeout):
        amqp.Connection(host=broker.address, connect_timeout=1)
    assert len(many_signals) >= 10


@posix_only
def test_signals_neither_shorten_nor_prolong_a_write(amqp, session, many_signals):
    ours = session(stall, write_timeout=1)
    with about_a_second(), pytest.raises(amqp.WriteTimeout):
        ours.channel.basic_publish(amqp.Message(bytes(30_000_000)), routing_key='q')
    assert len(many_signals) >= 10


def test_write_timeout_can_be_changed_later(amqp, session):
    ours = session(stall)
    ours.connection.write_timeout = 1
    with about_a_second(), pytest.raises(amqp.WriteTimeout):
        ours.channel.basic_publish(amqp.Message(bytes(30_000_000)), routing_key='q')


def test_write_timeout_may_be_an_attribute_of_a_subclass(amqp, play, connect):
    class Own(amqp.Connection):
        write_timeout = None

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, write_timeout=1)

    def script(peer):
        peer.handshake()
        peer.open_channel()
        stall(peer)

    channel = connect(play(script), Own).channel()
    with about_a_second(), pytest.raises(amqp.WriteTimeout):
        channel.basic_publish(amqp.Message(bytes(30_000_000)), routing_key='q')


def test_write_timeout_cannot_be_set_to_a_wrong_value(session):
    ours = session(lambda peer: peer.rest(), write_timeout=5)
    with pytest.raises(ValueError, match='write_timeout'):
        ours.connection.write_timeout = -1
    assert ours.connection.write_timeout == 5


@posix_only
def test_signals_neither_shorten_nor_prolong_a_wait_while_another_thread_reads(
    amqp, play, connect, many_signals
):
    def script(peer):
        peer.handshake()
        peer.open_channel(1)
        peer.open_channel(2)
        peer.await_cue()
        peer.send_raw(delivery(1, 'tag'))
        peer.rest()

    broker = play(script)
    connection = connect(broker)
    reader, follower = connection.channel(), connection.channel()
    worker = Worker(lambda: reader.wait(timeout=15))
    poll(connection._session.role.is_taken)
    with about_a_second(), pytest.raises(amqp.AMQPTimeout):
        follower.wait(timeout=1)
    assert len(many_signals) >= 10
    broker.cue()
    worker.result()


def test_slow_drip_does_not_prolong_a_wait_and_is_not_lost(amqp, session):
    data = delivery(1, 'tag', 7, b'body')

    def script(peer):
        peer.drip(data, interval=0.03)
        peer.rest()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    with about_a_second(), pytest.raises(amqp.AMQPTimeout):
        ours.channel.wait(timeout=1)
    assert got == []
    ours.channel.wait(timeout=15)
    assert [message.body for message in got] == [b'body']


@pytest.mark.parametrize(
    'data',
    [HEARTBEAT * 50_000, delivery(2, 'tag', 1, bytes(1000)) * 1000],
    ids=['heartbeats', 'messages of another channel'],
)
def test_what_arrives_for_others_does_not_prolong_a_wait(amqp, play, connect, data):
    def script(peer):
        peer.handshake()
        peer.open_channel(1)
        peer.open_channel(2)
        peer.await_cue()
        flood(data)(peer)

    broker = play(script)
    connection = connect(broker)
    channel, _ = connection.channel(), connection.channel()
    broker.cue()
    broker.await_mark()
    with about_a_second(), pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=1)
    assert channel.is_open
    connection.transport.close()


def test_messages_of_its_own_do_not_prolong_a_call(amqp, session):
    ours = session(flood(delivery(1, 'tag', 1, bytes(1000)) * 1000), rpc_timeout=1)
    ours.broker.await_mark()
    with about_a_second(), pytest.raises(amqp.AMQPTimeout):
        ours.channel.queue_declare('q')
    ours.connection.transport.close()


@pytest.mark.parametrize('heartbeat', [0, 60])
def test_timeouts_do_not_depend_on_heartbeats(amqp, session, heartbeat):
    ours = session(stall, heartbeat=heartbeat)
    for _ in range(2):
        with lasting(least=0.28, most=0.3 + BUSY), pytest.raises(amqp.AMQPTimeout):
            ours.channel.wait(timeout=0.3)
    assert ours.channel.is_open


# --- Polling ------------------------------------------------------------------------------------


def test_timeout_of_zero_takes_what_has_arrived_and_does_not_wait(amqp, session):
    def script(peer):
        peer.send_raw(HEARTBEAT + b''.join(delivery(1, 'tag', number) for number in (1, 2, 3)))
        peer.mark()
        peer.rest()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    ours.broker.await_mark()
    with lasting(most=BUSY):
        for expected in ([1], [1, 2], [1, 2, 3]):
            ours.channel.wait(timeout=0)
            assert got == expected
        for _ in range(100):
            with pytest.raises(amqp.AMQPTimeout):
                ours.channel.wait(timeout=0)


def test_timeout_of_zero_raises_the_close_that_has_arrived(amqp, session):
    def script(peer):
        peer.send_method(1, 'channel.close', 404, 'gone', 60, 20)
        peer.mark()
        peer.rest()

    ours = session(script)
    ours.broker.await_mark()
    with pytest.raises(amqp.NotFound):
        ours.channel.wait(timeout=0)


def test_large_body_is_complete_after_enough_polls(amqp, session):
    body = bytes(range(256)) * 4000

    def script(peer):
        peer.send_raw(delivery(1, 'tag', 1, body))
        peer.rest()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append

    def polled():
        with contextlib.suppress(amqp.AMQPTimeout):
            ours.channel.wait(timeout=0)
        return got

    poll(polled, 'the message')
    assert got[0].body == body


def test_large_message_that_has_arrived_takes_one_poll(amqp, session, monkeypatch):
    """One poll reads all of it, however many receives that takes."""
    data = delivery(1, 'tag', 1, bytes(range(256)) * 100)
    receive_at_most(len(data) // 40, monkeypatch.setattr)

    def script(peer):
        peer.send_raw(data)
        peer.mark()
        peer.rest()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.broker.await_mark()
    with lasting(most=BUSY):
        ours.channel.wait(timeout=0)
    assert got[0].body == bytes(range(256)) * 100
    with pytest.raises(amqp.AMQPTimeout):
        ours.channel.wait(timeout=0)


# --- Timeouts of the socket, which old programs set ---------------------------------------------


@pytest.mark.parametrize('own', [0.3, 30])
@pytest.mark.parametrize('beside', [-1, 0, 1])
def test_timeout_of_the_socket_beside_one_of_the_call(amqp, session, own, beside):
    """The earlier one counts, even if the last receive filled its buffer."""
    body = bytes(transport.RECEIVE_SIZE - len(delivery(1, 'tag', 1, b'x')) + 1 + beside)
    data = delivery(1, 'tag', 1, body)
    assert len(data) == transport.RECEIVE_SIZE + beside

    def script(peer):
        for _ in range(2):
            peer.send_raw(data)
            peer.mark()
            peer.await_cue()
        peer.rest()

    ours = session(script)
    ours.sock.settimeout(own)
    got = []
    ours.channel.callbacks['tag'] = lambda message: got.append(len(message.body))
    for number in (1, 2):
        ours.broker.await_mark()
        ours.channel.wait(timeout=10)
        assert got == [len(body)] * number
        with lasting(least=0.28, most=0.3 + BUSY), pytest.raises(amqp.AMQPTimeout):
            ours.channel.wait(timeout=0.3 if own > 1 else 30)
        with lasting(most=0.2), pytest.raises(amqp.AMQPTimeout):
            ours.channel.wait(timeout=0)
        ours.broker.cue()
    assert ours.channel.is_open


@pytest.mark.parametrize(('own', 'write_timeout'), [(0.3, None), (0.3, 30), (30, 0.3)])
def test_timeout_of_the_socket_limits_a_write(amqp, session, own, write_timeout):
    ours = session(stall, write_timeout=write_timeout)
    ours.sock.settimeout(own)
    with lasting(least=0.28, most=0.6 + BUSY), pytest.raises(amqp.WriteTimeout):
        ours.channel.basic_publish(amqp.Message(bytes(30_000_000)), routing_key='q')
    assert ours.connection.transport is None


# --- Nothing is lost ----------------------------------------------------------------------------


@pytest.mark.parametrize('timeout', [0, 0.003])
def test_wait_that_ends_within_a_frame_loses_nothing_wherever_it_is_split(amqp, session, timeout):
    data = delivery(1, 'tag', 7, b'a body of some bytes')

    def script(peer):
        for position in range(1, len(data)):
            peer.send_raw(data[:position])
            peer.mark()
            peer.await_cue()
            peer.send_raw(data[position:])
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = lambda message: got.append(message.body)
    for position in range(1, len(data)):
        ours.broker.await_mark()
        with pytest.raises(amqp.AMQPTimeout):
            ours.channel.wait(timeout=timeout)
        assert nothing_to_read(ours.sock), 'the first part was not read'
        assert len(got) == position - 1
        ours.broker.cue()
        ours.channel.wait(timeout=10)
    assert len(got) == len(data) - 1
    assert set(got) == {b'a body of some bytes'}
    ours.connection.close()


def test_one_whole_frame_is_enough_to_go_on(session):
    """The client must not wait for more bytes than those that complete the method."""

    def script(peer):
        peer.expect_method(1, 'queue.declare')
        peer.send_method(1, 'queue.declare_ok', 'q', 1, 2)
        peer.rest()

    ours = session(script, rpc_timeout=10)
    with lasting(most=BUSY):
        assert ours.channel.queue_declare('q') == ('q', 1, 2)


# --- Calls without a reply ----------------------------------------------------------------------

LATE = method(1, 'queue.declare_ok', 'late', 0, 0)
CONFIRMED = method(1, 'channel.close_ok')
REFUSED = method(1, 'channel.close', 404, 'no such queue', 50, 10)
PIECES = delivery(1, 'tag', 1, b'late')


@pytest.mark.parametrize(
    ('before', 'end'),
    [
        (LATE, CONFIRMED),
        (b'', CONFIRMED),
        (LATE + PIECES, CONFIRMED),
        (b'', REFUSED + CONFIRMED),
    ],
    ids=['late reply', 'no reply', 'messages too', 'refused'],
)
def test_call_without_a_reply_ends_its_channel_and_nothing_else(amqp, play, connect, before, end):
    def script(peer):
        peer.handshake()
        peer.open_channel(1)
        peer.open_channel(2)
        peer.expect_method(1, 'queue.declare')
        peer.expect_method(1, 'channel.close')
        peer.send_raw(before)
        # The number is not free yet.
        peer.open_channel(3)
        peer.expect_method(2, 'queue.declare')
        # After what ends the channel, so that the client has read that.
        peer.send_raw(end + method(2, 'queue.declare_ok', 'other', 0, 0))
        if end.startswith(REFUSED):
            peer.expect_method(1, 'channel.close_ok')
        peer.open_channel(1)
        peer.expect_method(1, 'queue.declare')
        peer.send_method(1, 'queue.declare_ok', 'new', 0, 0)
        peer.expect_close()

    connection = connect(play(script), rpc_timeout=0.3)
    channel, other = connection.channel(), connection.channel()
    got = []
    channel.callbacks['tag'] = got.append
    with lasting(least=0.28, most=0.3 + BUSY), pytest.raises(amqp.AMQPTimeout) as caught:
        channel.queue_declare('q')
    assert caught.value.args[3] == 'Channel.queue_declare'
    connection.rpc_timeout = 10
    assert not channel.is_open
    for call in (
        lambda: channel.queue_declare('q'),
        lambda: channel.basic_publish(amqp.Message('x'), routing_key='q'),
        lambda: channel.wait(timeout=5),
        lambda: channel.basic_ack(1),
    ):
        with lasting(most=1), pytest.raises(amqp.AMQPTimeout) as again:
            call()
        assert again.value.args == caught.value.args
    with pytest.raises(ValueError, match='the broker has not closed 1 yet'):
        connection.channel(1)
    assert connection.channel().channel_id == 3
    assert other.queue_declare('other')[0] == 'other'
    new = connection.channel()
    assert new.channel_id == 1
    assert new.queue_declare('new')[0] == 'new'
    assert channel.close() is None
    assert got == []
    connection.close()


def test_opening_a_channel_without_a_reply_ends_in_time(amqp, play, connect):
    def script(peer):
        peer.handshake()
        peer.expect_method(1, 'channel.open')
        peer.open_channel(2)
        peer.expect_close()

    connection = connect(play(script), rpc_timeout=0.3)
    with lasting(least=0.28, most=0.3 + BUSY), pytest.raises(amqp.AMQPTimeout):
        connection.channel()
    connection.rpc_timeout = 10
    assert connection.channel().channel_id == 2
    connection.close()


def test_a_channel_whose_opening_was_interrupted_is_closed_once_it_is_open(
    play, connect, monkeypatch
):
    def script(peer):
        peer.handshake()
        peer.expect_method(1, 'channel.open')
        peer.await_cue()
        peer.expect_method(2, 'channel.open')
        peer.confirm_channel(1)
        peer.confirm_channel(2)
        peer.expect_method(1, 'channel.close')
        peer.send_method(1, 'channel.close_ok')
        peer.expect_close()

    broker = play(script)
    connection = connect(broker)
    with monkeypatch.context() as patch:
        patch.setattr(connection.transport, 'receive', interrupt_now)
        with pytest.raises(KeyboardInterrupt):
            connection.channel()
    broker.cue()
    connection.channel()
    connection.close()


def interrupt_now(arrived, deadline):
    raise KeyboardInterrupt


def test_numbers_that_are_not_free_yet_count_as_channels(amqp, play, connect):
    def script(peer):
        peer.handshake(tune=(2, 131072, 0))
        peer.open_channel(1)
        peer.expect_method(1, 'queue.declare')
        peer.expect_method(1, 'channel.close')
        peer.open_channel(2)
        peer.await_cue()
        peer.send_method(1, 'channel.close_ok')
        peer.expect_method(2, 'basic.get')
        peer.send_method(2, 'basic.get_empty', '')
        peer.open_channel(1)
        peer.expect_close()

    broker = play(script)
    connection = connect(broker, rpc_timeout=0.3)
    with pytest.raises(amqp.AMQPTimeout):
        connection.channel().queue_declare('q')
    connection.rpc_timeout = 10
    second = connection.channel()
    with pytest.raises(amqp.AMQPException, match='channels are open'):
        connection.channel()
    broker.cue()
    second.basic_get('q')
    assert connection.channel().channel_id == 1
    connection.close()


def test_late_methods_of_a_closed_channel_do_not_touch_its_successor(amqp, session):
    """Undispatched methods of the old channel do not affect the new one."""

    def script(peer):
        peer.send_raw(delivery(1, 'tag', 7) + REFUSED)
        peer.expect_method(1, 'channel.close_ok')
        peer.open_channel(1)
        peer.expect_method(1, 'basic.get')
        peer.send_method(1, 'basic.get_empty', '')
        peer.expect_close()

    ours = session(script, rpc_timeout=10)
    got = []
    old = ours.channel
    old.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    with pytest.raises(amqp.AMQPTimeout):
        ours.connection.wait(timeout=0.5)
    new = ours.connection.channel()
    assert new.channel_id == 1
    old.wait(timeout=10)
    assert got == [7]
    with pytest.raises(amqp.NotFound):
        old.wait(timeout=10)
    assert new.basic_get('q') is None
    assert ours.connection.channels[1] is new
    ours.connection.close()


# --- Channels that the broker has paused --------------------------------------------------------


def paused(then):
    """Return a script that pauses channel 1, and goes on when the test has read that."""

    def script(peer):
        peer.send_method(1, 'channel.flow', False)
        assert not peer.expect_method(1, 'channel.flow_ok').active
        then(peer)

    return script


def read_the_pause(ours):
    ours.channel.wait(timeout=10)
    assert not ours.channel.active


def test_publish_on_a_paused_channel_waits_until_it_goes_on(amqp, session):
    @paused
    def script(peer):
        peer.await_cue()
        peer.send_method(1, 'channel.flow', True)
        assert peer.expect_method(1, 'channel.flow_ok').active
        peer.expect_method(1, 'basic.publish')
        assert peer.expect_content(1)[1] == b'patient'
        peer.expect_close()

    ours = session(script)
    read_the_pause(ours)
    publishing = Worker(
        lambda: ours.channel.basic_publish(amqp.Message(b'patient'), routing_key='q')
    )
    publishing.join(0.2)
    assert publishing.is_alive()
    ours.broker.cue()
    publishing.result()
    ours.connection.close()


def test_publish_on_a_paused_channel_ends_by_write_timeout_and_sends_nothing(amqp, session):
    @paused
    def script(peer):
        peer.await_cue()
        peer.send_method(1, 'channel.flow', True)
        peer.expect_method(1, 'channel.flow_ok')
        peer.expect_method(1, 'basic.publish')
        assert peer.expect_content(1)[1] == b'second'
        peer.expect_close()

    ours = session(script, write_timeout=0.3)
    read_the_pause(ours)
    with lasting(least=0.28, most=0.3 + BUSY), pytest.raises(amqp.AMQPTimeout, match='paused'):
        ours.channel.basic_publish(amqp.Message(b'first'), routing_key='q')
    assert ours.channel.is_open
    ours.broker.cue()
    ours.channel.wait(timeout=10)
    ours.channel.basic_publish(amqp.Message(b'second'), routing_key='q')
    ours.connection.close()


@pytest.mark.parametrize('end', ['reset', 'channel.close'])
def test_publish_on_a_paused_channel_ends_with_it(amqp, session, end):
    @paused
    def script(peer):
        peer.await_cue()
        if end == 'reset':
            peer.reset()
        else:
            peer.send_method(1, 'channel.close', 404, 'gone', 60, 40)
            peer.expect_method(1, 'channel.close_ok')
            peer.expect_close()

    ours = session(script)
    read_the_pause(ours)
    publishing = Worker(lambda: ours.channel.basic_publish(amqp.Message(b'x'), routing_key='q'))
    ours.broker.cue()
    kind = amqp.ConnectionLost if end == 'reset' else amqp.NotFound
    assert type(publishing.ended()) is kind
    if end != 'reset':
        ours.connection.close()


# --- Connecting ---------------------------------------------------------------------------------


def test_connect_timeout_covers_a_peer_that_accepts_and_is_silent(amqp, play):
    broker = play(stall)
    with lasting(least=0.28, most=0.3 + BUSY), pytest.raises(amqp.AMQPTimeout):
        amqp.Connection(host=broker.address, connect_timeout=0.3)


def test_connect_timeout_covers_a_peer_that_does_not_even_accept(amqp):
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(('127.0.0.1', 0))
        listener.listen(0)
        for _ in range(8):  # more than are kept waiting: what follows gets no answer
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        with lasting(least=0.28, most=0.3 + BUSY), pytest.raises(amqp.AMQPTimeout):
            amqp.Connection(host=f'127.0.0.1:{listener.getsockname()[1]}', connect_timeout=0.3)


def test_connect_timeout_covers_the_look_up_of_the_name(amqp, monkeypatch):
    answer = threading.Event()

    def hang(host, port, family=0, type=0, proto=0, flags=0):
        if not flags & socket.AI_NUMERICHOST:
            answer.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, 'there is no such name')

    monkeypatch.setattr(socket, 'getaddrinfo', hang)
    before = set(threading.enumerate())
    try:
        with lasting(least=0.28, most=0.3 + BUSY), pytest.raises(amqp.AMQPTimeout) as caught:
            amqp.Connection(host='slow.example', connect_timeout=0.3)
        assert 'slow.example' in str(caught.value)
    finally:
        answer.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(10)
    # A look-up cannot be stopped, but it does not stop the program from ending either.
    assert set(threading.enumerate()) - before == set()


def test_steps_of_connecting_share_one_deadline(amqp, play, monkeypatch):
    ahead = 0

    def script(peer):
        nonlocal ahead
        ahead += 25
        peer.expect_login()
        ahead += 34
        peer.tune()
        peer.stall()

    monkeypatch.setattr(deadline, 'monotonic', lambda: time.monotonic() + ahead)
    broker = play(script)
    with about_a_second(), pytest.raises(amqp.AMQPTimeout):
        amqp.Connection(host=broker.address, connect_timeout=60)


# --- Wrong timeouts -----------------------------------------------------------------------------

WRONG = [
    (-1, ValueError),
    (-0.001, ValueError),
    (math.nan, ValueError),
    ('1', TypeError),
    (True, TypeError),
    ([], TypeError),
]


@pytest.mark.parametrize(('wrong', 'kind'), WRONG)
def test_wrong_timeouts_of_calls_change_nothing(session, wrong, kind):
    def script(peer):
        peer.expect_method(1, 'basic.get')
        peer.send_method(1, 'basic.get_empty', '')
        peer.expect_close()

    ours = session(script)
    for call in (
        ours.channel.wait,
        ours.connection.wait,
        ours.channel.close,
        ours.connection.close,
    ):
        with pytest.raises(kind, match='timeout'):
            call(timeout=wrong)
    assert ours.channel.basic_get('q') is None
    ours.connection.close()


@pytest.mark.parametrize('endless', [None, math.inf, 1e300, 10**400])
def test_timeouts_beyond_measure_are_no_limit(session, endless):
    def script(peer):
        peer.send_raw(delivery(1, 'tag', 1))
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.channel.wait(timeout=endless)
    assert len(got) == 1
    ours.connection.close(timeout=endless)
