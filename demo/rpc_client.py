#!/usr/bin/env python3
"""Ask rpc_server.py, by RabbitMQ's direct reply-to: no queue is declared for the replies."""

import sys

import amqplib.client_0_9_1 as amqp

REPLIES = 'amq.rabbitmq.reply-to'


def ask(ch, body, timeout):
    """Return the body of the reply; raise AMQPTimeout if there is none in time."""
    # A reply to an earlier request, which comes too late, goes nowhere.
    with ch.consume(REPLIES, no_ack=True) as replies:
        request = amqp.Message(body, reply_to=REPLIES, expiration=str(round(1000 * timeout)))
        ch.basic_publish(request, routing_key='shouting')
        return replies.get(timeout=timeout).body


def main(text='hello', url='amqp://localhost'):
    with amqp.Connection.from_url(url) as conn, conn.channel() as ch:
        try:
            print(ask(ch, text, timeout=10))
        except amqp.AMQPTimeout:
            sys.exit('rpc_client.py: nobody answered within 10 s')


if __name__ == '__main__':
    main(*sys.argv[1:])
