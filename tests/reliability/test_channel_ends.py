"""Channels that end by the hundred on one connection that many threads share."""

import threading
import time

from tests.helpers.threads import Worker
from tests.helpers.waiting import PATIENCE

ROUNDS = 500
THREADS = 2


def fail_until_raised(amqp, channel, number):
    """Publish to where nothing is, and go on until the channel raises why it is closed."""
    others = [
        lambda: channel.basic_publish(amqp.Message(b'x'), 'no such exchange'),
        lambda: channel.basic_ack(number),
        lambda: channel.basic_reject(number, True),
        lambda: channel.queue_declare('no such queue', passive=True),
    ]
    channel.basic_publish(amqp.Message(b'x'), 'no such exchange')
    try:
        while True:
            others[number % len(others)]()
            time.sleep(0)  # lets the thread go on that reads
    except (amqp.NotFound, amqp.PreconditionFailed):
        return


def test_errors_of_channels_by_the_hundred_leave_the_connection_whole(amqp, dial):
    """One thread waits and so reads the ends, others send on the channels that end."""
    connection = dial()
    ended = threading.Event()
    keeper, witness = connection.channel(), connection.channel()
    queue = keeper.queue_declare(exclusive=True, auto_delete=False)[0]
    seen = []
    witness.basic_consume(queue, no_ack=True, callback=lambda message: seen.append(message.body))

    def read():
        while not ended.is_set() or len(seen) < ROUNDS:
            witness.wait(timeout=PATIENCE)

    def fail(rounds):
        other = connection.channel()
        for number in range(rounds):
            fail_until_raised(amqp, connection.channel(), number)
            other.basic_publish(amqp.Message(b'x'), '', queue)

    reader = Worker(read)
    workers = [Worker(fail, ROUNDS // THREADS) for _ in range(THREADS)]
    for worker in workers:
        worker.result(6 * PATIENCE)
    ended.set()
    keeper.basic_publish(amqp.Message(b'x'), '', queue)  # wakes the reader
    reader.result(PATIENCE)
    connection.close()
