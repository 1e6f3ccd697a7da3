"""Confirms where the broker runs short of memory, or is killed."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.confirmed import Confirmed
from tests.helpers.nodes import close_connections
from tests.helpers.packages import only_0_9_1
from tests.helpers.queues import drain, get_bodies, new_name

pytestmark = only_0_9_1


@pytest.fixture
def dial(own_node, connect):
    """A function that connects to the node of our own."""
    return lambda **arguments: connect(host=own_node.address, **arguments)


def test_the_broker_says_that_it_is_short_of_memory_and_when_it_is_not_any_more(
    amqp, own_node, dial
):
    connection = dial(write_timeout=0.3)
    channel = connection.channel()
    channel.confirm_select()
    queue, _, _ = channel.queue_declare(exclusive=True)
    told = []
    connection.on_blocked = told.append
    connection.on_unblocked = lambda: told.append('unblocked')
    with own_node.memory_alarm():
        assert connection.blocked is None
        # It is said to those that publish.
        assert channel.basic_publish(amqp.Message('waits there'), '', queue) == 1
        while connection.blocked is None:
            connection.wait(timeout=10)
        assert 'memory' in connection.blocked
        assert told == [connection.blocked]
        begun = time.monotonic()
        with pytest.raises(amqp.AMQPTimeout, match='memory'):
            channel.basic_publish(amqp.Message('is not sent'), '', queue)
        assert 0.25 < time.monotonic() - begun < 5
        with pytest.raises(amqp.AMQPTimeout, match=r'1 message not confirmed .*memory'):
            channel.wait_for_confirms(timeout=0.1)
        assert connection.channels
    while connection.blocked is not None:
        connection.wait(timeout=10)
    assert told[1:] == ['unblocked']
    channel.wait_for_confirms(timeout=10)
    assert channel.basic_publish(amqp.Message('after'), '', queue) == 2
    channel.wait_for_confirms(timeout=10)
    assert channel.queue_purge(queue) == 2


def test_an_operator_closes_a_connection_whose_confirms_do_not_come(amqp, own_node, dial):
    connection = dial()
    channel = connection.channel()
    channel.confirm_select()
    queue, _, _ = channel.queue_declare(exclusive=True)
    with own_node.memory_alarm():
        for number in range(1, 4):
            assert channel.basic_publish(amqp.Message('x'), '', queue) == number
        with ThreadPoolExecutor(1) as executor:
            closing = executor.submit(close_connections, own_node, 'good night')
            for _ in range(2):
                with pytest.raises(amqp.ConnectionForced, match='good night'):
                    channel.wait_for_confirms(timeout=30)
            closing.result()


def test_a_frozen_broker_gets_no_more_than_the_limit(amqp, own_node, dial):
    """Publishing waits within write_timeout, and goes on with the next number."""
    channel = dial(write_timeout=0.3, heartbeat=0).channel()
    channel.confirm_select(outstanding_limit=10)
    queue, _, _ = channel.queue_declare(exclusive=True)
    own_node.suspend()
    try:
        for number in range(1, 11):
            assert channel.basic_publish(amqp.Message(str(number)), '', queue) == number
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(amqp.AMQPTimeout, match=r'10 messages not confirmed within 0\.3 s'):
                channel.basic_publish(amqp.Message('is not sent'), '', queue)
            assert 0.29 < time.monotonic() - begun < 5
    finally:
        own_node.resume()
    channel.wait_for_confirms(timeout=30)
    assert channel.basic_publish(amqp.Message('11'), '', queue) == 11
    channel.wait_for_confirms(timeout=10)
    assert get_bodies(channel, queue, 11) == [str(number) for number in range(1, 12)]


class Publisher:
    """Publishes persistent messages to a queue, whose bodies are their numbers.

    confirmed: the numbers that were confirmed; sent: the number of the last one.
    unsure: whether one more may have been sent, as publishing it has raised an error.
    """

    def __init__(self, amqp, connection, queue):
        self.amqp = amqp
        self.queue = queue
        self.channel = connection.channel()
        self.confirmed = Confirmed(self.channel).numbers
        self.sent = 0
        self.unsure = False

    def publish(self):
        message = self.amqp.Message(str(self.sent + 1), delivery_mode=2)
        self.unsure = True
        self.sent = self.channel.basic_publish(message, '', self.queue)
        self.unsure = False


@pytest.fixture
def publishers(amqp, dial):
    """A `Publisher` for each kind of durable queue, on one connection."""
    connection = dial()
    ours = []
    for kind in ('classic', 'quorum'):
        name, arguments = new_name(), {'x-queue-type': kind}
        keeper = connection.channel()
        keeper.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        keeper.close()
        ours.append(Publisher(amqp, connection, name))
    # RabbitMQ 3.10 forgets a quorum queue that is killed within a second of its declaration.
    time.sleep(2)
    return ours


@pytest.mark.parametrize('confirmed', [1, 100, 2500])
def test_what_was_confirmed_is_there_after_a_kill_while_publishing(
    amqp, own_node, dial, publishers, confirmed
):
    """The broker is killed after so many confirms, right behind some more messages."""
    for publisher in publishers:
        publisher.channel.confirm_select(outstanding_limit=200)
    while any(len(publisher.confirmed) < confirmed for publisher in publishers):
        for publisher in publishers:
            publisher.publish()
    for _ in range(150):
        for publisher in publishers:
            publisher.publish()
    own_node.kill()

    def publish_until_lost():
        while True:
            publishers[0].publish()

    with pytest.raises(amqp.ConnectionLost):
        publish_until_lost()
    check_after_restart(amqp, own_node, dial, publishers)


@pytest.mark.parametrize('confirmed', [1, 3000])
def test_what_was_confirmed_is_there_after_a_kill_while_waiting(
    amqp, own_node, dial, publishers, confirmed
):
    """Everything is published when the broker is killed, and some of it confirmed."""
    for publisher in publishers:
        publisher.channel.confirm_select()
    for _ in range(5000):
        for publisher in publishers:
            publisher.publish()
    for publisher in publishers:
        while len(publisher.confirmed) < confirmed:
            publisher.channel.wait(timeout=10)
    own_node.kill()
    check_after_restart(amqp, own_node, dial, publishers)


def check_after_restart(amqp, node, dial, publishers):
    """Check that after a restart all is there that was confirmed before the connection was lost."""
    for publisher in publishers:
        # It may return only if all were confirmed before the loss was noticed.
        with contextlib.suppress(amqp.ConnectionLost):
            publisher.channel.wait_for_confirms(timeout=10)
            assert len(publisher.confirmed) == publisher.sent
        with pytest.raises(amqp.ConnectionLost):
            publisher.channel.basic_get(publisher.queue)
    node.start()
    channel = dial().channel()
    for publisher in publishers:
        left = fetch_all(amqp, channel, publisher.queue)
        assert len(left) == len(set(left)), 'a message is there twice'
        assert publisher.confirmed <= set(left)
        assert set(left) <= set(range(1, publisher.sent + publisher.unsure + 1))
        channel.queue_delete(publisher.queue)


def fetch_all(amqp, channel, queue):
    """Return the numbers in the bodies of a queue.

    First comes one more message: as the queue confirms it, all others have been recovered.
    """
    channel.confirm_select()
    channel.basic_publish(amqp.Message('0', delivery_mode=2), '', queue)
    channel.wait_for_confirms(timeout=60)
    found = []

    def note(message):
        found.append(int(message.body))
        channel.basic_ack(message.delivery_tag)

    tag = channel.basic_consume(queue, callback=note)
    drain(channel, lambda: 0 in found)
    channel.basic_cancel(tag)
    found.remove(0)
    return found
