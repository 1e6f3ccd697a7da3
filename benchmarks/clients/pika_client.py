"""pika, by its BlockingConnection."""

import pika

from clients import PREFETCH, PROPERTIES, as_bytes


class Client:
    def __init__(self, host, port):
        self.connection = pika.BlockingConnection(pika.ConnectionParameters(host, port))
        self.channel = self.connection.channel()
        self.queue = ''
        self.count = 0
        self.wanted = 0
        self.body = None

    def declare(self, queue):
        self.queue = queue
        return self.channel.queue_declare(queue, passive=True).method.message_count

    def publish_many(self, count, body):
        channel, queue = self.channel, self.queue
        for _ in range(count):
            channel.basic_publish('', queue, body, pika.BasicProperties(**PROPERTIES))

    def consume_many(self, count):
        self.channel.basic_consume(self.queue, self.on_message, auto_ack=True)
        self._wait_for(count)

    def consume_ack_many(self, count):
        self.channel.basic_qos(prefetch_count=PREFETCH)
        self.channel.basic_consume(self.queue, self.on_message_to_ack)
        self._wait_for(count)

    def _wait_for(self, count):
        self.count, self.wanted = 0, count
        self.channel.start_consuming()

    def on_message(self, channel, method, properties, body):
        self.count += 1
        self.body = body
        if self.count == self.wanted:
            channel.stop_consuming()

    def on_message_to_ack(self, channel, method, properties, body):
        channel.basic_ack(method.delivery_tag)
        self.on_message(channel, method, properties, body)

    def get_many(self, count):
        channel, queue = self.channel, self.queue
        for _ in range(count):
            _, _, self.body = channel.basic_get(queue, auto_ack=True)

    def last_body(self):
        return as_bytes(self.body)

    def open_channels(self, count):
        for _ in range(count):
            self.connection.channel()

    def close(self):
        self.connection.close()
