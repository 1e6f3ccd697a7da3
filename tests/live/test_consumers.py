"""Channel.consume() and what the broker makes of it."""

import os
import signal
import sys
import threading
import time

import pytest

from tests.helpers.queues import await_ready, ready_count
from tests.helpers.waiting import PATIENCE


def publish(amqp, channel, queue, *bodies):
    for body in bodies:
        channel.basic_publish(amqp.Message(str(body)), '', queue)


def bodies_of(messages):
    return [msg.body for msg in messages]


def test_a_loop_gets_all_in_order_and_ends_when_nothing_comes(amqp, channel, queue):
    publish(amqp, channel, queue, *range(300))
    bodies = []
    for msg in channel.consume(queue, prefetch=10, timeout=1):
        bodies.append(msg.body)
        msg.channel.basic_ack(msg.delivery_tag)
    assert bodies == [str(number) for number in range(300)]
    assert ready_count(channel, queue) == 0


def test_what_was_not_handed_out_goes_back_in_order(amqp, channel, queue):
    publish(amqp, channel, queue, *range(100))
    with channel.consume(queue) as consumer:
        for msg in consumer:
            channel.basic_ack(msg.delivery_tag)
            if msg.body == '9':
                break
    with channel.consume(queue, timeout=PATIENCE, no_ack=True) as consumer:
        assert bodies_of(consumer.get() for _ in range(90)) == [str(n) for n in range(10, 100)]


def test_prefetch_is_of_each_consumer(amqp, channel, other_channel, shared_queue):
    publish(amqp, channel, shared_queue, *range(20))
    await_ready(channel, shared_queue, 20)
    first = other_channel.consume(shared_queue, prefetch=3)
    second = other_channel.consume(shared_queue, prefetch=5)
    await_ready(channel, shared_queue, 12)
    for consumer, count in ((first, 3), (second, 5)):
        for _ in range(count):
            consumer.get(PATIENCE)
        with pytest.raises(amqp.AMQPTimeout):
            consumer.get(0)


def test_two_consumers_of_a_channel_get_their_own(amqp, channel, queue):
    other_queue = channel.queue_declare(exclusive=True, auto_delete=False)[0]
    one, other = channel.consume(queue, no_ack=True), channel.consume(other_queue, no_ack=True)
    for number in range(50):
        publish(amqp, channel, queue, f'one {number}')
        publish(amqp, channel, other_queue, f'other {number}')
    for consumer, name in ((one, 'one'), (other, 'other')):
        bodies = bodies_of(consumer.get(PATIENCE) for _ in range(50))
        assert bodies == [f'{name} {number}' for number in range(50)]


def test_a_deleted_queue_ends_the_loop(amqp, channel, other_channel, shared_queue):
    publish(amqp, channel, shared_queue, 'x')
    consumer = channel.consume(shared_queue, timeout=PATIENCE)
    await_ready(other_channel, shared_queue, 0)
    other_channel.queue_delete(shared_queue)
    bodies = []
    with pytest.raises(amqp.ConsumerCancelled):
        bodies.extend(msg.body for msg in consumer)
    assert bodies == ['x']
    consumer.cancel()
    assert channel.is_open


def test_a_lost_connection_ends_the_loop(amqp, channel, queue):
    with channel.consume(queue) as consumer:
        messages = iter(consumer)
        channel.connection.transport.shutdown()
        with pytest.raises(amqp.ConnectionLost):
            next(messages)


def test_another_thread_ends_a_loop_that_waits(amqp, channel, queue):
    consumer = channel.consume(queue)
    timer = threading.Timer(0.1, consumer.cancel)
    timer.start()
    assert list(consumer) == []
    timer.join()
    publish(amqp, channel, queue, 'x')
    await_ready(channel, queue, 1)


@pytest.mark.skipif(sys.platform == 'win32', reason='no signal can be sent there')
def test_a_signal_that_sets_a_flag_ends_a_loop_that_waits(channel, queue):
    stopping = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: stopping.append(time.monotonic()))
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        assert list(channel.consume(queue, stop=lambda: stopping)) == []
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - stopping[0] < PATIENCE


@pytest.mark.skipif(sys.platform == 'win32', reason='no signal can be sent there')
def test_a_signal_handler_may_cancel(amqp, channel, queue):
    consumer = channel.consume(queue)
    before = signal.signal(signal.SIGTERM, lambda signum, frame: consumer.cancel())
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        assert list(consumer) == []
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before)
    assert consumer.tag not in channel.callbacks
