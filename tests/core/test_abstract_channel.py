"""How a channel handles the methods that arrive for it, and how it waits."""

from collections import deque

import pytest

from amqplib.client_0_8.channel import Channel
from amqplib.client_0_8.spec import PROTOCOL
from amqplib.client_0_9_1.channel import Channel as NewChannel
from amqplib.client_0_9_1.spec import METHODS
from amqplib.core.abstract_channel import printable
from amqplib.core.message import Message
from amqplib.core.spec import CANCEL, CHANNEL_CLOSE
from amqplib.core.streams import AMQPReader, AMQPWriter
from amqplib.exceptions import (
    AMQPChannelException,
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    NotFound,
    ProtocolError,
    ReentrancyError,
)
from tests.helpers.frames import method
from tests.helpers.session_like import arrived, open_channel

SELECT, SELECT_OK, DELIVER = (90, 10), (90, 11), (60, 60)
NACK = METHODS['basic.nack']


@pytest.fixture
def session(connection):
    return connection.session


def delivery(tag='t', body=b'body', properties=b'\0\0'):
    message = Message.received(properties, body)
    return arrived('basic.deliver', tag, 1, False, 'e', 'k', content=message)


# --- Handlers ---


def test_handlers_are_found_by_their_names_where_the_version_has_the_method():
    assert Channel._METHOD_MAP[CANCEL.signature] is Channel._basic_cancel
    assert Channel._EFFECTS[CHANNEL_CLOSE.signature] is Channel._on_close
    assert NACK.signature not in Channel._METHOD_MAP
    assert NewChannel._METHOD_MAP[NACK.signature] is NewChannel._basic_nack


def test_methods_that_only_clients_send_have_no_handlers():
    assert Channel._METHOD_MAP.keys().isdisjoint(
        PROTOCOL.methods[name].signature for name in ('channel.open', 'tx.select', 'basic.consume')
    )


def test_a_reply_without_a_function_gets_a_handler():
    assert Channel._METHOD_MAP[SELECT_OK] is Channel._tx_select_ok
    _, channel = open_channel()
    assert channel._tx_select_ok(AMQPReader(b'')) is None
    assert channel._queue_purge_ok(AMQPReader(b'\0\0\0\5')) == 5
    assert channel._queue_declare_ok(AMQPReader(b'\1q' + bytes(8))) == ('q', 0, 0)


def test_map_of_a_subclass_is_laid_over_that_of_its_base():
    def own(channel, args):
        return 'own'

    class Own(Channel):
        _METHOD_MAP = {SELECT_OK: own}  # noqa: RUF012

    assert {**Channel._METHOD_MAP, SELECT_OK: own} == Own._METHOD_MAP
    _, channel = open_channel(Own)
    assert channel.dispatch_method(SELECT_OK, AMQPReader(b'')) == 'own'


def test_method_without_a_handler(channel):
    with pytest.raises(AMQPException, match=r'Unknown AMQP method \(99, 1\)') as caught:
        channel.dispatch_method((99, 1), AMQPReader(b''))
    assert caught.value.amqp_reply_code == 540


@pytest.mark.parametrize(('auto_decode', 'body'), [(True, 'é'), (False, 'é'.encode())])
def test_body_is_decoded_if_the_channel_does_so(channel, auto_decode, body):
    received = []
    channel.auto_decode = auto_decode
    channel.callbacks['t'] = received.append
    utf_8 = b'\x40\x00\x05UTF-8'
    channel.dispatch_method(*delivery(body='é'.encode(), properties=utf_8))
    channel.dispatch_method(*delivery(body='é'.encode()))
    assert [message.body for message in received] == [body, 'é'.encode()]


# --- What arrives ---


def test_reply_goes_to_the_call_that_waits(channel, session):
    session.to_come += [(1, delivery()), (1, arrived('tx.select_ok'))]
    channel.tx_select()
    assert session.sent == [method(1, SELECT)]
    assert [signature for signature, *_ in channel.method_queue] == [DELIVER]


@pytest.mark.parametrize(
    ('late', 'text', 'code'),
    [
        (
            arrived('tx.select_ok'),
            'a reply that nothing was waiting for: Channel.tx_select_ok',
            503,
        ),
        (arrived('tx.select'), 'brokers do not send here: Channel.tx_select', 503),
        (((99, 1), AMQPReader(b''), None), r'brokers do not send here: \(99, 1\)', 540),
    ],
    ids=['reply', 'of clients', 'unknown'],
)
def test_what_should_not_have_come_is_an_error(channel, late, text, code):
    with pytest.raises(ProtocolError, match=text) as caught:
        channel.arrive(late)
    assert caught.value.amqp_reply_code == code
    assert not channel.method_queue


def test_reply_to_a_method_that_was_sent_by_hand_is_queued_once(channel, session):
    args = AMQPWriter()
    channel._send_method(SELECT, args)
    assert session.sent == [method(1, SELECT)]
    channel.arrive(arrived('tx.select_ok'))
    assert channel.wait([SELECT_OK]) is None
    with pytest.raises(ProtocolError, match='nothing was waiting'):
        channel.arrive(arrived('tx.select_ok'))


@pytest.mark.parametrize('whose', ['channel', 'connection'])
def test_what_comes_while_it_is_being_closed_is_dropped(channel, session, whose):
    (channel._closed if whose == 'channel' else session.closed).ask()
    channel.arrive(delivery())
    assert not channel.method_queue


# --- Waiting ---


def test_wait_takes_what_is_queued_in_order(channel, session):
    received = []
    channel.callbacks = {'one': lambda _: received.append(1), 'two': lambda _: received.append(2)}
    for tag in ('one', 'two'):
        channel.arrive(delivery(tag))
    session.to_come.append((1, delivery('one')))
    for _ in range(3):
        channel.wait()
    assert received == [1, 2, 1]


def test_wait_for_some_methods_leaves_the_others(channel, session):
    channel.arrive(delivery())
    channel._send_method(SELECT)
    session.to_come.append((1, arrived('tx.select_ok')))
    channel.wait([SELECT_OK], timeout=5)
    assert [signature for signature, *_ in channel.method_queue] == [DELIVER]


class Looked(deque):
    """A queue that counts how many of its methods are looked at."""

    looks = 0

    def __reversed__(self):
        for looked_at in list(super().__reversed__()):
            self.looks += 1
            yield looked_at

    def __iter__(self):
        for looked_at in list(super().__iter__()):
            self.looks += 1
            yield looked_at


def test_wait_for_a_method_looks_at_each_of_the_others_a_few_times_only(channel, session):
    """Each queued method is checked a few times at most, however many others arrive meanwhile."""
    count = 300
    channel.method_queue = queue = Looked()
    for _ in range(count):
        channel.arrive(delivery())
    channel._send_method(SELECT)
    session.to_come += [(1, delivery())] * count + [(1, arrived('tx.select_ok'))]
    channel.wait([SELECT_OK], timeout=30)
    assert len(queue) == 2 * count
    assert queue.looks < 5 * 2 * count


@pytest.mark.parametrize('allowed', [1, 0.5, '1', SELECT_OK, [60]])
def test_wait_for_what_is_no_list_of_methods_is_refused(channel, allowed):
    """wait(1), for instance, by somebody who means wait(timeout=1)."""
    channel.arrive(delivery())
    with pytest.raises(TypeError, match=r'^allowed_methods: .* timeout='):
        channel.wait(allowed, timeout=0)
    assert len(channel.method_queue) == 1


@pytest.mark.parametrize('allowed', [None, [SELECT_OK]])
def test_wait_that_ends_too_soon_loses_nothing(channel, session, allowed):
    with pytest.raises(AMQPTimeout, match='nothing arrived within 0 s'):
        channel.wait(allowed, timeout=0)
    assert channel.is_open


def test_call_without_a_reply_closes_the_channel(channel, connection, session):
    connection.rpc_timeout = 0
    with pytest.raises(AMQPTimeout, match='no reply within 0 s') as caught:
        channel.tx_select()
    assert caught.value.args[2:] == (SELECT, 'Channel.tx_select')
    assert not channel.is_open
    assert session.sent[-1] == method(1, (20, 40), b'\x00\xc8\x07gave up' + bytes(4))
    with pytest.raises(AMQPTimeout, match='no reply within 0 s'):
        channel.tx_select()


@pytest.mark.parametrize('call', ['tx_select', 'close'])
def test_a_call_without_a_reply_says_that_the_broker_takes_no_messages(
    channel, connection, session, call
):
    connection.rpc_timeout = 0
    session.blocked = 'low on memory'
    arguments = {'timeout': 0} if call == 'close' else {}
    why = 'no reply within 0 s; the broker takes no messages: low on memory'
    with pytest.raises(AMQPTimeout, match=why):
        getattr(channel, call)(**arguments)


def test_call_where_it_may_not_wait_sends_nothing(channel, session):
    session.is_waiting_allowed = False
    with pytest.raises(ReentrancyError) as caught:
        channel.tx_select()
    assert caught.value.args[2:] == (SELECT, 'Channel.tx_select')
    assert session.sent == []
    session.is_waiting_allowed = True
    session.to_come.append((1, arrived('tx.select_ok')))
    channel.tx_select()


def test_call_with_a_reply_that_is_wrong_ends_the_connection(channel, session):
    session.to_come.append((1, ((50, 11), AMQPReader(b''), None)))
    with pytest.raises(ProtocolError, match=r'arguments of queue\.declare_ok'):
        channel.queue_declare()
    assert isinstance(session.closed.cause, ProtocolError)


# --- The end ---


def test_channel_that_the_broker_closed_says_why_each_time(channel, session):
    session.to_come.append((1, arrived('channel.close', 404, 'no queue', 50, 10)))
    for _ in range(2):
        with pytest.raises(NotFound, match='no queue'):
            channel.queue_declare(passive=True)
    assert (channel.channel_id, channel.connection) == (None, None)
    assert not channel.is_open


def test_channel_of_a_connection_that_ended_says_why(channel, session):
    session.end(AMQPConnectionException(320, 'shut down'))
    for call in (channel.tx_select, channel.wait):
        with pytest.raises(AMQPConnectionException, match='shut down'):
            call()


def test_channel_whose_subclass_called_do_close_says_that_it_is_closed(channel):
    channel._do_close()
    with pytest.raises(AMQPConnectionException, match='this channel is closed'):
        channel.tx_select()


def test_with_closes_the_channel(channel, session):
    session.to_come.append((1, arrived('channel.close_ok')))
    with channel as entered:
        assert entered is channel
    assert not channel.is_open
    with pytest.raises(AMQPChannelException, match='closed by this program'):
        channel.tx_select()


def test_error_of_a_with_block_is_the_one_to_be_seen(channel, session, caplog):
    session.to_come.append((1, arrived('channel.close', 404, 'late', 0, 0)))
    with pytest.raises(ZeroDivisionError), channel:
        1 // 0  # noqa: B018
    assert 'closing after an error failed: ' in caplog.text


def test_text_of_a_broker_can_be_printed():
    assert printable('caf\udce9') == 'caf\ufffd'
    assert printable('café') == 'café'
