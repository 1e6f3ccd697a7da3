"""What a confirmed publish costs beside an unconfirmed one, in CPU time of this process.

    python tests/broker.py python benchmarks/confirms.py [--rounds N] [--messages N] [--window N]

There are three kinds of publishing: unconfirmed at full speed; unconfirmed, but waiting for the
broker after each half window; and confirmed with a window. Their rounds take turns, and each kind
has its median, so that what else the machine does meets all of them. A round ends when the broker
has all of its messages.

A program that runs ahead of the broker fills the buffers of the system, which is cheaper for each
message than to go along with the broker. The second kind shows how much of the difference that is.
"""

import argparse
import os
import statistics
import time

import amqplib.client_0_9_1 as amqp

BODY = bytes(128)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=15, help='of each kind')
    parser.add_argument('--messages', type=int, default=20_000, help='in a round')
    parser.add_argument('--window', type=int, default=1000, help='messages outstanding')
    return parser.parse_args()


def cost(channel, queue, options, pace, finish):
    """Return microseconds of CPU time for each message.

    pace: call `finish` after each so many messages.
    """
    msg = amqp.Message(BODY)
    begun = time.process_time()
    for number in range(options.messages):
        channel.basic_publish(msg, '', queue)
        if pace and number % pace == 0:
            finish()
    finish()
    spent = time.process_time() - begun
    channel.queue_purge(queue)
    return spent / options.messages * 1e6


def main():
    options = arguments()
    address = os.environ.get('AMQPLIB_BROKER', 'localhost')
    # A connection each: the broker's answers to one are not read by the other.
    with amqp.Connection(address) as one, amqp.Connection(address) as other:
        plain, confirmed = one.channel(), other.channel()
        confirmed.confirm_select(options.window)
        queues = [channel.queue_declare(exclusive=True)[0] for channel in (plain, confirmed)]

        def has_arrived():
            plain.basic_qos(0, 0, False)  # whatever has a reply

        kinds = {
            'unconfirmed': (plain, queues[0], options, None, has_arrived),
            'unconfirmed, in step': (plain, queues[0], options, options.window // 2, has_arrived),
            'confirmed': (confirmed, queues[1], options, None, confirmed.wait_for_confirms),
        }
        figures = {name: [] for name in kinds}
        for _ in range(options.rounds):
            for name, kind in kinds.items():
                figures[name].append(cost(*kind))
    medians = {name: statistics.median(costs) for name, costs in figures.items()}
    for name, median in medians.items():
        ratio = medians['confirmed'] / median
        print(
            f'{name}: {median:.2f} us a message, {min(figures[name]):.2f} at best; '
            f'confirmed costs {ratio:.2f} times as much'
        )


if __name__ == '__main__':
    main()
