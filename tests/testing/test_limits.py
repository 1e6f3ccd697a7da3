"""Endless requests of a client stay within limits, and do not disturb other clients."""

import contextlib
import struct

import pytest

import amqplib.client_0_9_1 as amqp
from amqplib.testing import Broker
from tests.testing.test_hostile import frame
from tests.testing.test_wire import login, method, receive


@pytest.fixture
def small_broker():
    """A broker with a megabyte for messages."""
    with Broker(memory_limit=1024 * 1024) as broker:
        yield broker


@pytest.fixture
def sock(small_broker):
    """A socket on which a connection and channel 1 are open."""
    with login('127.0.0.1', small_broker.port) as sock:
        yield sock


def content(channel, body, size=None, key='nowhere'):
    """Return the frames of a message that goes nowhere, or of the beginning of a larger one."""
    header = struct.pack('>HHQ', 60, 0, len(body) if size is None else size) + b'\0\0'
    return (
        method(channel, 'basic.publish', 0, '', key, False, False)
        + frame(2, channel, header)
        + frame(3, channel, body)
    )


def test_complete_contents_beside_one_that_is_not_are_not_limited(sock):
    """A publisher of large messages is nearly always in the middle of one."""
    sock.sendall(method(2, 'channel.open', '') + content(2, b'x', size=10))
    sock.sendall(content(1, bytes(100_000)) * 30)
    sock.sendall(method(1, 'queue.purge', 0, 'nothing', False))
    assert b'NOT_FOUND' in receive(sock, 'channel.close')


def publish_until_blocked(broker, sock, key='nowhere'):
    """Publish 30 MB; long before the end the broker is low on memory, and reads no more."""
    rest = memoryview(content(1, bytes(10_000), key=key) * 3000)
    sock.settimeout(0.05)
    while not broker._shared.memory.alarm:
        assert rest, 'it has read everything'
        with contextlib.suppress(TimeoutError):
            rest = rest[sock.send(rest[:100_000]) :]


def test_messages_of_a_transaction_take_memory(sock, small_broker):
    sock.sendall(method(1, 'tx.select'))
    publish_until_blocked(small_broker, sock)
    small_broker.drop_connections()
    assert small_broker._shared.memory.used == 0


def test_a_transaction_looks_for_its_queues_at_its_end(small_broker):
    """RabbitMQ 3 does so too; RabbitMQ 4 ends the connection when a queue has gone."""
    with amqp.Connection(small_broker.host) as connection, connection.channel() as channel:
        for name in ('gone', 'declared again'):
            channel.queue_declare(name, exclusive=True)
        with channel.transaction():
            for name in ('gone', 'declared again'):
                channel.basic_publish(amqp.Message('1'), '', name, mandatory=True)
                channel.queue_delete(name)
            channel.queue_declare('declared again', exclusive=True)
        assert channel.basic_get('declared again', no_ack=True).body == '1'
        assert channel.returned_messages.get_nowait()[3] == 'gone'
        assert channel.returned_messages.empty()
        assert small_broker._shared.memory.used == 0


def test_replies_that_nobody_reads_take_memory(sock, small_broker):
    lost = contextlib.suppress(amqp.ConnectionLost)
    with lost, amqp.Connection(small_broker.host) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(auto_delete=False)[0]
        channel.basic_consume('amq.rabbitmq.reply-to', no_ack=True)
        channel.basic_publish(amqp.Message('?', reply_to='amq.rabbitmq.reply-to'), '', queue)
        request = channel.basic_get(queue, no_ack=True)
        publish_until_blocked(small_broker, sock, request.reply_to)
        small_broker.drop_connections()
    assert small_broker._shared.memory.used == 0


def test_a_message_in_a_chain_of_full_queues_goes_to_the_last(small_broker):
    """None of the others takes it, and each has the next one for its dead letters."""
    with amqp.Connection(small_broker.host) as connection, connection.channel() as channel:
        for number in range(300):
            arguments = {
                'x-max-length': 0,
                'x-overflow': 'reject-publish-dlx',
                'x-dead-letter-exchange': '',
                'x-dead-letter-routing-key': str(number + 1),
            }
            channel.queue_declare(str(number), auto_delete=False, arguments=arguments)
        channel.queue_declare('300', auto_delete=False)
        channel.basic_publish(amqp.Message('x'), '', '0')
        assert channel.queue_declare('300', passive=True)[1] == 1


def test_a_long_chain_of_exchanges_ends_with_its_queue(small_broker):
    with amqp.Connection(small_broker.host) as connection, connection.channel() as channel:
        queue = channel.queue_declare(exclusive=True)[0]
        for number in range(500):
            channel.exchange_declare(str(number), 'fanout', auto_delete=True)
            if number:
                channel.exchange_bind(str(number - 1), str(number))
        channel.queue_bind(queue, '0')
        channel.queue_delete(queue)
        with pytest.raises(amqp.NotFound):
            channel.exchange_declare('499', 'fanout', passive=True)


def test_many_refusals_on_request_take_no_memory(small_broker):
    small_broker.refuse(404, times=10**12, method='queue.purge')
    with amqp.Connection(small_broker.host) as connection:
        for _ in range(3):
            with pytest.raises(amqp.NotFound, match='on request'):
                connection.channel().queue_purge('q')


@pytest.mark.parametrize(
    ('fault', 'arguments', 'error'),
    [
        ('refuse', {'code': 0}, ValueError),
        ('refuse', {'code': 65536}, ValueError),
        ('refuse', {'code': '404'}, TypeError),
        ('refuse', {'code': 404.0}, TypeError),
        ('refuse', {'code': 404, 'times': 0}, ValueError),
        ('refuse', {'code': 404, 'times': 1.5}, TypeError),
        ('refuse', {'code': 404, 'method': 'queue.declared'}, ValueError),
        ('refuse', {'code': 404, 'text': None}, TypeError),
        ('refuse', {'code': 404, 'text': '\ud800'}, ValueError),
        ('close_connections', {'text': b'bye'}, TypeError),
        ('delay', {'seconds': -1}, ValueError),
        ('delay', {'seconds': float('nan')}, ValueError),
        ('delay', {'seconds': None}, TypeError),
        ('messages', {'queue': ['tasks']}, TypeError),
    ],
)
def test_a_fault_that_cannot_be_is_an_error_of_the_test(small_broker, fault, arguments, error):
    with pytest.raises(error, match=f'^{list(arguments)[-1]}: '):
        getattr(small_broker, fault)(**arguments)
    with amqp.Connection(small_broker.host) as connection:
        assert connection.channel().queue_declare(exclusive=True)


@pytest.mark.parametrize(
    ('arguments', 'error'),
    [
        ({'port': '5672'}, TypeError),
        ({'port': 65536}, ValueError),
        ({'host': None}, TypeError),
        ({'user': None}, TypeError),
        ({'password': 5}, TypeError),
        ({'vhosts': 'test'}, TypeError),
        ({'vhosts': ()}, ValueError),
        ({'vhosts': [5]}, TypeError),
        ({'memory_limit': None}, TypeError),
        ({'memory_limit': -1}, ValueError),
    ],
    ids=str,
)
def test_a_broker_that_cannot_be_is_an_error(arguments, error):
    with pytest.raises(error, match=f'^{next(iter(arguments))}: '):
        Broker(**arguments)
