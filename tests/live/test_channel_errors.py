"""Errors that close a channel, and leave its connection and the other channels working."""

import pickle
import time

import pytest

from tests.helpers.checks import sends_nothing
from tests.helpers.queues import await_ready, drain, new_name, ready_count
from tests.helpers.waiting import await_input, poll

#: Each method of a channel that talks to the broker, with arguments that would be right.
CALLS = [
    ('access_request', ('/data',)),
    ('exchange_declare', ('name', 'direct')),
    ('exchange_delete', ('name',)),
    ('queue_declare', ()),
    ('queue_bind', ('name', 'amq.direct')),
    ('queue_unbind', ('name', 'amq.direct')),
    ('queue_purge', ('name',)),
    ('queue_delete', ('name',)),
    ('basic_qos', (0, 1, False)),
    ('basic_consume', ('name',)),
    ('basic_cancel', ('tag',)),
    ('basic_get', ('name',)),
    ('basic_publish', ('MESSAGE', '', 'name')),
    ('basic_ack', (1,)),
    ('basic_reject', (1, True)),
    ('basic_recover', (True,)),
    ('basic_recover_sync', (True,)),
    ('tx_select', ()),
    ('tx_commit', ()),
    ('tx_rollback', ()),
    ('flow', (True,)),
    ('wait', ()),
    ('wait', ([(60, 60)], 0)),
]


@pytest.fixture
def fail(amqp, connect, connection, channel, queue):
    """A function (reply code) that has the broker close `channel` with it, and raises."""
    locked = connect().channel()
    locked_queue, _, _ = locked.queue_declare(exclusive=True)
    failures = {
        403: lambda: channel.exchange_declare('amq.reserved', 'direct'),
        404: lambda: channel.queue_bind(queue, 'no such exchange'),
        405: lambda: channel.queue_purge(locked_queue),
        406: channel.tx_commit,
    }
    return lambda reply_code: failures[reply_code]()


@pytest.fixture
def closed_channel(amqp, channel, fail):
    """A channel that the broker has closed with 404."""
    with pytest.raises(amqp.NotFound):
        fail(404)
    return channel


@pytest.mark.parametrize(
    ('reply_code', 'cls', 'word', 'method_sig', 'method'),
    [
        (403, 'AccessRefused', 'ACCESS_REFUSED', (40, 10), 'Channel.exchange_declare'),
        (404, 'NotFound', 'NOT_FOUND', (50, 20), 'Channel.queue_bind'),
        (405, 'ResourceLocked', 'RESOURCE_LOCKED', (50, 30), 'Channel.queue_purge'),
        (406, 'PreconditionFailed', 'PRECONDITION_FAILED', (90, 20), 'Channel.tx_commit'),
    ],
)
def test_the_error_says_what_the_broker_said(amqp, fail, reply_code, cls, word, method_sig, method):
    with pytest.raises(amqp.AMQPChannelException) as raised:
        fail(reply_code)
    error = raised.value
    assert type(error) is getattr(amqp, cls)
    assert isinstance(error, amqp.AMQPException)
    assert error.amqp_reply_code == reply_code
    assert error.amqp_reply_text.startswith(word)
    assert tuple(error.amqp_method_sig) == method_sig
    assert error.args == (reply_code, error.amqp_reply_text, method_sig, method)
    assert word in str(error)
    assert method in str(error)
    assert pickle.loads(pickle.dumps(error)).args == error.args


@pytest.mark.parametrize('reply_code', [403, 404, 405, 406])
def test_the_connection_and_its_other_channels_go_on(
    amqp, connection, channel, fail, reply_code, shared_queue
):
    before = connection.channel()
    received = []
    before.basic_consume(shared_queue, no_ack=True, callback=received.append)
    with pytest.raises(amqp.AMQPChannelException):
        fail(reply_code)
    after = connection.channel()
    after.basic_publish(amqp.Message('still here'), '', shared_queue)
    before.wait(timeout=10)
    assert received[0].body == 'still here'


def test_a_channel_that_the_broker_closed_is_closed(connection, channel, closed_channel):
    assert closed_channel.is_open is False
    assert closed_channel.channel_id is None
    assert closed_channel.connection is None
    assert closed_channel.callbacks == {}
    assert closed_channel not in connection.channels.values()


@pytest.mark.parametrize(
    ('method', 'arguments'), CALLS, ids=[f'{method}{args}' for method, args in CALLS]
)
def test_every_later_call_raises_the_cause_again(
    amqp, connection, channel, closed_channel, method, arguments
):
    arguments = [amqp.Message('x') if a == 'MESSAGE' else a for a in arguments]
    for _ in range(2):
        with sends_nothing(connection), pytest.raises(amqp.NotFound) as raised:
            getattr(closed_channel, method)(*arguments)
        assert raised.value.amqp_reply_code == 404
        assert 'no such exchange' in raised.value.amqp_reply_text
        assert raised.value.args[3] == 'Channel.queue_bind'


def test_closing_it_after_the_error_was_raised_does_nothing(connection, closed_channel):
    with sends_nothing(connection):
        assert closed_channel.close() is None
        assert closed_channel.close() is None


def test_its_number_can_be_used_again(amqp, connection, channel, fail):
    number = channel.channel_id
    with pytest.raises(amqp.NotFound):
        fail(404)
    again = connection.channel(number)
    assert again is not channel
    assert again.channel_id == number
    assert again.queue_declare(exclusive=True)


def test_what_was_delivered_before_the_error_is_handed_out_first(amqp, connection, channel, queue):
    received = []
    channel.basic_consume(queue, no_ack=True, callback=lambda m: received.append(m.body))
    for body in 'abc':
        channel.basic_publish(amqp.Message(body), '', queue)
    poll(lambda: channel.basic_qos(0, 0, False) or len(channel.method_queue) == 3, 'the delivery')
    channel.basic_publish(amqp.Message('x'), new_name())
    with pytest.raises(amqp.NotFound):
        drain(channel, lambda: False)
    assert received == list('abc')


def test_the_error_ends_a_with_block(amqp, connection):
    with pytest.raises(amqp.NotFound), connection.channel() as channel:
        channel.queue_declare(new_name(), passive=True)
    assert not channel.is_open
    assert connection.channel().is_open


# Publishing to an exchange that does not exist


@pytest.fixture
def publish_badly(amqp, channel):
    """A function that publishes to a missing exchange on `channel`, and returns its name."""

    def publish():
        name = new_name()
        channel.basic_publish(amqp.Message('x'), name)
        return name

    return publish


def test_a_failed_publish_is_raised_by_the_next_call_that_waits(amqp, channel, publish_badly):
    name = publish_badly()
    with pytest.raises(amqp.NotFound, match=name) as raised:
        channel.queue_declare(exclusive=True)
    assert tuple(raised.value.amqp_method_sig) == (60, 40)
    assert raised.value.args[3] == 'Channel.basic_publish'


def test_a_failed_publish_is_raised_by_wait(amqp, channel, publish_badly):
    name = publish_badly()
    with pytest.raises(amqp.NotFound, match=name):
        channel.wait(timeout=10)


def test_a_failed_publish_is_raised_by_close_if_by_nothing_before(amqp, channel, publish_badly):
    name = publish_badly()
    with pytest.raises(amqp.NotFound, match=name):
        channel.close()
    assert not channel.is_open
    channel.close()


def test_a_failed_publish_is_raised_by_close_if_another_channel_read_it(
    amqp, connection, channel, publish_badly
):
    name = publish_badly()
    other = connection.channel()
    poll(lambda: other.queue_declare(exclusive=True) and not channel.is_open, 'the close')
    with pytest.raises(amqp.NotFound, match=name):
        channel.close()


def test_a_failed_publish_is_raised_at_the_end_of_a_with_block(amqp, connection):
    """Repeated, as the two closes can cross on the wire in several ways."""
    for _ in range(50):
        with pytest.raises(amqp.NotFound), connection.channel() as channel:
            channel.basic_publish(amqp.Message('x'), new_name())
        assert not channel.is_open
    assert connection.channel().queue_declare(exclusive=True)


@pytest.mark.parametrize('read_by', ['nobody', 'nobody, though it has arrived', 'another channel'])
def test_a_failed_publish_is_raised_by_closing_the_connection(
    amqp, connection, channel, publish_badly, read_by
):
    name = publish_badly()
    if read_by != 'nobody':
        await_input(connection)
    if read_by == 'another channel':
        connection.channel()
    with pytest.raises(amqp.NotFound, match=name):
        connection.close()
    assert connection.transport is None
    assert not channel.is_open
    connection.close()


def test_an_error_that_was_raised_is_not_raised_again_by_closing_the_connection(
    amqp, connection, closed_channel
):
    assert connection.close() is None


def test_a_failed_publish_is_raised_by_a_publish_soon_after(amqp, connection, queue):
    """Within 0.1 s after the close has arrived; the best of three, as machines may be busy."""

    def seconds_until_raised():
        channel = connection.channel()
        channel.basic_publish(amqp.Message('x'), new_name())
        await_input(connection)
        start = time.monotonic()
        with pytest.raises(amqp.NotFound):
            poll(lambda: channel.basic_publish(amqp.Message('x'), '', queue))
        return time.monotonic() - start

    assert min(seconds_until_raised() for _ in range(3)) < 0.1


def test_a_publisher_on_another_channel_does_not_hear_of_it(
    amqp, connection, channel, queue, publish_badly
):
    publish_badly()
    await_input(connection)
    other = connection.channel()
    for _ in range(100):
        other.basic_publish(amqp.Message('x'), '', queue)
    await_ready(other, queue, 100)
    with pytest.raises(amqp.NotFound):
        channel.basic_publish(amqp.Message('x'), '', queue)
    assert ready_count(other, queue) == 100


# Errors that close the connection


def test_an_error_of_the_connection_is_raised_by_all_of_its_channels(
    amqp, connection, channel, queue
):
    other = connection.channel()
    channel.basic_consume(queue, 'tag')
    with pytest.raises(amqp.NotAllowed, match='tag') as raised:
        channel.basic_consume(queue, 'tag')
    assert raised.value.amqp_reply_code == 530
    assert raised.value.args[3] == 'Channel.basic_consume'
    text = raised.value.amqp_reply_text
    for call in (channel.tx_select, other.tx_select, connection.channel, connection.wait):
        with pytest.raises(amqp.NotAllowed) as again:
            call()
        assert (again.value.amqp_reply_code, again.value.amqp_reply_text) == (530, text)
    assert not isinstance(raised.value, amqp.AMQPChannelException)
    assert other.is_open is False
    connection.close()


def test_pausing_the_deliveries_is_not_implemented_by_the_broker(amqp, channel):
    with pytest.raises(amqp.NotSupported) as raised:
        channel.flow(False)
    assert raised.value.amqp_reply_code == 540
    assert raised.value.args[3] == 'Channel.flow'


def test_going_on_with_the_deliveries_is_confirmed(channel):
    assert channel.flow(True) is True
