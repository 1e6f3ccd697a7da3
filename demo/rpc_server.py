#!/usr/bin/env python3
"""Answer each request with its text in capital letters, until Ctrl-C or SIGTERM."""

import logging
import signal
import sys
import threading

import amqplib.client_0_9_1 as amqp

stopping = threading.Event()


def main(url='amqp://localhost'):
    logging.basicConfig(format='%(message)s')
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stopping.set())
    for attempt in amqp.reconnecting(url, stop=stopping.is_set, heartbeat=15):
        with attempt as conn, conn.channel() as ch:
            ch.queue_declare('shouting', durable=True, auto_delete=False)
            for msg in ch.consume('shouting', prefetch=1, stop=stopping.is_set):
                number = msg.properties.get('correlation_id')
                reply = amqp.Message(msg.body.upper(), correlation_id=number)
                ch.basic_publish(reply, routing_key=msg.properties.get('reply_to', ''))
                msg.ack()


if __name__ == '__main__':
    main(*sys.argv[1:])
