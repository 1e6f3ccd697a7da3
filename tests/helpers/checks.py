"""What must hold after something went wrong."""

import contextlib

import pytest

import amqplib.client_0_8 as amqp
from tests.helpers.leaks import open_descriptors
from tests.helpers.waiting import lasting


def refused(broker, kind, most=5.0, **arguments):
    """Fail to connect; return the error, after checking that nothing else came of it.

    The descriptors are counted while the error, and everything it refers to, is still alive.
    """
    arguments.setdefault('connect_timeout', 10)
    arguments.setdefault('host', broker.address)
    before = open_descriptors()
    with lasting(most=most), pytest.raises(amqp.AMQPException) as caught:
        amqp.Connection(**arguments)
    error = caught.value
    assert type(error) is kind, repr(error)
    broker.finish()
    # The scripted broker's own were counted too, and are gone.
    assert open_descriptors() <= before
    return error


def check_closed(connection, sock, error, channels=()):
    """Check the state of a connection that `error` has closed, and that it stays so.

    sock: the socket that it had.
    channels: its channels.
    """
    assert sock.fileno() == -1
    assert connection.transport is None
    assert connection.channels is None
    assert connection.connection is None
    check_repeated(error, connection.channel)
    check_repeated(error, lambda: connection.wait(timeout=1))
    for channel in channels:
        check_dead_channel(channel, error)
    for _ in range(2):
        assert connection.close() is None
    assert connection.transport is None


def check_dead_channel(channel, error):
    """Check that a channel is closed by `error`, and that each of its calls says so."""
    assert not channel.is_open
    for call in (
        lambda: channel.basic_publish(amqp.Message('x'), routing_key='q'),
        lambda: channel.queue_declare('q'),
        lambda: channel.basic_get('q'),
        lambda: channel.basic_ack(1),
        lambda: channel.basic_cancel('tag'),
        lambda: channel.wait(timeout=1),
    ):
        check_repeated(error, call)
    assert not channel.is_open
    assert channel.channel_id is None
    assert channel.connection is None
    assert channel.callbacks == {}
    for _ in range(2):
        assert channel.close() is None


def check_repeated(error, call, name=''):
    """Check that a call raises the first cause again, at once."""
    with lasting(most=1), pytest.raises(amqp.AMQPException) as caught:
        call()
    assert type(caught.value) is type(error), name
    assert caught.value.args == error.args
    assert caught.value is not error


def until_raised(call, kind=amqp.AMQPException):
    """Make a call again and again until it raises an error of this kind; return the error."""
    while True:
        try:
            call()
        except kind as error:
            return error


def error_of(call, kind=amqp.AMQPException):
    """Make a call that raises an error of this kind; return the error."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError('the call did not fail')


@contextlib.contextmanager
def sends_nothing(connection):
    """Check that nothing is written to the broker in the block."""
    before = connection.transport.sent
    yield
    assert connection.transport.sent == before


def leave_out_before(connection, version, what):
    """Skip a test of what RabbitMQ has since a version, such as '3.10', if this one is older."""
    properties = connection.server_properties
    if properties.get('product') == 'RabbitMQ' and numbers(properties['version']) < numbers(
        version
    ):
        pytest.skip(f'RabbitMQ has {what} since {version}')


def numbers(version):
    """Return (major, minor) of a version."""
    return tuple(map(int, version.split('.')[:2]))
