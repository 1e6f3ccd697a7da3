"""rabbitpy, whose connection is read and written by a thread of its own."""

import rabbitpy

from clients import PREFETCH, PROPERTIES, as_bytes


class Client:
    def __init__(self, host, port):
        self.connection = rabbitpy.Connection(f'amqp://guest:guest@{host}:{port}/%2f')
        self.channel = self.connection.channel()
        self.queue = None
        self.message = None

    def declare(self, queue):
        if self.queue is None:
            self.queue = rabbitpy.Queue(self.channel, queue)
        return self.queue.declare(passive=True)[0]

    def publish_many(self, count, body):
        channel, queue = self.channel, self.queue.name
        for _ in range(count):
            rabbitpy.Message(channel, body, dict(PROPERTIES)).publish('', queue)

    def consume_many(self, count):
        left = count
        for message in self.queue.consume(no_ack=True):
            self.message = message
            left -= 1
            if not left:
                break

    def consume_ack_many(self, count):
        left = count
        for message in self.queue.consume(prefetch=PREFETCH):
            message.ack()
            self.message = message
            left -= 1
            if not left:
                break

    def get_many(self, count):
        queue = self.queue
        for _ in range(count):
            self.message = queue.get(acknowledge=False)

    def last_body(self):
        return as_bytes(self.message.body)

    def open_channels(self, count):
        for _ in range(count):
            self.connection.channel()

    def close(self):
        self.connection.close()
