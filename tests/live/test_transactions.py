"""Transactions: what takes effect when."""

import pytest
from live_tools import await_ready, close_and_get_what_comes_back, ready_count


@pytest.fixture
def tx(connection):
    """A channel with a transaction."""
    channel = connection.channel()
    assert channel.tx_select() is None
    return channel


def test_a_commit_makes_what_was_published_visible(amqp, channel, tx, queue):
    for _ in range(3):
        tx.basic_publish(amqp.Message('x'), '', queue)
    tx.queue_declare(exclusive=True)  # the messages have reached the broker
    assert ready_count(channel, queue) == 0
    assert tx.tx_commit() is None
    assert ready_count(channel, queue) == 3


def test_a_rollback_forgets_what_was_published(amqp, channel, tx, queue):
    tx.basic_publish(amqp.Message('forgotten'), '', queue)
    assert tx.tx_rollback() is None
    tx.basic_publish(amqp.Message('kept'), '', queue)
    tx.tx_commit()
    assert ready_count(channel, queue) == 1
    assert channel.basic_get(queue).body == 'kept'


def test_closing_the_channel_forgets_what_was_published(amqp, channel, tx, queue):
    tx.basic_publish(amqp.Message('forgotten'), '', queue)
    tx.close()
    assert ready_count(channel, queue) == 0


def test_a_commit_makes_acknowledgements_final(amqp, connection, channel, tx, queue):
    channel.basic_publish(amqp.Message('x'), '', queue)
    await_ready(channel, queue, 1)
    tx.basic_ack(tx.basic_get(queue).delivery_tag)
    tx.tx_commit()
    assert close_and_get_what_comes_back(amqp, connection, tx, queue) == []


def test_without_a_commit_acknowledgements_are_forgotten(amqp, channel, tx, queue):
    channel.basic_publish(amqp.Message('x'), '', queue)
    await_ready(channel, queue, 1)
    tx.basic_ack(tx.basic_get(queue).delivery_tag)
    tx.close()
    await_ready(channel, queue, 1)


def test_after_a_rollback_acknowledgements_can_be_given_again(amqp, connection, channel, tx, queue):
    channel.basic_publish(amqp.Message('x'), '', queue)
    await_ready(channel, queue, 1)
    message = tx.basic_get(queue)
    tx.basic_ack(message.delivery_tag)
    tx.tx_rollback()
    tx.basic_ack(message.delivery_tag)
    tx.tx_commit()
    assert close_and_get_what_comes_back(amqp, connection, tx, queue) == []


def test_other_channels_are_not_part_of_it(amqp, connection, channel, tx, queue):
    channel.basic_publish(amqp.Message('at once'), '', queue)
    await_ready(channel, queue, 1)
    tx.tx_rollback()
    assert ready_count(channel, queue) == 1


def test_a_commit_that_routes_nowhere_returns_the_message_first(amqp, tx):
    tx.basic_publish(amqp.Message('back'), '', 'no such queue', mandatory=True)
    tx.tx_commit()
    assert tx.returned_messages.get_nowait()[4].body == 'back'


@pytest.mark.parametrize('method', ['tx_commit', 'tx_rollback'])
def test_it_has_to_be_begun(amqp, channel, method):
    with pytest.raises(amqp.PreconditionFailed) as raised:
        getattr(channel, method)()
    assert raised.value.args[3] == f'Channel.{method}'
