"""Other clients of AMQP 0-9-1 work with the broker in the process, unchanged."""

import amqp as py_amqp
import amqpstorm
import pika
import pytest

from amqplib.testing import Broker

pytestmark = pytest.mark.filterwarnings('ignore')  # what these clients warn of is theirs


@pytest.fixture
def target():
    with Broker() as broker:
        yield broker


# Each of these opens a channel with a queue 'tasks', does the same work by its client's own names,
# and returns (the bodies that a consumer got, the body that came back, the reply code for a missing
# queue, whether what was refused is there again).


def with_pika(broker):
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.queue_declare('tasks', arguments={'x-max-length': 10})
        channel.confirm_delivery()
        for body in (b'a', b'b'):
            channel.basic_publish('', 'tasks', body, pika.BasicProperties(headers={'n': [1]}))
        with pytest.raises(pika.exceptions.UnroutableError) as unroutable:
            channel.basic_publish('', 'nowhere', b'lost', mandatory=True)
        returned = [message.body for message in unroutable.value.messages]
        got = []
        for method, properties, body in channel.consume('tasks', inactivity_timeout=20):
            got.append((body, properties.headers))
            channel.basic_ack(method.delivery_tag)
            if len(got) == 2:
                break
        channel.cancel()
        channel.basic_publish('', 'tasks', b'again')
        method, _, _ = channel.basic_get('tasks')
        channel.basic_nack(method.delivery_tag)
        again, _, _ = channel.basic_get('tasks', auto_ack=True)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as raised:
            channel.queue_declare('missing', passive=True)
    return got, returned, raised.value.reply_code, again.redelivered


def with_py_amqp(broker):
    host, port = '127.0.0.1', broker.port
    with py_amqp.Connection(f'{host}:{port}', confirm_publish=True) as connection:
        channel = connection.channel()
        channel.queue_declare('tasks', auto_delete=False, arguments={'x-max-length': 10})
        for body in ('a', 'b'):
            message = py_amqp.Message(body, application_headers={'n': [1]})
            channel.basic_publish(message, routing_key='tasks')
        returned = []
        channel.events['basic_return'].add(lambda *args: returned.append(args[-1].body.encode()))
        channel.basic_publish(py_amqp.Message('lost'), routing_key='nowhere', mandatory=True)
        got = []

        def on_message(message):
            got.append((message.body.encode(), message.headers))
            channel.basic_ack(message.delivery_tag)

        tag = channel.basic_consume('tasks', callback=on_message)
        while len(got) < 2:
            connection.drain_events(timeout=20)
        channel.basic_cancel(tag)
        channel.basic_publish(py_amqp.Message('again'), routing_key='tasks')
        channel.basic_reject(channel.basic_get('tasks').delivery_tag, requeue=True)
        again = channel.basic_get('tasks', no_ack=True)
        with pytest.raises(py_amqp.NotFound) as raised:
            channel.queue_declare('missing', passive=True)
    return got, returned, raised.value.reply_code, again.delivery_info['redelivered']


def with_amqpstorm(broker):
    with amqpstorm.Connection('127.0.0.1', 'guest', 'guest', port=broker.port) as connection:
        channel = connection.channel()
        channel.queue.declare('tasks', arguments={'x-max-length': 10})
        channel.confirm_deliveries()
        for body in ('a', 'b'):
            amqpstorm.Message.create(channel, body, {'headers': {'n': [1]}}).publish('tasks')
        with pytest.raises(amqpstorm.AMQPMessageError, match='nowhere') as unroutable:
            amqpstorm.Message.create(channel, 'lost').publish('nowhere', mandatory=True)
        returned = [b'lost'] if unroutable.value.error_code == 312 else []
        got = []
        channel.basic.consume(got.append, 'tasks')
        while len(got) < 2:
            channel.process_data_events()
        for message in got:
            message.ack()
        channel.basic.cancel(channel.consumer_tags[0])
        amqpstorm.Message.create(channel, 'again').publish('tasks')
        channel.basic.get('tasks').nack(requeue=True)
        again = channel.basic.get('tasks', no_ack=True)
        with pytest.raises(amqpstorm.AMQPChannelError) as raised:
            channel.queue.declare('missing', passive=True)
        bodies = [(message.body.encode(), message.properties['headers']) for message in got]
        return bodies, returned, raised.value.error_code, again.redelivered


@pytest.mark.parametrize('work', [with_pika, with_py_amqp, with_amqpstorm])
def test_they_work(target, work):
    got, returned, code, redelivered = work(target)
    assert [(bytes(body), dict(headers)['n']) for body, headers in got] == [
        (b'a', [1]),
        (b'b', [1]),
    ]
    assert returned == [b'lost']
    assert code == 404
    assert redelivered
    assert target.messages('tasks') == []


def test_they_hear_of_a_blocked_connection(target):
    heard = []
    with pika.BlockingConnection(pika.URLParameters(target.url)) as connection:
        connection.add_on_connection_blocked_callback(lambda *args: heard.append('blocked'))
        connection.add_on_connection_unblocked_callback(lambda *args: heard.append('unblocked'))
        target.block()
        connection.channel().basic_publish('', 'nowhere', b'x')
        while not heard:
            connection.process_data_events(20)
        target.unblock()
        while len(heard) < 2:
            connection.process_data_events(20)
    assert heard == ['blocked', 'unblocked']
