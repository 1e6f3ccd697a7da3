#!/usr/bin/env python3
"""Show the messages that demo_send.py sends, until one of them is 'quit'."""

from common import connect, make_parser, run

EXCHANGE = 'myfan'


def show(msg):
    """Print a message and where it came from, acknowledge it, and stop at 'quit'."""
    print('properties:')
    for name, value in msg.properties.items():
        print(f'    {name}: {value}')
    print('delivery info:')
    for name, value in msg.delivery_info.items():
        print(f'    {name}: {value}')
    print('body:')
    print(f'    {msg.body}')
    print()

    msg.channel.basic_ack(msg.delivery_tag)
    if msg.body in ('quit', b'quit'):
        msg.channel.basic_cancel(msg.consumer_tag)


def main():
    options = make_parser(__doc__, EXCHANGE).parse_args()

    _, conn = connect(options)
    with conn, conn.channel() as ch:
        ch.exchange_declare(options.exchange, 'fanout', auto_delete=True)
        # No name: the broker makes one up. Exclusive: the queue is deleted with the connection.
        queue, _, _ = ch.queue_declare(exclusive=True)
        ch.queue_bind(queue, options.exchange)
        ch.basic_consume(queue, callback=show)
        print(f'ready: waiting for messages to {options.exchange}', end='\n\n')

        # There is an entry for each consumer: the loop ends when the last one is cancelled.
        while ch.callbacks:
            ch.wait()


if __name__ == '__main__':
    run(main)
