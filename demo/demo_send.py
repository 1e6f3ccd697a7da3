#!/usr/bin/env python3
"""Send messages to a fanout exchange, which delivers them to every demo_receive.py that runs."""

import argparse

from common import CLIENTS, connect, make_parser, run

EXCHANGE = 'myfan'

# The properties that are text or small numbers; they are the same in both clients.
PROPERTIES = {
    name: int if wire_type == 'octet' else str
    for name, wire_type in CLIENTS['0-8'].Message.PROPERTIES
    if wire_type in ('octet', 'shortstr')
}


def parse_property(text):
    """Return (name, value) of NAME=VALUE."""
    name, _, value = text.partition('=')
    if name not in PROPERTIES:
        raise argparse.ArgumentTypeError(f'{name!r} is none of: {", ".join(PROPERTIES)}')
    return name, PROPERTIES[name](value)


def main():
    parser = make_parser(__doc__, EXCHANGE)
    parser.add_argument(
        '--property', type=parse_property, action='append', default=[], metavar='NAME=VALUE',
        help='a property of the messages, such as priority=5; may be given several times',
    )  # fmt: skip
    parser.add_argument(
        'body', nargs='+', help="the text of a message; the text 'quit' ends the receivers"
    )
    options = parser.parse_args()

    properties = {'content_type': 'text/plain', **dict(options.property)}

    # Leaving the block closes channel and connection: the messages have then reached the broker.
    amqp, conn = connect(options)
    with conn, conn.channel() as ch:
        ch.exchange_declare(options.exchange, 'fanout', auto_delete=True)
        for body in options.body:
            msg = amqp.Message(body, application_headers={'foo': 7, 'bar': 'baz'}, **properties)
            ch.basic_publish(msg, options.exchange)
            print('sent:', body)


if __name__ == '__main__':
    run(main)
