#!/usr/bin/env python3
"""Move the messages of a queue to standard output, each as a line of JSON.

It ends when no message has come for a while, or on SIGTERM. A message leaves the queue when its
line is written, so nothing is lost, whatever is killed. A message whose acknowledgement was lost
comes again, as another line with "redelivered".
"""

import argparse
import base64
import json
import logging
import os
import signal
import threading

from common import client_0_9_1 as amqp
from common import run


def to_line(msg):
    """Return a message as JSON; bytes that are no text are in base64, other values are text."""
    fields = {'routing_key': msg.routing_key, 'redelivered': msg.redelivered, **msg.properties}
    try:
        fields['body'] = msg.body if isinstance(msg.body, str) else msg.body.decode()
    except UnicodeDecodeError:
        fields['body_base64'] = base64.b64encode(msg.body).decode()
    return json.dumps(fields, default=str)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('queue', help='its messages are deleted once they are written')
    parser.add_argument(
        '--url', default=os.environ.get('AMQP_URL', 'amqp://'), help='the broker ($AMQP_URL)'
    )
    parser.add_argument(
        '--idle', type=float, default=5, help='seconds without a message that end it (%(default)s)'
    )
    options = parser.parse_args()

    logging.basicConfig(format='%(message)s')  # says why it connects again
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: stopping.set())

    for attempt in amqp.reconnecting(options.url, stop=stopping.is_set):
        with attempt as conn, conn.channel() as ch:
            for msg in ch.consume(
                options.queue, prefetch=100, timeout=options.idle, stop=stopping.is_set
            ):
                print(to_line(msg), flush=True)
                msg.ack()


if __name__ == '__main__':
    run(main)
