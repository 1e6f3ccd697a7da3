"""What 0-9-1 adds, on the wire, and how brokers may misuse it."""

import contextlib
import gc
import itertools
import logging
import threading
import time
import weakref

import pytest

import amqplib.client_0_8 as amqp_0_8
import amqplib.client_0_9_1 as amqp
from amqplib.core import confirms as confirms_module
from amqplib.core import deadline as deadline_module
from amqplib.core import reader_role
from amqplib.core import session as session_module
from amqplib.core.deadline import Deadline
from amqplib.core.encoding import Encoder
from tests.helpers.checks import check_closed, check_repeated, refused, until_raised
from tests.helpers.held_lock import held_before_writing
from tests.helpers.threads import Worker
from tests.helpers.waiting import PATIENCE, lasting, poll
from tests.helpers.wire import FRAME_METHOD, VERSION_0_9_1, delivery, frame, method

ADVICE = (
    '; for 0-9-1, which every RabbitMQ speaks, '
    'import amqplib.client_0_9_1 instead of amqplib.client_0_8'
)


def confirm(number, multiple=False):
    """Return the bytes of a confirm for channel 1."""
    return method(1, 'basic.ack', number, multiple, version=VERSION_0_9_1)


def refuse(number, multiple=False):
    """Return the bytes of a refusal for channel 1."""
    return method(1, 'basic.nack', number, multiple, False, version=VERSION_0_9_1)


def expect_publish(peer, count=1, channel=1):
    """Read so many messages; return their bodies."""
    bodies = []
    for _ in range(count):
        peer.expect_method(channel, 'basic.publish')
        bodies.append(peer.expect_content(channel)[1])
    return bodies


@pytest.fixture(name='amqp')
def client():
    """The client package that `play`, `connect` and `session` are for."""
    return amqp


@pytest.fixture
def confirming(session):
    """The same behind confirm.select; `limit` is that of the messages outstanding."""

    def start(script, limit=None, **arguments):
        def whole(peer):
            peer.expect_method(1, 'confirm.select')
            peer.send_method(1, 'confirm.select_ok')
            script(peer)

        ours = session(whole, **arguments)
        ours.channel.confirm_select(limit)
        return ours

    return start


def publish(ours, count):
    return [
        ours.channel.basic_publish(amqp.Message(b'%d' % number), '', 'q') for number in range(count)
    ]


def await_blocked(ours, blocked=True):
    """Read until the connection is blocked, or is not any more."""
    while (ours.connection.blocked is not None) != blocked:
        ours.connection.wait(timeout=5)


# --- Which version ------------------------------------------------------------------------------


@pytest.mark.parametrize('end', ['reset', 'close', 'expect_end'])
@pytest.mark.parametrize(
    ('answer', 'offered'), [(b'AMQP\x03\x01\0\0', '1.0'), (b'AMQP\0\0\x09\x01', '0-9-1')]
)
def test_a_broker_that_refuses_0_8_says_which_import_works(play, answer, offered, end):
    """RabbitMQ 4 answers in the first way and resets; others in the second and close."""

    def script(peer):
        peer.expect_header(b'AMQP\x01\x01\x08\x00')
        peer.send_raw(answer)
        getattr(peer, end)()

    error = refused(play(script), amqp_0_8.ProtocolVersionRefused, most=1)
    text = f'the broker speaks AMQP {offered}, not 0-8{ADVICE}'
    assert str(error) == text


def test_a_broker_that_refuses_0_9_1_does_not_get_that_advice(play, connect):
    def script(peer):
        peer.expect_header(b'AMQP\0\0\x09\x01')
        peer.send_raw(b'AMQP\x01\x01\x08\x00')
        peer.close()

    with pytest.raises(amqp.ProtocolVersionRefused) as raised:
        connect(play(script))
    assert str(raised.value).endswith('the broker speaks AMQP 0-8, not 0-9-1')


def test_the_whole_conversation(play, connect):
    heard = {}

    def script(peer):
        heard['start_ok'] = peer.expect_login(
            server_properties={'capabilities': {'publisher_confirms': True, 'other': False}}
        )
        peer.tune()
        peer.open()
        heard['close'] = peer.expect_close()

    broker = play(script)
    connection = connect(broker, connection_name='me')
    assert (connection.version_major, connection.version_minor) == (0, 9)
    assert connection.server_capabilities == {'publisher_confirms': True, 'other': False}
    connection.close()
    broker.finish()
    properties = heard['start_ok'].client_properties
    assert properties['connection_name'] == 'me'
    assert properties['capabilities'] == {
        'authentication_failure_close': True,
        'basic.nack': True,
        'connection.blocked': True,
        'consumer_cancel_notify': True,
        'exchange_exchange_bindings': True,
        'publisher_confirms': True,
    }
    assert heard['close'].reply_code == 0


@pytest.mark.parametrize('properties', [{}, {'capabilities': 'none'}])
def test_a_broker_that_does_not_say_what_it_can_do(play, connect, properties):
    def script(peer):
        peer.handshake(server_properties=properties)
        peer.expect_close()

    connection = connect(play(script))
    assert connection.server_capabilities == {}
    connection.close()


def test_connection_close_is_recognised_by_its_ids_of_0_9_1(session):
    def script(peer):
        peer.expect_method(1, 'tx.select')
        peer.send_method(0, 'connection.close', 320, 'good bye', 0, 0)
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    ours = session(script)
    with pytest.raises(amqp.ConnectionForced, match='good bye') as raised:
        ours.channel.tx_select()
    check_closed(ours.connection, ours.sock, raised.value, [ours.channel])


def test_connection_redirect_of_0_8_is_a_protocol_error(session):
    def script(peer):
        # connection.redirect there, connection.close here, of which this is not one.
        peer.send_frame(FRAME_METHOD, 0, b'\0\x0a\0\x32' + b'\x04host' + b'\0')
        closed = peer.expect_method(0, 'connection.close')
        assert closed.reply_code == 502
        peer.expect_end()

    ours = session(script)
    with pytest.raises(amqp.ProtocolError, match=r'connection\.close') as raised:
        ours.connection.wait(timeout=5)
    assert 'redirect' not in str(raised.value)


def test_recovering_waits_for_the_reply(session):
    def script(peer):
        assert peer.expect_method(1, 'basic.recover').requeue
        peer.await_cue()
        peer.send_method(1, 'basic.recover_ok')
        peer.expect_close()

    ours = session(script)
    timer = threading.Timer(0.2, ours.broker.cue)
    timer.start()
    with lasting(least=0.15):
        assert ours.channel.basic_recover(requeue=True) is None
    timer.join()
    ours.connection.close()


# --- Secrets ------------------------------------------------------------------------------------


class Secret(str):
    """One that can be watched."""

    __slots__ = ('__weakref__',)


def test_a_new_secret_is_sent_and_nowhere_written_down(session, caplog):
    heard = {}
    secret = Secret('the new token')
    kept = weakref.ref(secret)

    def script(peer):
        heard['update'] = peer.expect_method(0, 'connection.update_secret')
        peer.send_method(0, 'connection.update_secret_ok')
        peer.expect_close()

    with caplog.at_level(logging.DEBUG, logger='amqplib'):
        ours = session(script)
        assert ours.connection.update_secret(secret, 'it was time') is None
        del secret
        gc.collect()
        assert kept() is None
        ours.connection.close()
    ours.broker.finish()
    assert heard['update'].new_secret == b'the new token'
    assert heard['update'].reason == 'it was time'
    assert 'the new token' not in caplog.text


def test_a_secret_that_cannot_be_sent(session):
    ours = session(lambda peer: peer.expect_close())
    with pytest.raises(TypeError, match='new_secret'):
        ours.connection.update_secret(5)
    with pytest.raises(ValueError, match='reason') as raised:
        ours.connection.update_secret('the new token', 'x' * 256)
    assert 'the new token' not in str(raised.value)
    ours.connection.close()


def test_a_secret_without_a_reply_ends_the_connection(session):
    ours = session(lambda peer: peer.rest(), rpc_timeout=0.1)
    with pytest.raises(amqp.AMQPTimeout, match='update_secret') as raised:
        ours.connection.update_secret('the new token')
    assert 'the new token' not in str(raised.value)
    assert ours.connection.transport is None


def test_a_secret_that_the_broker_refuses(session):
    def script(peer):
        peer.expect_method(0, 'connection.update_secret')
        text = 'New secret was refused by one of the backends'
        peer.send_method(0, 'connection.close', 530, text, 10, 70)
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    ours = session(script)
    with pytest.raises(amqp.AMQPConnectionException, match='refused') as raised:
        ours.connection.update_secret('the new token')
    assert raised.value.args[0] == 530
    assert raised.value.args[2:] == ((10, 70), 'Connection.update_secret')
    check_closed(ours.connection, ours.sock, raised.value, [ours.channel])


# --- Confirms -----------------------------------------------------------------------------------


def test_confirms_in_any_order(confirming):
    def script(peer):
        assert expect_publish(peer, 5) == [b'0', b'1', b'2', b'3', b'4']
        peer.send_raw(confirm(4) + confirm(1) + confirm(3, True) + confirm(5))
        peer.expect_close()

    ours = confirming(script)
    assert publish(ours, 5) == [1, 2, 3, 4, 5]
    assert ours.channel.wait_for_confirms(timeout=5) is None
    assert ours.channel.wait_for_confirms(timeout=0) is None
    ours.connection.close()


def test_refused_messages_are_raised_with_their_numbers_once(confirming):
    def script(peer):
        expect_publish(peer, 6)
        peer.send_raw(refuse(5) + refuse(2, True) + confirm(6, True))
        expect_publish(peer)
        peer.send_raw(confirm(7))
        expect_publish(peer)
        peer.send_raw(refuse(8))
        peer.expect_close()

    ours = confirming(script)
    publish(ours, 6)
    with pytest.raises(amqp.MessageNacked) as raised:
        ours.channel.wait_for_confirms(timeout=5)
    assert raised.value.sequence_numbers == (1, 2, 5)
    assert str(raised.value) == (
        'the broker refused 3 messages, the first is 1 (Channel.basic_publish)'
    )
    assert publish(ours, 1) == [7]
    ours.channel.wait_for_confirms(timeout=5)
    publish(ours, 1)
    with pytest.raises(amqp.MessageNacked, match='refused 1 message, the first is 8'):
        ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_confirms_are_read_whatever_is_waited_for(confirming):
    def script(peer):
        expect_publish(peer, 2)
        peer.send_raw(confirm(1))
        peer.expect_method(1, 'tx.select')  # whatever has a reply
        peer.send_raw(confirm(2))
        peer.send_method(1, 'tx.select_ok')
        peer.expect_close()

    ours = confirming(script)
    publish(ours, 2)
    ours.channel.wait(timeout=5)  # for anything: a confirm is something
    ours.channel.tx_select()
    ours.channel.wait_for_confirms(timeout=0)
    ours.connection.close()


def test_a_returned_message_is_there_before_its_confirm_is_reported(confirming):
    def script(peer):
        expect_publish(peer)
        peer.send_content(1, 'basic.return', 312, 'NO_ROUTE', '', 'q', body=b'0')
        peer.send_raw(confirm(1))
        peer.expect_close()

    ours = confirming(script)
    returned = []
    ours.channel.on_confirm = lambda *args: returned.append(ours.channel.returned_messages.qsize())
    publish(ours, 1)
    ours.channel.wait_for_confirms(timeout=5)
    assert returned == [1]
    ours.connection.close()


@pytest.mark.parametrize(
    'data',
    [confirm(3), confirm(0), confirm(3, True), confirm(1) * 2, refuse(3), refuse(1) * 2],
    ids=['3', '0', 'up to 3', '1 twice', 'refused 3', 'refused 1 twice'],
)
def test_a_confirm_of_what_is_not_to_be_confirmed(confirming, data):
    def script(peer):
        expect_publish(peer, 2)
        peer.send_raw(data)
        closed = peer.expect_method(0, 'connection.close')
        assert (closed.reply_code, closed.reply_text[:9]) == (503, 'a confirm')
        peer.expect_end()

    ours = confirming(script)
    publish(ours, 2)
    with pytest.raises(amqp.ProtocolError, match='not outstanding') as raised:
        ours.channel.wait_for_confirms(timeout=5)
    check_closed(ours.connection, ours.sock, raised.value, [ours.channel])


@pytest.mark.parametrize(
    'payload', [b'', b'\0' * 7 + b'\1', b'\0' * 7 + b'\1\0\0'], ids=['none', 'short', 'long']
)
def test_a_confirm_that_cannot_be_read(confirming, payload):
    def script(peer):
        expect_publish(peer)
        peer.send_raw(frame(FRAME_METHOD, 1, b'\0\x3c\0\x50' + payload))
        assert peer.expect_method(0, 'connection.close').reply_code == 502
        peer.expect_end()

    ours = confirming(script)
    publish(ours, 1)
    with pytest.raises(amqp.ProtocolError, match=r'basic\.ack'):
        ours.channel.wait_for_confirms(timeout=5)


@pytest.mark.parametrize('data', [confirm(1), refuse(1)], ids=['confirm', 'refuse'])
def test_a_confirm_without_confirm_select(session, data):
    def script(peer):
        expect_publish(peer)
        peer.send_raw(data)
        assert peer.expect_method(0, 'connection.close').reply_code == 503
        peer.expect_end()

    ours = session(script)
    assert publish(ours, 1) == [None]
    with pytest.raises(amqp.ProtocolError, match='not outstanding'):
        ours.channel.wait(timeout=5)


def test_waiting_for_confirms_without_confirm_select(session):
    ours = session(lambda peer: peer.expect_close())
    with pytest.raises(amqp.AMQPException, match='confirm_select'):
        ours.channel.wait_for_confirms()
    assert ours.channel.is_open
    ours.connection.close()


@pytest.mark.parametrize(
    ('limit', 'error'),
    [(0, ValueError), (-1, ValueError), ('5', TypeError), (1.5, TypeError), (True, TypeError)],
)
def test_a_limit_is_a_number_of_messages(session, limit, error):
    ours = session(lambda peer: peer.expect_close())
    with pytest.raises(error, match='outstanding_limit'):
        ours.channel.confirm_select(limit)
    ours.connection.close()


def test_confirm_select_with_nowait(session):
    def script(peer):
        assert peer.expect_method(1, 'confirm.select').nowait
        expect_publish(peer)
        peer.send_raw(confirm(1))
        peer.expect_close()

    ours = session(script)
    ours.channel.confirm_select(nowait=True)
    assert publish(ours, 1) == [1]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


@pytest.mark.parametrize('error', [KeyboardInterrupt, ZeroDivisionError, ValueError])
@pytest.mark.parametrize('nowait', [False, True])
def test_confirm_select_interrupted_after_sending(session, monkeypatch, nowait, error):
    """The broker counts then, and so does the channel."""

    def script(peer):
        assert peer.expect_method(1, 'confirm.select').nowait == nowait
        if not nowait:
            peer.send_method(1, 'confirm.select_ok')
        expect_publish(peer)
        peer.send_raw(confirm(1))
        peer.expect_close()

    ours = session(script)
    call = ours.channel._call

    def call_and_interrupt(*args, **options):
        call(*args, **options)
        patch.undo()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ours.channel, '_call', call_and_interrupt)
        with pytest.raises(error):
            ours.channel.confirm_select(nowait=nowait)
    assert publish(ours, 1) == [1]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_confirm_select_interrupted_before_sending(session, monkeypatch):
    def script(peer):
        expect_publish(peer)
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        expect_publish(peer)
        peer.send_raw(confirm(1))
        peer.expect_close()

    ours = session(script)

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ours.channel, '_call', interrupt)
        with pytest.raises(KeyboardInterrupt):
            ours.channel.confirm_select()
    assert publish(ours, 1) == [None]
    ours.channel.confirm_select()
    assert publish(ours, 1) == [1]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


# --- The limit ----------------------------------------------------------------------------------


@pytest.mark.parametrize('limit', [1, 2, 10])
def test_no_more_than_the_limit_is_outstanding(confirming, limit):
    """The peer takes what comes, and confirms only once nothing more does."""
    count, most = 100, []

    def script(peer):
        unconfirmed = confirmed = 0
        while confirmed < count:
            expect_publish(peer)
            unconfirmed += 1
            most.append(unconfirmed)
            if unconfirmed == limit or confirmed + unconfirmed == count:
                confirmed += unconfirmed
                unconfirmed = 0
                peer.send_raw(confirm(confirmed, True))
        peer.expect_close()

    ours = confirming(script, limit)
    assert publish(ours, count)[-1] == count
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()
    ours.broker.finish()
    assert max(most) == limit


def test_the_limit_can_be_changed(confirming):
    def script(peer):
        expect_publish(peer, 1)
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        expect_publish(peer, 4)
        peer.send_raw(confirm(5, True))
        peer.expect_close()

    ours = confirming(script, 1)
    publish(ours, 1)
    ours.channel.confirm_select(outstanding_limit=5)
    assert publish(ours, 4) == [2, 3, 4, 5]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_publishing_beyond_the_limit_waits_within_write_timeout(confirming):
    def script(peer):
        expect_publish(peer, 3)
        peer.await_cue()
        peer.send_raw(confirm(2, True))
        assert expect_publish(peer) == [b'after']
        peer.send_raw(confirm(4, True))
        peer.expect_close()

    ours = confirming(script, 3, write_timeout=0.2)
    publish(ours, 3)
    with lasting(least=0.19, most=2), pytest.raises(amqp.AMQPTimeout) as raised:
        publish(ours, 1)
    assert '3 messages not confirmed within 0.2 s' in str(raised.value)
    assert not isinstance(raised.value, amqp.ConnectionLost)
    ours.broker.cue()
    ours.channel.wait(timeout=5)
    assert ours.channel.basic_publish(amqp.Message(b'after'), '', 'q') == 4
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_room_for_one_is_enough_when_write_timeout_is_over(confirming):
    """It waits for half of the window, but what fits is sent."""

    def script(peer):
        expect_publish(peer, 10)
        peer.send_raw(confirm(1))
        assert expect_publish(peer) == [b'0']
        peer.send_raw(confirm(11, True))
        peer.expect_close()

    ours = confirming(script, 10, write_timeout=0.2)
    publish(ours, 10)
    with lasting(least=0.19, most=2):
        assert publish(ours, 1) == [11]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_a_wait_for_confirms_that_runs_out_of_time_changes_nothing(confirming):
    def script(peer):
        expect_publish(peer, 2)
        peer.send_raw(refuse(1))
        peer.await_cue()
        expect_publish(peer)
        peer.send_raw(confirm(3, True))
        peer.expect_close()

    ours = confirming(script)
    publish(ours, 2)
    for timeout in (0, 0.1, 0.1):
        with lasting(most=1), pytest.raises(amqp.AMQPTimeout, match='not confirmed') as raised:
            ours.channel.wait_for_confirms(timeout=timeout)
    assert '1 message not confirmed within 0.1 s' in str(raised.value)
    ours.broker.cue()
    assert publish(ours, 1) == [3]
    with pytest.raises(amqp.MessageNacked) as refused_ones:
        ours.channel.wait_for_confirms(timeout=5)
    assert refused_ones.value.sequence_numbers == (1,)
    ours.connection.close()


@pytest.mark.parametrize(
    ('timeout', 'error'), [(-1, ValueError), ('1', TypeError), (float('nan'), ValueError)]
)
def test_a_timeout_is_a_number_of_seconds(confirming, timeout, error):
    ours = confirming(lambda peer: peer.expect_close())
    with pytest.raises(error, match='timeout'):
        ours.channel.wait_for_confirms(timeout)
    ours.connection.close()


# --- The time that publishing may take --------------------------------------------------------


#: What a publish may wait for: the method that begins it, the client's answer, what ends it.
WAITS = {
    'blocked': (
        method(0, 'connection.blocked', 'low on memory', version=VERSION_0_9_1),
        None,
        method(0, 'connection.unblocked', version=VERSION_0_9_1),
    ),
    'room': (b'', None, confirm(1)),
    'flow': (
        method(1, 'channel.flow', False, version=VERSION_0_9_1),
        'channel.flow_ok',
        method(1, 'channel.flow', True, version=VERSION_0_9_1),
    ),
}


#: The write_timeout of a publish; all but two seconds of it pass while the publish waits.
LIMIT = 60


class Clock:
    """Stands in for the clock of deadlines; the peer advances it while a publish waits."""

    def __init__(self, monkeypatch):
        self._ahead = 0.0
        self._waits = threading.Event()
        really_remaining = Deadline.remaining

        def remaining(deadline):
            seconds = really_remaining(deadline)
            if deadline.seconds == LIMIT:
                self._waits.set()
            return seconds

        monkeypatch.setattr(deadline_module, 'monotonic', lambda: time.monotonic() + self._ahead)
        monkeypatch.setattr(Deadline, 'remaining', remaining)

    def let_time_pass(self):
        """Advance it, once a publish has asked how long it may wait."""
        assert self._waits.wait(PATIENCE), 'no publish waits'
        self._ahead = LIMIT - 2


@pytest.mark.parametrize(
    ('first', 'then', 'text'),
    [
        ('blocked', 'room', f'1 message not confirmed within {LIMIT} s'),
        ('blocked', 'flow', f'the broker has paused the channel for more than {LIMIT} s'),
        ('room', 'flow', f'the broker has paused the channel for more than {LIMIT} s'),
    ],
)
def test_the_waits_of_one_publish_share_its_time(confirming, monkeypatch, first, then, text):
    begin, answer, end = zip(WAITS[first], WAITS[then])
    clocks = []

    def script(peer):
        expect_publish(peer)
        peer.send_raw(b''.join(begin))
        answers = [name for name in answer if name]
        for name in answers:
            peer.expect_method(1, name)
        peer.mark()
        peer.await_cue()
        clocks[0].let_time_pass()
        peer.send_raw(end[0])
        peer.await_cue()
        peer.send_raw(end[1] + (b'' if 'room' in (first, then) else confirm(1)))
        for name in answers:
            peer.expect_method(1, name)
        expect_publish(peer)
        peer.send_raw(confirm(2))
        peer.expect_close()

    ours = confirming(script, 1 if 'room' in (first, then) else None, write_timeout=LIMIT)
    publish(ours, 1)
    if 'blocked' in (first, then):
        await_blocked(ours)
    while 'flow' in (first, then) and ours.channel.active:
        ours.channel.wait(timeout=5)
    ours.broker.await_mark()
    clocks.append(Clock(monkeypatch))
    ours.broker.cue()
    with lasting(least=1.9), pytest.raises(amqp.AMQPTimeout) as raised:
        publish(ours, 1)
    assert text in str(raised.value)
    ours.broker.cue()
    assert publish(ours, 1) == [2]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


@pytest.mark.parametrize('first', WAITS)
def test_sending_shares_the_time_of_the_waits_before_it(play, connect, monkeypatch, first):
    begin, answer, end = WAITS[first]
    clocks = []

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        expect_publish(peer)
        peer.send_raw(begin)
        if answer:
            peer.expect_method(1, answer)
        peer.await_cue()
        clocks[0].let_time_pass()
        peer.send_raw(end)
        peer.stall()

    broker = play(script, receive_buffer=4096)
    connection = connect(broker, write_timeout=LIMIT)
    channel = connection.channel()
    channel.confirm_select(1 if first == 'room' else None)
    channel.basic_publish(amqp.Message(b'x'), '', 'q')
    while first == 'blocked' and connection.blocked is None:
        connection.wait(timeout=5)
    while first == 'flow' and channel.active:
        channel.wait(timeout=5)
    large = amqp.Message(bytes(30_000_000))
    clocks.append(Clock(monkeypatch))
    broker.cue()
    with lasting(least=1.9), pytest.raises(amqp.WriteTimeout, match=f'within {LIMIT} s'):
        channel.basic_publish(large, '', 'q')


def test_a_channel_that_is_closed_when_the_broker_lets_it_go_on_sends_nothing(session):
    def script(peer):
        peer.send_method(1, 'channel.flow', False)
        peer.expect_method(1, 'channel.flow_ok')
        peer.await_cue()
        peer.send_raw(
            method(1, 'channel.flow', True, version=VERSION_0_9_1)
            + method(1, 'channel.close', 404, 'gone', 60, 40, version=VERSION_0_9_1)
        )
        peer.expect_method(1, 'channel.flow_ok')
        peer.expect_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = session(script)
    while ours.channel.active:
        ours.channel.wait(timeout=5)
    timer = threading.Timer(0.2, ours.broker.cue)
    timer.start()
    with pytest.raises(amqp.NotFound, match='gone'):
        publish(ours, 1)
    timer.join()
    ours.connection.close()


# --- What goes wrong with a publish ---------------------------------------------------------------


def test_what_cannot_be_sent_gets_no_number(confirming):
    def script(peer):
        expect_publish(peer)
        peer.send_raw(confirm(1))
        peer.expect_close()

    ours = confirming(script)
    for message, arguments in (
        ('text', {}),
        (amqp.Message(5), {}),
        (amqp.Message('x', application_headers={'x': object()}), {}),
        (amqp.Message('x'), {'exchange': 'x' * 256}),
        (amqp.Message('x'), {'ticket': -1}),
    ):
        with pytest.raises((TypeError, ValueError)):
            ours.channel.basic_publish(message, **arguments)
    ours.channel.wait_for_confirms(timeout=0)
    assert publish(ours, 1) == [1]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_a_publish_on_a_paused_channel_gets_no_number(confirming):
    def script(peer):
        peer.send_method(1, 'channel.flow', False)
        peer.expect_method(1, 'channel.flow_ok')
        peer.await_cue()
        peer.send_method(1, 'channel.flow', True)
        peer.expect_method(1, 'channel.flow_ok')
        assert expect_publish(peer) == [b'0']
        peer.send_raw(confirm(1))
        peer.expect_close()

    ours = confirming(script, write_timeout=0.1)
    while ours.channel.active:  # it may have come with what came before
        ours.channel.wait(timeout=5)
    with pytest.raises(amqp.AMQPTimeout, match='paused'):
        publish(ours, 1)
    ours.channel.wait_for_confirms(timeout=0)
    ours.broker.cue()
    while not ours.channel.active:
        ours.channel.wait(timeout=5)
    assert publish(ours, 1) == [1]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_closing_a_channel_does_not_wait_for_its_confirms(confirming):
    """But a later wait for them says that the channel is closed."""

    def script(peer):
        expect_publish(peer, 2)
        peer.expect_method(1, 'channel.close')
        peer.send_raw(confirm(1))
        peer.send_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = confirming(script)
    publish(ours, 2)
    ours.channel.close()
    with pytest.raises(amqp.AMQPChannelException, match='closed by this program'):
        ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


@pytest.mark.parametrize('error', [KeyboardInterrupt, ZeroDivisionError])
def test_publish_interrupted_before_sending(confirming, monkeypatch, error):
    def script(peer):
        expect_publish(peer)
        peer.send_raw(confirm(1))
        peer.expect_close()

    ours = confirming(script)
    transport = ours.connection.transport

    def interrupt(data, deadline=None):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(transport, 'send', interrupt)
        with pytest.raises(error):
            publish(ours, 1)
    assert publish(ours, 1) == [1]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


@pytest.mark.parametrize('error', [KeyboardInterrupt, ZeroDivisionError])
def test_publish_interrupted_while_sending(confirming, monkeypatch, error):
    """The numbers cannot be trusted any more: the channel is given up, the connection goes on."""

    def script(peer):
        expect_publish(peer)
        peer.expect_method(1, 'channel.close')
        peer.send_raw(confirm(1))  # nobody is there to hear it
        peer.send_method(1, 'channel.close_ok')
        peer.open_channel(2)
        peer.expect_close()

    ours = confirming(script)
    transport = ours.connection.transport
    send = transport.send

    def send_and_interrupt(data, *deadline):
        send(data, *deadline)
        patch.undo()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(transport, 'send', send_and_interrupt)
        with pytest.raises(error):
            publish(ours, 1)
    for call in (lambda: publish(ours, 1), ours.channel.wait_for_confirms):
        with pytest.raises(amqp.AMQPChannelException, match='interrupted while publishing'):
            call()
    assert ours.connection.channel().is_open
    ours.connection.close()


@pytest.mark.parametrize(
    'error', [KeyboardInterrupt, ValueError, TypeError, amqp.AMQPException(0, 'from a program')]
)
def test_publish_interrupted_right_after_sending(confirming, monkeypatch, error):
    """Whatever class of error a signal handler raises, the message may have been sent."""

    def script(peer):
        expect_publish(peer)
        peer.expect_method(1, 'channel.close')
        peer.send_raw(confirm(1))
        peer.send_method(1, 'channel.close_ok')
        peer.open_channel(2)
        peer.expect_close()

    ours = confirming(script)
    send = ours.connection._session.send

    def send_and_interrupt(*args):
        send(*args)
        patch.undo()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ours.connection._session, 'send', send_and_interrupt)
        with pytest.raises(error if isinstance(error, type) else type(error)):
            publish(ours, 1)
    with pytest.raises(amqp.AMQPChannelException, match='interrupted while publishing'):
        publish(ours, 1)
    assert ours.connection.channel().is_open
    ours.connection.close()


def test_what_cannot_be_encoded_while_another_thread_sends_gets_no_number(confirming, monkeypatch):
    def script(peer):
        peer.open_channel(2)
        peer.expect_method(2, 'basic.ack')
        expect_publish(peer)
        peer.send_raw(confirm(1))
        peer.expect_close()

    ours = confirming(script)
    other = ours.connection.channel()

    def frames(*args):
        patch.undo()
        other.basic_ack(1)
        raise ValueError

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, 'publish_frames', frames)
        with pytest.raises(ValueError):  # noqa: PT011 - it has no text
            publish(ours, 1)
    assert publish(ours, 1) == [1]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_what_could_not_be_sent_while_another_thread_sent_gets_no_number(confirming):
    def script(peer):
        peer.open_channel(2)
        peer.expect_method(2, 'basic.ack')
        expect_publish(peer)
        peer.send_raw(confirm(1))
        peer.expect_close()

    ours = confirming(script, write_timeout=0.1)
    other = ours.connection.channel()
    sending, asked, acknowledged, done = (threading.Event() for _ in range(4))

    def send_for_long():
        sending.set()
        asked.wait(PATIENCE)
        other.basic_ack(1)
        acknowledged.set()
        done.wait(PATIENCE)

    sender = Worker(ours.connection._session.outbox.run_idle, send_for_long)
    assert sending.wait(PATIENCE)
    with held_before_writing(ours.connection, lambda: publish(ours, 1)) as publisher:
        asked.set()
        assert acknowledged.wait(PATIENCE)
    with pytest.raises(amqp.AMQPTimeout, match='other threads were sending'):
        publisher.result()
    done.set()
    sender.result()
    assert publish(ours, 1) == [1]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_a_publish_that_was_cut_is_not_confirmed(play, connect):
    """Nor does it count as never sent: it is unknown how much has arrived."""

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        peer.stall()

    broker = play(script, receive_buffer=4096)
    connection = connect(broker, write_timeout=0.3)
    channel = connection.channel()
    channel.confirm_select()
    with pytest.raises(amqp.WriteTimeout) as raised:
        channel.basic_publish(amqp.Message(bytes(30_000_000)), '', 'q')
    check_repeated(raised.value, channel.wait_for_confirms)


@pytest.mark.parametrize('limit', [None, 2])
def test_a_lost_connection_ends_the_wait(confirming, limit):
    def script(peer):
        expect_publish(peer, 2)
        peer.send_raw(confirm(1))
        peer.close()

    ours = confirming(script, limit)
    told = []
    ours.channel.on_confirm = lambda *args: told.append(args)
    publish(ours, 2)

    def go_on():
        if limit:
            publish(ours, 2)
        ours.channel.wait_for_confirms(timeout=5)

    with lasting(most=2), pytest.raises(amqp.ConnectionLost) as raised:
        go_on()
    assert told == [(1, False, True)]
    check_closed(ours.connection, ours.sock, raised.value, [ours.channel])
    with pytest.raises(amqp.ConnectionLost):
        ours.channel.wait_for_confirms()


@pytest.mark.parametrize('what', ['confirms', 'room', 'leave'])
def test_a_write_of_another_thread_that_was_cut_ends_the_wait(play, connect, what):
    """With its error, which says that the connection is closed, not with a timeout."""

    def script(peer):
        peer.handshake()
        peer.open_channel(1)
        peer.open_channel(2)
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        expect_publish(peer)
        peer.expect_method(2, 'basic.publish')
        peer.send_method(0, 'connection.blocked', 'low on memory')
        peer.stall()

    broker = play(script, receive_buffer=4096)
    connection = connect(broker, write_timeout=1)
    channel, writing = connection.channel(), connection.channel()
    channel.confirm_select(1 if what == 'room' else None)
    channel.basic_publish(amqp.Message(b'x'), '', 'q')
    large = amqp.Message(bytes(30_000_000))
    writer = Worker(lambda: writing.basic_publish(large, '', 'q'))
    while what == 'leave' and connection.blocked is None:
        connection.wait(timeout=5)
    poll(lambda: connection._session.outbox.state == 'writing', 'a write')
    connection.write_timeout = 20  # so that the writer's time is over first
    waiting = {
        'confirms': channel.wait_for_confirms,
        'room': lambda: channel.basic_publish(amqp.Message(b'x'), '', 'q'),
        'leave': lambda: channel.basic_publish(amqp.Message(b'x'), '', 'q'),
    }
    with lasting(most=3), pytest.raises(amqp.WriteTimeout) as raised:
        waiting[what]()
    assert type(writer.outcome()[1]) is amqp.WriteTimeout
    check_repeated(raised.value, channel.wait_for_confirms)


def test_a_closed_channel_ends_the_wait(confirming):
    def script(peer):
        expect_publish(peer, 2)
        peer.send_raw(confirm(1))
        peer.send_method(1, 'channel.close', 404, 'no exchange', 60, 40)
        peer.expect_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = confirming(script)
    publish(ours, 2)
    for _ in range(2):
        with pytest.raises(amqp.NotFound, match='no exchange'):
            ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_a_confirm_that_a_blocked_writer_reads_wakes_the_waiting_thread(play, connect, monkeypatch):
    # So that nobody looks without being woken.
    monkeypatch.setattr(session_module, '_BLOCKED_WRITE_STEP', 10)
    monkeypatch.setattr(reader_role, '_WAIT_STEP', 10)
    count = 5

    def script(peer):
        peer.handshake()
        for number in range(1, count + 1):
            peer.open_channel(number)
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        expect_publish(peer)
        peer.await_cue()
        peer.send_raw(confirm(1))
        peer.await_cue()

    broker = play(script, receive_buffer=4096)
    connection = connect(broker)
    confirming, writing, *waiting = [connection.channel() for _ in range(count)]
    confirming.confirm_select()
    confirming.basic_publish(amqp.Message(b'x'), '', 'q')
    large = amqp.Message(bytes(30_000_000))
    callers = [Worker(lambda: writing.basic_publish(large, '', 'q'))]
    poll(connection._session.role.is_taken)  # by the writer, which waits for the socket
    callers += [Worker(one.wait) for one in waiting]
    followers = connection._session.role.waiters
    poll(lambda: len(followers) == len(waiting))
    confirmed = Worker(lambda: confirming.wait_for_confirms(timeout=10))
    poll(lambda: len(followers) > len(waiting))
    with lasting(most=5):
        broker.cue()
        assert confirmed.outcome() == (None, None)
    broker.cue()
    for caller in callers:
        assert caller.outcome()[1] is not None  # the connection has ended


@pytest.mark.parametrize('asked', ['confirm.select', 'basic.consume'])
def test_channel_that_is_closed_with_the_reply_takes_nothing_any_more(session, asked):
    def script(peer):
        peer.expect_method(1, asked)
        reply = ('tag',) if asked == 'basic.consume' else ()
        peer.send_raw(
            method(1, asked + '_ok', *reply, version=VERSION_0_9_1)
            + method(1, 'channel.close', 404, 'gone', 60, 40, version=VERSION_0_9_1)
        )
        peer.expect_method(1, 'channel.close_ok')
        peer.open_channel(1)
        peer.send_raw(delivery(1, 'tag', 1))
        peer.expect_close()

    ours = session(script)
    ask = {
        'confirm.select': lambda: ours.channel.confirm_select(10),
        'basic.consume': lambda: ours.channel.basic_consume('q', 'tag', callback=print),
    }
    ask[asked]()
    got = []
    other = ours.connection.channel(1)
    other.callbacks['tag'] = got.append
    other.wait(timeout=5)
    assert [message.channel for message in got] == [other]
    with pytest.raises(amqp.NotFound):
        ours.connection.close()


# --- on_confirm -----------------------------------------------------------------------------------


def test_on_confirm_is_called_for_each_confirm(confirming):
    def script(peer):
        expect_publish(peer, 5)
        peer.send_raw(confirm(2) + refuse(3, True) + confirm(0, True))
        peer.expect_close()

    ours = confirming(script)
    told = []
    ours.channel.on_confirm = lambda *args: told.append(args)
    publish(ours, 5)
    with pytest.raises(amqp.MessageNacked) as raised:
        ours.channel.wait_for_confirms(timeout=5)
    assert told == [(2, False, True), (3, True, False), (5, True, True)]
    assert raised.value.sequence_numbers == (1, 3)
    ours.connection.close()


def confirm_to_another(peer):
    """Confirm a message when a call on channel 2 is there to read it."""
    peer.open_channel(2)
    expect_publish(peer)
    peer.send_raw(confirm(1))
    peer.expect_method(2, 'tx.select')
    peer.send_method(2, 'tx.select_ok')
    peer.expect_close()


def test_on_confirm_is_called_in_the_thread_that_uses_the_channel(confirming):
    """Even if another one has read the confirm."""

    ours = confirming(confirm_to_another)
    other = ours.connection.channel()
    threads = []
    ours.channel.on_confirm = lambda *args: threads.append(threading.current_thread())
    publish(ours, 1)
    reader = threading.Thread(target=other.tx_select)
    reader.start()
    reader.join(5)
    assert threads == []
    ours.channel.wait_for_confirms(timeout=0)
    assert threads == [threading.current_thread()]
    ours.connection.close()


@pytest.mark.parametrize('ok', [True, False])
def test_wait_for_confirms_reports_what_another_thread_reads_last(confirming, monkeypatch, ok):
    """Just after wait_for_confirms() has reported the earlier ones."""

    def script(peer):
        peer.open_channel(2)
        expect_publish(peer)
        peer.send_raw(confirm(1) if ok else refuse(1))
        peer.expect_method(2, 'tx.select')
        peer.send_method(2, 'tx.select_ok')
        peer.expect_close()

    ours = confirming(script)
    other = ours.connection.channel()
    told = []
    ours.channel.on_confirm = lambda *args: told.append(args)
    publish(ours, 1)
    tell = ours.channel._call_on_confirm

    def tell_and_switch(deadline):
        tell(deadline)
        patch.undo()
        Worker(other.tx_select).outcome()

    with monkeypatch.context() as patch:
        patch.setattr(ours.channel, '_call_on_confirm', tell_and_switch)
        with contextlib.nullcontext() if ok else pytest.raises(amqp.MessageNacked):
            ours.channel.wait_for_confirms(timeout=5)
    assert told == [(1, False, ok)]
    ours.connection.close()


@pytest.mark.parametrize('allowed', [None, [(60, 60)]], ids=['for anything', 'for a message'])
def test_wait_reports_confirms_that_another_channel_has_read(confirming, allowed):
    def script(peer):
        peer.open_channel(2)
        expect_publish(peer)
        peer.send_raw(confirm(1))
        peer.expect_method(2, 'tx.select')
        peer.send_method(2, 'tx.select_ok')
        peer.await_cue()
        peer.send_content(1, 'basic.deliver', 'tag', 1, False, '', '', body=b'end')
        peer.expect_close()

    ours = confirming(script)
    other = ours.connection.channel()
    told = []

    def on_confirm(*confirmation):
        told.append(confirmation)
        with pytest.raises(amqp.AMQPTimeout):
            ours.channel.wait(timeout=0)  # it is being told, so this is no news
        ours.broker.cue()

    ours.channel.on_confirm = on_confirm
    ours.channel.callbacks['tag'] = lambda message: told.append(message.body)
    publish(ours, 1)
    other.tx_select()
    assert ours.channel.wait(allowed, timeout=5) is None
    assert told[0] == (1, False, True)
    if allowed is None:
        assert len(told) == 1
        ours.channel.wait(timeout=5)
    assert told[1:] == [b'end']
    ours.connection.close()


def test_wait_reports_confirms_that_another_thread_reads_meanwhile(confirming, monkeypatch):
    ours = confirming(confirm_to_another)
    other = ours.connection.channel()
    told = []
    ours.channel.on_confirm = lambda *args: told.append(args)
    publish(ours, 1)
    wait_method = ours.connection._wait_method

    def switch_and_wait(*args):
        patch.undo()
        assert Worker(other.tx_select).outcome() == (None, None)
        assert told == []
        return wait_method(*args)

    with monkeypatch.context() as patch:
        patch.setattr(ours.connection, '_wait_method', switch_and_wait)
        assert ours.channel.wait(timeout=1) is None
    assert told == [(1, False, True)]
    ours.connection.close()


def test_on_confirm_is_called_by_a_program_that_only_publishes(confirming):
    def script(peer):
        expect_publish(peer)
        peer.send_raw(confirm(1))
        peer.rest()

    ours = confirming(script)
    told = []
    ours.channel.on_confirm = lambda *args: told.append(args) or 1 / 0
    with lasting(most=5):
        until_raised(lambda: publish(ours, 1), ZeroDivisionError)
    assert told == [(1, False, True)]


@pytest.mark.parametrize('limit', [None, 50])
def test_on_confirm_may_publish_again(confirming, limit):
    """It publishes each refused message again, when many are refused at once."""
    count, sent = 3000, []

    def script(peer):
        step = limit or count
        while len(sent) < 2 * count:
            sent.extend(expect_publish(peer, step))
            first_time = len(sent) <= count
            # One by one, so that there are many callbacks.
            numbers = range(len(sent) - step + 1, len(sent) + 1)
            peer.send_raw(b''.join((refuse if first_time else confirm)(one) for one in numbers))
        peer.expect_close()

    ours = confirming(script, limit)
    again, open_ones = [], [0]

    def on_confirm(number, multiple, ok):
        open_ones.append(ours.channel._confirms.outstanding)
        if not ok:
            again.append(number)
            message = amqp.Message(b'again')
            assert ours.channel.basic_publish(message, '', 'q') > number

    ours.channel.on_confirm = on_confirm
    for _ in range(count):
        publish(ours, 1)
        open_ones.append(ours.channel._confirms.outstanding)
    with pytest.raises(amqp.MessageNacked):
        ours.channel.wait_for_confirms(timeout=10)
    assert len(again) == count
    assert sent.count(b'again') == count
    if limit:
        assert max(open_ones) <= limit
    ours.channel.wait_for_confirms(timeout=10)
    ours.connection.close()


@pytest.mark.parametrize('write_timeout', [None, 2])
@pytest.mark.parametrize('limit', [None, 10])
def test_a_publish_calls_on_confirm_a_bounded_number_of_times(confirming, limit, write_timeout):
    """However often a broker refuses what on_confirm publishes again."""
    step = 10

    def script(peer):
        for number in itertools.count(1):
            if expect_publish(peer) == [b'end']:
                break
            if number % step == 0:
                peer.send_raw(b''.join(refuse(one) for one in range(number - step + 1, number + 1)))
        peer.send_raw(confirm(number, True))
        peer.expect_close()

    ours = confirming(script, limit, write_timeout=write_timeout)
    told = []

    def on_confirm(number, multiple, ok):
        told.append(number)
        assert len(told) <= most
        ours.channel.basic_publish(amqp.Message(b'again'), '', 'q')

    ours.channel.on_confirm = on_confirm
    for count in range(1, 100):
        # Each message that the program has published is refused at most twice meanwhile.
        most = len(told) + 2 * count
        publish(ours, 1)
    ours.channel.on_confirm = None
    ours.channel.basic_publish(amqp.Message(b'end'), '', 'q')
    with pytest.raises(amqp.MessageNacked):
        ours.channel.wait_for_confirms(timeout=10)
    ours.connection.close()


@pytest.mark.parametrize('call', ['publish', 'wait', 'wait_for_confirms'])
def test_what_on_confirm_publishes_shares_the_time_of_the_call(confirming, call):
    """Otherwise each message would have its own time limit to wait for room."""
    seconds = 0.5

    def script(peer):
        expect_publish(peer, 5)
        peer.send_raw(b''.join(map(refuse, range(1, 6))))
        peer.expect_method(1, 'tx.select')
        peer.send_method(1, 'tx.select_ok')
        expect_publish(peer, 5)
        peer.rest()

    ours = confirming(script, 5, write_timeout=seconds if call == 'publish' else 60)
    publish(ours, 5)
    failed = []

    def on_confirm(number, multiple, ok):
        try:
            publish(ours, 2)  # more than there is room for
        except amqp.AMQPTimeout:
            failed.append(number)

    ours.channel.on_confirm = on_confirm
    ours.channel.tx_select()  # reads the refusals
    with lasting(most=4 * seconds), pytest.raises(amqp.AMQPTimeout):
        {
            'publish': lambda: publish(ours, 20),
            'wait': lambda: ours.channel.wait([(60, 60)], timeout=seconds),
            'wait_for_confirms': lambda: ours.channel.wait_for_confirms(timeout=seconds),
        }[call]()
    assert failed


def test_what_on_confirm_publishes_on_a_blocked_connection_shares_the_time_too(confirming):
    seconds = 0.5

    def script(peer):
        expect_publish(peer, 2)
        peer.send_raw(refuse(1) + WAITS['blocked'][0])
        peer.rest()

    ours = confirming(script, write_timeout=60)
    ours.channel.on_confirm = lambda *args: publish(ours, 1)
    publish(ours, 2)
    await_blocked(ours)
    with lasting(most=4 * seconds), pytest.raises(amqp.AMQPTimeout, match='takes no messages'):
        ours.channel.wait_for_confirms(timeout=seconds)


@pytest.mark.parametrize('call', ['wait', 'wait_for_confirms', 'publish'])
def test_an_error_of_on_confirm_reaches_the_caller_and_harms_nothing(confirming, call):
    def script(peer):
        expect_publish(peer, 2)
        peer.send_raw(confirm(1) + confirm(2))
        assert expect_publish(peer) == [b'0']
        peer.send_raw(confirm(3))
        peer.expect_close()

    ours = confirming(script, 2)
    told = []

    def on_confirm(number, multiple, ok):
        told.append(number)
        if number == 1:
            raise ZeroDivisionError

    ours.channel.on_confirm = on_confirm
    publish(ours, 2)
    with pytest.raises(ZeroDivisionError):
        {
            'wait': lambda: ours.channel.wait(timeout=5),
            'wait_for_confirms': lambda: ours.channel.wait_for_confirms(timeout=5),
            'publish': lambda: publish(ours, 1),
        }[call]()
    assert publish(ours, 1) == [3]
    ours.channel.wait_for_confirms(timeout=5)
    assert told == [1, 2, 3]
    ours.connection.close()


def test_after_an_error_of_on_confirm_the_next_publish_reports_the_rest(confirming):
    def script(peer):
        expect_publish(peer, 3)
        peer.send_raw(b''.join(map(confirm, (1, 2, 3))))
        expect_publish(peer)
        peer.send_raw(confirm(4))
        peer.expect_close()

    ours = confirming(script)
    told = []

    def on_confirm(number, multiple, ok):
        told.append(number)
        if number == 1:
            raise ZeroDivisionError

    ours.channel.on_confirm = on_confirm
    publish(ours, 3)
    with pytest.raises(ZeroDivisionError):
        ours.channel.wait(timeout=5)
    assert told == [1]
    publish(ours, 1)
    assert told == [1, 2, 3]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_refused_numbers_that_nobody_asks_for_do_not_pile_up(confirming, monkeypatch):
    monkeypatch.setattr(confirms_module, 'MAX_REFUSED', 10)

    def script(peer):
        expect_publish(peer, 20)
        peer.send_raw(refuse(11, True))
        peer.expect_method(1, 'tx.select')
        peer.send_method(1, 'tx.select_ok')
        expect_publish(peer)
        peer.send_raw(confirm(21, True))
        peer.expect_close()

    ours = confirming(script)
    publish(ours, 20)
    ours.channel.tx_select()
    with pytest.raises(amqp.MessageNacked) as raised:
        publish(ours, 1)
    assert raised.value.sequence_numbers == tuple(range(1, 12))
    assert publish(ours, 1) == [21]
    ours.channel.wait_for_confirms(timeout=5)
    ours.connection.close()


def test_with_on_confirm_the_oldest_refused_numbers_are_dropped(confirming, monkeypatch):
    monkeypatch.setattr(confirms_module, 'MAX_REFUSED', 10)

    def script(peer):
        for last in range(5, 105, 5):
            expect_publish(peer, 5)
            peer.send_raw(refuse(last, True))
        peer.expect_close()

    ours = confirming(script, 5)
    told, kept = [], []
    ours.channel.on_confirm = lambda number, multiple, ok: told.append(number)
    for _ in range(100):
        publish(ours, 1)
        kept.append(len(ours.channel._confirms.refused))
    with pytest.raises(amqp.MessageNacked) as raised:
        ours.channel.wait_for_confirms(timeout=5)
    assert told == list(range(5, 105, 5))
    assert raised.value.sequence_numbers[-5:] == (96, 97, 98, 99, 100)
    assert max(kept) <= 10 + 5
    ours.connection.close()


# --- Threads --------------------------------------------------------------------------------------


def test_one_thread_publishes_while_another_reads(confirming):
    """The thread that waits for messages on another channel reads the confirms of this one."""
    count, limit = 500, 20

    def script(peer):
        peer.open_channel(2)
        peer.mark()
        for number in range(1, count + 1):
            expect_publish(peer)
            if number % limit == 0:
                peer.send_raw(confirm(number, True))
        peer.send_content(2, 'basic.deliver', 'tag', 1, False, '', '', body=b'end')
        peer.expect_close()

    ours = confirming(script, limit)
    other = ours.connection.channel()
    other.callbacks['tag'] = lambda message: None
    reader = threading.Thread(target=other.wait, kwargs={'timeout': 10})
    ours.broker.await_mark()
    reader.start()
    assert publish(ours, count)[-1] == count
    ours.channel.wait_for_confirms(timeout=5)
    reader.join(10)
    assert not reader.is_alive()
    ours.connection.close()


# --- Blocked --------------------------------------------------------------------------------------


def test_blocked_and_unblocked_are_reported(session):
    def script(peer):
        peer.send_method(0, 'connection.blocked', 'low on memory')
        peer.await_cue()
        peer.send_method(0, 'connection.unblocked')
        peer.expect_close()

    ours = session(script)
    told = []
    ours.connection.on_blocked = lambda reason: told.append((reason, ours.connection.blocked))
    ours.connection.on_unblocked = lambda: told.append(ours.connection.blocked)
    assert ours.connection.blocked is None
    await_blocked(ours)
    assert told == [('low on memory', 'low on memory')]
    assert ours.connection.blocked == 'low on memory'
    ours.broker.cue()
    await_blocked(ours, False)
    assert told[1:] == [None]
    ours.connection.close()


def test_blocked_without_callbacks(session):
    def script(peer):
        peer.send_method(0, 'connection.blocked', b'\xff')
        peer.send_method(0, 'connection.unblocked')
        peer.expect_method(1, 'tx.select')
        peer.send_method(1, 'tx.select_ok')
        peer.expect_close()

    ours = session(script)
    ours.channel.tx_select()
    assert ours.connection.blocked is None
    ours.connection.close()


def test_an_error_of_on_blocked_reaches_the_reader_and_harms_nothing(session):
    def script(peer):
        peer.send_method(0, 'connection.blocked', 'low on memory')
        peer.send_method(0, 'connection.unblocked')
        peer.await_cue()
        peer.expect_method(1, 'tx.select')
        peer.send_method(1, 'tx.select_ok')
        peer.expect_close()

    ours = session(script)
    ours.connection.on_blocked = lambda reason: 1 / 0
    with pytest.raises(ZeroDivisionError):
        ours.channel.wait(timeout=5)
    ours.broker.cue()
    ours.channel.tx_select()
    assert ours.connection.blocked is None
    ours.connection.close()


def test_an_error_of_on_blocked_during_a_call_ends_its_channel(session):
    """Its reply may still come, and must not go to another call."""

    def script(peer):
        peer.expect_method(1, 'queue.declare')
        peer.send_method(0, 'connection.blocked', 'low on memory')
        peer.expect_method(1, 'channel.close')
        peer.send_method(1, 'queue.declare_ok', 'a', 0, 0)
        peer.send_method(1, 'channel.close_ok')
        peer.open_channel(2)
        peer.expect_method(2, 'queue.declare')
        peer.send_method(2, 'queue.declare_ok', 'b', 0, 0)
        peer.expect_close()

    ours = session(script)
    ours.connection.on_blocked = lambda reason: 1 / 0
    with pytest.raises(ZeroDivisionError):
        ours.channel.queue_declare('a')
    with pytest.raises(amqp.AMQPChannelException, match='interrupted while waiting'):
        ours.channel.queue_declare('b')
    assert ours.connection.channel().queue_declare('b')[0] == 'b'
    ours.connection.close()


def test_an_error_of_on_blocked_hides_no_later_error(session):
    def script(peer):
        blocked = method(0, 'connection.blocked', 'low on memory', version=VERSION_0_9_1)
        peer.send_raw(blocked + frame(FRAME_METHOD, 1, b'\0'))
        peer.rest()

    ours = session(script)
    told = []
    ours.connection.on_blocked = lambda reason: told.append(reason) or 1 / 0
    with pytest.raises(ZeroDivisionError):
        ours.channel.wait(timeout=5)
    with pytest.raises(amqp.ProtocolError):
        ours.channel.wait(timeout=0.5)
    assert told == ['low on memory']


@pytest.mark.parametrize('with_confirms', [False, True])
def test_publishing_while_blocked_waits_within_write_timeout(session, with_confirms):
    def script(peer):
        if with_confirms:
            peer.expect_method(1, 'confirm.select')
            peer.send_method(1, 'confirm.select_ok')
        peer.send_method(0, 'connection.blocked', 'low on disk')
        peer.await_cue()
        peer.send_method(0, 'connection.unblocked')
        assert expect_publish(peer) == [b'0']
        peer.expect_close()

    ours = session(script, write_timeout=0.2)
    if with_confirms:
        ours.channel.confirm_select()
    await_blocked(ours)
    with lasting(least=0.19, most=2), pytest.raises(amqp.AMQPTimeout) as raised:
        publish(ours, 1)
    assert str(raised.value) == (
        'the broker takes no messages for more than 0.2 s: low on disk (Channel.basic_publish)'
    )
    assert not isinstance(raised.value, amqp.ConnectionLost)
    ours.broker.cue()
    assert publish(ours, 1) == [1 if with_confirms else None]
    ours.connection.close()


def test_publishing_goes_on_when_the_broker_unblocks(session):
    def script(peer):
        peer.send_method(0, 'connection.blocked', 'low on disk')
        peer.mark()
        peer.await_cue()
        peer.send_method(0, 'connection.unblocked')
        assert expect_publish(peer) == [b'0']
        peer.expect_close()

    ours = session(script, write_timeout=10)
    await_blocked(ours)
    timer = threading.Timer(0.2, ours.broker.cue)
    timer.start()
    with lasting(least=0.15):
        publish(ours, 1)
    timer.join()
    ours.connection.close()


def test_a_publisher_that_only_publishes_learns_that_it_is_blocked(session):
    def script(peer):
        peer.send_method(0, 'connection.blocked', 'low on memory')
        peer.rest()

    ours = session(script, write_timeout=0.2)
    with lasting(most=5):
        error = until_raised(lambda: publish(ours, 1), amqp.AMQPTimeout)
    assert 'low on memory' in str(error)
    assert ours.connection.channels


def test_a_wait_for_confirms_while_blocked_says_so(confirming):
    def script(peer):
        expect_publish(peer)
        peer.send_method(0, 'connection.blocked', 'low on memory')
        peer.rest()

    ours = confirming(script)
    publish(ours, 1)
    with pytest.raises(amqp.AMQPTimeout, match=r'within 0\.1 s: low on memory'):
        ours.channel.wait_for_confirms(timeout=0.1)


def test_a_write_that_the_blocked_broker_does_not_take_says_so(session):
    def script(peer):
        peer.send_method(0, 'connection.blocked', 'low on memory')
        peer.mark()
        peer.stall()

    ours = session(script, write_timeout=0.3)
    ours.broker.await_mark()
    with pytest.raises(amqp.AMQPTimeout, match='low on memory'):
        ours.channel.basic_publish(amqp.Message(bytes(50_000_000)), '', 'q')


def test_a_connection_that_is_lost_while_blocked(session):
    def script(peer):
        peer.send_method(0, 'connection.blocked', 'low on memory')
        peer.await_cue()
        peer.close()

    ours = session(script)
    await_blocked(ours)
    timer = threading.Timer(0.1, ours.broker.cue)
    timer.start()
    with lasting(most=2), pytest.raises(amqp.ConnectionLost) as raised:
        publish(ours, 1)
    timer.join()
    check_closed(ours.connection, ours.sock, raised.value, [ours.channel])


@pytest.mark.parametrize('name', ['connection.blocked', 'connection.unblocked'])
def test_blocked_on_the_wrong_channel(session, name):
    def script(peer):
        peer.send_method(1, name, *(['why'] if name.endswith('.blocked') else []))
        assert peer.expect_method(0, 'connection.close').reply_code in {503, 504, 540}
        peer.expect_end()

    ours = session(script)
    with pytest.raises(amqp.ProtocolError):
        ours.channel.wait(timeout=5)
    assert ours.connection.blocked is None


def test_a_publish_in_the_middle_of_one_on_its_channel_is_refused(confirming):
    """And nothing else comes of it."""

    def script(peer):
        for number in (1, 2):
            expect_publish(peer)
            peer.send_raw(confirm(number))
        peer.expect_close()

    ours = confirming(script)
    transport, refusals = ours.connection.transport, []
    send = transport.send

    def send_in_between(data, deadline):
        transport.send = send
        try:
            publish(ours, 1)
        except amqp.ReentrancyError as error:
            refusals.append(error)
        send(data, deadline)

    transport.send = send_in_between
    assert publish(ours, 1) == [1]
    assert publish(ours, 1) == [2]
    ours.channel.wait_for_confirms(timeout=PATIENCE)
    assert len(refusals) == 1
    ours.connection.close()
