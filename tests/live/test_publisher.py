"""Publisher on a real broker: each message is in its queue, or its own error says why it is not."""

import contextlib

import pytest

from tests.helpers.queues import get_all, new_name, ready_count
from tests.helpers.threads import begin

PATIENCE = 30


@pytest.fixture
def make_publisher(amqp, address):
    """A function (setup=None, **arguments) that makes a Publisher, closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(setup=None, **arguments):
            arguments.setdefault('timeout', PATIENCE)
            ours = amqp.Publisher(f'amqp://guest:guest@{address}', setup, **arguments)
            stack.enter_context(ours)
            return ours

        yield make


@pytest.fixture
def limited_queue(channel):
    """The name of a queue that refuses all messages but three, which goes with `connection`."""
    arguments = {'x-max-length': 3, 'x-overflow': 'reject-publish'}
    return channel.queue_declare(exclusive=True, arguments=arguments)[0]


def test_published_messages_are_in_the_queue(amqp, channel, queue, make_publisher):
    ours = make_publisher()
    for number in range(5):
        ours.publish(amqp.Message(b'%d' % number, delivery_mode=2, app_id='app'), '', queue)
        assert ready_count(channel, queue) == number + 1
    messages = [channel.basic_get(queue, no_ack=True) for _ in range(5)]
    assert [msg.body for msg in messages] == [b'0', b'1', b'2', b'3', b'4']
    assert {msg.app_id for msg in messages} == {'app'}
    assert len({msg.message_id for msg in messages}) == 5


def test_each_kind_of_refusal(amqp, channel, queue, limited_queue, make_publisher):
    ours = make_publisher()
    nowhere = new_name()
    with pytest.raises(amqp.MessageReturned) as returned:
        ours.publish(amqp.Message(b'x'), 'amq.direct', nowhere)
    assert (returned.value.amqp_reply_code, returned.value.amqp_reply_text) == (312, 'NO_ROUTE')
    assert (returned.value.exchange, returned.value.routing_key) == ('amq.direct', nowhere)
    for _ in range(3):
        ours.publish(amqp.Message(b'x'), '', limited_queue)
    with pytest.raises(amqp.MessageNacked):
        ours.publish(amqp.Message(b'x'), '', limited_queue)
    with pytest.raises(amqp.NotFound):
        ours.publish(amqp.Message(b'x'), nowhere, 'x')
    with pytest.raises(amqp.PreconditionFailed):
        ours.publish(amqp.Message(b'x', user_id='somebody else'), '', queue)
    internal = new_name()
    channel.exchange_declare(internal, 'fanout', internal=True)
    with pytest.raises(amqp.AccessRefused):
        ours.publish(amqp.Message(b'x'), internal, 'x')
    channel.exchange_delete(internal)
    ours.publish(amqp.Message(b'still there'), '', queue)
    assert get_all(channel, queue) == [b'still there']


@pytest.mark.parametrize('window', [1, 7, 1000])
def test_all_refusals_in_one_publish_all(
    amqp, channel, queue, limited_queue, make_publisher, window
):
    nowhere = new_name()
    items, expected = [], {}
    for number in range(120):
        msg, place = amqp.Message(b'%d' % number, delivery_mode=2), ('', queue)
        if number % 10 == 3:
            place, expected[number] = ('', nowhere), amqp.MessageReturned
        elif number % 50 == 10:
            place, expected[number] = (nowhere, 'x'), amqp.NotFound
        elif number % 20 == 9:
            place = '', limited_queue
        items.append((msg, *place))
    refused = list(make_publisher(window=window).publish_all(items))
    refusals = {int(msg.body): type(error) for msg, error in refused}
    assert len(refusals) == len(refused)
    limited = {number: refusals.pop(number) for number in range(9, 120, 20) if number in refusals}
    assert refusals == expected
    # Three of the six found room; one may have been published twice, when a channel was closed.
    assert set(limited.values()) == {amqp.MessageNacked}
    assert 3 <= len(limited) <= 5
    wanted = [msg.body for msg, exchange, key in items if (exchange, key) == ('', queue)]
    assert list(dict.fromkeys(get_all(channel, queue))) == wanted


def test_large_and_empty_messages(amqp, channel, queue, make_publisher):
    ours = make_publisher()
    messages = [amqp.Message(b'x' * size) for size in (0, 1, 4095, 131072, 3_000_000, 10)]
    assert list(ours.publish_all((msg, '', queue) for msg in messages)) == []
    assert [len(body) for body in get_all(channel, queue)] == [0, 1, 4095, 131072, 3_000_000, 10]


def test_threads_get_their_own_results(amqp, channel, queue, make_publisher):
    """With messages that only their threads tell apart."""
    ours = make_publisher()
    nowhere = new_name()

    def work(number):
        outcomes = []
        for step in range(20):
            key = nowhere if (step + number) % 3 == 0 else queue
            try:
                ours.publish(amqp.Message(b'the same', message_id='the same'), '', key)
                outcomes.append(None)
            except amqp.MessageReturned as error:
                outcomes.append(error.routing_key)
        return outcomes

    futures = [begin(work, number) for number in range(16)]
    for number, future in enumerate(futures):
        expected = [nowhere if (step + number) % 3 == 0 else None for step in range(20)]
        assert future.result(PATIENCE) == expected
    delivered = sum((step + number) % 3 != 0 for number in range(16) for step in range(20))
    assert ready_count(channel, queue) == delivered


def test_setup_declares(amqp, channel, make_publisher):
    name = new_name()

    def setup(ch):
        ch.queue_declare(name)

    ours = make_publisher(setup)
    ours.publish(amqp.Message(b'x'), '', name)
    # An operator deletes it, and an exchange that is missing closes the channel.
    channel.queue_delete(name)
    with pytest.raises(amqp.MessageReturned):
        ours.publish(amqp.Message(b'x'), '', name)
    with pytest.raises(amqp.NotFound):
        ours.publish(amqp.Message(b'x'), new_name(), name)
    ours.publish(amqp.Message(b'y'), '', name)
    assert get_all(channel, name) == [b'y']
    channel.queue_delete(name)
