"""Fixtures of the live tests: connections, channels and queues.

Tests use the client of the fixture `amqp`, so each runs once for each package. Tests of one package
have a mark of `tests.helpers.packages`.
"""

import contextlib

import pytest

from tests.helpers import queues


@pytest.fixture
def connect(amqp, address):
    """A function (**arguments) that opens a connection, which is closed after the test."""
    with contextlib.ExitStack() as stack:

        def open_connection(cls=amqp.Connection, **arguments):
            conn = cls(**{'host': address, **arguments})
            stack.callback(close, conn)
            return conn

        yield open_connection


def close(conn):
    if conn.transport is not None:
        conn.close()


@pytest.fixture
def connection(connect):
    """An open connection."""
    return connect()


@pytest.fixture
def channel(connection):
    """An open channel of `connection`."""
    return connection.channel()


@pytest.fixture
def other_channel(connect):
    """An open channel of a connection of its own."""
    return connect().channel()


@pytest.fixture
def queue(channel):
    """The name of an empty queue, which goes with `connection`."""
    return channel.queue_declare(exclusive=True, auto_delete=False)[0]


@pytest.fixture
def shared_queue(connect):
    """The name of an empty queue that every connection may use."""
    name = queues.new_name()
    keeper = connect().channel()
    # What is neither durable nor exclusive is refused by newer brokers.
    keeper.queue_declare(name, durable=True, auto_delete=False)
    yield name
    keeper.queue_delete(name)


@pytest.fixture
def new_exchange(connect):
    """A function (type) that returns the name of a new exchange of that type."""
    keeper = connect().channel()
    names = []

    def declare(kind):
        names.append(queues.new_name())
        keeper.exchange_declare(names[-1], kind, auto_delete=False)
        return names[-1]

    yield declare
    for name in names:
        keeper.exchange_delete(name)


@pytest.fixture
def exchange(new_exchange):
    """The name of a direct exchange."""
    return new_exchange('direct')


@pytest.fixture
def exists(amqp, connect):
    """A function that tells if a queue or an exchange exists: exists(exchange='name')."""
    conn = connect()

    def ask(queue=None, exchange=None):
        channel = conn.channel()
        try:
            if queue is not None:
                channel.queue_declare(queue, passive=True)
            else:
                channel.exchange_declare(exchange, 'direct', passive=True)
        except amqp.NotFound:
            return False
        channel.close()
        return True

    return ask
