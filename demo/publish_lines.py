#!/usr/bin/env python3
"""Publish each line of standard input to the queue 'tasks', whatever happens to the broker."""

import logging
import sys

import amqplib.client_0_9_1 as amqp


def declare(ch):
    ch.queue_declare('tasks', durable=True, auto_delete=False)


def messages():
    for line in sys.stdin:
        yield amqp.Message(line.rstrip('\n'), delivery_mode=2), '', 'tasks'


def main(url='amqp://localhost'):
    logging.basicConfig(format='%(message)s')  # warnings, on standard error
    with amqp.Publisher(url, declare, heartbeat=15) as publisher:
        for msg, error in publisher.publish_all(messages()):
            print('not published:', msg.body, error)


if __name__ == '__main__':
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
