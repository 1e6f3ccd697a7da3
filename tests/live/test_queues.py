"""Queues: declaring, checking, binding, purging and deleting them."""

import pytest

from tests.helpers.queues import await_ready, get, get_bodies, new_name, nothing_waits, ready_count
from tests.helpers.waiting import poll


def fill(amqp, channel, queue, count):
    """Publish this many messages, and wait until they are in the queue."""
    for number in range(count):
        channel.basic_publish(amqp.Message(str(number)), '', queue)
    await_ready(channel, queue, count)


# Declaring


def test_declaring_returns_a_tuple_of_name_and_counts(amqp, channel):
    name = new_name()
    declared = channel.queue_declare(name, exclusive=True)
    assert type(declared) is tuple
    assert declared == (name, 0, 0)


def test_the_broker_makes_up_a_name_if_none_is_given(channel):
    first, _, _ = channel.queue_declare(exclusive=True)
    second, _, _ = channel.queue_declare('', exclusive=True)
    assert isinstance(first, str)
    assert first != second
    assert '' not in (first, second)


def test_declaring_it_again_tells_how_many_messages_and_consumers_there_are(
    amqp, channel, shared_queue
):
    fill(amqp, channel, shared_queue, 3)
    assert channel.queue_declare(shared_queue, durable=True, auto_delete=False)[1:] == (3, 0)
    channel.basic_consume(shared_queue)
    assert channel.queue_declare(shared_queue, durable=True, auto_delete=False)[1:] == (0, 1)


def test_declaring_passively_checks_that_it_exists(channel, queue):
    assert channel.queue_declare(queue, passive=True) == (queue, 0, 0)


def test_declaring_passively_what_does_not_exist_is_not_found(amqp, channel):
    name = new_name()
    with pytest.raises(amqp.NotFound, match=name):
        channel.queue_declare(name, passive=True)


@pytest.mark.parametrize(
    'other', [{'durable': False}, {'auto_delete': True}, {'arguments': {'x-max-length': 5}}]
)
def test_declaring_it_otherwise_fails(amqp, channel, shared_queue, other):
    as_before = {'durable': True, 'auto_delete': False}
    with pytest.raises(amqp.PreconditionFailed, match='inequivalent'):
        channel.queue_declare(shared_queue, **{**as_before, **other})


def test_an_exclusive_queue_is_locked_to_other_connections(amqp, queue, other_channel):
    with pytest.raises(amqp.ResourceLocked):
        other_channel.queue_declare(queue, passive=True)


def test_an_exclusive_queue_goes_with_its_connection(connect, exists):
    conn = connect()
    name, _, _ = conn.channel().queue_declare(exclusive=True, auto_delete=False)
    conn.close()
    poll(lambda: not exists(queue=name), 'the deletion of the queue')


def test_by_default_a_queue_goes_with_its_last_consumer(channel, exists):
    name, _, _ = channel.queue_declare(durable=True)
    tag = channel.basic_consume(name)
    assert exists(queue=name)
    channel.basic_cancel(tag)
    poll(lambda: not exists(queue=name), 'the deletion of the queue')


def test_without_auto_delete_a_queue_stays(channel, shared_queue, exists):
    channel.basic_cancel(channel.basic_consume(shared_queue))
    assert exists(queue=shared_queue)


def test_declaring_with_nowait_declares_and_leaves_no_reply_behind(amqp, channel):
    name = new_name()
    assert channel.queue_declare(name, exclusive=True, nowait=True) is None
    assert channel.queue_declare(name, passive=True) == (name, 0, 0)
    assert nothing_waits(amqp, channel)


def test_arguments_of_the_declaration_are_heeded(amqp, channel):
    arguments = {'x-max-length': 2, 'x-overflow': 'drop-head'}
    name, _, _ = channel.queue_declare(exclusive=True, arguments=arguments)
    for number in range(5):
        channel.basic_publish(amqp.Message(str(number)), '', name)
    channel.tx_select()
    assert get_bodies(channel, name, 2) == ['3', '4']


def test_a_durable_queue_can_be_declared(channel):
    name = new_name()
    assert channel.queue_declare(name, durable=True, auto_delete=False) == (name, 0, 0)
    assert channel.queue_declare(name, durable=True, auto_delete=False) == (name, 0, 0)
    assert channel.queue_delete(name) == 0


# Binding


def test_binding_and_unbinding_return_none(channel, queue, exchange):
    assert channel.queue_bind(queue, exchange, 'key') is None
    assert channel.queue_unbind(queue, exchange, 'key') is None


def test_an_unbound_queue_gets_nothing_more(amqp, channel, queue, exchange):
    channel.queue_bind(queue, exchange, 'key')
    channel.basic_publish(amqp.Message('bound'), exchange, 'key')
    channel.queue_unbind(queue, exchange, 'key')
    channel.basic_publish(amqp.Message('unbound'), exchange, 'key')
    channel.tx_select()
    assert get_bodies(channel, queue, 1) == ['bound']
    assert ready_count(channel, queue) == 0


def test_unbinding_by_another_key_leaves_the_binding(amqp, channel, queue, exchange):
    channel.queue_bind(queue, exchange, 'key')
    channel.queue_unbind(queue, exchange, 'another key')
    channel.basic_publish(amqp.Message('bound'), exchange, 'key')
    assert get(channel, queue).body == 'bound'


def test_a_binding_with_arguments_is_removed_by_these_arguments(amqp, channel, queue, new_exchange):
    exchange = new_exchange('headers')
    first, second = ({'x-match': 'any', 'to': f'{queue}-{end}'} for end in 'ab')
    for arguments in (first, second):
        channel.queue_bind(queue, exchange, arguments=arguments)
    channel.queue_unbind(queue, exchange, arguments=first)
    for arguments in (first, second):
        message = amqp.Message(arguments['to'], application_headers={'to': arguments['to']})
        channel.basic_publish(message, exchange)
    channel.tx_select()
    assert get_bodies(channel, queue, 1) == [second['to']]
    assert ready_count(channel, queue) == 0


def test_no_name_means_the_queue_declared_last(amqp, channel):
    name, _, _ = channel.queue_declare(exclusive=True)
    channel.queue_bind('', 'amq.direct', name)
    channel.basic_publish(amqp.Message('here'), 'amq.direct', name)
    await_ready(channel, name, 1)
    assert channel.basic_get(no_ack=True).body == 'here'
    assert channel.queue_purge() == 0
    assert channel.queue_delete() == 0


def test_binding_to_a_missing_exchange_is_not_found(amqp, channel, queue):
    with pytest.raises(amqp.NotFound) as raised:
        channel.queue_bind(queue, new_name())
    assert raised.value.args[3] == 'Channel.queue_bind'


def test_unbinding_what_is_not_bound_is_fine(channel, queue, exchange):
    assert channel.queue_unbind(queue, exchange, 'never bound') is None


def test_binding_with_nowait_binds_and_leaves_no_reply_behind(amqp, channel, queue, exchange):
    assert channel.queue_bind(queue, exchange, 'key', nowait=True) is None
    channel.basic_publish(amqp.Message('bound'), exchange, 'key')
    assert get(channel, queue).body == 'bound'
    assert nothing_waits(amqp, channel)


def test_unbinding_with_nowait_unbinds_and_leaves_no_reply_behind(amqp, channel, queue, exchange):
    channel.queue_bind(queue, exchange, 'key')
    assert channel.queue_unbind(queue, exchange, 'key', nowait=True) is None
    channel.basic_publish(amqp.Message('unbound'), exchange, 'key')
    channel.tx_select()
    assert ready_count(channel, queue) == 0
    assert nothing_waits(amqp, channel)


def test_after_unbinding_with_nowait_a_wait_is_for_the_next_message(amqp, channel, queue, exchange):
    bodies = []
    channel.basic_consume(queue, no_ack=True, callback=lambda message: bodies.append(message.body))
    channel.queue_bind(queue, exchange, 'key')
    channel.queue_unbind(queue, exchange, 'key', nowait=True)
    channel.basic_publish(amqp.Message('first'), '', queue)
    channel.wait(timeout=5)
    assert bodies == ['first']


# Purging


def test_purging_returns_how_many_messages_there_were(amqp, channel, queue):
    fill(amqp, channel, queue, 4)
    assert channel.queue_purge(queue) == 4
    assert channel.queue_purge(queue) == 0
    assert ready_count(channel, queue) == 0


def test_purging_leaves_what_is_delivered(amqp, channel, queue):
    fill(amqp, channel, queue, 2)
    unacknowledged = channel.basic_get(queue)
    assert channel.queue_purge(queue) == 1
    channel.basic_reject(unacknowledged.delivery_tag, requeue=True)
    assert get(channel, queue).body == '0'


def test_purging_with_nowait_purges_and_leaves_no_reply_behind(amqp, channel, queue):
    fill(amqp, channel, queue, 4)
    assert channel.queue_purge(queue, nowait=True) is None
    assert ready_count(channel, queue) == 0
    assert nothing_waits(amqp, channel)


def test_purging_a_missing_queue_is_not_found(amqp, channel):
    with pytest.raises(amqp.NotFound):
        channel.queue_purge(new_name())


# Deleting


def test_deleting_returns_how_many_messages_went_with_it(amqp, channel, queue, exists):
    fill(amqp, channel, queue, 3)
    assert channel.queue_delete(queue) == 3
    assert not exists(queue=queue)


def test_deleting_a_missing_queue_is_fine(channel):
    assert channel.queue_delete(new_name()) == 0


def test_deleting_if_unused_spares_a_queue_with_a_consumer(amqp, channel, shared_queue, exists):
    channel.basic_consume(shared_queue)
    with pytest.raises(amqp.PreconditionFailed, match='in use'):
        channel.queue_delete(shared_queue, if_unused=True)
    assert exists(queue=shared_queue)


def test_deleting_if_unused_deletes_a_queue_without_consumers(channel, shared_queue, exists):
    assert channel.queue_delete(shared_queue, if_unused=True) == 0
    assert not exists(queue=shared_queue)


def test_deleting_if_empty_spares_a_queue_with_messages(amqp, channel, shared_queue, exists):
    fill(amqp, channel, shared_queue, 1)
    with pytest.raises(amqp.PreconditionFailed, match='not empty'):
        channel.queue_delete(shared_queue, if_empty=True)
    assert exists(queue=shared_queue)


def test_deleting_if_empty_deletes_an_empty_queue(channel, shared_queue, exists):
    assert channel.queue_delete(shared_queue, if_empty=True) == 0
    assert not exists(queue=shared_queue)


def test_deleting_with_nowait_deletes_and_leaves_no_reply_behind(
    amqp, channel, shared_queue, exists
):
    fill(amqp, channel, shared_queue, 1)
    assert channel.queue_delete(shared_queue, nowait=True) is None
    assert nothing_waits(amqp, channel)
    assert not exists(queue=shared_queue)


# What fails where nothing is waited for


@pytest.mark.parametrize(
    ('method', 'arguments', 'error'),
    [
        ('queue_declare', ('amq.reserved',), 'AccessRefused'),
        ('queue_bind', ('QUEUE', 'amqplib-test-no-such-exchange'), 'NotFound'),
        ('queue_purge', ('amqplib-test-no-such-queue',), 'NotFound'),
        ('queue_delete', ('QUEUE', False, True), 'PreconditionFailed'),
        ('exchange_declare', ('amq.reserved', 'direct'), 'AccessRefused'),
        ('exchange_delete', ('amq.direct',), 'AccessRefused'),
        ('basic_consume', ('amqplib-test-no-such-queue',), 'NotFound'),
    ],
)
def test_what_fails_with_nowait_is_raised_by_the_next_call(
    amqp, connection, channel, queue, method, arguments, error
):
    fill(amqp, channel, queue, 1)
    arguments = [queue if argument == 'QUEUE' else argument for argument in arguments]
    getattr(channel, method)(*arguments, nowait=True)
    with pytest.raises(getattr(amqp, error)) as raised:
        channel.basic_qos(0, 1, False)
    assert raised.value.args[3] == f'Channel.{method}'
    assert connection.channel().queue_declare(queue, passive=True)[1] == 1
