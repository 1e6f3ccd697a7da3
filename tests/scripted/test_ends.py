"""The end of channels and connections: when it takes effect, and that nothing follows it."""

import pytest
from packages import PACKAGES, only_0_9_1
from scripted_broker import delivery

from .checks import Caller, held_before_writing

#: The arguments of channel.close for a message to an exchange that is not there.
NO_EXCHANGE = (404, "NOT_FOUND - no exchange 'gone'", 60, 40)


@pytest.fixture(params=PACKAGES)
def amqp(request):
    """The client package: all of this holds for both."""
    return request.param


@pytest.fixture
def channels(play, connect):
    """A function that opens a connection with so many channels and then plays a script.

    It returns (broker, connection, channels).
    """

    def start(count, script, **arguments):
        def whole(peer):
            peer.handshake()
            for number in range(1, count + 1):
                peer.open_channel(number)
            script(peer)

        broker = play(whole)
        connection = connect(broker, **arguments)
        return broker, connection, [connection.channel() for _ in range(count)]

    return start


# --- Nothing of a channel follows its end ---------------------------------------------------------

#: What a thread may be about to do on a channel: all the ways in which frames go out.
CALLS = {
    'publish': lambda amqp, channel: channel.basic_publish(amqp.Message(b'x'), 'gone'),
    'large publish': lambda amqp, channel: channel.basic_publish(amqp.Message(bytes(99999)), 'x'),
    'acknowledge': lambda amqp, channel: channel.basic_ack(1),
    'reject': lambda amqp, channel: channel.basic_reject(1, True),
    'cast': lambda amqp, channel: channel.queue_bind('q', 'x', nowait=True),
    'call': lambda amqp, channel: channel.queue_declare('q'),
    'get': lambda amqp, channel: channel.basic_get('q'),
    'close': lambda amqp, channel: channel.close(),
}


@pytest.mark.parametrize('limit', [None, 30], ids=['unlimited', 'limited'])
@pytest.mark.parametrize('call', CALLS)
def test_no_frame_follows_the_answer_to_the_close_of_a_channel(amqp, channels, call, limit):
    """A thread has looked whether the channel is open when another one reads that it is not.

    And the number belongs to another channel before the first thread goes on: what it sent there
    would be taken for that channel's.
    """

    def script(peer):
        peer.await_cue()
        peer.send_method(1, 'channel.close', *NO_EXCHANGE)
        peer.expect_method(1, 'channel.close_ok')
        peer.send_raw(delivery(2, 'tag'))
        peer.open_channel(1)
        peer.await_cue()
        peer.expect_method(1, 'tx.select')
        peer.send_method(1, 'tx.select_ok')
        peer.expect_close()

    broker, connection, (first, second) = channels(2, script, write_timeout=limit)
    got = []
    second.callbacks['tag'] = got.append
    with held_before_writing(connection, lambda: CALLS[call](amqp, first)) as caller:
        broker.cue()
        second.wait(timeout=10)  # which reads the close before that
        another = connection.channel(1)
    value, error = caller.outcome()
    assert (value, type(error)) == (None, amqp.NotFound)
    assert error.args[:3] == (*NO_EXCHANGE[:2], NO_EXCHANGE[2:])
    broker.cue()
    another.tx_select()
    connection.close()
    assert len(got) == 1


@only_0_9_1
@pytest.mark.parametrize('call', ['publish', 'nack'])
def test_no_confirmed_publish_follows_the_answer_to_the_close(amqp, channels, call):
    def script(peer):
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        peer.await_cue()
        peer.send_method(1, 'channel.close', *NO_EXCHANGE)
        peer.expect_method(1, 'channel.close_ok')
        peer.send_raw(delivery(2, 'tag'))
        peer.open_channel(1)
        peer.expect_close()

    broker, connection, (first, second) = channels(2, script)
    first.confirm_select()
    second.callbacks['tag'] = print
    calls = {**CALLS, 'nack': lambda amqp, channel: channel.basic_nack(1)}
    with held_before_writing(connection, lambda: calls[call](amqp, first)) as caller:
        broker.cue()
        second.wait(timeout=10)
        connection.channel(1)
    assert type(caller.outcome()[1]) is amqp.NotFound
    connection.close()


@pytest.mark.parametrize('call', CALLS)
def test_no_frame_follows_the_close_of_the_connection(amqp, channels, call):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.mark()
        peer.await_cue()
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    broker, connection, (first,) = channels(1, script)
    with held_before_writing(connection, lambda: CALLS[call](amqp, first)) as caller:
        closer = Caller(connection.close)
        broker.await_mark()
    error = caller.outcome()[1]
    assert type(error) is amqp.AMQPConnectionException
    assert error.amqp_reply_text == 'the connection was closed by this program'
    broker.cue()
    assert closer.outcome() == (None, None)


def test_no_channel_is_opened_behind_the_close_of_the_connection(amqp, channels):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.mark()
        peer.await_cue()
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    broker, connection, _ = channels(1, script)
    with held_before_writing(connection, connection.channel) as caller:
        closer = Caller(connection.close)
        broker.await_mark()
    assert type(caller.outcome()[1]) is amqp.AMQPConnectionException
    broker.cue()
    assert closer.outcome() == (None, None)
