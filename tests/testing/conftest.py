"""Fixtures of the tests of the broker in the process: a broker, and a channel of a client."""

import contextlib

import pytest

from amqplib.testing import Broker


@pytest.fixture
def process_broker():
    """A running broker in this process."""
    with Broker() as broker:
        yield broker


@pytest.fixture
def connect(amqp, process_broker):
    """A function (**arguments) that connects to it."""
    connections = []

    def open_connection(**arguments):
        connections.append(amqp.Connection(process_broker.host, **arguments))
        return connections[-1]

    yield open_connection
    for connection in connections:
        with contextlib.suppress(amqp.AMQPException):  # the broker may have hung up
            connection.close()


@pytest.fixture
def channel(connect):
    """An open channel."""
    return connect().channel()
