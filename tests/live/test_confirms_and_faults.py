"""Confirms where the broker runs short of memory, or is killed."""

import threading
import time

import pytest
from live_tools import drain, new_name, only_0_9_1

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


class Publisher:
    """Publishes persistent messages to a queue until the connection is lost.

    confirmed: the numbers that were confirmed; sent: the number of the last one.
    """

    def __init__(self, amqp, connection, queue):
        self.amqp = amqp
        self.queue = queue
        self.channel = connection.channel()
        self.channel.confirm_select(200)
        self.channel.on_confirm = self._on_confirm
        self.confirmed = set()
        self.sent = 0
        self._lowest = 1

    def _on_confirm(self, number, multiple, ok):
        assert ok
        self.confirmed.update(range(self._lowest, number + 1) if multiple else (number,))
        if multiple:
            self._lowest = number + 1

    def publish(self):
        message = self.amqp.Message(str(self.sent + 1), delivery_mode=2)
        self.sent = self.channel.basic_publish(message, '', self.queue)


def test_what_was_confirmed_is_there_after_a_kill_and_a_restart(amqp, own_node, dial):
    queues = {kind: new_name() for kind in ('classic', 'quorum')}
    connection = dial()
    for kind, name in queues.items():
        arguments = {'x-queue-type': kind}
        connection.channel().queue_declare(
            name, durable=True, auto_delete=False, arguments=arguments
        )
    publishers = [Publisher(amqp, connection, name) for name in queues.values()]

    def publish_until_lost():
        killer = None
        # RabbitMQ 3.10 forgets a quorum queue that is killed within a second of its declaration.
        earliest = time.monotonic() + 2
        try:
            while True:
                for publisher in publishers:
                    publisher.publish()
                if killer is None and time.monotonic() > earliest:
                    killer = threading.Thread(target=own_node.kill)
                    killer.start()
        finally:
            if killer is not None:
                killer.join()

    with pytest.raises(amqp.ConnectionLost):
        publish_until_lost()
    for publisher in publishers:
        with pytest.raises(amqp.ConnectionLost):
            publisher.channel.wait_for_confirms(timeout=10)
        assert len(publisher.confirmed) > 100
        # It was in the middle of it.
        assert len(publisher.confirmed) < publisher.sent

    own_node.start()
    channel = dial().channel()
    for publisher in publishers:
        left = fetch_all(amqp, channel, publisher.queue)
        assert publisher.confirmed <= left
        assert left <= set(range(1, publisher.sent + 2))
        channel.queue_delete(publisher.queue)


def fetch_all(amqp, channel, queue):
    """Return the numbers in the bodies of a queue.

    First comes one more message: as the queue confirms it, all others have been recovered.
    """
    channel.confirm_select()
    channel.basic_publish(amqp.Message('0', delivery_mode=2), '', queue)
    channel.wait_for_confirms(timeout=60)
    found = set()

    def note(message):
        found.add(int(message.body))
        channel.basic_ack(message.delivery_tag)

    tag = channel.basic_consume(queue, callback=note)
    drain(channel, lambda: 0 in found)
    channel.basic_cancel(tag)
    return found - {0}
