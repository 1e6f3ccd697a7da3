"""Publisher confirms over a line that is cut, reset or stalled, and of a broker that is killed.

In all cases, what counts as confirmed is in the queue; for the rest, one exception says why it is
not confirmed.
"""

import pytest

from tests.helpers.checks import check_repeated
from tests.helpers.confirmed import Confirmed
from tests.helpers.fault_proxy import DOWN, UP
from tests.helpers.full_sockets import HUGE, fill, send_rest
from tests.helpers.nodes import write_down
from tests.helpers.packages import only_0_9_1
from tests.helpers.queues import get_all, new_name
from tests.helpers.threads import begin, outcome
from tests.helpers.waiting import BUSY, PATIENCE, lasting, poll
from tests.helpers.wire import VERSION_0_9_1, content, method

pytestmark = only_0_9_1


@pytest.fixture
def keeper(connect, address):
    """A channel of a connection that nothing disturbs."""
    return connect(address).channel()


# --- Cut ----------------------------------------------------------------------------------------

#: As short as possible, because the tests cut at each of its bytes.
SHORT_NAME = 12


def published(queue):
    """Return the bytes of a publish of one byte."""
    start = method(1, 'basic.publish', 0, '', queue, False, False)
    return start + content(1, b'1')


def bytes_of(direction, queue):
    """Return how many bytes asking for confirms takes, and then each message or its confirm."""
    if direction == UP:
        return len(method(1, 'confirm.select', False, version=VERSION_0_9_1)), len(published(queue))
    return len(method(1, 'confirm.select_ok', version=VERSION_0_9_1)), len(
        method(1, 'basic.ack', 1, False)
    )


def publish_one_by_one(amqp, channel, queue, count):
    """Publish messages whose bodies are their numbers, each when the one before is confirmed."""
    channel.confirm_select()
    for number in range(1, count + 1):
        assert channel.basic_publish(amqp.Message(b'%d' % number), '', queue) == number
        channel.wait_for_confirms()


@pytest.mark.parametrize('direction', [UP, DOWN])
@pytest.mark.parametrize('how', ['cut_after', 'reset_after'])
def test_what_is_confirmed_is_in_the_queue_wherever_the_line_is_cut(
    amqp, proxy, connect, keeper, direction, how
):
    """At every byte of asking for confirms, and of two messages or their confirms."""
    connect(proxy.address).channel()
    opened = proxy.passed(direction)
    queue = new_name()[-SHORT_NAME:]
    first, each = bytes_of(direction, queue)
    for place in range(1, first + 2 * each):
        keeper.queue_declare(queue, exclusive=True)
        getattr(proxy, how)(direction, opened + place)
        confirmed = confirmed_until_cut(amqp, connect(proxy.address), queue)
        bodies = get_all(keeper, queue)
        assert bodies == [b'1', b'2'][: len(bodies)], f'at {place}'
        whole = max(place - first, 0) // each
        if direction == UP:
            assert confirmed <= len(bodies) <= whole, f'at {place}'
        else:
            assert confirmed <= len(bodies), f'at {place}'
            # What has arrived before a reset may be lost on some systems.
            assert confirmed == whole or (confirmed < whole and how == 'reset_after')
        keeper.queue_delete(queue)


def confirmed_until_cut(amqp, connection, queue):
    """Publish two messages until that fails; return how many of them were confirmed."""
    channel = connection.channel()
    confirmed = Confirmed(channel)
    with lasting(most=5), pytest.raises(amqp.AMQPException) as caught:
        publish_one_by_one(amqp, channel, queue, 2)
    error = caught.value
    assert type(error) is amqp.ConnectionLost
    assert connection.transport is None
    check_repeated(error, connection.channel)
    check_repeated(error, lambda: channel.basic_publish(amqp.Message(b'x'), '', queue))
    check_repeated(error, channel.confirm_select)
    assert confirmed.numbers == set(range(1, len(confirmed.numbers) + 1))
    return len(confirmed.numbers)


# --- Broken up and stalled ------------------------------------------------------------------------


@pytest.mark.parametrize('size', [1, 5, 20, 22])
def test_confirms_in_pieces_are_all_reported(amqp, proxy, connect, size):
    proxy.fragment(DOWN, size)
    channel = connect(proxy.address).channel()
    queue = channel.queue_declare(exclusive=True)[0]
    confirmed = Confirmed(channel)
    channel.confirm_select(outstanding_limit=20)
    for number in range(1, 301):
        assert channel.basic_publish(amqp.Message(b'%d' % number), '', queue) == number
    with lasting(most=PATIENCE):
        channel.wait_for_confirms()
    assert confirmed.numbers == set(range(1, 301))
    assert channel.queue_declare(queue, passive=True)[1] == 300


def test_message_that_was_cut_by_write_timeout_is_not_confirmed(amqp, proxy, connect, keeper):
    queue = keeper.queue_declare(exclusive=True)[0]
    connection = connect(proxy.address, write_timeout=0.3)
    channel, other = connection.channel(), connection.channel()
    confirmed = Confirmed(channel)
    channel.confirm_select()
    other.confirm_select()
    channel.basic_publish(amqp.Message(b'1'), '', queue)
    channel.wait_for_confirms()
    proxy.stall(UP)
    assert channel.basic_publish(amqp.Message(b'2'), '', queue) == 2
    assert other.basic_publish(amqp.Message(b'of the other'), '', 'amqplib-test-nowhere') == 1
    with lasting(0.3, BUSY), pytest.raises(amqp.WriteTimeout) as caught:
        channel.basic_publish(amqp.Message(bytes(HUGE)), '', queue)
    for ours in (channel, other):
        check_repeated(caught.value, ours.wait_for_confirms)
        check_repeated(caught.value, lambda ours=ours: ours.basic_publish(amqp.Message(b'x')))
    proxy.resume(UP)
    poll(lambda: not proxy.links, 'the end of the stream')
    assert confirmed.numbers == {1}
    # The system had the second one in its buffer, and may have sent it.
    assert get_all(keeper, queue) in ([b'1'], [b'1', b'2'])


def test_message_for_which_there_was_no_room_has_no_number(amqp, proxy, connect):
    connection = connect(proxy.address, write_timeout=0.3)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True)[0]
    confirmed = Confirmed(channel)
    channel.confirm_select()
    assert channel.basic_publish(amqp.Message(b'before'), '', queue) == 1
    channel.wait_for_confirms()
    proxy.stall(UP)
    rest = fill(connection)
    with lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout) as caught:
        channel.basic_publish(amqp.Message(b'refused'), '', queue)
    assert type(caught.value) is amqp.AMQPTimeout
    channel.wait_for_confirms(timeout=0)
    proxy.resume(UP)
    send_rest(connection, rest)
    assert channel.basic_publish(amqp.Message(b'after'), '', queue) == 2
    channel.wait_for_confirms(timeout=PATIENCE)
    assert confirmed.numbers == {1, 2}
    assert get_all(channel, queue) == [b'before', b'after']


def test_confirms_that_are_held_up_are_waited_for_within_write_timeout(
    amqp, proxy, connect, keeper
):
    queue = keeper.queue_declare(exclusive=True)[0]
    channel = connect(proxy.address, write_timeout=0.3).channel()
    confirmed = Confirmed(channel)
    channel.confirm_select(outstanding_limit=5)
    proxy.stall(DOWN)
    for number in range(1, 6):
        assert channel.basic_publish(amqp.Message(b'%d' % number), '', queue) == number
    poll(lambda: keeper.queue_declare(queue, passive=True)[1] == 5, 'all in the queue')
    text = r'5 messages not confirmed within 0\.3 s'
    with lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout, match=text):
        channel.basic_publish(amqp.Message(b'is not sent'), '', queue)
    assert confirmed.numbers == set()
    proxy.resume(DOWN)
    assert channel.basic_publish(amqp.Message(b'6'), '', queue) == 6
    channel.wait_for_confirms(timeout=PATIENCE)
    assert confirmed.numbers == set(range(1, 7))
    assert get_all(keeper, queue) == [b'%d' % number for number in range(1, 7)]


# --- Many threads -------------------------------------------------------------------------------


class Publisher:
    """Publishes, in a thread of its own, numbered messages to a queue of its own.

    batch: after how many it waits for all confirms; None if on_confirm receives them.

    sent: the number of the last one; confirmed: the numbers that are.
    """

    def __init__(self, amqp, connection, queue, size=6, limit=None, batch=None):
        self.amqp = amqp
        self.queue = queue
        self.sent = 0
        self._size = size
        self._batch = batch
        self._channel = connection.channel()
        self._by_batch = set()
        self._told = None if batch else Confirmed(self._channel)
        self._channel.confirm_select(limit)
        self.future = begin(self._publish_for_ever)

    @property
    def confirmed(self):
        return self._by_batch if self._told is None else self._told.numbers

    def _publish_for_ever(self):
        while True:
            self.publish()
            if self._batch and self.sent % self._batch == 0:
                self._channel.wait_for_confirms()
                self._by_batch.update(range(self.sent - self._batch + 1, self.sent + 1))

    def publish(self):
        body = (b'%06d' % (self.sent + 1)).ljust(self._size)
        message = self.amqp.Message(body, delivery_mode=2)
        self.sent = self._channel.basic_publish(message, '', self.queue)

    def check(self, bodies):
        """Check what is in the queue; return the numbers."""
        numbers = [int(body[:6]) for body in bodies]
        assert all(len(body) == self._size for body in bodies)
        assert numbers == sorted(set(numbers))
        assert self.confirmed <= set(numbers)
        # One more may have been sent than publishing returned a number for.
        assert set(numbers) <= set(range(1, self.sent + 2))
        return numbers


#: The arguments of some publishers: all ways to wait, and messages of more than one frame.
MANY = [
    {'limit': 1},
    {'limit': 30},
    {'limit': 30, 'batch': 20},
    {'limit': 5, 'size': 200_000},
    {'batch': 1},
    {'batch': 25},
]


def start_publishers(amqp, connection, keeper, **arguments):
    """Start publishers on one connection; return them when each has had some confirms."""
    publishers = []
    for options in MANY:
        queue = new_name()
        keeper.queue_declare(queue, auto_delete=False, **arguments)
        publishers.append(Publisher(amqp, connection, queue, **options))
    poll(lambda: all(len(publisher.confirmed) >= 20 for publisher in publishers), 'confirms')
    return publishers


def check_ends(amqp, publishers):
    """Check that all threads end at once, and for the same cause."""
    with lasting(most=BUSY):
        errors = [outcome(publisher.future) for publisher in publishers]
    assert {type(error) for error in errors} == {amqp.ConnectionLost}
    assert len({error.args for error in errors}) == 1
    for publisher in publishers:
        check_repeated(errors[0], publisher.publish)


@pytest.mark.parametrize('how', ['cut', 'reset'])
def test_threads_count_nothing_as_confirmed_that_was_lost(amqp, proxy, connect, keeper, how):
    for _ in range(3):
        connection = connect(proxy.address)
        publishers = start_publishers(amqp, connection, keeper, exclusive=True)
        getattr(proxy, how)()
        check_ends(amqp, publishers)
        for publisher in publishers:
            numbers = publisher.check(get_all(keeper, publisher.queue))
            assert numbers == list(range(1, len(numbers) + 1))
            keeper.queue_delete(publisher.queue)


def test_threads_count_nothing_as_confirmed_that_a_killed_broker_has_lost(amqp, node, connect):
    keeper = connect(node.address).channel()
    publishers = start_publishers(amqp, connect(node.address), keeper, durable=True)
    write_down(node)
    node.kill()
    check_ends(amqp, publishers)
    node.start()
    channel = connect(node.address).channel()
    for publisher in publishers:
        publisher.check(get_all(channel, publisher.queue))
        channel.queue_delete(publisher.queue)
