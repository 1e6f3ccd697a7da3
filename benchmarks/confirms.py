"""What a confirmed publish costs beside an unconfirmed one, in CPU time of this process.

    python tests/broker.py python benchmarks/confirms.py [--rounds N] [--messages N] [--window N]

Rounds of both take turns, and each kind has its median, so that what else the machine does
meets both. A round ends when the broker has all of its messages: by wait_for_confirms, and by a
method with a reply. Ends with status 1 if a confirmed publish costs more than --limit times an
unconfirmed one.
"""

import argparse
import os
import statistics
import sys
import time

import amqplib.client_0_9_1 as amqp

BODY = bytes(128)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=15, help='of each kind')
    parser.add_argument('--messages', type=int, default=20_000, help='in a round')
    parser.add_argument('--window', type=int, default=1000, help='messages outstanding')
    parser.add_argument('--limit', type=float, default=1.5, help='the highest ratio that is well')
    return parser.parse_args()


def cost(channel, queue, messages, finish):
    """Return microseconds of CPU time for each message."""
    msg = amqp.Message(BODY)
    begun = time.process_time()
    for _ in range(messages):
        channel.basic_publish(msg, '', queue)
    finish()
    spent = time.process_time() - begun
    channel.queue_purge(queue)
    return spent / messages * 1e6


def main():
    options = arguments()
    address = os.environ.get('AMQPLIB_BROKER', 'localhost')
    # A connection each: the broker's answers to one are not read by the other.
    with amqp.Connection(address) as one, amqp.Connection(address) as other:
        plain, confirmed = one.channel(), other.channel()
        confirmed.confirm_select(options.window)
        queues = [channel.queue_declare(exclusive=True)[0] for channel in (plain, confirmed)]
        kinds = {
            'unconfirmed': (plain, queues[0], options.messages, plain.tx_select),
            'confirmed': (confirmed, queues[1], options.messages, confirmed.wait_for_confirms),
        }
        # Any method with a reply would do; this one is harmless, and not a transaction.
        kinds['unconfirmed'] = (*kinds['unconfirmed'][:3], lambda: plain.basic_qos(0, 0, False))
        figures = {name: [] for name in kinds}
        for _ in range(options.rounds):
            for name, kind in kinds.items():
                figures[name].append(cost(*kind))
    medians = {name: statistics.median(costs) for name, costs in figures.items()}
    for name, median in medians.items():
        print(f'{name}: {median:.2f} us a message, {min(figures[name]):.2f} at best')
    ratio = medians['confirmed'] / medians['unconfirmed']
    print(f'ratio: {ratio:.2f} with {options.window} outstanding')
    return int(ratio > options.limit)


if __name__ == '__main__':
    sys.exit(main())
