"""Messages of TLS itself on an open connection, and what a write does that needs them first."""

import contextlib
import hashlib
import hmac
import ssl
import struct
import sys
import time

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

from tests.helpers.packages import PACKAGES
from tests.helpers.threads import Worker
from tests.helpers.waiting import lasting, poll
from tests.helpers.wire import method

#: TLS: types of records and of handshake messages.
HANDSHAKE, APPLICATION_DATA = 22, 23
#: KeyUpdate, which asks for none in return. Its type and size are the first four bytes.
NEW_KEYS = b'\x18\0\0\x01' + b'\0'

#: For what needs a `RecordPeer`.
logs_keys = pytest.mark.skipif(
    sys.implementation.name == 'pypy', reason='the module ssl of PyPy writes no log of keys'
)


class OpenSSLPeer:
    """The server's side of TLS 1.2, which can ask the client for a new handshake."""

    def __init__(self, peer, authority):
        self.peer, self.sock = peer, peer.sock
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        self.tls = SSL.Connection(authority.certify(context), None)
        self.tls.set_accept_state()

    def __enter__(self):
        self.repeat(self.tls.do_handshake)
        self.peer.sock = self
        return self

    def __exit__(self, *exc_info):
        self.peer.sock = self.sock

    def repeat(self, operation, *args):
        while True:
            try:
                return operation(*args)
            except SSL.WantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if not data:
                    raise ConnectionResetError from None
                self.tls.bio_write(data)
            finally:
                self.flush()

    def flush(self):
        with contextlib.suppress(SSL.WantReadError):
            while True:
                self.sock.sendall(self.tls.bio_read(65536))

    def ask_for_a_handshake(self):
        """Send HelloRequest."""
        self.tls.renegotiate()
        with contextlib.suppress(SSL.WantReadError):
            self.tls.do_handshake()
        self.flush()

    def sendall(self, data):
        self.tls.sendall(data)
        self.flush()

    def recv(self, size):
        return self.repeat(self.tls.recv, size)

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def close(self):
        self.sock.close()


class Records:
    """Makes records of TLS 1.3 of a server that has sent none yet, from its secret."""

    def __init__(self, secret):
        self.number = 0
        self.digest = {32: hashlib.sha256, 48: hashlib.sha384}[len(secret)]
        self.key = AESGCM(self.expand(secret, b'key', {32: 16, 48: 32}[len(secret)]))
        self.nonce = int.from_bytes(self.expand(secret, b'iv', 12), 'big')

    def expand(self, secret, label, size):
        """HKDF-Expand-Label (RFC 8446, 7.1), for what is not longer than a digest."""
        label = b'tls13 ' + label
        info = struct.pack('>HB', size, len(label)) + label + b'\0'
        return hmac.new(secret, info + b'\x01', self.digest).digest()[:size]

    def record(self, kind, data):
        """Return a record (RFC 8446, 5.2)."""
        header = struct.pack('>BHH', APPLICATION_DATA, 0x0303, len(data) + 1 + 16)
        nonce = (self.nonce ^ self.number).to_bytes(12, 'big')
        self.number += 1
        return header + self.key.encrypt(nonce, data + bytes([kind]), header)


class RecordPeer:
    """The server's side of TLS 1.3, which can send a message of TLS in pieces."""

    def __init__(self, peer, authority, folder):
        self.peer, self.sock = peer, peer.sock
        context = authority.server()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.keylog_filename = str(folder / 'keys')
        peer.sock.settimeout(peer.broker.remaining())
        self.tls = context.wrap_socket(peer.sock, server_side=True)
        context.keylog_filename = None
        lines = (folder / 'keys').read_text(encoding='ascii').splitlines()
        secrets = dict(line.split(' ')[::2] for line in lines if not line.startswith('#'))
        self.records = Records(bytes.fromhex(secrets['SERVER_TRAFFIC_SECRET_0']))

    def __enter__(self):
        self.peer.sock = self
        return self

    def __exit__(self, *exc_info):
        self.peer.sock = self.tls

    def send_record(self, kind, data):
        # Below the TLS of the socket, which does not know of it.
        socket_send = super(ssl.SSLSocket, self.tls).send
        record = self.records.record(kind, data)
        assert socket_send(record) == len(record)

    def sendall(self, data):
        self.send_record(APPLICATION_DATA, data)

    def recv(self, size):
        return self.tls.recv(size)

    def settimeout(self, seconds):
        self.tls.settimeout(seconds)

    def fileno(self):
        return self.tls.fileno()


@pytest.fixture(params=['HelloRequest', pytest.param('half a message', marks=logs_keys)])
def interrupting(request, authority, tmp_path):
    """A function (peer) that speaks TLS, up to a point where the client cannot write any more.

    It returns a context manager, and a function that brings the client to that point.
    """

    def hello_request(peer):
        tls = OpenSSLPeer(peer, authority)
        return tls, tls.ask_for_a_handshake

    def half_a_message(peer):
        tls = RecordPeer(peer, authority, tmp_path)
        return tls, lambda: tls.send_record(HANDSHAKE, NEW_KEYS[:4])

    return {'HelloRequest': hello_request, 'half a message': half_a_message}[request.param]


@pytest.fixture(params=PACKAGES)
def amqp(request):
    """The client package: `play` and `connect` take it from here."""
    return request.param


@pytest.fixture
def open_session(play, connect, authority):
    """A function (script, tls) that connects and opens channel 1."""

    def start(script, **arguments):
        broker = play(script)
        connection = connect(broker, ssl={'ca_certs': authority.file}, **arguments)
        return broker, connection, connection.channel()

    return start


@contextlib.contextmanager
def little_cpu(most):
    """Check how many seconds of CPU time the block takes."""
    before = time.thread_time()
    yield
    assert time.thread_time() - before < most


def receive_nothing(amqp, channel):
    """Let the client read what there is, of which nothing is AMQP."""
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=0)


def publish(amqp, channel, **arguments):
    channel.basic_publish(amqp.Message('x'), routing_key='q', **arguments)


def test_write_that_needs_input_first_ends_in_time(amqp, open_session, interrupting):
    def script(peer):
        tls, interrupt = interrupting(peer)
        with tls:
            peer.handshake()
            peer.open_channel()
            interrupt()
            peer.mark()
            peer.stall()

    broker, connection, channel = open_session(script)
    broker.await_mark()
    receive_nothing(amqp, channel)
    connection.write_timeout = 0.5
    for _ in range(2):
        with pytest.raises(amqp.AMQPTimeout), lasting(0.4, 5), little_cpu(0.25):
            publish(amqp, channel)
    # Nothing of it was sent: the connection is as it was.
    assert connection.transport is not None
    assert not connection.transport.unfinished
    connection.write_timeout = None
    connection.rpc_timeout = 0.5
    with pytest.raises(amqp.AMQPTimeout), lasting(0.4, 5), little_cpu(0.25):
        channel.queue_declare('q')


def test_heartbeat_that_cannot_be_sent_yet_ends_nothing(amqp, open_session, interrupting):
    def script(peer):
        tls, interrupt = interrupting(peer)
        with tls:
            peer.handshake()
            peer.open_channel()
            interrupt()
            peer.mark()
            peer.stall()

    broker, connection, channel = open_session(script)
    broker.await_mark()
    receive_nothing(amqp, channel)
    connection._session.send_heartbeat()
    # What is sent after it has to wait too.
    connection.write_timeout = 0.5
    with pytest.raises(amqp.AMQPTimeout), lasting(0.4, 5), little_cpu(0.25):
        publish(amqp, channel)
    assert connection.transport is not None
    assert not connection.transport.unfinished


@pytest.mark.parametrize('reading', [False, True])
def test_write_goes_on_when_the_input_has_come(amqp, open_session, authority, reading):
    """A new handshake, with or without another thread that waits for messages."""

    def script(peer):
        with OpenSSLPeer(peer, authority) as tls:
            peer.handshake()
            peer.open_channel()
            tls.ask_for_a_handshake()
            peer.mark()
            peer.expect_method(1, 'basic.publish')
            assert peer.expect_content(1)[1] == b'x'
            assert tls.tls.total_renegotiations() == 1
            peer.send_raw(method(1, 'channel.close', 404, 'gone', 0, 0))
            peer.expect_method(1, 'channel.close_ok')
            peer.expect_close()

    broker, connection, channel = open_session(script)
    if reading:
        other = Worker(lambda: channel.wait(timeout=10))
    broker.await_mark()
    if not reading:
        receive_nothing(amqp, channel)
        connection._session.send_heartbeat()
    with lasting(most=5), little_cpu(1):
        publish(amqp, channel)
    if reading:
        assert isinstance(other.outcome()[1], amqp.NotFound)
    else:
        with pytest.raises(amqp.NotFound):
            channel.wait(timeout=10)
    connection.close()


@pytest.mark.parametrize('reading', [False, True])
@logs_keys
def test_write_goes_on_behind_the_second_half(amqp, open_session, authority, tmp_path, reading):
    def script(peer):
        with RecordPeer(peer, authority, tmp_path) as tls:
            peer.handshake()
            peer.open_channel()
            tls.send_record(HANDSHAKE, NEW_KEYS[:4])
            peer.mark()
            peer.await_cue()
            tls.send_record(HANDSHAKE, NEW_KEYS[4:])
            peer.expect_method(1, 'basic.publish')
            assert peer.expect_content(1)[1] == b'x'
            peer.mark()
            peer.stall()

    broker, connection, channel = open_session(script)
    if reading:
        other = Worker(lambda: channel.wait(timeout=3))
    broker.await_mark()
    if reading:
        poll(lambda: not connection.transport.is_ready(0, read=True)[0], 'its receive')
    else:
        receive_nothing(amqp, channel)
    writer = Worker(lambda: publish(amqp, channel))
    writer.join(0.3)
    assert writer.is_alive()
    broker.cue()
    assert writer.outcome() == (None, None)
    broker.await_mark()
    if reading:
        assert isinstance(other.outcome()[1], amqp.AMQPTimeout)
    assert connection.transport is not None
