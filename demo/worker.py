#!/usr/bin/env python3
"""Work on the messages of the queue 'tasks', whatever the broker does, until Ctrl-C or SIGTERM."""

import logging
import signal
import sys
import threading

import amqplib.client_0_9_1 as amqp

stopping = threading.Event()


def work(body):
    print('done:', body, flush=True)


def main(url='amqp://localhost'):
    logging.basicConfig(format='%(message)s')  # warnings, on standard error
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stopping.set())
    for attempt in amqp.reconnecting(url, stop=stopping.is_set, heartbeat=15):
        with attempt as conn, conn.channel() as ch:
            ch.queue_declare('tasks', durable=True, auto_delete=False)
            for msg in ch.consume('tasks', prefetch=10, stop=stopping.is_set):
                work(msg.body)
                msg.ack()


if __name__ == '__main__':
    main(*sys.argv[1:])
