"""Fixtures for the tests with a scripted broker, which must leave nothing behind."""

import gc
import ssl
import threading
from types import SimpleNamespace

import pytest
import trustme
from packages import CLIENT_0_8
from scripted_broker import ScriptedBroker, version_of

from amqplib.core import transport

from .checks import open_descriptors, scarce_memory

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
    assert open_descriptors() - descriptors == set()


@pytest.fixture
def little_memory():
    """Let the system refuse more memory than a test can need."""
    with scarce_memory():
        yield


@pytest.fixture
def amqp():
    """The client package that `play` and `connect` are for, if nothing else is said."""
    return CLIENT_0_8


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
def octet_by_octet(monkeypatch):
    """Let the client take one octet at a time from the socket."""
    monkeypatch.setattr(transport, 'RECEIVE_SIZE', 1)


class Authority:
    """A certificate authority, and what it issues.

    file: its own certificate, as clients need it.
    """

    def __init__(self, folder):
        self._ca = trustme.CA()
        self._folder = folder
        self.file = str(folder / 'ca.pem')
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, *names, **options):
        """Return the server's SSLContext, with a certificate for these names."""
        return self.certify(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *names, **options)

    def certify(self, context, *names, **options):
        """Give a server's context, of `ssl` or pyOpenSSL, a certificate for these names."""
        issued = self._ca.issue_cert(*(names or ('127.0.0.1', 'localhost')), **options)
        issued.configure_cert(context)
        return context

    def asking_server(self):
        """Return the SSLContext of a server that wants a certificate of the client."""
        context = self.server()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.file)
        return context

    def files(self, *names, **options):
        """Issue a certificate; return the names of its file and of its key's."""
        issued = self._ca.issue_cert(*names, **options)
        certificate, key = self._folder / 'cert.pem', self._folder / 'key.pem'
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return str(certificate), str(key)


@pytest.fixture(scope='session')
def authority(tmp_path_factory):
    """An `Authority` that the tests trust."""
    return Authority(tmp_path_factory.mktemp('authority'))


@pytest.fixture(scope='session')
def other_authority(tmp_path_factory):
    """An `Authority` that they do not."""
    return Authority(tmp_path_factory.mktemp('other'))
