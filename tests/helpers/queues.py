"""Queues of a real broker: names for them, and what is in them."""

import time
import uuid

from tests.helpers.waiting import PATIENCE, poll


def new_name():
    """Return a unique name."""
    return f'amqplib-test-{uuid.uuid4()}'


def ready_count(channel, queue):
    """Return how many messages of the queue are ready."""
    return channel.queue_declare(queue, passive=True)[1]


def await_ready(channel, queue, count):
    """Wait until this many messages of the queue are ready."""
    poll(lambda: ready_count(channel, queue) == count, f'{count} messages in the queue')


def get(channel, queue, **arguments):
    """Get a message that is on its way to the queue."""
    return poll(lambda: channel.basic_get(queue, **arguments), 'a message in the queue')


def get_bodies(channel, queue, count):
    """Get this many messages, acknowledged; return their bodies."""
    return [get(channel, queue, no_ack=True).body for _ in range(count)]


def close_and_get_what_comes_back(amqp, connection, channel, queue):
    """Close a channel that holds the messages of a queue; return the bodies that come back.

    They come back together, some time after close-ok. One more message, which has to come back too,
    shows when that has happened.
    """
    other = connection.channel()
    other.basic_publish(amqp.Message('the last one'), '', queue)
    assert get(channel, queue).body == 'the last one'
    channel.close()
    poll(lambda: ready_count(other, queue), 'what comes back')
    bodies = get_bodies(other, queue, ready_count(other, queue))
    assert bodies.pop() == 'the last one'
    return bodies


def drain(channel, until, patience=PATIENCE):
    """Call wait() on the channel until the condition holds."""
    deadline = time.monotonic() + patience
    while not until():
        channel.wait(timeout=max(0.0, deadline - time.monotonic()))


def nothing_waits(amqp, channel):
    """Return whether the broker has sent nothing that the next wait() would dispatch."""
    # What was sent before the reply has arrived with it.
    channel.exchange_declare('amq.direct', 'direct', passive=True)
    try:
        channel.wait(timeout=0)
    except amqp.AMQPTimeout:
        return True
    return False


def hand_out_the_rest(amqp, channel):
    """Call wait() for everything that the broker has sent so far on the channel."""
    while not nothing_waits(amqp, channel):
        pass


def publish_until_refused(amqp, channel, queue, size=6):
    """Publish numbered messages until that raises; return how many went out, and the error."""
    accepted = 0
    try:
        while True:
            body = (b'%06d' % accepted).ljust(size)
            channel.basic_publish(amqp.Message(body), routing_key=queue)
            accepted += 1
    except amqp.AMQPException as error:
        return accepted, error


def get_all(channel, queue):
    """Take all the messages out of a queue; return their bodies."""
    return [message.body for message in get_messages(channel, queue)]


def get_messages(channel, queue):
    return list(iter(lambda: channel.basic_get(queue, no_ack=True), None))
