"""Fixtures for the tests of faults with a real broker, which must leave nothing behind."""

import contextlib

import pytest

from tests.helpers.fault_proxy import FaultProxy


@pytest.fixture(autouse=True)
def _nothing_left_behind(no_leaks):
    """Check each test for descriptors and threads that it leaves."""


@pytest.fixture
def proxy(address, _nothing_left_behind):
    """A `FaultProxy` in front of the broker of the run."""
    with FaultProxy(address) as ours:
        yield ours


@pytest.fixture
def connect(amqp, _nothing_left_behind):
    """A function (address, **arguments) that connects; what is open after the test is closed."""
    with contextlib.ExitStack() as stack:

        def open_connection(address, cls=amqp.Connection, **arguments):
            connection = cls(host=address, **arguments)
            stack.callback(drop, amqp, connection)
            return connection

        yield open_connection


def drop(amqp, connection):
    """Close a connection that may be in any state."""
    with contextlib.suppress(amqp.AMQPException):
        connection.close(timeout=1)


@pytest.fixture
def node(own_node):
    """The node of our own."""
    return own_node
