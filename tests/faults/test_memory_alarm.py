"""A real broker that is short of memory: it stops reading from connections that publish."""

import contextlib

import pytest

from tests.helpers.checks import check_repeated
from tests.helpers.full_sockets import HUGE, fill, send_rest
from tests.helpers.queues import drain, get_all, new_name
from tests.helpers.threads import begin
from tests.helpers.waiting import BUSY, PATIENCE, lasting, poll

LARGE = 1 << 20


@pytest.fixture
def alarm(node):
    """A function that sets the alarm, and returns one that clears it; cleared after the test."""
    with contextlib.ExitStack() as stack:

        def set_alarm():
            stack.enter_context(node.memory_alarm())
            return stack.close

        yield set_alarm


def test_all_calls_during_an_alarm_end_in_time(amqp, node, connect, alarm):
    def blocked(**arguments):
        """Return a connection that the broker does not read from any more, and a channel."""
        connection = connect(node.address, **arguments)
        channel = connection.channel()
        channel.basic_publish(amqp.Message('x'), routing_key='amqplib-test-nowhere')
        return connection, channel

    alarm()
    connection, channel = blocked(rpc_timeout=0.3)
    with lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout, match='queue_declare'):
        channel.queue_declare(exclusive=True)

    connection, channel = blocked()
    with lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout, match=r'Channel\.close'):
        channel.close(timeout=0.3)

    connection, channel = blocked()
    with lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout, match=r'Connection\.close'):
        connection.close(timeout=0.3)
    assert connection.transport is None

    connection = connect(node.address, write_timeout=0.3)
    channel = connection.channel()
    with lasting(0.3, BUSY), pytest.raises(amqp.WriteTimeout, match='unknown') as caught:
        channel.basic_publish(amqp.Message(bytes(HUGE)), routing_key='amqplib-test-nowhere')
    check_repeated(caught.value, connection.channel)

    # Connections that do not publish are not disturbed.
    channel = connect(node.address).channel()
    queue = channel.queue_declare(exclusive=True)[0]
    assert channel.basic_get(queue) is None


def test_publish_that_was_refused_does_not_arrive_and_what_was_accepted_does(
    amqp, node, connect, alarm
):
    connection = connect(node.address, write_timeout=0.3)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True)[0]
    clear = alarm()
    accepted = []
    for number in range(1000):
        # On 0-9-1 the broker says that it takes no messages, sooner or later.
        if not is_accepted(amqp, channel, queue, str(number)):
            break
        accepted.append(str(number))
    assert accepted
    rest = fill(connection)
    with lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout) as caught:
        channel.basic_publish(amqp.Message('refused'), routing_key=queue)
    assert type(caught.value) is amqp.AMQPTimeout
    clear()
    send_rest(connection, rest)
    poll(lambda: is_accepted(amqp, channel, queue, 'after'), 'the end of the alarm')
    assert get_all(channel, queue) == [*accepted, 'after']


def is_accepted(amqp, channel, queue, body):
    """Publish a message; return whether it was not refused for want of room."""
    try:
        channel.basic_publish(amqp.Message(body), routing_key=queue)
    except amqp.WriteTimeout:
        raise  # a part of it went out
    except amqp.AMQPTimeout:
        return False
    return True


def test_publish_that_was_cut_never_arrives_in_part(amqp, node, connect, alarm):
    keeper = connect(node.address).channel()
    queue = new_name()
    keeper.queue_declare(queue, durable=True, auto_delete=False)
    connection = connect(node.address, write_timeout=0.3)
    channel = connection.channel()
    mine = channel.queue_declare(new_name(), exclusive=True)[0]
    channel.basic_publish(amqp.Message('whole'), routing_key=queue)
    poll(lambda: keeper.queue_declare(queue, passive=True)[1] == 1, 'a message in the queue')
    clear = alarm()
    with pytest.raises(amqp.WriteTimeout):
        channel.basic_publish(amqp.Message(bytes(HUGE)), routing_key=queue)
    clear()
    poll(lambda: can_declare(amqp, keeper.connection, mine), 'the end of the lost connection')
    assert get_all(keeper, queue) == ['whole']
    keeper.queue_delete(queue)


def test_heartbeats_keep_a_blocked_connection_alive_until_the_alarm_is_over(
    amqp, node, connect, alarm
):
    """Also while the socket is full, so that no heartbeat can be sent."""
    connection = connect(node.address, heartbeat=1)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True)[0]
    clear = alarm()

    def publish():
        for number in range(20):
            body = (b'%06d' % number).ljust(LARGE)
            channel.basic_publish(amqp.Message(body), routing_key=queue)

    publishing = begin(publish)
    other = connection.channel
    heard = connection.transport.received
    # Each heartbeat has eight bytes, and there are two a second.
    poll(lambda: connection.transport.received - heard >= 8 * 9, 'heartbeats of the broker')
    assert not publishing.done(), 'the broker took it all'
    clear()
    publishing.result(PATIENCE)
    bodies = []
    channel.basic_consume(queue, callback=lambda message: bodies.append(message.body[:6]))
    drain(channel, lambda: len(bodies) == 20)
    assert [int(body) for body in bodies] == list(range(20))
    assert other().queue_declare(exclusive=True)


def test_exclusive_queue_of_a_connection_lost_in_an_alarm_is_locked_until_it_is_over(
    amqp, node, connect, alarm
):
    lost = connect(node.address)
    channel = lost.channel()
    queue = new_name()
    channel.queue_declare(queue, exclusive=True)
    clear = alarm()
    channel.basic_publish(amqp.Message('x'), routing_key='amqplib-test-nowhere')
    with pytest.raises(amqp.AMQPTimeout):
        lost.close(timeout=0.3)
    connection = connect(node.address)
    with pytest.raises(amqp.ResourceLocked) as caught:
        connection.channel().queue_declare(queue, exclusive=True)
    assert caught.value.amqp_reply_code == 405
    clear()
    poll(lambda: can_declare(amqp, connection, queue), 'the end of the lost connection')


def can_declare(amqp, connection, queue):
    try:
        connection.channel().queue_declare(queue, exclusive=True)
    except amqp.ResourceLocked:
        return False
    return True
