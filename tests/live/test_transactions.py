"""Transactions: what takes effect when."""

import pytest

from amqplib.exceptions import ConnectionLost
from tests.helpers.checks import sends_nothing
from tests.helpers.packages import only_0_9_1
from tests.helpers.queues import await_ready, close_and_get_what_comes_back, get_bodies, ready_count


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


def test_a_commit_of_what_a_queue_refuses_closes_the_channel(amqp, channel, tx):
    """The other messages are in the queue."""
    arguments = {'x-max-length': 1, 'x-overflow': 'reject-publish'}
    full = channel.queue_declare(exclusive=True, auto_delete=False, arguments=arguments)[0]
    for body in ('fits', 'refused'):
        tx.basic_publish(amqp.Message(body), '', full)
    with pytest.raises(amqp.PreconditionFailed, match='partial tx completion') as closed:
        tx.tx_commit()
    assert closed.value.args[3] == 'Channel.tx_commit'
    assert get_bodies(channel, full, 1) == ['fits']


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


# Blocks


def test_a_block_publishes_and_acknowledges_all_or_nothing(amqp, channel, queue):
    channel.basic_publish(amqp.Message('question'), '', queue)
    await_ready(channel, queue, 1)
    question = channel.basic_get(queue)

    def answer():
        channel.basic_publish(amqp.Message('answer'), '', queue)
        channel.basic_ack(question.delivery_tag)

    def answer_and_fail():
        with channel.transaction():
            answer()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answer_and_fail()
    assert ready_count(channel, queue) == 0
    with channel.transaction():
        answer()
    assert get_bodies(channel, queue, 1) == ['answer']
    channel.basic_recover_sync(True)
    assert channel.basic_get(queue) is None


@pytest.mark.parametrize(
    'error',
    [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, ConnectionLost(0, 'another one')],
    ids=lambda error: getattr(error, '__name__', 'AMQPException'),
)
def test_a_block_rolls_back_whatever_is_raised(amqp, channel, queue, error):
    def answer_and_fail():
        with channel.transaction():
            channel.basic_publish(amqp.Message('lost'), '', queue)
            raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        answer_and_fail()
    with channel.transaction():
        channel.basic_publish(amqp.Message('kept'), '', queue)
    assert get_bodies(channel, queue, 1) == ['kept']
    assert channel.basic_get(queue) is None


def test_a_block_that_closes_its_channel_has_done_nothing(amqp, connection, channel, queue):
    own = connection.channel()

    def answer_and_close():
        with own.transaction():
            own.basic_publish(amqp.Message('lost'), '', queue)
            own.close()

    with pytest.raises(amqp.AMQPChannelException, match='closed by this program'):
        answer_and_close()
    assert ready_count(channel, queue) == 0


def test_a_block_that_publishes_to_no_exchange_says_so_at_its_end(amqp, channel):
    with pytest.raises(amqp.NotFound, match='no-such-exchange'), channel.transaction():
        channel.basic_publish(amqp.Message(), 'no-such-exchange')
    with pytest.raises(amqp.NotFound, match='no-such-exchange'), channel.transaction():
        pytest.fail('the block was run')


def test_a_connection_that_breaks_in_a_block_does_not_hide_its_error(amqp, connection, channel):

    def break_and_fail():
        with channel.transaction():
            connection.transport.shutdown()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_and_fail()
    with pytest.raises(amqp.ConnectionLost), channel.transaction():
        pytest.fail('the block was run')


@only_0_9_1
def test_a_block_on_a_channel_with_confirms_is_refused(amqp, connection, channel, queue):
    channel.confirm_select()
    refused = pytest.raises(amqp.AMQPException, match='confirm_select')
    with sends_nothing(connection), refused, channel.transaction():
        pytest.fail('the block was run')
    channel.basic_publish(amqp.Message(), '', queue)
    channel.wait_for_confirms(timeout=10)
