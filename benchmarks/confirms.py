"""What a confirmed publish costs beside an unconfirmed one, in CPU time of this process.

    .venv/bin/python tests/helpers/broker.py .venv/bin/python benchmarks/confirms.py --help

There are three kinds of publishing: unconfirmed at full speed; unconfirmed, but waiting for the
broker after each half window; and confirmed with a window. Each is done with a new message each
time, as programs do, and with one message again and again, which shows the difference without
what messages cost. The rounds take turns, and each kind has its median, so that what else the
machine does meets all of them. A round ends when the broker has all of its messages.

A program that runs ahead of the broker fills the buffers of the system, which may be cheaper for
each message than to go along with the broker. The second kind shows how much of the difference
that is. It depends on how the system paces what it sends: --congestion tries another way.
"""

import argparse
import os
import socket
import statistics
import time
from collections import defaultdict

import amqplib.client_0_9_1 as amqp

BODY = bytes(128)
PROPERTIES = {'content_type': 'text/plain', 'delivery_mode': 1}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=15, help='of each kind')
    parser.add_argument('--messages', type=int, default=20_000, help='in a round')
    parser.add_argument('--window', type=int, default=1000, help='messages outstanding')
    parser.add_argument('--congestion', help="Linux's congestion control, such as cubic or reno")
    return parser.parse_args()


def one_message():
    """Return what makes the messages of a round: the same one again and again."""
    msg = amqp.Message(BODY, **PROPERTIES)
    return lambda: msg


def new_messages():
    return lambda: amqp.Message(BODY, **PROPERTIES)


def cost(channel, queue, options, make, pace, finish):
    """Return microseconds of CPU time for each message.

    make: returns what makes the messages.
    pace: call `finish` after each so many messages.
    """
    message = make()
    begun = time.process_time()
    for number in range(options.messages):
        channel.basic_publish(message(), '', queue)
        if pace and number % pace == 0:
            finish()
    finish()
    spent = time.process_time() - begun
    channel.queue_purge(queue)
    return spent / options.messages * 1e6


def connect(options):
    connection = amqp.Connection(os.environ.get('AMQPLIB_BROKER', 'localhost'))
    if options.congestion:
        connection.transport.sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_CONGESTION, options.congestion.encode()
        )
    return connection


def main():
    options = arguments()
    # A connection each: the broker's answers to one are not read by the other.
    with connect(options) as one, connect(options) as other:
        plain, confirmed = one.channel(), other.channel()
        confirmed.confirm_select(options.window)
        queues = [channel.queue_declare(exclusive=True)[0] for channel in (plain, confirmed)]

        def has_arrived():
            plain.basic_qos(0, 0, False)  # whatever has a reply

        kinds = {
            'unconfirmed': (plain, queues[0], None, has_arrived),
            'unconfirmed, in step': (plain, queues[0], options.window // 2, has_arrived),
            'confirmed': (confirmed, queues[1], None, confirmed.wait_for_confirms),
        }
        ways = {'a new message each': new_messages, 'one message': one_message}
        figures = defaultdict(list)
        for _ in range(options.rounds):
            for way, make in ways.items():
                for name, (channel, queue, pace, finish) in kinds.items():
                    figures[way, name].append(cost(channel, queue, options, make, pace, finish))
    for way in ways:
        medians = {name: statistics.median(figures[way, name]) for name in kinds}
        for name, median in medians.items():
            ratio = medians['confirmed'] / median
            print(
                f'{way}, {name}: {median:.2f} us, {min(figures[way, name]):.2f} at best; '
                f'confirmed costs {ratio:.2f} times as much'
            )


if __name__ == '__main__':
    main()
