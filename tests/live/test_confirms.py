"""Publisher confirms: what is confirmed, refused or returned, how much is outstanding, and that
what was confirmed is there whatever happens to the broker.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.interrupts import interrupt, lines
from tests.helpers.packages import only_0_9_1
from tests.helpers.queues import await_ready, drain, get_bodies, new_name, ready_count

pytestmark = only_0_9_1

with_quorum_queues = pytest.mark.only_rabbitmq('quorum queues')


@pytest.fixture
def confirming(channel):
    """A channel whose messages are confirmed."""
    assert channel.confirm_select() is None
    return channel


@pytest.fixture
def full(channel):
    """The name of a queue that takes two messages and refuses more."""
    arguments = {'x-max-length': 2, 'x-overflow': 'reject-publish'}
    return channel.queue_declare(exclusive=True, auto_delete=False, arguments=arguments)[0]


def publish(amqp, channel, queue, count, **properties):
    """Publish so many messages, with the bodies '0', '1', ...; return their numbers."""
    return [
        channel.basic_publish(amqp.Message(str(number), **properties), '', queue)
        for number in range(count)
    ]


def test_without_confirms_publishing_returns_none(amqp, channel, queue):
    assert publish(amqp, channel, queue, 2) == [None, None]
    with pytest.raises(amqp.AMQPException, match='confirm_select'):
        channel.wait_for_confirms()
    assert channel.is_open


def test_publishing_returns_the_number_of_the_message(amqp, connection, confirming, queue):
    assert publish(amqp, confirming, queue, 3) == [1, 2, 3]
    other = connection.channel()
    assert publish(amqp, other, queue, 1) == [None]
    other.confirm_select()
    assert publish(amqp, other, queue, 1) == [1]
    assert publish(amqp, confirming, queue, 1) == [4]


def test_what_is_confirmed_is_in_the_queue(amqp, connection, confirming, queue):
    other = connection.channel()
    for rounds in range(1, 20):
        publish(amqp, confirming, queue, 10)
        assert confirming.wait_for_confirms(timeout=10) is None
        assert ready_count(other, queue) == rounds * 10


def test_waiting_when_everything_is_confirmed(confirming):
    assert confirming.wait_for_confirms(timeout=0) is None


def test_asking_for_confirms_twice_goes_on_counting(amqp, confirming, queue):
    publish(amqp, confirming, queue, 2)
    confirming.confirm_select()
    assert publish(amqp, confirming, queue, 1) == [3]
    confirming.wait_for_confirms(timeout=10)


def test_asking_for_confirms_without_waiting(amqp, channel, queue):
    assert channel.confirm_select(nowait=True) is None
    assert publish(amqp, channel, queue, 2) == [1, 2]
    channel.wait_for_confirms(timeout=10)
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=0)


def test_confirms_and_transactions_exclude_each_other(amqp, connection, confirming):
    with pytest.raises(amqp.PreconditionFailed):
        confirming.tx_select()
    channel = connection.channel()
    channel.tx_select()
    with pytest.raises(amqp.PreconditionFailed) as raised:
        channel.confirm_select()
    assert raised.value.args[3] == 'Channel.confirm_select'


def test_on_confirm_hears_of_all_once(amqp, confirming, queue):
    told = []
    confirming.on_confirm = lambda *args: told.append(args)
    publish(amqp, confirming, queue, 2000)
    confirming.wait_for_confirms(timeout=10)
    settled = set()
    for number, multiple, ok in told:
        assert ok is True
        new = set(range(1, number + 1)) - settled if multiple else {number}
        assert new
        assert not new & settled
        settled |= new
    assert settled == set(range(1, 2001))


def test_a_full_queue_refuses(amqp, confirming, full):
    told = []
    confirming.on_confirm = lambda number, multiple, ok: told.append((number, ok))
    for _ in range(2):
        publish(amqp, confirming, full, 1)
        confirming.wait_for_confirms(timeout=10)
    assert publish(amqp, confirming, full, 3) == [3, 4, 5]
    with pytest.raises(amqp.MessageNacked) as raised:
        confirming.wait_for_confirms(timeout=10)
    assert raised.value.sequence_numbers == (3, 4, 5)
    assert 'refused 3 messages' in str(raised.value)
    assert dict(told)[5] is False
    assert confirming.queue_purge(full) == 2
    publish(amqp, confirming, full, 1)
    assert confirming.wait_for_confirms(timeout=10) is None


def test_what_cannot_be_routed_is_returned_before_it_is_confirmed(amqp, confirming):
    returned = []
    confirming.on_confirm = lambda number, multiple, ok: returned.append(
        (number, ok, confirming.returned_messages.qsize())
    )
    for number in range(1, 30):
        confirming.basic_publish(amqp.Message('x'), '', new_name(), mandatory=True)
        confirming.wait_for_confirms(timeout=10)
        assert returned[-1] == (number, True, number)


def test_what_cannot_be_routed_and_was_not_to_come_back_is_confirmed(amqp, confirming):
    confirming.basic_publish(amqp.Message('x'), '', new_name())
    confirming.wait_for_confirms(timeout=10)
    assert confirming.returned_messages.empty()


def test_publishing_to_a_missing_exchange_is_what_the_wait_raises(amqp, confirming, queue):
    publish(amqp, confirming, queue, 1)
    confirming.basic_publish(amqp.Message('x'), new_name())
    with pytest.raises(amqp.NotFound):
        confirming.wait_for_confirms(timeout=10)
    with pytest.raises(amqp.NotFound):
        confirming.wait_for_confirms(timeout=10)


def test_what_cannot_be_sent_takes_no_number(amqp, confirming, queue):
    told = []
    confirming.on_confirm = lambda number, multiple, ok: told.append(number)
    for number in range(1, 11):
        with pytest.raises(ValueError, match='priority'):
            confirming.basic_publish(amqp.Message('x', priority=256), '', queue)
        assert publish(amqp, confirming, queue, 1) == [number]
    confirming.wait_for_confirms(timeout=10)
    assert max(told) == ready_count(confirming, queue) == 10


@pytest.mark.parametrize('limit', [None, 1])
def test_interrupted_before_any_line_the_numbers_stay_right(amqp, connect, shared_queue, limit):
    """Else the channel or the connection is given up; no message gets another one's number."""
    outcomes = {'usable': 0, 'channel given up': 0, 'connection lost': 0}

    def try_all(connection):
        for line in lines():
            channel = connection.channel()
            channel.confirm_select(limit)
            publish(amqp, channel, shared_queue, 1)
            if not interrupt(line, publish, amqp, channel, shared_queue, 1):
                # Here, as a lock may still be this thread's: `with` does not release it if the
                # interruption comes between its block and the release.
                connection.close()
                return
            if connection.transport is None:
                outcomes['connection lost'] += 1
                connection = connect()
            elif not channel.is_open:
                outcomes['channel given up'] += 1
                with pytest.raises(amqp.AMQPChannelException, match='interrupted'):
                    channel.wait_for_confirms(timeout=10)
            else:
                outcomes['usable'] += 1
                (number,) = publish(amqp, channel, shared_queue, 1)
                channel.wait_for_confirms(timeout=10)
                assert channel.queue_purge(shared_queue) == number
            connection.channel().queue_purge(shared_queue)

    # In a thread of its own, as what measures coverage traces this one.
    with ThreadPoolExecutor(1) as executor:
        executor.submit(try_all, connect()).result()
    assert all(outcomes.values()), outcomes


def test_interrupted_before_any_line_confirms_are_asked_for_or_not(amqp, connect, shared_queue):
    """Else the channel or the connection is closed; the broker never counts alone."""

    def try_all(connection):
        for line in lines():
            channel = connection.channel()
            if not interrupt(line, channel.confirm_select, 10):
                connection.close()
                return
            if connection.transport is None:
                connection = connect()
            elif channel.is_open:
                (number,) = publish(amqp, channel, shared_queue, 1)
                if number is not None:
                    assert number == 1
                    channel.wait_for_confirms(timeout=10)
                # A confirm that is not expected would come before the reply.
                channel.queue_declare(shared_queue, passive=True)
                channel.close()

    # In a thread of its own, as what measures coverage traces this one.
    with ThreadPoolExecutor(1) as executor:
        executor.submit(try_all, connect()).result()


@pytest.mark.parametrize('limit', [1, 7, 100])
def test_no_more_than_the_limit_is_outstanding(amqp, channel, queue, limit):
    channel.confirm_select(outstanding_limit=limit)
    outstanding, most = set(), []

    def on_confirm(number, multiple, ok):
        assert ok
        for one in [one for one in outstanding if one <= number] if multiple else [number]:
            outstanding.remove(one)

    channel.on_confirm = on_confirm
    for number in range(1, 1001):
        outstanding.add(number)
        assert channel.basic_publish(amqp.Message('x'), '', queue) == number
        most.append(len(outstanding))
    channel.wait_for_confirms(timeout=10)
    assert outstanding == set()
    # The library counts a confirm before it calls the callback.
    assert max(most) <= limit + 1
    assert ready_count(channel, queue) == 1000


@pytest.mark.parametrize('limit', [None, 500])
def test_what_is_kept_does_not_grow(amqp, channel, queue, limit):
    channel.confirm_select(limit)
    told = []
    channel.on_confirm = lambda *args: told.append(args)
    most = 0
    for number in range(10_000):
        channel.basic_publish(amqp.Message(b'x'), '', queue)
        most = max(most, channel._confirms.outstanding)
        if limit is None and number % 1000 == 0:
            channel.wait_for_confirms(timeout=10)
    channel.wait_for_confirms(timeout=10)
    assert most <= (limit or 1000)
    confirms = channel._confirms
    assert (confirms.outstanding, len(confirms.pending_events), len(confirms.refused)) == (0, 0, 0)


def test_confirms_while_consuming_on_the_same_channel(amqp, confirming, queue):
    received = []
    confirming.basic_consume(queue, no_ack=True, callback=lambda m: received.append(m.body))
    for start in range(0, 1000, 100):
        for number in range(start, start + 100):
            confirming.basic_publish(amqp.Message(str(number)), '', queue)
        confirming.wait_for_confirms(timeout=10)
    while len(received) < 1000:
        confirming.wait(timeout=10)
    assert received == [str(number) for number in range(1000)]


@pytest.mark.parametrize('limit', [None, 1, 10])
def test_a_callback_publishes_what_it_receives_to_another_queue(
    amqp, channel, queue, shared_queue, limit
):
    """It waits for room and so reads, while more messages arrive for it."""
    publish(amqp, channel, queue, 200)
    await_ready(channel, queue, 200)
    channel.confirm_select(limit)
    passed_on = []

    def pass_on(message):
        passed_on.append(channel.basic_publish(amqp.Message(message.body), '', shared_queue))
        message.channel.basic_ack(message.delivery_tag)

    channel.basic_qos(0, 50, False)
    channel.basic_consume(queue, callback=pass_on)
    drain(channel, lambda: len(passed_on) == 200)
    channel.wait_for_confirms(timeout=10)
    assert passed_on == list(range(1, 201))
    assert get_bodies(channel, shared_queue, 200) == [str(number) for number in range(200)]


def test_threads_confirm_each_their_own(amqp, connection, queue):
    problems = []

    def run():
        try:
            channel = connection.channel()
            channel.confirm_select(50)
            assert publish(amqp, channel, queue, 500) == list(range(1, 501))
            channel.wait_for_confirms(timeout=20)
        except BaseException as problem:  # noqa: BLE001 - told to the main thread
            problems.append(problem)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert problems == []
    assert ready_count(connection.channel(), queue) == 2000


def test_persistent_messages_to_a_durable_queue(amqp, confirming, other_channel):
    name, _, _ = confirming.queue_declare(new_name(), durable=True, auto_delete=False)
    publish(amqp, confirming, name, 100, delivery_mode=2)
    confirming.wait_for_confirms(timeout=10)
    assert other_channel.queue_delete(name) == 100


# --- Quorum queues ------------------------------------------------------------------------------


@pytest.fixture
def quorum_queue(connect):
    """The name of a quorum queue."""
    keeper = connect().channel()
    name = new_name()
    arguments = {'x-queue-type': 'quorum'}
    keeper.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
    yield name
    keeper.queue_delete(name)


@with_quorum_queues
@pytest.mark.parametrize('limit', [None, 1000])
def test_a_quorum_queue_with_many_outstanding(amqp, channel, quorum_queue, limit):
    channel.confirm_select(limit)
    assert publish(amqp, channel, quorum_queue, 3000)[-1] == 3000
    channel.wait_for_confirms(timeout=30)
    await_ready(channel, quorum_queue, 3000)
    assert get_bodies(channel, quorum_queue, 3) == ['0', '1', '2']


@with_quorum_queues
def test_a_quorum_queue_counts_deliveries(amqp, confirming, quorum_queue):
    publish(amqp, confirming, quorum_queue, 1)
    confirming.wait_for_confirms(timeout=10)
    received = []
    confirming.basic_consume(quorum_queue, callback=received.append)
    for count in (None, 1, 2):
        confirming.wait([(60, 60)], timeout=10)
        headers = received[-1].properties.get('application_headers', {})
        # Since RabbitMQ 4.3, what was given back is not counted as delivered, but as acquired.
        counted = headers.get('x-delivery-count') or headers.get('x-acquired-count')
        assert counted in {count, count or 0}
        confirming.basic_nack(received[-1].delivery_tag)
