"""What clients do at length is held within limits, and costs the others nothing."""

import struct

import pytest

from amqplib.testing import Broker
from tests.testing.test_hostile import frame
from tests.testing.test_wire import login, method, receive


@pytest.fixture
def small_broker():
    """A broker with a megabyte for messages."""
    with Broker(memory_limit=1024 * 1024) as broker:
        yield broker


@pytest.fixture
def sock(small_broker):
    """A socket on which a connection and channel 1 are open."""
    with login('127.0.0.1', small_broker.port) as sock:
        yield sock


def content(channel, body, size=None):
    """Return the frames of a message that goes nowhere, or of the beginning of a larger one."""
    header = struct.pack('>HHQ', 60, 0, len(body) if size is None else size) + b'\0\0'
    return (
        method(channel, 'basic.publish', 0, '', 'nowhere', False, False)
        + frame(2, channel, header)
        + frame(3, channel, body)
    )


def test_complete_contents_beside_one_that_is_not_are_not_limited(sock):
    """A publisher of large messages is nearly always in the middle of one."""
    sock.sendall(method(2, 'channel.open', '') + content(2, b'x', size=10))
    sock.sendall(content(1, bytes(100_000)) * 30)
    sock.sendall(method(1, 'queue.purge', 0, 'nothing', False))
    assert b'NOT_FOUND' in receive(sock, 'channel.close')
