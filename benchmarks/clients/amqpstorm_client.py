"""amqpstorm, whose connection is read by a thread of its own."""

import amqpstorm

from clients import PREFETCH, PROPERTIES, as_bytes


class Client:
    def __init__(self, host, port):
        self.connection = amqpstorm.Connection(host, 'guest', 'guest', port=port)
        self.channel = self.connection.channel()
        self.queue = ''
        self.count = 0
        self.wanted = 0
        self.message = None

    def declare(self, queue):
        self.queue = queue
        return self.channel.queue.declare(queue, passive=True)['message_count']

    def publish_many(self, count, body):
        channel, queue = self.channel, self.queue
        for _ in range(count):
            channel.basic.publish(body, queue, properties=dict(PROPERTIES))

    def consume_many(self, count):
        self.channel.basic.consume(self.on_message, self.queue, no_ack=True)
        self._wait_for(count)

    def consume_ack_many(self, count):
        self.channel.basic.qos(PREFETCH)
        self.channel.basic.consume(self.on_message_to_ack, self.queue)
        self._wait_for(count)

    def _wait_for(self, count):
        self.count, self.wanted = 0, count
        self.channel.start_consuming()

    def on_message(self, message):
        self.count += 1
        self.message = message
        if self.count == self.wanted:
            self.channel.stop_consuming()

    def on_message_to_ack(self, message):
        message.ack()
        self.on_message(message)

    def get_many(self, count):
        channel, queue = self.channel, self.queue
        for _ in range(count):
            self.message = channel.basic.get(queue, no_ack=True)

    def last_body(self):
        return as_bytes(self.message.body)

    def open_channels(self, count):
        for _ in range(count):
            self.connection.channel()

    def close(self):
        self.connection.close()
