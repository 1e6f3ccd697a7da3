"""Closing by either side, or by both at once; what calls raise afterwards; what is still sent."""

import contextlib
import functools
import inspect
import select
import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest

import amqplib.client_0_8 as amqp
from amqplib import client_0_9_1
from amqplib.core import channel as channel_module
from amqplib.core import session as session_module
from amqplib.core.deadline import NO_DEADLINE
from amqplib.core.locks import Mutex
from tests.helpers.checks import check_closed, check_dead_channel, check_repeated, until_raised
from tests.helpers.threads import Worker
from tests.helpers.waiting import PATIENCE, lasting, poll
from tests.helpers.wire import (
    VERSION_0_9_1,
    content,
    delivery,
    frame,
    method,
    methods_in,
    split_frames,
)

REASON = (320, 'CONNECTION_FORCED - bye', (0, 0), '')
CHANNEL_REASON = (404, "NOT_FOUND - no queue 'q'", (50, 10), 'Channel.queue_declare')

#: Larger than what the systems on both sides keep of a stream that nobody reads.
LARGE = 24 << 20


def send_close(peer):
    peer.send_method(0, 'connection.close', *REASON[:2], 0, 0)


def send_channel_close(peer, channel=1):
    peer.send_method(channel, 'channel.close', *CHANNEL_REASON[:2], 50, 10)


def publish(channel):
    channel.basic_publish(amqp.Message(b'x'), routing_key='q')


#: What any call of a channel may be called with.
ARGUMENTS = {
    'access_request': ('/data',),
    'basic_ack': (1,),
    'basic_cancel': ('tag',),
    'basic_nack': (1,),
    'basic_publish': (amqp.Message('x'),),
    'basic_qos': (0, 1, False),
    'basic_reject': (1, True),
    'commit_by': (NO_DEADLINE,),
    'end_consumer': ('tag',),
    'exchange_bind': ('x', 'y'),
    'exchange_declare': ('x', 'direct'),
    'exchange_delete': ('x',),
    'exchange_unbind': ('x', 'y'),
    'flow': (True,),
    'publish_gathered': (b'', 1, NO_DEADLINE),
    'queue_bind': ('q', 'x'),
    'queue_unbind': ('q', 'x'),
    'requeue': ([1], list),
    'wait_for_messages': (list, NO_DEADLINE),
}
#: Closing twice is fine; handing out what has arrived needs no broker; there may be no confirms;
#: it is the block of a transaction that raises.
OTHERWISE = {
    'close', 'confirm_state', 'dispatch_method', 'dispatch_next', 'transaction',
    'wait_for_confirms', 'wait_for_room',
}  # fmt: skip
#: What the session and messages call.
OF_OTHERS = {
    'arrive', 'opening_has_ended', 'session_ended', 'wait_for_method', 'why_cancelled',
    'why_settled',
}  # fmt: skip


def calls_of(channel):
    """Return all the calls of a channel that need a broker, by name."""
    names = {name for name in dir(channel) if not name.startswith('_')} - OTHERWISE - OF_OTHERS
    calls = {
        name: functools.partial(getattr(channel, name), *ARGUMENTS.get(name, ()))
        for name in names
        if inspect.ismethod(getattr(channel, name))
    }
    assert calls.keys() >= {'basic_publish', 'basic_get', 'queue_purge', 'tx_commit', 'wait'}
    calls['transaction'] = lambda: channel.transaction().__enter__()
    return calls


CALLS = {
    'wait': lambda ours: ours.channel.wait(timeout=5),
    'wait of the connection': lambda ours: ours.connection.wait(timeout=5),
    'declare': lambda ours: ours.channel.queue_declare('q'),
    'get': lambda ours: ours.channel.basic_get('q'),
    'consume': lambda ours: ours.channel.basic_consume('q'),
    'commit': lambda ours: ours.channel.tx_commit(),
    'open a channel': lambda ours: ours.connection.channel(),
    'publish': lambda ours: until_published_in_vain(ours.channel),
    'acknowledge': lambda ours: until_acknowledged_in_vain(ours.channel),
}


def until_published_in_vain(channel):
    with lasting(most=2):
        while True:
            publish(channel)


def until_acknowledged_in_vain(channel):
    with lasting(most=2):
        while True:
            channel.basic_ack(1)
            channel.basic_publish(amqp.Message(b'x'), routing_key='q')


# --- The broker closes --------------------------------------------------------------------------


@pytest.mark.parametrize('call', CALLS)
def test_broker_closes_the_connection_during_a_call(session, call):
    closes = []

    def script(peer):
        peer.await_cue()
        send_close(peer)
        closes.append(methods_in(peer.rest())[-1].name)

    ours = session(script)
    ours.broker.cue()
    with lasting(most=2), pytest.raises(amqp.AMQPConnectionException) as caught:
        CALLS[call](ours)
    error = caught.value
    assert type(error) is amqp.ConnectionForced
    assert error.args == REASON
    ours.broker.finish()
    assert closes == ['connection.close_ok']
    check_closed(ours.connection, ours.sock, error, [ours.channel])


def check_call_raises_the_reason(ours, call):
    """Make a call once the script has closed the connection; check that it raises why."""
    ours.broker.await_mark()
    with lasting(most=2), pytest.raises(amqp.AMQPConnectionException) as caught:
        call(ours)
    assert caught.value.args == REASON
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


@pytest.mark.parametrize('call', CALLS)
def test_broker_closes_the_connection_before_a_call(session, call):
    def script(peer):
        send_close(peer)
        peer.mark()
        peer.rest()

    check_call_raises_the_reason(session(script), CALLS[call])


@pytest.mark.parametrize('call', CALLS)
def test_reason_wins_over_the_reset_after_it(session, call):
    def script(peer):
        send_close(peer)
        peer.reset()
        peer.mark()

    check_call_raises_the_reason(session(script), CALLS[call])


@pytest.mark.parametrize('end', ['close', 'reset'])
@pytest.mark.parametrize('call', CALLS)
def test_broker_hangs_up_without_a_close(session, call, end):
    def script(peer):
        peer.await_cue()
        getattr(peer, end)()

    ours = session(script)
    ours.broker.cue()
    with lasting(most=2), pytest.raises(amqp.ConnectionLost) as caught:
        CALLS[call](ours)
    ours.broker.finish()
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


CHANNEL_CALLS = [call for call in CALLS if call not in ('wait of the connection', 'open a channel')]


@pytest.mark.parametrize('call', CHANNEL_CALLS)
def test_broker_closes_the_channel_during_a_call(session, call):
    def script(peer):
        peer.open_channel(2)
        peer.await_cue()
        send_channel_close(peer)
        while True:
            frame_type, _, payload = peer.expect_frame()
            if (frame_type, payload) == (1, b'\0\x14\0\x29'):
                break
        peer.expect_method(2, 'basic.get')
        peer.send_content(2, 'basic.get_ok', 1, False, '', 'q', 0, body=b'x')
        peer.open_channel(1)
        peer.expect_close()

    ours = session(script)
    second = ours.connection.channel()
    ours.broker.cue()
    with lasting(most=2), pytest.raises(amqp.NotFound) as caught:
        CALLS[call](ours)
    assert caught.value.args == CHANNEL_REASON
    check_dead_channel(ours.channel, caught.value)
    # The connection and its other channels go on, and the number is free again.
    assert second.basic_get('q').body == b'x'
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


def test_messages_before_the_close_are_handed_out_first(session):
    def script(peer):
        peer.send_raw(delivery(1, 'tag', 1) + delivery(1, 'tag', 2))
        send_channel_close(peer)
        peer.mark()
        peer.expect_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    ours.broker.await_mark()
    error = until_raised(lambda: ours.channel.wait(timeout=5))
    assert got == [1, 2]
    assert error.args == CHANNEL_REASON
    check_dead_channel(ours.channel, error)
    ours.connection.close()


#: Seconds within which a program that only publishes learns of a close that has arrived.
LEARNS_WITHIN = 0.1


@pytest.mark.parametrize('since_look', [0, 0.001, 0.04])
@pytest.mark.parametrize('pause', [0.0001, 0.007, 0.03, 0.0999])
@pytest.mark.parametrize('send', [send_close, send_channel_close])
def test_publisher_learns_of_a_close_within_a_tenth_of_a_second(
    session, monkeypatch, send, pause, since_look
):
    """Time passes only as the test says, so the test works on a slow machine.

    since_look: seconds between the publisher's last poll and the arrival of the close.
    pause: seconds between two publishes.
    """

    def script(peer):
        peer.await_cue()
        send(peer)
        peer.rest()

    ours = session(script)
    clock = SimpleNamespace(now=time.monotonic() + 1)
    for module in (channel_module, session_module):
        monkeypatch.setattr(module, 'monotonic', lambda: clock.now)
    publish(ours.channel)  # which looks, as it has not for long
    ours.broker.cue()
    assert select.select([ours.sock], [], [], 10)[0]
    clock.now += since_look
    arrived = clock.now

    def publish_once():
        publish(ours.channel)
        clock.now += pause
        assert clock.now < arrived + 1

    error = until_raised(publish_once)
    assert clock.now - arrived < LEARNS_WITHIN
    assert error.args in {REASON, CHANNEL_REASON}


def test_error_that_no_call_has_raised_is_raised_by_close(session):
    def script(peer):
        peer.expect_method(1, 'basic.publish')
        peer.expect_content(1)
        send_channel_close(peer)
        peer.expect_method(1, 'channel.close')
        peer.expect_method(1, 'channel.close_ok')
        peer.send_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = session(script)
    publish(ours.channel)
    with pytest.raises(amqp.NotFound) as caught:
        ours.channel.close()
    assert caught.value.args == CHANNEL_REASON
    check_dead_channel(ours.channel, caught.value)
    ours.connection.close()


def test_reason_wins_over_an_answer_that_cannot_be_sent(session):
    """As when a virtual host is deleted: first its channels are closed, then its connections."""

    def script(peer):
        send_channel_close(peer)
        peer.await_cue()
        send_close(peer)
        peer.reset()
        peer.mark()

    ours = session(script)
    transport = ours.connection.transport
    send = transport.send_some

    def send_late(data):
        ours.broker.cue()
        ours.broker.await_mark()
        return send(data)

    transport.send_some = send_late
    with lasting(most=2), pytest.raises((amqp.NotFound, amqp.ConnectionForced)) as caught:
        ours.channel.wait(timeout=5)
    check_dead_channel(ours.channel, caught.value)
    with pytest.raises(amqp.ConnectionForced) as caught:
        ours.connection.channel()
    assert caught.value.args == REASON
    check_closed(ours.connection, ours.sock, caught.value)


@pytest.mark.parametrize('end', ['reset', 'close', 'reason'])
def test_loop_over_callbacks_ends_by_the_loss_and_not_silently(session, end):
    """On each of the channels, whichever of them learned of it first."""

    def script(peer):
        peer.open_channel(2)
        peer.await_cue()
        peer.send_raw(delivery(1, 'tag', 1) + delivery(2, 'tag', 2))
        peer.await_cue()  # as a reset takes along what was not read
        if end == 'reason':
            send_close(peer)
            peer.rest()
        else:
            getattr(peer, end)()

    ours = session(script)
    channels = [ours.channel, ours.connection.channel()]
    got = []
    for channel in channels:
        channel.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    ours.broker.cue()
    channels[0].wait(timeout=5)
    ours.broker.cue()

    def consume(channel):
        while channel.callbacks:
            channel.wait(timeout=5)

    for channel in channels:
        with lasting(most=2), pytest.raises(amqp.AMQPConnectionException) as caught:
            consume(channel)
    kind = amqp.ConnectionForced if end == 'reason' else amqp.ConnectionLost
    assert type(caught.value) is kind
    assert got == [1, 2]
    check_closed(ours.connection, ours.sock, caught.value, channels)


def test_close_that_cannot_be_answered_yet_holds_nothing_up(play, connect):
    """The socket is full: the answer waits, and the reader sends it as soon as there is room."""
    filled = []

    def script(peer):
        peer.handshake()
        peer.open_channel(1)
        peer.open_channel(2)
        peer.await_cue()
        send_channel_close(peer)
        peer.send_raw(delivery(2, 'tag', 7))
        peer.await_cue()
        peer.read(filled[0])
        peer.expect_method(1, 'channel.close_ok')
        peer.send_raw(delivery(2, 'tag', 8))
        peer.expect_close()

    broker = play(script, receive_buffer=4096)
    connection = connect(broker)
    closed, waiting = connection.channel(), connection.channel()
    got = []
    waiting.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    filled.append(fill(connection.transport.sock))
    broker.cue()
    with lasting(most=2):
        waiting.wait(timeout=8)
    assert got == [7]
    with lasting(most=1), pytest.raises(amqp.NotFound):
        closed.queue_declare('q')
    broker.cue()
    waiting.wait(timeout=8)
    assert got == [7, 8]
    connection.close()


def fill(sock):
    """Send zeros until the socket is full; return how many were sent."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sent = taken = 0
    while taken or not sent:
        time.sleep(0.1)  # the system moves what it has to where there is room
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                taken += sock.send(bytes(1000), getattr(socket, 'MSG_DONTWAIT', 0))
        sent += taken
    return sent


def send_and_rest(send):
    def script(peer):
        send(peer)
        peer.rest()

    return script


#: How a channel ends, with its connection or alone.
ENDS = {
    'close': lambda peer: peer.close(),
    'reset': lambda peer: peer.reset(),
    'reason': send_and_rest(send_close),
    'reason for the channel': send_and_rest(send_channel_close),
    'our close': lambda peer: peer.expect_close(),
}


@pytest.mark.parametrize(
    ('cls', 'options'),
    [(amqp.Connection, {}), (client_0_9_1.Connection, {'version': VERSION_0_9_1})],
    ids=['0-8', '0-9-1'],
)
@pytest.mark.parametrize('end', ENDS)
def test_every_call_of_what_is_closed_raises_the_cause(play, connect, end, cls, options):
    """No AttributeError, no KeyError, and no wait."""

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.await_cue()
        ENDS[end](peer)

    broker = play(script, **options)
    connection = connect(broker, cls, rpc_timeout=5)
    channel = connection.channel()
    broker.cue()
    if end == 'our close':
        connection.close()
    with lasting(most=2), pytest.raises(amqp.AMQPException) as caught:
        channel.wait(timeout=5)
    for name, call in calls_of(channel).items():
        check_repeated(caught.value, call, name)
    assert channel.close() is None
    if end == 'reason for the channel':
        return
    for call in (connection.wait, connection.channel, functools.partial(connection.channel, 1)):
        check_repeated(caught.value, call)
    assert connection.close() is None


# --- Both close ---------------------------------------------------------------------------------


@pytest.mark.parametrize('confirmed', [True, False])
def test_closes_of_the_connection_cross(session, confirmed):
    """RabbitMQ may send only its own close, or confirm ours too."""

    def script(peer):
        peer.expect_method(0, 'connection.close')
        send_close(peer)
        if confirmed:
            peer.send_method(0, 'connection.close_ok')
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    ours = session(script)
    with lasting(most=2), pytest.raises(amqp.AMQPConnectionException) as caught:
        ours.connection.close()
    assert caught.value.args == REASON
    ours.broker.finish()
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


def test_confirmation_before_the_close_of_the_broker(session):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.send_raw(
            method(0, 'connection.close_ok') + method(0, 'connection.close', *REASON[:2], 0, 0)
        )
        peer.rest()

    ours = session(script)
    with lasting(most=2):
        ours.connection.close()
    assert ours.sock.fileno() == -1


@pytest.mark.parametrize('together', [True, False])
def test_closes_of_the_channel_cross(session, together):
    """The broker sends its own close, then confirms ours; only then is the number free.

    The broker's close is enough for close() to return.
    """

    def script(peer):
        peer.expect_method(1, 'channel.close')
        data = method(1, 'channel.close', *CHANNEL_REASON[:2], 50, 10)
        if together:
            peer.send_raw(data + method(1, 'channel.close_ok'))
            peer.expect_method(1, 'channel.close_ok')
        else:
            peer.send_raw(data)
            peer.expect_method(1, 'channel.close_ok')
            peer.send_method(1, 'channel.close_ok')
        peer.open_channel(1 if together else 2)
        peer.expect_close()

    ours = session(script)
    with lasting(most=2), pytest.raises(amqp.NotFound) as caught:
        ours.channel.close()
    assert caught.value.args == CHANNEL_REASON
    check_dead_channel(ours.channel, caught.value)
    assert ours.connection.channel().channel_id == (1 if together else 2)
    ours.connection.close()


@pytest.mark.parametrize('timeout', [0.2, 10, None])
def test_closes_of_the_channel_cross_and_ours_is_not_confirmed(session, timeout):
    """Sometimes RabbitMQ ends its channel without sending close-ok. Nothing waits for it."""

    def script(peer):
        peer.expect_method(1, 'channel.close')
        send_channel_close(peer)
        peer.expect_method(1, 'channel.close_ok')
        peer.open_channel(2)
        peer.send_method(1, 'channel.close_ok')
        peer.expect_method(2, 'tx.select')
        peer.send_method(2, 'tx.select_ok')
        peer.open_channel(1)
        peer.expect_close()

    ours = session(script)
    with lasting(most=3), pytest.raises(amqp.NotFound) as caught:
        ours.channel.close(timeout=timeout)
    assert caught.value.args == CHANNEL_REASON
    check_dead_channel(ours.channel, caught.value)
    second = ours.connection.channel()
    assert second.channel_id == 2  # the number 1 is not free yet
    second.tx_select()
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


def test_close_of_the_connection_crosses_that_of_a_channel(session):
    """The error of the channel is still raised."""

    def script(peer):
        peer.expect_method(0, 'connection.close')
        send_channel_close(peer)
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    ours = session(script)
    with lasting(most=2), pytest.raises(amqp.NotFound) as caught:
        ours.connection.close()
    assert caught.value.args == CHANNEL_REASON
    assert ours.sock.fileno() == -1
    assert ours.connection.transport is None
    assert ours.connection.close() is None
    check_dead_channel(ours.channel, caught.value)


# --- We close -----------------------------------------------------------------------------------


def test_attributes_after_close(session):
    def script(peer):
        closed = peer.expect_close()
        assert (closed.reply_code, closed.reply_text) == (200, 'done')
        assert (closed.class_id, closed.method_id) == (50, 10)

    ours = session(script)
    connection, channel = ours.connection, ours.channel
    channel.callbacks['tag'] = print
    channel.default_ticket = 7
    reader, writer = connection.method_reader, connection.method_writer
    assert connection.close(200, 'done', (50, 10)) is None

    assert connection.channels is None
    assert connection.connection is None
    assert connection.transport is None
    assert connection.channel_id == 0
    assert (connection.channel_max, connection.frame_max) == (2047, 131072)
    assert connection.server_properties == {}
    assert connection.mechanisms == ['PLAIN', 'AMQPLAIN']
    assert (connection.method_reader, connection.method_writer) == (reader, writer)
    assert ours.sock.fileno() == -1
    assert 'closed' in repr(connection)

    assert not channel.is_open
    assert channel.channel_id is None
    assert channel.connection is None
    assert channel.callbacks == {}
    assert channel.default_ticket == 7
    assert channel.returned_messages.empty()
    assert 'closed' in repr(channel)
    with pytest.raises(amqp.AMQPConnectionException, match='closed by this program') as caught:
        connection.channel()
    check_closed(connection, ours.sock, caught.value, [channel])


def test_attributes_after_closing_a_channel(session):
    def script(peer):
        closed = peer.expect_method(1, 'channel.close')
        assert (closed.reply_code, closed.reply_text) == (200, 'done')
        peer.send_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = session(script)
    assert ours.channel.close(200, 'done') is None
    with pytest.raises(amqp.AMQPChannelException, match='closed by this program') as caught:
        ours.channel.queue_declare('q')
    check_dead_channel(ours.channel, caught.value)
    assert ours.connection.channels == {0: ours.connection}
    ours.connection.close()


def test_with_blocks_close(session):
    def script(peer):
        peer.expect_method(1, 'channel.close')
        peer.send_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = session(script)
    with ours.connection, ours.channel:
        pass
    assert ours.connection.transport is None


def test_close_without_a_confirmation_ends_in_time(session):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.expect_end()

    ours = session(script)
    with lasting(0.2, 1.5), pytest.raises(amqp.AMQPTimeout) as caught:
        ours.connection.close(timeout=0.2)
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


def test_close_of_a_channel_without_a_confirmation_ends_in_time(session):
    def script(peer):
        peer.expect_method(1, 'channel.close')
        peer.open_channel(2)
        peer.expect_close()

    ours = session(script)
    with lasting(0.2, 1.5), pytest.raises(amqp.AMQPTimeout) as caught:
        ours.channel.close(timeout=0.2)
    check_dead_channel(ours.channel, caught.value)
    assert ours.connection.channel().channel_id == 2
    ours.connection.close()


@pytest.mark.parametrize('timeout', [0, 0.0])
def test_close_that_does_not_wait(session, timeout):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.expect_end()

    ours = session(script)
    with lasting(most=1), pytest.raises(amqp.AMQPTimeout):
        ours.connection.close(timeout=timeout)
    assert ours.sock.fileno() == -1


@pytest.mark.parametrize('of', ['connection', 'channel'])
def test_close_with_thousands_of_unread_messages(session, of):
    count = 2000
    number = 0 if of == 'connection' else 1

    def script(peer):
        peer.send_raw(delivery(1, 'tag', body=b'x' * 100) * count)
        peer.expect_method(number, f'{of}.close')
        peer.send_raw(delivery(1, 'tag', body=b'x' * 100) * count)
        peer.send_method(number, f'{of}.close_ok')
        if of == 'channel':
            peer.expect_close()
        else:
            peer.expect_end()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.channel.wait(timeout=5)
    assert len(got) == 1
    with lasting(most=4):
        getattr(ours, of).close()
        ours.connection.close()
    assert len(got) == 1
    assert not ours.channel.is_open
    assert ours.connection.transport is None


def test_what_comes_after_our_close_is_dropped_but_for_returns(session):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.send_raw(
            delivery(1, 'tag')
            + method(1, 'basic.return', 312, 'NO_ROUTE', '', 'key')
            + content(1, b'x')
            + method(1, 'channel.flow', False)
            + method(1, 'basic.cancel', 'tag', True)
            + method(1, 'channel.alert', 500, 'alert', {})
            + frame(8, 0, b'')
        )
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    with lasting(most=2):
        ours.connection.close()
    assert got == []
    assert ours.channel.active
    assert ours.channel.alerts.empty()
    assert ours.channel.returned_messages.get_nowait()[4].body == b'x'


def test_what_comes_after_our_close_of_a_channel_is_dropped_but_for_returns(session):
    def script(peer):
        peer.expect_method(1, 'channel.close')
        peer.send_raw(
            delivery(1, 'tag')
            + method(1, 'basic.return', 312, 'NO_ROUTE', '', 'key')
            + content(1, b'x')
            + method(1, 'basic.cancel', 'tag', True)
        )
        peer.send_method(1, 'channel.close_ok')
        peer.open_channel(1)
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.channel.close()
    assert got == []
    assert ours.channel.returned_messages.get_nowait()[4].body == b'x'
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


def test_reply_that_is_late_is_no_reply_to_the_close(session):
    def script(peer):
        peer.expect_method(1, 'queue.bind')
        peer.expect_method(0, 'connection.close')
        peer.send_method(1, 'queue.bind_ok')
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    ours = session(script)
    failed = []

    def bind():
        try:
            ours.channel.queue_bind('q', 'x')
        except amqp.AMQPException as error:
            failed.append(error)

    thread = threading.Thread(target=bind)
    thread.start()
    until_expecting(ours.channel)
    ours.connection.close()
    thread.join(5)
    assert not thread.is_alive()
    assert len(failed) == 1
    assert 'closed by this program' in failed[0].amqp_reply_text


@pytest.mark.parametrize('confirmed', [True, False])
def test_a_channel_may_be_closed_while_another_thread_closes_the_connection(session, confirmed):
    ours = session(lambda peer: closes_when_told(peer, confirmed))
    wire = ours.connection._session
    closers = [Worker(ours.connection.close)]
    poll(lambda: wire.closed.shut)
    closers.append(Worker(ours.channel.close))
    try:
        poll(lambda: wire.role.waiters)
    finally:
        ours.broker.cue()
    # Both threads hear of it if the broker has not confirmed that it has got everything.
    error = type(None) if confirmed else amqp.ConnectionLost
    assert [type(closer.outcome()[1]) for closer in closers] == [error] * 2


def closes_when_told(peer, confirmed):
    peer.expect_method(0, 'connection.close')
    peer.await_cue()
    if confirmed:
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()
    else:
        peer.close()


def test_two_threads_may_close_while_one_of_them_reads(session):
    """The one whose handler closes is the reader: nobody else can read the close-ok."""

    def script(peer):
        peer.send_content(1, 'basic.return', 312, 'NO_ROUTE', '', 'key', body=b'x')
        peer.expect_close()

    ours = session(script)
    connection, inside, outcomes = ours.connection, threading.Event(), []

    def close():
        try:
            outcomes.append(connection.close(timeout=PATIENCE))
        except amqp.AMQPException as error:
            outcomes.append(error)

    def put(returned):
        inside.set()
        poll(lambda: connection._session.closed.shut)
        close()

    ours.channel.returned_messages = SimpleNamespace(put=put)
    reader = Worker(lambda: ours.channel.wait(timeout=PATIENCE))
    assert inside.wait(PATIENCE)
    with lasting(most=5):
        close()
        reader.outcome()
    assert outcomes == [None, None]


def until_expecting(channel):
    """Wait until a call on the channel, made by another thread, waits for its reply."""
    with lasting(most=5):
        while not channel._calls:
            threading.Event().wait(0.001)


@pytest.mark.parametrize('end', ['close', 'reset'])
@pytest.mark.parametrize('of', ['connection', 'channel'])
def test_broker_hangs_up_during_our_close(session, of, end):
    def script(peer):
        peer.expect_frame()
        getattr(peer, end)()

    ours = session(script)
    with lasting(most=2), pytest.raises(amqp.ConnectionLost) as caught:
        getattr(ours, of).close()
    ours.broker.finish()
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


@pytest.mark.parametrize('end', ['close', 'reset'])
def test_broker_hangs_up_right_after_its_close_ok(session, end):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.send_method(0, 'connection.close_ok')
        getattr(peer, end)()

    ours = session(script)
    assert ours.connection.close() is None
    assert ours.connection.close() is None
    assert ours.sock.fileno() == -1


def test_close_of_a_connection_that_is_gone_raises_that_once(session):
    def script(peer):
        peer.reset()
        peer.mark()

    ours = session(script)
    ours.broker.await_mark()
    with pytest.raises(amqp.ConnectionLost) as caught:
        ours.connection.close()
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


def test_dropped_connection_frees_its_socket(play, connect):
    """No close is sent when a program just drops its connection."""

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.mark()
        peer.expect_end()

    broker = play(script)
    connection = amqp.Connection(host=broker.address)
    sock = connection.transport.sock
    channel = connection.channel()
    broker.await_mark()
    del connection, channel
    import gc

    gc.collect()
    assert sock.fileno() == -1


# --- Nothing follows a write that was cut -------------------------------------------------------


def whole_publish(body, frame_max):
    """Return the bytes of a publish, made without the library."""
    return method(1, 'basic.publish', 0, '', 'q', False, False) + content(
        1, body, frame_max=frame_max
    )


@pytest.fixture
def stuffed(play, connect):
    """A function that publishes more than the broker reads; returns what each side has seen."""

    def start(then, **arguments):
        body = bytes(LARGE)
        seen = {}

        def script(peer):
            peer.handshake()
            peer.open_channel()
            begun = peer.read(100000)
            then(peer)
            peer.await_cue()
            seen['bytes'] = begun + peer.rest()

        broker = play(script, receive_buffer=65536)
        connection = connect(broker, **arguments)
        sock = connection.transport.sock
        channel = connection.channel()
        with lasting(most=4), pytest.raises(amqp.AMQPException) as caught:
            channel.basic_publish(amqp.Message(body), routing_key='q')
        error = caught.value
        # Every later call fails at once, and writes nothing.
        with lasting(most=1):
            check_repeated(error, lambda: publish(channel))
            check_closed(connection, sock, error, [channel])
        broker.cue()
        broker.finish()
        whole = whole_publish(body, 131072)
        assert len(seen['bytes']) < len(whole)
        assert whole.startswith(seen['bytes'])
        return error

    return start


def test_nothing_is_written_after_a_write_that_took_too_long(stuffed):
    with lasting(0.3, 4):
        error = stuffed(lambda peer: None, write_timeout=0.3)
    assert type(error) is amqp.WriteTimeout
    assert isinstance(error, amqp.ConnectionLost)
    assert isinstance(error, TimeoutError)
    assert '0.3 s' in error.amqp_reply_text


def test_reason_of_the_broker_wins_over_the_write_that_took_too_long(stuffed):
    error = stuffed(send_close, write_timeout=0.3)
    assert type(error) is amqp.ConnectionForced
    assert error.args == REASON


def test_fault_of_the_broker_during_a_write_that_takes_too_long(stuffed):
    error = stuffed(lambda peer: peer.send_frame(7, 0, b''), write_timeout=0.3)
    assert type(error) is amqp.ProtocolError
    assert error.amqp_reply_code == 501


@pytest.mark.parametrize('failure', [KeyboardInterrupt, amqp.AMQPTimeout])
def test_nothing_is_written_though_the_broker_reads_again(session, failure):
    """Just as the write is given up, the broker makes room, and sends a protocol error."""
    body = bytes(LARGE)
    seen = []

    def script(peer):
        begun = peer.read(100000)
        peer.await_cue()
        begun += peer.read(1 << 20)
        peer.send_frame(7, 0, b'')
        peer.mark()
        seen.append(begun + peer.rest())

    ours = session(script)

    def break_off(deadline, needs_input):
        ours.broker.cue()
        ours.broker.await_mark()
        raise failure(0, 'now')

    ours.connection.transport.wait_writable = break_off
    with pytest.raises((KeyboardInterrupt, amqp.ProtocolError)) as caught:
        ours.channel.basic_publish(amqp.Message(body), routing_key='q')
    assert isinstance(caught.value, KeyboardInterrupt) == (failure is KeyboardInterrupt)
    with pytest.raises(amqp.AMQPConnectionException) as later:
        publish(ours.channel)
    check_closed(ours.connection, ours.sock, later.value, [ours.channel])
    ours.broker.finish()
    whole = whole_publish(body, 131072)
    assert len(seen[0]) < len(whole)
    assert whole.startswith(seen[0])


def test_interrupt_right_after_close_takes_the_lock_does_not_keep_it(session):
    def script(peer):
        peer.expect_end()

    def interrupt(frame, event, called):
        if event == 'c_return' and called.__name__ == 'acquire':
            assert frame.f_code is Mutex.try_run.__code__
            raise KeyboardInterrupt

    ours = session(script)
    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            ours.connection.close()
    finally:
        sys.setprofile(None)
    other = threading.Thread(target=ours.connection.close, daemon=True)
    other.start()
    other.join(5)
    assert not other.is_alive()


def cannot_answer(connection, monkeypatch):
    def send_urgent(*args):
        raise amqp.ConnectionLost(0, 'it broke')

    monkeypatch.setattr(connection._session.outbox, 'send_urgent', send_urgent)


def test_answer_that_fails_after_a_reply_is_raised_by_close(session, monkeypatch):
    def script(peer):
        peer.open_channel(2)
        peer.expect_method(1, 'tx.select')
        reply = method(1, 'tx.select_ok')
        peer.send_raw(reply + method(2, 'channel.close', *CHANNEL_REASON[:2], 50, 10))
        peer.rest()

    ours = session(script)
    ours.connection.channel(2)
    cannot_answer(ours.connection, monkeypatch)
    ours.channel.tx_select()
    with pytest.raises(amqp.ConnectionLost, match='it broke'):
        ours.connection.close()
    ours.connection.close()


def test_interrupt_passes_where_the_channel_cannot_be_given_up_properly(session, monkeypatch):
    def script(peer):
        peer.expect_method(1, 'tx.select')
        peer.rest()

    def interrupt(*args):
        raise KeyboardInterrupt

    ours = session(script)
    cannot_answer(ours.connection, monkeypatch)
    monkeypatch.setattr(ours.connection._session, 'wait_until', interrupt)
    with pytest.raises(KeyboardInterrupt):
        ours.channel.tx_select()
    with pytest.raises(amqp.ConnectionLost, match='it broke'):
        ours.connection.close()


def test_flood_after_a_failed_write_is_not_read_for_ever(session, monkeypatch):
    """The client looks for the reason in what has arrived, within a limit of time and size."""
    messages = delivery(1, 'tag', body=bytes(1000)) * 1000

    def script(peer):
        peer.read(100000)
        with contextlib.suppress(OSError):
            while True:
                peer.send_raw(messages)

    looks = []
    receive = session_module.Session._receive

    def count(one, deadline):
        looks.append(time.monotonic())
        return receive(one, deadline)

    monkeypatch.setattr(session_module.Session, '_receive', count)
    ours = session(script, write_timeout=0.3)
    del looks[:]
    transport = ours.connection.transport
    with lasting(0.3, 5), pytest.raises(amqp.WriteTimeout) as caught:
        ours.channel.basic_publish(amqp.Message(bytes(LARGE)), routing_key='q')
    assert looks, 'it did not look for the reason'
    assert looks[-1] - looks[0] < session_module.DRAIN_TIMEOUT + 1
    largest = session_module.MAX_READ_AHEAD + session_module.MAX_DRAINED
    assert transport.received < largest + (1 << 20)
    # What it read meanwhile is not handed out any more.
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


@pytest.mark.parametrize('end', ['close', 'reset'])
def test_broker_hangs_up_in_the_middle_of_a_write(session, end):
    def script(peer):
        peer.read(300000)
        getattr(peer, end)()

    ours = session(script)
    with lasting(most=4), pytest.raises(amqp.ConnectionLost) as caught:
        ours.channel.basic_publish(amqp.Message(bytes(LARGE)), routing_key='q')
    ours.broker.finish()
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


def test_broker_closes_in_the_middle_of_a_write(session):
    def script(peer):
        peer.read(300000)
        send_close(peer)
        peer.reset()

    ours = session(script)
    with lasting(most=4), pytest.raises(amqp.AMQPConnectionException) as caught:
        ours.channel.basic_publish(amqp.Message(bytes(LARGE)), routing_key='q')
    assert caught.value.args == REASON
    ours.broker.finish()
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


def test_stuck_write_without_a_limit_learns_of_the_close(session):
    def script(peer):
        peer.read(100000)
        peer.send_raw(delivery(1, 'tag') * 3)
        send_close(peer)
        peer.stall()  # and read no more

    ours = session(script)
    with lasting(most=2), pytest.raises(amqp.AMQPConnectionException) as caught:
        ours.channel.basic_publish(amqp.Message(bytes(LARGE)), routing_key='q')
    assert caught.value.args == REASON
    assert ours.sock.fileno() == -1


def test_write_that_waits_goes_on_when_the_broker_reads_again(session):
    body = bytes(range(256)) * (LARGE // 256)

    def script(peer):
        peer.mark()
        # What a broker sends meanwhile must not be in its way either.
        peer.send_raw(delivery(1, 'tag', body=b'x' * 1000) * 5000)
        peer.expect_method(1, 'basic.publish')
        assert peer.expect_content(1)[1] == body
        peer.expect_close()

    ours = session(script, write_timeout=15)
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.broker.await_mark()
    ours.channel.basic_publish(amqp.Message(body), routing_key='q')
    for _ in range(5000):
        ours.channel.wait(timeout=5)
    assert len(got) == 5000
    ours.connection.close()


def test_write_that_could_not_begin_leaves_the_connection_whole(session):
    """While another thread's write is stuck, a call may time out; it has sent nothing."""

    def script(peer):
        peer.mark()
        peer.await_cue()
        frames, left = split_frames(peer.rest())
        assert left
        assert frames

    ours = session(script, write_timeout=0.5)
    failed = []

    def stuff():
        try:
            ours.channel.basic_publish(amqp.Message(bytes(LARGE)), routing_key='q')
        except amqp.AMQPException as error:
            failed.append(error)

    ours.broker.await_mark()
    thread = threading.Thread(target=stuff)
    with lasting(most=4):
        thread.start()
        error = until_raised(ours.connection.channel)
        thread.join(5)
    assert not thread.is_alive()
    assert isinstance(error, amqp.AMQPException)
    assert type(failed[0]) is amqp.WriteTimeout
    ours.broker.cue()
    ours.broker.finish()
    check_closed(ours.connection, ours.sock, failed[0], [ours.channel])


@pytest.mark.parametrize('bad', [{'h': object()}, {'k' * 256: 1}, {'h': 2**64}])
def test_headers_that_cannot_be_encoded_are_refused_before_the_first_byte(session, bad):
    def script(peer):
        peer.expect_method(1, 'basic.get')
        peer.send_method(1, 'basic.get_empty', '')
        peer.expect_close()

    ours = session(script)
    with pytest.raises((ValueError, TypeError), match='application_headers'):
        ours.channel.basic_publish(amqp.Message(b'x', application_headers=bad), routing_key='q')
    assert ours.channel.basic_get('q') is None
    ours.connection.close()


def test_headers_larger_than_a_frame_are_refused_before_the_first_byte(session):
    def script(peer):
        peer.expect_method(1, 'basic.get')
        peer.send_method(1, 'basic.get_empty', '')
        peer.expect_close()

    ours = session(script)
    message = amqp.Message(b'x', application_headers={'h': 'x' * 200000})
    with pytest.raises(ValueError, match='properties'):
        ours.channel.basic_publish(message, routing_key='q')
    assert ours.channel.basic_get('q') is None
    ours.connection.close()
