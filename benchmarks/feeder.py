"""Fills, checks and empties the queue of the measurements for the clients."""

from __future__ import annotations

import time

from bodies import make_body
from clients import PROPERTIES

import amqplib.client_0_8 as amqp

#: Seconds within which the broker must have counted messages, or forgotten a client.
PATIENCE = 10


class Feeder:
    """A connection of our own, with a queue that exists as long as it does."""

    def __init__(self, host, port, queue):
        self._connection = amqp.Connection(f'{host}:{port}', heartbeat=0)
        self._channel = self._connection.channel()
        self.queue = queue
        self._channel.queue_declare(queue, auto_delete=False)

    def broker(self):
        """Return the name and version of the broker."""
        properties = self._connection.server_properties
        return f'{properties.get("product")} {properties.get("version")}'

    def fill(self, count, size):
        body = make_body(size)
        for _ in range(count):
            self._channel.basic_publish(amqp.Message(body, **PROPERTIES), '', self.queue)
        assert self.has(count), f'there should be {count} messages in the queue'

    def has(self, count):
        """Return whether this many messages are in the queue, now or soon.

        The broker counts what has reached the queue, not what is on its way there.
        """
        deadline = time.monotonic() + PATIENCE
        while self._ready_and_consumers()[0] != count:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def problem_of_first(self, size):
        """Return what is wrong with the first message in the queue, or None."""
        message = self._channel.basic_get(self.queue, no_ack=True)
        if message is None:
            return 'no message arrived'
        if message.body != make_body(size) and message.body != make_body(size).decode():
            return 'another body arrived than was published'
        if not PROPERTIES.items() <= message.properties.items():  # some clients add one
            return f'the message arrived with other properties: {message.properties}'
        return None

    def empty(self):
        """Remove all messages, including those that a client has only just given back."""
        deadline = time.monotonic() + PATIENCE
        self._channel.queue_purge(self.queue)
        while self._ready_and_consumers() != (0, 0):
            if time.monotonic() > deadline:
                raise RuntimeError('somebody else uses the queue of the measurements')
            time.sleep(0.01)
            self._channel.queue_purge(self.queue)

    def left(self):
        """Return how many messages are left by a client that has closed its connection."""
        return self._channel.queue_purge(self.queue)

    def _ready_and_consumers(self):
        return self._channel.queue_declare(self.queue, passive=True)[1:]

    def close(self):
        self._channel.queue_delete(self.queue)
        self._connection.close()
