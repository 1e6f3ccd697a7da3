"""What it costs to publish until the broker has the messages, compared with pika and py-amqp.

    .venv/bin/python tests/helpers/broker.py benchmarks/.venv/bin/python benchmarks/safely.py --help

sh benchmarks/run makes the environment. First, persistent messages are published to a durable
queue, by each client as its documentation says how to do it safely; the times are medians of the
rounds, in which the clients take turns. Then publish_all() is compared with basic_publish(), by the
CPU time of small messages that are not persistent: once without confirms, where the program runs
ahead of the broker and knows nothing, and once with them, as in confirms.py.
"""

import argparse
import gc
import os
import socket
import statistics
import threading
import time
from collections import defaultdict

import amqp as py_amqp
import pika
from clients import PROPERTIES

import amqplib.client_0_9_1 as amqplib

ADDRESS = os.environ.get('AMQPLIB_BROKER', 'localhost:5672')
BODY = bytes(128)
THREADS = 16
TRANSIENT = {**PROPERTIES, 'delivery_mode': 1}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=3, help='of persistent messages')
    parser.add_argument('--messages', type=int, default=5000, help='persistent ones, in a round')
    parser.add_argument(
        '--quick-rounds', type=int, default=15, help='of the comparison of CPU time'
    )
    parser.add_argument('--quick-messages', type=int, default=20_000, help='in such a round')
    parser.add_argument('--congestion', help="Linux's congestion control, such as cubic or reno")
    return parser.parse_args()


def pace(connection, options):
    """Have the system pace what is sent as the options say; see confirms.py."""
    if options.congestion:
        algorithm = options.congestion.encode()
        connection.transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, algorithm)


def items(queue, count, properties=PROPERTIES):
    for _ in range(count):
        yield amqplib.Message(BODY, **properties), '', queue


def new_publisher(setup=None):
    return amqplib.Publisher(f'amqp://guest:guest@{ADDRESS}', setup)


def by_publish_all(queue, count):
    with new_publisher() as publisher:
        for msg, error in publisher.publish_all(items(queue, count)):
            raise AssertionError((msg, error))


def by_threads(queue, count):
    def work():
        for _ in range(count // THREADS):
            publisher.publish(amqplib.Message(BODY, **PROPERTIES), '', queue)

    with new_publisher() as publisher:
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(count % THREADS):
            publisher.publish(amqplib.Message(BODY, **PROPERTIES), '', queue)


def by_publish(queue, count):
    with new_publisher() as publisher:
        for _ in range(count):
            publisher.publish(amqplib.Message(BODY, **PROPERTIES), '', queue)


def by_pika(queue, count):
    host, port = ADDRESS.split(':')
    connection = pika.BlockingConnection(pika.ConnectionParameters(host, int(port)))
    channel = connection.channel()
    channel.confirm_delivery()
    for _ in range(count):
        properties = pika.BasicProperties(**PROPERTIES)
        channel.basic_publish('', queue, BODY, properties, mandatory=True)
    connection.close()


def by_py_amqp(queue, count):
    with py_amqp.Connection(ADDRESS, confirm_publish=True) as connection:
        channel = connection.channel()
        for _ in range(count):
            channel.basic_publish(py_amqp.Message(BODY, **PROPERTIES), '', queue, mandatory=True)


SAFELY = {
    'amqplib, publish_all': by_publish_all,
    f'amqplib, publish from {THREADS} threads': by_threads,
    'amqplib, publish': by_publish,
    'pika, confirm_delivery': by_pika,
    'py-amqp, confirm_publish': by_py_amqp,
}


def measure(work, keeper, queue, count):
    """Return the seconds and the CPU seconds that some work takes; check that it is done."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work(queue, count)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    assert keeper.queue_purge(queue) == count
    return spent


def compare_safely(keeper, options):
    queue = f'amqplib-benchmark-{os.getpid()}'
    keeper.queue_declare(queue, durable=True, auto_delete=False)
    figures = defaultdict(list)
    try:
        for _ in range(options.rounds):
            for name, work in SAFELY.items():
                figures[name].append(measure(work, keeper, queue, options.messages))
    finally:
        keeper.queue_delete(queue)
    print(f'{options.messages} persistent messages of {len(BODY)} bytes:')
    for name, spent in figures.items():
        wall, cpu = map(statistics.median, zip(*spent))
        print(f'    {name}: {wall:.2f} s, {cpu:.3f} s of CPU time')


def publish_by(channel, queue, count):
    for _ in range(count):
        channel.basic_publish(amqplib.Message(BODY, **TRANSIENT), '', queue)


def compare_gathered(connection, keeper, options):
    """Compare publish_all() with basic_publish(); what connecting costs does not count."""
    queue = keeper.queue_declare(exclusive=True)[0]
    plain, confirmed = connection.channel(), connection.channel()
    confirmed.confirm_select(1000)

    def without_confirms(queue, count):
        publish_by(plain, queue, count)
        plain.queue_declare(queue, passive=True)  # it is answered when all have arrived

    def with_confirms(queue, count):
        publish_by(confirmed, queue, count)
        confirmed.wait_for_confirms()

    def gathered(queue, count):
        assert not list(publisher.publish_all(items(queue, count, TRANSIENT)))

    kinds = {
        'basic_publish': without_confirms,
        'basic_publish, confirmed': with_confirms,
        'publish_all': gathered,
    }
    figures = defaultdict(list)
    # Anybody may publish to an exclusive queue.
    with new_publisher(lambda channel: pace(channel.connection, options)) as publisher:
        for _ in range(options.quick_rounds + 1):
            for name, work in kinds.items():
                cpu = measure(work, keeper, queue, options.quick_messages)[1]
                figures[name].append(cpu / options.quick_messages * 1e6)
    medians = {name: statistics.median(spent[1:]) for name, spent in figures.items()}
    print(f'CPU time of a message of {len(BODY)} bytes that is not persistent:')
    for name, median in medians.items():
        share = medians['publish_all'] / median
        print(f'    {name}: {median:.2f} us; publish_all costs {share:.2f} times as much')


def main():
    options = arguments()
    with amqplib.Connection(ADDRESS) as connection:
        pace(connection, options)
        keeper = connection.channel()
        compare_safely(keeper, options)
        compare_gathered(connection, keeper, options)


if __name__ == '__main__':
    main()
