"""Consuming: callbacks, wait(), cancelling from either side, prefetch."""

import collections
import contextlib

import pytest

from tests.helpers.queues import (
    await_ready,
    drain,
    get,
    get_bodies,
    hand_out_the_rest,
    new_name,
    nothing_waits,
    ready_count,
)
from tests.helpers.waiting import poll


def publish(amqp, channel, queue, *bodies):
    for body in bodies:
        channel.basic_publish(amqp.Message(body), '', queue)


@pytest.fixture
def received():
    """A list for what a callback gets."""
    return []


# Callbacks


def test_a_callback_gets_the_messages_in_order(amqp, channel, queue, received):
    bodies = [str(number) for number in range(500)]
    publish(amqp, channel, queue, *bodies)
    channel.basic_consume(queue, no_ack=True, callback=lambda m: received.append(m.body))
    drain(channel, lambda: len(received) == 500)
    assert received == bodies


def test_each_wait_hands_out_one_message(amqp, channel, queue, received):
    publish(amqp, channel, queue, *'abc')
    channel.basic_consume(queue, no_ack=True, callback=received.append)
    for count in (1, 2, 3):
        channel.wait(timeout=10)
        assert len(received) == count


def test_delivery_info_of_a_message_that_was_delivered(amqp, channel, queue, exchange, received):
    channel.queue_bind(queue, exchange, 'key')
    channel.basic_publish(amqp.Message('x'), exchange, 'key')
    channel.basic_consume(queue, 'mine', callback=received.append)
    channel.wait(timeout=10)
    (message,) = received
    assert message.delivery_info == {
        'channel': channel,
        'consumer_tag': 'mine',
        'delivery_tag': 1,
        'redelivered': False,
        'exchange': exchange,
        'routing_key': 'key',
    }


def test_a_callback_can_acknowledge(amqp, connection, channel, queue):
    publish(amqp, channel, queue, *'abc')
    seen = []

    def acknowledge(message):
        message.channel.basic_ack(message.delivery_tag)
        seen.append(message.body)

    channel.basic_consume(queue, callback=acknowledge)
    drain(channel, lambda: len(seen) == 3)
    channel.close()
    assert ready_count(connection.channel(), queue) == 0


@pytest.mark.parametrize('no_ack', [True, False])
def test_what_comes_back_of_deliveries_when_the_channel_is_closed(
    amqp, connection, channel, queue, received, no_ack
):
    publish(amqp, channel, queue, *'abc')
    channel.basic_consume(queue, no_ack=no_ack, callback=received.append)
    drain(channel, lambda: len(received) == 3)
    channel.close()
    await_ready(connection.channel(), queue, 0 if no_ack else 3)


def test_what_was_not_handed_out_when_the_channel_is_closed_is_never(
    amqp, connection, channel, queue, received
):
    channel.basic_consume(queue, callback=received.append)
    publish(amqp, channel, queue, *'abc')
    poll(lambda: channel.basic_qos(0, 0, False) or len(channel.method_queue) == 3, 'the delivery')
    channel.close()
    with pytest.raises(amqp.AMQPChannelException, match='closed'):
        channel.wait()
    assert received == []
    await_ready(connection.channel(), queue, 3)


def test_a_callback_can_call_the_channel(amqp, channel, queue, received):
    """Also what waits for a reply, while more messages arrive."""
    publish(amqp, channel, queue, *'abcde')

    def ask_the_broker(message):
        name, _, _ = channel.queue_declare(exclusive=True)
        received.append(message.body)
        channel.queue_delete(name)

    channel.basic_consume(queue, no_ack=True, callback=ask_the_broker)
    drain(channel, lambda: len(received) == 5)
    assert received == list('abcde')


def test_messages_that_arrive_during_another_call_are_kept(amqp, channel, queue, received):
    channel.basic_consume(queue, no_ack=True, callback=lambda m: received.append(m.body))
    publish(amqp, channel, queue, *'abc')
    for _ in range(5):
        channel.basic_qos(0, 0, False)
    assert received == []
    drain(channel, lambda: len(received) == 3)
    assert received == list('abc')


def test_what_a_consumer_without_callback_gets_stays_unacknowledged(
    amqp, connection, channel, queue
):
    publish(amqp, channel, queue, 'discarded')
    tag = channel.basic_consume(queue)
    assert channel.callbacks == {tag: None}
    assert channel.wait(timeout=10) is None
    channel.close()
    assert get(connection.channel(), queue).redelivered is True


class UnknownError(Exception):
    """Nothing that the library knows."""


@pytest.mark.parametrize('kind', [UnknownError, AttributeError, KeyError, OSError, TimeoutError])
def test_an_exception_of_a_callback_reaches_the_caller_of_wait(
    amqp, channel, queue, received, kind
):
    """Also one that the library itself could have raised, or catches somewhere."""

    def fail_first(message):
        received.append(message.body)
        if len(received) == 1:
            raise kind(message.body)

    publish(amqp, channel, queue, *'abc')
    channel.basic_consume(queue, no_ack=True, callback=fail_first)
    with pytest.raises(kind, match='a') as caught:
        channel.wait(timeout=10)
    assert type(caught.value) is kind
    drain(channel, lambda: len(received) == 3)
    assert received == list('abc')
    assert channel.queue_declare(queue, passive=True) == (queue, 0, 1)


def test_ctrl_c_in_a_callback_reaches_the_caller_of_wait(amqp, channel, queue, received):
    def press_ctrl_c_first(message):
        received.append(message.body)
        if len(received) == 1:
            raise KeyboardInterrupt

    publish(amqp, channel, queue, *'ab')
    channel.basic_consume(queue, no_ack=True, callback=press_ctrl_c_first)
    with pytest.raises(KeyboardInterrupt):
        channel.wait(timeout=10)
    drain(channel, lambda: len(received) == 2)
    assert received == list('ab')


def test_a_thousand_waiting_messages_all_reach_the_callback(amqp, channel, queue, received):
    """The broker sends them right behind its reply to basic_consume."""
    publish(amqp, channel, queue, *map(str, range(1000)))
    await_ready(channel, queue, 1000)
    channel.basic_consume(queue, no_ack=True, callback=lambda m: received.append(int(m.body)))
    drain(channel, lambda: len(received) == 1000)
    assert received == list(range(1000))


def test_two_consumers_of_a_channel_have_their_own_callbacks(amqp, channel, queue):
    second, _, _ = channel.queue_declare(exclusive=True)
    heard = []
    for name in (queue, second):
        channel.basic_consume(
            name,
            consumer_tag=name,
            no_ack=True,
            callback=lambda m, name=name: heard.append((name, m.consumer_tag, m.body)),
        )
        publish(amqp, channel, name, f'for {name}')
    drain(channel, lambda: len(heard) == 2)
    assert sorted(heard) == sorted((name, name, f'for {name}') for name in (queue, second))


# Consumer tags


def test_a_tag_can_be_chosen(channel, queue):
    assert channel.basic_consume(queue, 'my tag', callback=print) == 'my tag'
    assert channel.callbacks == {'my tag': print}


def test_the_broker_makes_up_a_tag_if_none_is_given(channel, queue):
    tags = {channel.basic_consume(queue, callback=print) for _ in range(3)}
    assert len(tags) == 3
    assert channel.callbacks == dict.fromkeys(tags, print)


def test_using_a_tag_twice_closes_the_connection(amqp, channel, queue):
    channel.basic_consume(queue, 'tag')
    with pytest.raises(amqp.AMQPConnectionException) as raised:
        channel.basic_consume(queue, 'tag')
    assert raised.value.amqp_reply_code == 530
    assert raised.value.args[3] == 'Channel.basic_consume'


def test_a_queue_can_be_consumed_exclusively(amqp, channel, shared_queue, other_channel):
    channel.basic_consume(shared_queue, exclusive=True)
    with pytest.raises(amqp.AccessRefused, match='exclusive'):
        other_channel.basic_consume(shared_queue)


def test_consuming_with_no_local_is_accepted(amqp, channel, queue, received):
    """RabbitMQ delivers the connection's own messages all the same."""
    channel.basic_consume(queue, no_local=True, no_ack=True, callback=received.append)
    publish(amqp, channel, queue, 'own')
    drain(channel, lambda: received)
    assert received[0].body == 'own'


def test_consuming_from_a_missing_queue_is_not_found(amqp, channel):
    with pytest.raises(amqp.NotFound):
        channel.basic_consume(new_name(), callback=print)
    assert channel.callbacks == {}


@pytest.mark.parametrize('given', ['', 'my tag'])
def test_consuming_with_nowait_receives_messages(amqp, channel, queue, received, given):
    tag = channel.basic_consume(queue, given, no_ack=True, nowait=True, callback=received.append)
    assert tag
    assert tag == given or not given
    publish(amqp, channel, queue, *'ab')
    drain(channel, lambda: len(received) == 2)
    assert [message.body for message in received] == ['a', 'b']
    assert received[0].consumer_tag == tag
    assert list(channel.callbacks) == [tag]


def test_consumers_made_with_nowait_differ(amqp, channel, queue):
    tags = {channel.basic_consume(queue, nowait=True) for _ in range(3)}
    assert len(tags) == 3
    assert channel.queue_declare(queue, passive=True)[2] == 3


# Cancelling


def test_cancelling_ends_the_delivery(amqp, channel, queue, received):
    tag = channel.basic_consume(queue, no_ack=True, callback=received.append)
    assert channel.basic_cancel(tag) is None
    assert channel.callbacks == {}
    publish(amqp, channel, queue, 'later')
    assert get_bodies(channel, queue, 1) == ['later']
    assert received == []


def test_cancelling_an_unknown_tag_is_fine(channel, queue):
    assert channel.basic_cancel('no such consumer') is None


def test_cancelling_with_nowait_does_not_wait(amqp, channel, queue, received):
    tag = channel.basic_consume(queue, no_ack=True, callback=received.append)
    assert channel.basic_cancel(tag, nowait=True) is None
    assert channel.callbacks == {}
    publish(amqp, channel, queue, 'later')
    assert get_bodies(channel, queue, 1) == ['later']
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=0)


def test_a_consumer_can_be_cancelled_from_its_callback(amqp, channel, queue):
    """The idiom to leave the loop: as long as there are callbacks, wait."""
    bodies = []

    def until_quit(message):
        bodies.append(message.body)
        message.channel.basic_ack(message.delivery_tag)
        if message.body == 'quit':
            channel.basic_cancel(message.consumer_tag)

    publish(amqp, channel, queue, 'one', 'two', 'quit')
    channel.basic_consume(queue, callback=until_quit)
    while channel.callbacks:
        channel.wait()
    assert bodies == ['one', 'two', 'quit']
    assert channel.queue_declare(queue, passive=True) == (queue, 0, 0)


def test_one_callback_can_cancel_all_consumers(amqp, channel, queue):
    calls = []

    def cancel_all(message):
        calls.append(message.body)
        for tag in list(channel.callbacks):
            channel.basic_cancel(tag)

    for _ in range(3):
        channel.basic_consume(queue, no_ack=True, callback=cancel_all)
    publish(amqp, channel, queue, *'abcdef')
    while channel.callbacks:
        channel.wait()
    assert calls == ['a']


def test_what_was_delivered_to_a_cancelled_consumer_comes_back(
    amqp, connection, channel, queue, received
):
    publish(amqp, channel, queue, *'abc')
    tag = channel.basic_consume(queue, callback=received.append)
    await_ready(channel, queue, 0)
    channel.basic_cancel(tag)
    hand_out_the_rest(amqp, channel)
    assert received == []
    channel.close()
    assert get_bodies(connection.channel(), queue, 3) == list('abc')


# Cancelled by the broker


@pytest.fixture
def consume_what_goes(channel, shared_queue, other_channel):
    """A function (**arguments) that consumes a queue, which is deleted; returns the tag."""

    def consume(**arguments):
        tag = channel.basic_consume(shared_queue, **arguments)
        other_channel.queue_delete(shared_queue)
        return tag

    return consume


def test_on_cancel_is_called_when_the_broker_cancels_the_consumer(channel, consume_what_goes):
    cancelled = []
    tag = consume_what_goes(callback=print, on_cancel=cancelled.append)
    drain(channel, lambda: cancelled)
    assert cancelled == [tag]
    assert channel.callbacks == {}
    assert channel.is_open


def test_without_on_cancel_it_is_raised_by_wait(amqp, channel, consume_what_goes):
    tag = consume_what_goes(callback=print)
    with pytest.raises(amqp.ConsumerCancelled, match=tag) as raised:
        channel.wait(timeout=10)
    assert raised.value.consumer_tag == tag
    assert channel.callbacks == {}


def test_the_channel_can_be_used_after_the_broker_cancelled_a_consumer(
    amqp, channel, queue, received, consume_what_goes
):
    consume_what_goes(callback=print)
    with pytest.raises(amqp.ConsumerCancelled):
        channel.wait(timeout=10)
    publish(amqp, channel, queue, 'still here')
    channel.basic_consume(queue, no_ack=True, callback=received.append)
    drain(channel, lambda: received)
    assert received[0].body == 'still here'


def test_messages_come_before_the_end_of_the_consumer(amqp, channel, shared_queue, other_channel):
    events = []
    channel.basic_consume(
        shared_queue,
        no_ack=True,
        callback=lambda m: events.append(m.body),
        on_cancel=lambda tag: events.append('cancelled'),
    )
    publish(amqp, other_channel, shared_queue, *'abc')
    await_ready(other_channel, shared_queue, 0)
    other_channel.queue_delete(shared_queue)
    drain(channel, lambda: 'cancelled' in events)
    assert events == ['a', 'b', 'c', 'cancelled']


def test_the_loop_over_callbacks_ends_when_the_broker_cancels_the_last_one(
    channel, consume_what_goes
):
    consume_what_goes(callback=print, on_cancel=lambda tag: None)
    while channel.callbacks:
        channel.wait(timeout=10)
    assert channel.is_open


def test_an_exception_of_on_cancel_reaches_the_caller_of_wait(channel, consume_what_goes):
    consume_what_goes(callback=print, on_cancel=lambda tag: {}[tag])
    with pytest.raises(KeyError):
        channel.wait(timeout=10)
    assert channel.callbacks == {}
    assert channel.is_open


def test_cancelling_a_consumer_that_the_broker_is_cancelling(amqp, channel, consume_what_goes):
    tag = consume_what_goes(callback=print)
    channel.basic_cancel(tag)
    assert channel.callbacks == {}
    # The broker's notice is there before the reply to our own, or not sent at all.
    with pytest.raises((amqp.ConsumerCancelled, amqp.AMQPTimeout)):
        channel.wait(timeout=0)
    assert channel.queue_declare(exclusive=True)


# Prefetch


def test_prefetch_limits_what_is_delivered_ahead_of_acknowledgements(
    amqp, channel, queue, received
):
    assert channel.basic_qos(0, 2, False) is None
    publish(amqp, channel, queue, *'abcde')
    channel.basic_consume(queue, callback=received.append)
    drain(channel, lambda: len(received) == 2)
    assert ready_count(channel, queue) == 3
    assert nothing_waits(amqp, channel)
    channel.basic_ack(received[0].delivery_tag)
    channel.wait(timeout=10)
    assert [message.body for message in received] == ['a', 'b', 'c']


def test_global_prefetch_is_for_all_consumers_of_the_channel(amqp, channel, queue, received):
    channel.basic_qos(prefetch_size=0, prefetch_count=2, a_global=True)
    publish(amqp, channel, queue, *'abcdefgh')
    for _ in range(3):
        channel.basic_consume(queue, callback=received.append)
    # The queue has given away what it may before it answers that there is a consumer.
    waiting = ready_count(channel, queue)
    drain(channel, lambda: len(received) == 8 - waiting)
    assert ready_count(channel, queue) == waiting
    of_each = collections.Counter(message.consumer_tag for message in received)
    # Since RabbitMQ 4.3 a broker takes it for the number of each consumer.
    assert waiting == 6 or list(of_each.values()) == [2, 2, 2]


def test_a_prefetch_size_is_not_implemented_by_the_broker(amqp, channel):
    with pytest.raises(amqp.AMQPConnectionException) as raised:
        channel.basic_qos(1000, 0, False)
    assert raised.value.amqp_reply_code == 540
    assert raised.value.args[3] == 'Channel.basic_qos'


# Waiting


def test_waiting_ends_when_its_time_is_over(amqp, channel):
    with pytest.raises(amqp.AMQPTimeout) as raised:
        channel.wait(timeout=0.05)
    assert isinstance(raised.value, TimeoutError)
    assert channel.is_open


def test_waiting_0_seconds_takes_only_what_has_arrived(amqp, channel, queue, received):
    channel.basic_consume(queue, no_ack=True, callback=received.append)
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=0)
    publish(amqp, channel, queue, 'x')

    def try_without_waiting():
        try:
            channel.wait(timeout=0)
        except amqp.AMQPTimeout:
            return False
        return True

    poll(try_without_waiting, 'the delivery')
    assert received[0].body == 'x'


def test_timeouts_lose_nothing(amqp, channel, queue, received):
    """Each body takes several frames, and may be cut by timeouts somewhere in them."""
    bodies = [bytes([number]) * 500_000 for number in range(20)]
    publish(amqp, channel, queue, *bodies)
    channel.basic_consume(queue, no_ack=True, callback=lambda m: received.append(m.body))

    def all_received():
        with contextlib.suppress(amqp.AMQPTimeout):
            channel.wait(timeout=0)
        return len(received) == 20

    poll(all_received, 'the delivery of all')
    same = received == bodies
    assert same


def test_waiting_for_one_method_leaves_the_others_in_order(amqp, channel, queue, received):
    channel.basic_consume(queue, no_ack=True, callback=lambda m: received.append(m.body))
    publish(amqp, channel, queue, *'abc')
    await_ready(channel, queue, 0)
    channel._send_method((60, 10), b'\0\0\0\0\0\0\0')
    channel.wait(allowed_methods=[(60, 11)])
    assert received == []
    channel.wait([(60, 60)])
    assert received == ['a']
    drain(channel, lambda: len(received) == 3)
    assert received == list('abc')


def test_wait_returns_what_the_handler_returns(channel):
    channel._send_method((20, 20), b'\1')
    assert channel.wait(allowed_methods=[(20, 21)], timeout=10) is True
