"""Fixtures of the reliability tests: scripted and real brokers, and nothing left behind."""

import contextlib

import pytest

from tests.helpers.scripted_fixtures import (  # noqa: F401
    _frozen,
    connect,
    nothing_left_behind,
    play,
    session,
)
from tests.helpers.threads import heartbeat_threads
from tests.helpers.waiting import poll


@pytest.fixture
def dial(amqp, nothing_left_behind, address):  # noqa: F811
    """A function (**arguments) that connects to the real broker; closed after the test."""
    with contextlib.ExitStack() as stack:

        def open_connection(**arguments):
            connection = amqp.Connection(**{'host': address, **arguments})
            stack.callback(close, connection)
            return connection

        yield open_connection


def close(connection):
    if connection.transport is not None:
        connection.close()


@pytest.fixture
def no_heartbeat_thread():
    """Begin when no heartbeat thread is left of the tests before."""
    poll(lambda: not heartbeat_threads(), 'the end of the heartbeat thread')
