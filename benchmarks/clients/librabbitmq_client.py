"""librabbitmq for Python: a module in C around the client in C."""

import librabbitmq

from clients import PREFETCH, PROPERTIES, as_bytes


class Client:
    def __init__(self, host, port):
        self.connection = librabbitmq.Connection(
            host=host, port=port, userid='guest', password='guest', virtual_host='/'
        )
        self.channel = self.connection.channel()
        self.queue = ''
        self.count = 0
        self.message = None

    def declare(self, queue):
        self.queue = queue
        return self.channel.queue_declare(queue, passive=True).message_count

    def publish_many(self, count, body):
        channel, queue = self.channel, self.queue
        for _ in range(count):
            channel.basic_publish(body, '', queue, **PROPERTIES)

    def consume_many(self, count):
        self.channel.basic_consume(self.queue, no_ack=True, callback=self.on_message)
        self._wait_for(count)

    def consume_ack_many(self, count):
        self.channel.basic_qos(prefetch_count=PREFETCH)
        self.channel.basic_consume(self.queue, callback=self.on_message_to_ack)
        self._wait_for(count)

    def _wait_for(self, count):
        self.count = 0
        connection = self.connection
        while self.count < count:
            connection.drain_events()

    def on_message(self, message):
        self.count += 1
        self.message = message

    def on_message_to_ack(self, message):
        message.ack()
        self.count += 1
        self.message = message

    def get_many(self, count):
        channel, queue = self.channel, self.queue
        for _ in range(count):
            self.message = channel.basic_get(queue, no_ack=True)

    def last_body(self):
        return as_bytes(self.message.body)

    def open_channels(self, count):
        for _ in range(count):
            self.connection.channel()

    def close(self):
        self.connection.close()
