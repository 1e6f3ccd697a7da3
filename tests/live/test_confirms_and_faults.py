"""Confirms where the broker runs short of memory, or is killed."""

import threading
import time

import broker as brokers
import pytest
from live_tools import drain, new_name, only_0_9_1

pytestmark = only_0_9_1


@pytest.fixture(scope='module')
def node():
    """A node of our own, which a test may kill if it starts it again."""
    with brokers.new_node() as ours:
        yield ours


@pytest.fixture
def dial(node, connect):
    """A function that connects to that node."""
    return lambda **arguments: connect(host=node.address, **arguments)


def test_the_broker_says_that_it_is_short_of_memory_and_when_it_is_not_any_more(amqp, node, dial):
    connection = dial(write_timeout=0.3)
    channel = connection.channel()
    channel.confirm_select()
    queue, _, _ = channel.queue_declare(exclusive=True)
    told = []
    connection.on_blocked = told.append
    connection.on_unblocked = lambda: told.append('unblocked')
    with node.memory_alarm():
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


def test_what_was_confirmed_is_there_after_a_kill_and_a_restart(amqp, node, dial):
    queues = {kind: new_name() for kind in ('classic', 'quorum')}
    keeper = dial().channel()
    for kind, name in queues.items():
        arguments = {'x-queue-type': kind}
        keeper.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
    connection = dial()
    publishers = [Publisher(amqp, connection, name) for name in queues.values()]

    def publish_until_lost():
        killer = None
        try:
            while True:
                for publisher in publishers:
                    publisher.publish()
                if killer is None and all(len(one.confirmed) > 1000 for one in publishers):
                    killer = threading.Thread(target=node.kill)
                    killer.start()
        finally:
            if killer is not None:
                killer.join()

    with pytest.raises(amqp.ConnectionLost):
        publish_until_lost()
    for publisher in publishers:
        with pytest.raises(amqp.ConnectionLost):
            publisher.channel.wait_for_confirms(timeout=10)
        assert publisher.confirmed
        # It was in the middle of it.
        assert len(publisher.confirmed) < publisher.sent

    node.start()
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
    channel.basic_consume(queue, callback=lambda message: found.add(int(message.body)))
    drain(channel, lambda: 0 in found)
    return found - {0}
