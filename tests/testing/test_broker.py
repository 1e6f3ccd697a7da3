"""Broker: where it is, what is in it, and the faults that it has on request."""

import pytest

from amqplib.testing import Broker


@pytest.fixture
def queue(channel):
    """The name of an empty queue."""
    return channel.queue_declare('tasks', auto_delete=False)[0]


# Where it is, and what is in it


def test_it_serves_both_versions_on_one_port(channel, amqp, process_broker, queue):
    channel.basic_publish(amqp.Message('a task'), '', queue)
    assert channel.basic_get(queue, no_ack=True).body == 'a task'
    assert process_broker.host == f'127.0.0.1:{process_broker.port}'


def test_its_url_can_be_connected_to(amqp):
    with Broker(user='some/body', password='p@ss', vhosts=('a b',)) as broker:
        assert broker.url == f'amqp://some%2Fbody:p%40ss@{broker.host}/a%20b'
        with amqp.Connection.from_url(broker.url) as connection:
            assert connection.channel().queue_declare()


def test_messages_are_copies_of_what_is_ready_in_their_order(amqp, channel, process_broker, queue):
    for body in 'abc':
        channel.basic_publish(amqp.Message(body, priority=3), '', queue)
    channel.basic_get(queue)
    first, second = process_broker.messages(queue)
    assert (first.body, second.body) == (b'b', b'c')
    assert first.priority == 3
    assert first.routing_key == queue
    first.priority = 5
    assert process_broker.messages(queue)[0].priority == 3


def test_there_are_no_messages_of_a_queue_that_is_not_there(process_broker):
    with pytest.raises(LookupError, match='nothing'):
        process_broker.messages('nothing')
    with pytest.raises(LookupError, match='nowhere'):
        process_broker.messages('nothing', vhost='nowhere')


def test_a_closed_broker_has_hung_up_and_answers_nothing(amqp, no_leaks):
    with Broker() as broker:
        connection = amqp.Connection(broker.host)
    with pytest.raises(amqp.ConnectionLost):
        connection.channel()
    with pytest.raises(RuntimeError, match='not running'):
        broker.messages('tasks')
    broker.close()


def test_a_broker_that_was_never_started_leaves_nothing_behind(no_leaks):
    Broker().close()


def test_brokers_know_nothing_of_each_other(amqp, channel, queue):
    with Broker() as another, amqp.Connection(another.host) as connection:
        other = connection.channel()
        with pytest.raises(amqp.NotFound):
            other.queue_declare(queue, passive=True)


# Faults


def test_dropped_connections_are_lost(amqp, connect, process_broker):
    first, second = connect(), connect()
    assert process_broker.drop_connections() == 2
    for connection in (first, second):
        with pytest.raises(amqp.ConnectionLost):
            connection.channel()
    assert connect().channel().is_open


def test_what_was_not_acknowledged_comes_back_from_dropped_connections(
    amqp, connect, channel, process_broker, queue
):
    channel.basic_publish(amqp.Message('x'), '', queue)
    assert channel.basic_get(queue).body == 'x'
    process_broker.drop_connections()
    message = connect().channel().basic_get(queue)
    assert (message.body, message.redelivered) == ('x', True)


def test_closed_connections_hear_why(amqp, connect, process_broker):
    connection = connect()
    assert process_broker.close_connections('maintenance') == 1
    with pytest.raises(amqp.ConnectionForced, match='maintenance'):
        connection.channel()


def test_a_refused_method_closes_the_channel_or_the_connection(amqp, connect, process_broker):
    connection = connect()
    process_broker.refuse(403, text='not you')
    with pytest.raises(amqp.AccessRefused, match='ACCESS_REFUSED - not you') as raised:
        connection.channel().queue_declare('tasks')
    assert raised.value.args[3] == 'Channel.queue_declare'
    process_broker.refuse(541)
    with pytest.raises(amqp.AMQPConnectionException, match='INTERNAL_ERROR'):
        connection.channel().queue_declare('tasks')


@pytest.mark.parametrize('code', [200, 407, 999])
def test_a_reply_code_that_there_is_not_is_an_error_at_once(process_broker, code):
    with pytest.raises(ValueError, match=f'code: {code} is not known'):
        process_broker.refuse(code)


def test_a_method_is_refused_as_often_as_asked_for(amqp, connect, process_broker):
    connection = connect()
    process_broker.refuse(404, times=2, method='queue.declare')
    assert connection.channel().basic_qos(0, 1, False) is None
    for _ in range(2):
        with pytest.raises(amqp.NotFound, match='refused on request'):
            connection.channel().queue_declare('tasks')
    assert connection.channel().queue_declare('tasks') == ('tasks', 0, 0)


def test_a_blocked_publisher_waits_until_it_is_unblocked(
    amqp, connect, channel, process_broker, queue
):
    process_broker.block()
    channel.basic_publish(amqp.Message('x'), '', queue)
    reader = connect().channel()
    assert reader.queue_declare(queue, passive=True)[1] == 0
    assert process_broker.messages(queue) == []
    process_broker.unblock()
    channel.queue_declare(queue, passive=True)
    assert [message.body for message in process_broker.messages(queue)] == [b'x']


def test_a_delay_holds_up_what_arrives(amqp, channel, process_broker, queue):
    process_broker.delay(60)
    channel.basic_publish(amqp.Message('x'), '', queue)
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=0.05)
    assert process_broker.messages(queue) == []
    process_broker.delay(0)
    assert channel.queue_declare(queue, passive=True)[1] == 1
