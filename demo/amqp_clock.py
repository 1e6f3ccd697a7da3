#!/usr/bin/env python3
"""Publish the time to the topic exchange 'clock' at the beginning of each minute.

The routing key is YEAR.MONTH.DAY.WEEKDAY.HOUR.MINUTE in local time, where the weekday is 0 for
Sunday to 6 for Saturday. 2026.11.23.1.15.30 is half past three on a Monday. A queue that is bound
with '#.00' gets a message each hour, and one bound with '*.*.*.5.17.*' each minute from five to
six on Fridays.
"""

import time
from datetime import datetime

from common import connect, make_parser, run

EXCHANGE = 'clock'
ROUTING_KEY = '%Y.%m.%d.%w.%H.%M'


def publish_time(amqp, ch, exchange):
    """Publish the current time."""
    now = datetime.now()
    msg = amqp.Message(now.isoformat(timespec='seconds'), timestamp=now)
    routing_key = now.strftime(ROUTING_KEY)
    ch.basic_publish(msg, exchange, routing_key)
    print('published:', routing_key)


def sleep_until_next_minute():
    """Sleep until a tenth of a second after the next minute begins."""
    now = datetime.now()
    time.sleep(60.1 - now.second - now.microsecond / 1e6)


def main():
    parser = make_parser(__doc__, EXCHANGE)
    parser.add_argument('--once', action='store_true', help='publish once, now, and end')
    options = parser.parse_args()

    amqp, conn = connect(options)
    with conn, conn.channel() as ch:
        ch.exchange_declare(options.exchange, 'topic', auto_delete=True)
        if options.once:
            publish_time(amqp, ch, options.exchange)
            return
        while True:
            sleep_until_next_minute()
            publish_time(amqp, ch, options.exchange)


if __name__ == '__main__':
    run(main)
