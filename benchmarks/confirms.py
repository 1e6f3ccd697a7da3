"""What a confirmed publish costs compared with an unconfirmed one, in CPU time of this process.

    .venv/bin/python tests/helpers/broker.py .venv/bin/python benchmarks/confirms.py --help

There are three kinds of publishing: unconfirmed at full speed; unconfirmed, but waiting for the
broker after each half window; and confirmed with a window. Each kind is measured with a new message
each time, as programs publish, and with one message again and again, which leaves out the cost of
making messages. The kinds take turns, so that other load on the machine affects all of them; the
median of each is shown. A round ends when the broker has all of its messages.

A program that runs ahead of the broker fills the buffers of the system, which may be cheaper for
each message than keeping in step with the broker. The second kind shows how much of the difference
that explains. It depends on how the system paces what it sends; --congestion chooses another way.
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
    """Return a function that returns the same message each time."""
    msg = amqp.Message(BODY, **PROPERTIES)
    return lambda: msg


def new_messages():
    return lambda: amqp.Message(BODY, **PROPERTIES)


def cost(channel, queue, options, make, pace, finish):
    """Return microseconds of CPU time for each message.

    make: function that returns a function, which returns the messages.
    pace: how many messages to publish between two calls of `finish`; None for no calls.
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
    # Two connections, so that neither reads the broker's answers to the other.
    with connect(options) as one, connect(options) as other:
        plain, confirmed = one.channel(), other.channel()
        confirmed.confirm_select(options.window)
        queues = [channel.queue_declare(exclusive=True)[0] for channel in (plain, confirmed)]

        def has_arrived():
            plain.basic_qos(0, 0, False)  # any method with a reply would do

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
