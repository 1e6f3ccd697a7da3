"""Fixtures for the tests with a scripted broker, which must leave nothing behind."""

import gc
import threading
from types import SimpleNamespace

import pytest

from tests.helpers.leaks import open_descriptors
from tests.helpers.scripted_broker import ScriptedBroker
from tests.helpers.waiting import poll
from tests.helpers.wire import version_of

#: The one thread that serves the whole process may appear and stay.
HEARTBEAT_THREAD = 'amqplib heartbeat'


@pytest.fixture(scope='package', autouse=True)
def _frozen():
    """Spare the collector all that there is already, as it runs after each test."""
    if not hasattr(gc, 'freeze'):  # as on PyPy
        yield
        return
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Fail a test after which there are more descriptors or threads, or unclosed files."""
    threads = set(threading.enumerate())
    descriptors = open_descriptors()
    yield
    gc.collect()  # an unclosed file is a warning here, and so an error
    new_threads = [
        thread
        for thread in threading.enumerate()
        if thread not in threads and not thread.name.startswith(HEARTBEAT_THREAD)
    ]
    assert not new_threads
    # The broker in the process closes its own a moment after the client.
    poll(lambda: open_descriptors() <= descriptors, 'the end of all descriptors')


@pytest.fixture
def play(amqp, nothing_left_behind):
    """A function that starts a ScriptedBroker; its scripts must have ended well with the test."""
    brokers = []

    def start(*scripts, **options):
        options.setdefault('version', version_of(amqp))
        broker = ScriptedBroker(*scripts, **options)
        brokers.append(broker)
        return broker

    yield start
    for broker in brokers:
        broker.finish()


@pytest.fixture
def connect(amqp, play):
    """A function that connects to a scripted broker; what is still open afterwards is dropped."""
    connections = []

    def start(broker, cls=amqp.Connection, **arguments):
        arguments.setdefault('connect_timeout', 10)
        connection = cls(host=broker.address, **arguments)
        connections.append(connection)
        return connection

    yield start
    for connection in connections:
        if connection.transport is not None:
            connection.transport.close()


@pytest.fixture
def session(play, connect):
    """A function that plays a script behind the opening of a connection and of channel 1.

    It returns them, as attributes: broker, connection, channel, sock.
    """

    def start(script, **arguments):
        def whole(peer):
            peer.handshake()
            peer.open_channel()
            peer.await_cue()  # what is sent now must not be there before the channel is
            script(peer)

        broker = play(whole)
        connection = connect(broker, **arguments)
        sock = connection.transport.sock
        channel = connection.channel()
        broker.cue()
        return SimpleNamespace(broker=broker, connection=connection, channel=channel, sock=sock)

    return start


@pytest.fixture
def channels(play, connect):
    """A function that opens a connection with so many channels and then plays a script.

    It returns (broker, connection, channels).
    """

    def start(count, script, **arguments):
        def whole(peer):
            peer.handshake()
            for number in range(1, count + 1):
                peer.open_channel(number)
            script(peer)

        broker = play(whole)
        connection = connect(broker, **arguments)
        return broker, connection, [connection.channel() for _ in range(count)]

    return start
