"""Publisher over lines that are cut, and a broker that is killed, frozen or out of memory.

Every message for which publish() has returned is in the queue. A message is there twice only after
a loss, and then with the same message_id.
"""

import contextlib

import pytest

from tests.helpers.fault_proxy import DOWN, UP
from tests.helpers.nodes import suspended, write_down
from tests.helpers.packages import mostly_0_9_1
from tests.helpers.queues import get_all, new_name
from tests.helpers.threads import begin
from tests.helpers.waiting import poll

PATIENCE = 60


@pytest.fixture
def publish_to(amqp, _nothing_left_behind):
    """A function (address, **arguments) that makes a Publisher; it is closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(address, setup=None, cls=amqp.Publisher, **arguments):
            arguments.setdefault('timeout', PATIENCE)
            ours = cls(f'amqp://guest:guest@{address}', setup, **arguments)
            stack.callback(drop, amqp, ours)
            return ours

        yield make


def drop(amqp, ours):
    with contextlib.suppress(amqp.AMQPException):
        ours.close(timeout=1)


def messages_of(channel, queue):
    return list(iter(lambda: channel.basic_get(queue, no_ack=True), None))


def check_once_or_again(messages, wanted):
    """Check that all is there, in order, and that what is there twice has one message_id."""
    bodies = [msg.body for msg in messages]
    assert list(dict.fromkeys(bodies)) == wanted
    assert len({(msg.body, msg.message_id) for msg in messages}) == len(wanted)


@pytest.mark.parametrize('direction', [UP, DOWN])
def test_cuts_everywhere(amqp, proxy, connect, publish_to, address, direction):
    """At many bytes of connecting, opening a channel, publishing and the confirms."""
    attempts = []

    def connect_again(**arguments):
        attempts.append(arguments)
        if len(attempts) > 1:
            proxy.cut_after(direction, None)
        return amqp.Connection(**arguments)

    class Publisher(amqp.Publisher):
        _connection_class = staticmethod(connect_again)

    keeper = connect(address).channel()
    for place in range(1, 2000, 37):
        attempts.clear()
        queue = keeper.queue_declare(exclusive=True)[0]
        proxy.cut_after(direction, place)
        ours = publish_to(proxy.address, window=3, cls=Publisher)
        items = [(amqp.Message(b'%d' % number), '', queue) for number in range(10)]
        assert list(ours.publish_all(items)) == [], f'at {place}'
        ours.publish(amqp.Message(b'last'), '', queue)
        ours.close()
        wanted = [*(b'%d' % number for number in range(10)), b'last']
        check_once_or_again(messages_of(keeper, queue), wanted)
        keeper.queue_delete(queue)
    # The last ones are beyond all that is needed without a loss.
    assert len(attempts) == 1


class Work:
    """Threads that publish numbered messages to queues of their own until they are told to stop.

    done: for each thread, how many messages publish() has returned for.
    """

    def __init__(self, amqp, ours, queues):
        self.is_over = False
        self.done = dict.fromkeys(queues, 0)
        self.futures = [begin(self.run, amqp, ours, queue) for queue in queues]

    def run(self, amqp, ours, queue):
        while not self.is_over:
            msg = amqp.Message(b'%d' % self.done[queue], delivery_mode=2)
            ours.publish(msg, '', queue)
            self.done[queue] += 1

    def await_more(self, count):
        """Wait until each thread has published so many more."""
        before = dict(self.done)
        poll(
            lambda: all(self.done[queue] >= before[queue] + count for queue in before),
            'more messages',
            PATIENCE,
        )

    def stop(self):
        self.is_over = True
        for future in self.futures:
            future.result(PATIENCE)

    def check(self, channel):
        for queue, count in self.done.items():
            check_once_or_again(messages_of(channel, queue), [b'%d' % n for n in range(count)])


def test_threads_lose_nothing_when_the_broker_is_killed(amqp, node, connect, publish_to):
    queues = [new_name() for _ in range(8)]

    def setup(channel):
        for queue in queues:
            channel.queue_declare(queue, durable=True, auto_delete=False)

    ours = publish_to(node.address, setup)
    work = Work(amqp, ours, queues)
    work.await_more(5)
    write_down(node)
    node.kill()
    node.start()
    work.await_more(5)
    work.stop()
    work.check(connect(node.address).channel())


@mostly_0_9_1
def test_publish_all_loses_nothing_when_the_broker_is_killed(amqp, node, connect, publish_to):
    queue = new_name()

    def setup(channel):
        channel.queue_declare(queue, durable=True, auto_delete=False)

    def items():
        for number in range(3000):
            if number == 1500:
                write_down(node)
                node.kill()
                node.start()
            yield amqp.Message(b'%d' % number, delivery_mode=2), '', queue

    ours = publish_to(node.address, setup)
    assert list(ours.publish_all(items())) == []
    ours.close()
    wanted = [b'%d' % number for number in range(3000)]
    check_once_or_again(messages_of(connect(node.address).channel(), queue), wanted)


def test_a_frozen_broker_is_waited_for(amqp, node, connect, publish_to):
    channel = connect(node.address).channel()
    queue = channel.queue_declare(exclusive=True)[0]
    ours = publish_to(node.address)
    ours.publish(amqp.Message(b'0'), '', queue)
    with suspended(node):
        ours.timeout = 0.3
        with pytest.raises(amqp.AMQPTimeout):
            ours.publish(amqp.Message(b'with an error'), '', queue)
        ours.timeout = PATIENCE
        future = begin(ours.publish, amqp.Message(b'1'), '', queue)
    future.result(PATIENCE)
    # The one that came with an error may be there too.
    bodies = get_all(channel, queue)
    assert [body for body in bodies if body != b'with an error'] == [b'0', b'1']


def test_a_broker_out_of_memory_is_waited_for(amqp, node, connect, publish_to):
    channel = connect(node.address).channel()
    queue = channel.queue_declare(exclusive=True)[0]
    ours = publish_to(node.address, window=10)
    ours.publish(amqp.Message(b'first'), '', queue)
    with node.memory_alarm():
        ours.timeout = 0.5
        with pytest.raises(amqp.AMQPTimeout):
            ours.publish(amqp.Message(b'with an error'), '', queue)
        ours.timeout = PATIENCE
        items = [(amqp.Message(b'%d' % number), '', queue) for number in range(100)]
        future = begin(list, ours.publish_all(items))
    assert future.result(PATIENCE) == []
    bodies = [body for body in get_all(channel, queue) if body != b'with an error']
    assert list(dict.fromkeys(bodies)) == [b'first', *(b'%d' % number for number in range(100))]
