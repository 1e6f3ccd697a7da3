"""Exchanges: declaring, checking and deleting them, and how each type routes."""

import pytest

from tests.helpers.queues import get, get_bodies, new_name, ready_count
from tests.helpers.waiting import poll


def test_declaring_returns_none(channel):
    name = new_name()
    assert channel.exchange_declare(name, 'direct', durable=False, auto_delete=True) is None
    channel.exchange_delete(name)


def test_deleting_returns_none(channel, exists):
    name = new_name()
    channel.exchange_declare(name, 'direct')
    assert channel.exchange_delete(name) is None
    assert not exists(exchange=name)


def test_a_direct_exchange_routes_by_the_key_of_the_binding(amqp, channel, queue, exchange):
    channel.queue_bind(queue, exchange, 'red')
    channel.basic_publish(amqp.Message('no'), exchange, 'blue')
    channel.basic_publish(amqp.Message('yes'), exchange, 'red')
    assert get_bodies(channel, queue, 1) == ['yes']
    assert ready_count(channel, queue) == 0


def test_a_fanout_exchange_routes_to_every_queue_bound(amqp, channel, queue):
    name = new_name()
    channel.exchange_declare(name, 'fanout')
    second, _, _ = channel.queue_declare(exclusive=True)
    for bound in (queue, second):
        channel.queue_bind(bound, name)
    channel.basic_publish(amqp.Message('all'), name, 'any key')
    assert get(channel, queue).body == get(channel, second).body == 'all'


@pytest.mark.parametrize(
    ('pattern', 'key', 'matches'),
    [
        ('stock.*', 'stock.nyse', True),
        ('stock.*', 'stock.nyse.ibm', False),
        ('stock.#', 'stock.nyse.ibm', True),
        ('#', '', True),
    ],
)
def test_a_topic_exchange_routes_by_pattern(
    amqp, channel, queue, new_exchange, pattern, key, matches
):
    exchange = new_exchange('topic')
    channel.queue_bind(queue, exchange, pattern)
    channel.basic_publish(amqp.Message('routed'), exchange, key)
    # Behind it; a queue answers how many there are before it takes what has come.
    channel.basic_publish(amqp.Message('last'), '', queue)
    expected = ['routed', 'last'] if matches else ['last']
    assert get_bodies(channel, queue, len(expected)) == expected


def test_a_headers_exchange_routes_by_the_arguments_of_the_binding(
    amqp, channel, queue, new_exchange
):
    exchange = new_exchange('headers')
    wanted = {'x-match': 'all', 'kind': 'new', 'size': 7}
    channel.queue_bind(queue, exchange, arguments=wanted)
    for size in (6, 7):
        headers = {'kind': 'new', 'size': size}
        message = amqp.Message(str(size), application_headers=headers)
        channel.basic_publish(message, exchange)
    assert get_bodies(channel, queue, 1) == ['7']
    assert ready_count(channel, queue) == 0


def test_an_argument_of_the_declaration_is_heeded(amqp, channel, queue):
    """Here: alternate-exchange, where goes what the exchange routes nowhere."""
    alternate, name = new_name(), new_name()
    channel.exchange_declare(alternate, 'fanout')
    channel.queue_bind(queue, alternate)
    channel.exchange_declare(name, 'direct', arguments={'alternate-exchange': alternate})
    channel.basic_publish(amqp.Message('lost'), name, 'amqplib-test-nowhere')
    assert get(channel, queue).body == 'lost'
    channel.exchange_delete(name)


def test_by_default_an_exchange_goes_with_its_last_binding(channel, queue, exists):
    name = new_name()
    channel.exchange_declare(name, 'direct')
    channel.queue_bind(queue, name)
    assert exists(exchange=name)
    channel.queue_unbind(queue, name)
    poll(lambda: not exists(exchange=name), 'the deletion of the exchange')


def test_without_auto_delete_an_exchange_stays(channel, queue, exchange, exists):
    channel.queue_bind(queue, exchange)
    channel.queue_unbind(queue, exchange)
    assert exists(exchange=exchange)


def test_declaring_passively_checks_that_it_exists(channel, exchange):
    assert channel.exchange_declare(exchange, 'direct', passive=True) is None


def test_declaring_passively_what_does_not_exist_is_not_found(amqp, channel):
    with pytest.raises(amqp.NotFound) as raised:
        channel.exchange_declare(new_name(), 'direct', passive=True)
    assert raised.value.args[3] == 'Channel.exchange_declare'


@pytest.mark.parametrize('other', [{'type': 'fanout'}, {'durable': True}, {'auto_delete': True}])
def test_declaring_it_otherwise_fails(amqp, channel, exchange, other):
    arguments = {'type': 'direct', 'auto_delete': False, **other}
    with pytest.raises(amqp.PreconditionFailed):
        channel.exchange_declare(exchange, **arguments)


def test_publishing_to_an_internal_exchange_is_refused(amqp, connection, channel, queue):
    name = new_name()
    channel.exchange_declare(name, 'fanout', internal=True)
    channel.queue_bind(queue, name)
    publisher = connection.channel()
    publisher.basic_publish(amqp.Message(), name)
    with pytest.raises(amqp.AccessRefused) as raised:
        publisher.tx_select()
    assert raised.value.args[3] == 'Channel.basic_publish'


def test_deleting_if_unused_spares_an_exchange_with_a_binding(
    amqp, channel, queue, exchange, exists
):
    channel.queue_bind(queue, exchange)
    with pytest.raises(amqp.PreconditionFailed):
        channel.exchange_delete(exchange, if_unused=True)
    assert exists(exchange=exchange)


def test_deleting_if_unused_deletes_an_exchange_without_bindings(channel, exchange, exists):
    channel.exchange_delete(exchange, if_unused=True)
    assert not exists(exchange=exchange)


def test_deleting_what_does_not_exist_is_fine(channel):
    assert channel.exchange_delete(new_name()) is None


def test_declaring_with_nowait_declares_and_leaves_no_reply_behind(amqp, channel):
    name = new_name()
    assert channel.exchange_declare(name, 'direct', nowait=True) is None
    channel.exchange_declare(name, 'direct', passive=True)
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=0)
    channel.exchange_delete(name)


def test_deleting_with_nowait_deletes_and_leaves_no_reply_behind(amqp, channel, exists):
    name = new_name()
    channel.exchange_declare(name, 'direct')
    assert channel.exchange_delete(name, nowait=True) is None
    channel.queue_declare(exclusive=True)
    assert not exists(exchange=name)
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=0)


def test_an_unknown_type_is_refused(amqp, connection, channel):
    """By an error of the connection, as the specification says, or by one of the channel."""
    with pytest.raises(amqp.AMQPException, match='no-such-type') as raised:
        channel.exchange_declare(new_name(), 'no-such-type')
    assert raised.value.args[3] == 'Channel.exchange_declare'
    if raised.value.amqp_reply_code == 503:
        assert isinstance(raised.value, amqp.AMQPConnectionException)
        assert connection.transport is None
    else:  # since RabbitMQ 4
        assert type(raised.value) is amqp.PreconditionFailed
        assert connection.channel().is_open


def test_the_default_exchange_routes_to_the_queue_that_the_key_names(amqp, channel, queue):
    channel.basic_publish(amqp.Message('to you'), '', queue)
    assert get(channel, queue).body == 'to you'


def test_unicode_names_come_back_as_they_were(amqp, channel, queue):
    name = new_name() + 'ж\N{SNOWMAN}'
    channel.exchange_declare(name, 'direct')
    channel.queue_bind(queue, name, 'ключ')
    channel.basic_publish(amqp.Message(), name, 'ключ')
    info = get(channel, queue).delivery_info
    assert (info['exchange'], info['routing_key']) == (name, 'ключ')
