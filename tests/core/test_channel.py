"""The methods of a channel that need no broker: frames that it sends, and its ends."""

import struct

import pytest

from amqplib.exceptions import AMQPChannelException, AMQPTimeout, NotFound

from .channel_tools import arrived, open_channel
from .codec_tools import method

CLOSE, CLOSE_OK = (20, 40), (20, 41)


@pytest.fixture
def opened():
    return open_channel()


@pytest.fixture
def connection(opened):
    return opened[0]


@pytest.fixture
def channel(opened):
    return opened[1]


@pytest.fixture
def session(connection):
    return connection.session


# --- Acknowledgements ---


@pytest.mark.parametrize('tag', [0, 5, 2**64 - 1])
@pytest.mark.parametrize(('bit', 'octet'), [(False, 0), (True, 1), ('yes', 1), (2, 1), (None, 0)])
@pytest.mark.parametrize(
    ('name', 'signature'), [('basic_ack', (60, 80)), ('basic_reject', (60, 90))]
)
def test_acknowledgement(channel, session, name, signature, tag, bit, octet):
    getattr(channel, name)(tag, bit)
    assert session.sent == [method(1, signature, struct.pack('>QB', tag, octet))]


@pytest.mark.parametrize(
    ('tag', 'error'),
    [(-1, ValueError), (2**64, ValueError), ('5', TypeError), (1.0, TypeError), (None, TypeError)],
)
@pytest.mark.parametrize('name', ['basic_ack', 'basic_reject'])
def test_acknowledgement_of_what_is_no_delivery_tag_is_refused(channel, session, name, tag, error):
    with pytest.raises(error, match=rf'{name.replace("_", ".")} delivery_tag: '):
        getattr(channel, name)(tag, False)
    assert session.sent == []


# --- Opening and closing ---


def test_channel_that_the_broker_refuses_to_open():
    connection, channel = open_channel()
    connection.session.to_come.append((2, arrived('channel.close', 404, 'refused', 20, 10)))
    with pytest.raises(NotFound, match='refused'):
        type(channel)(connection, 2)
    assert 2 not in connection.session.inboxes
    assert connection.session.sent[-1] == method(2, CLOSE_OK)


def test_close_waits_for_the_broker(channel, connection, session):
    session.to_come.append((1, arrived('channel.close_ok')))
    channel.close()
    assert session.sent == [method(1, CLOSE, b'\0\0\0\0\0\0\0')]
    assert (channel.is_open, channel.channel_id, channel.connection) == (False, None, None)
    assert connection.numbers.choose(10) == 1
    channel.close()
    assert len(session.sent) == 1


def test_close_that_is_not_answered_leaves_the_number_lingering(channel, connection, session):
    with pytest.raises(AMQPTimeout):
        channel.close(timeout=0)
    assert connection.numbers.choose(10) == 2
    session.inboxes[1].arrive(arrived('channel.close_ok'))
    assert connection.numbers.choose(10) == 1


def test_close_with_wrong_values_changes_nothing(channel, session):
    with pytest.raises(ValueError, match='reply_code'):
        channel.close(70_000)
    assert channel.is_open
    assert session.sent == []


def test_closes_that_cross(channel, connection, session):
    session.to_come.append((1, arrived('channel.close', 404, 'no queue', 50, 10)))
    with pytest.raises(NotFound, match='no queue'):
        channel.close()
    assert session.sent == [method(1, CLOSE, bytes(7)), method(1, CLOSE_OK)]
    assert connection.numbers.choose(10) == 2, 'the broker still confirms the one of this side'
    session.inboxes[1].arrive(arrived('channel.close_ok'))
    assert connection.numbers.choose(10) == 1


def test_close_of_the_broker_is_confirmed_before_the_number_is_free(channel, connection, session):
    channel.arrive(arrived('channel.close', 404, 'no queue', 50, 10))
    assert session.sent == [method(1, CLOSE_OK)]
    assert connection.numbers.choose(10) == 1
    assert [closed.cause.args[0] for closed in connection.closed_channels] == [404]
    with pytest.raises(NotFound, match='no queue'):
        channel.close()
    channel.close()


def test_close_from_where_it_may_not_wait_gives_the_channel_up(channel, connection, session):
    session.is_waiting_allowed = False
    channel.close()
    assert session.sent == [method(1, CLOSE, bytes(7))]
    assert not channel.is_open
    assert connection.numbers.choose(10) == 2
    with pytest.raises(AMQPChannelException, match='closed by this program'):
        channel.basic_ack(1)


def test_late_queues_are_made_once_and_only_if_they_are_looked_at(channel):
    assert 'returned_messages' not in vars(channel)
    assert channel.returned_messages is channel.returned_messages
    assert channel.returned_messages is not channel.alerts
