"""A peer that plays a script, for all that no real broker does on request.

A script is a function of a `Peer`, whose verbs say what to expect from the
client and what to send to it:

    def script(peer):
        peer.handshake()
        peer.open_channel(1)
        peer.expect_method(1, 'basic.get')
        peer.send_method(1, 'basic.get_empty', '')
        peer.expect_close()

    with ScriptedBroker(script) as broker:
        connection = amqp.Connection(host=broker.address)
        ...

The script runs in a thread of its own, one script for each connection that is
accepted, in that order. An error in a script fails the test: `finish`, at the
latest at the end of the `with` block, raises it. Every verb is bounded in time,
and nothing is left running. The module `wire` makes the bytes.
"""

import contextlib
import select
import socket
import ssl
import struct
import threading
import time

from tests.helpers.waiting import PATIENCE
from tests.helpers.wire import (
    END,
    FRAME_BODY,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    LOOPBACK,
    VERSION_0_8,
    content,
    frame,
    method,
    read_method,
)


def keep_alive(peer, until, interval=0.3):
    """Send heartbeats, as the script of a peer, until a condition holds for what the client sends.

    until: a function of these bytes; they are returned.
    """
    end = time.monotonic() + PATIENCE
    data, next_beat = b'', 0.0
    while not until(data):
        assert time.monotonic() < end, 'what the client should send did not come'
        if time.monotonic() >= next_beat:
            peer.send_heartbeat()
            next_beat = time.monotonic() + interval
        if select.select([peer.sock], [], [], interval / 4)[0]:
            arrived = peer.sock.recv(65536)
            if not arrived:
                break
            data += arrived
    return data


#: channel_max, frame_max, heartbeat
TUNE = (2047, 131072, 0)
MECHANISMS = 'PLAIN AMQPLAIN'
#: Seconds that a script may take altogether.
SCRIPT_SECONDS = 20


class ScriptedBroker:
    """Listens on a loopback port and plays its scripts there, in a thread.

    scripts: functions of a `Peer`, one for each connection.
    tls: an ssl.SSLContext, to speak TLS from the first byte.
    receive_buffer: bytes that the system keeps for a script that does not read.
    host: the address to listen on.
    version: the `Version` of AMQP that it speaks.
    """

    def __init__(self, *scripts, tls=None, receive_buffer=None, host=LOOPBACK, version=VERSION_0_8):
        self.tls = tls
        self.version = version
        self._scripts = scripts
        self._deadline = time.monotonic() + SCRIPT_SECONDS
        self._peers = []
        self._error = None
        self._finished = threading.Event()
        self._cues = threading.Semaphore(0)
        self._marks = threading.Semaphore(0)
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        self._listener = socket.socket(family)
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind((host, 0))
        self._listener.listen(16)
        self.host = host
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name='scripted broker', daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.finish()

    @property
    def address(self):
        """Its 'host:port'."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'{host}:{self.port}'

    def finish(self):
        """Wait for the scripts to end; raise what failed in them."""
        self._finished.set()
        self._thread.join(max(self._deadline - time.monotonic(), 1))
        late = self._thread.is_alive()
        self._listener.close()
        for peer in self._peers:
            peer.drop()
        self._thread.join(5)
        error, self._error = self._error, None
        if error is not None:
            raise error
        assert not late, 'the script of the peer did not end'

    def cue(self):
        """Let the script go on from its `await_cue`."""
        self._cues.release()

    def await_mark(self):
        """Wait until the script has come to its `mark`."""
        assert self._marks.acquire(timeout=self.remaining()), 'the script never came to its mark'

    def remaining(self):
        """Return the seconds that the scripts may still take."""
        return max(self._deadline - time.monotonic(), 0.001)

    def _run(self):
        try:
            for script in self._scripts:
                self._play(script)
        # Whatever it is, the test has to see it: finish() raises it.
        except BaseException as error:  # noqa: BLE001
            self._error = error
        finally:
            self._listener.close()

    def _play(self, script):
        self._listener.settimeout(self.remaining())
        sock, _ = self._listener.accept()
        peer = Peer(self, sock)
        self._peers.append(peer)
        try:
            if self.tls is not None:
                peer.start_tls(self.tls)
            script(peer)
        finally:
            peer.drop()


class Peer:
    """The broker's side of one connection; the verbs of a script."""

    def __init__(self, broker, sock):
        self.broker = broker
        self.sock = sock
        self.version = broker.version
        self._buffer = b''
        #: What the client answered to tune, once `handshake` is through.
        self.tuned = None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # In step with the test

    def await_cue(self):
        """Wait for the test's `cue`."""
        assert self.broker._cues.acquire(timeout=self.broker.remaining()), 'no cue came'

    def mark(self):
        """Let the test go on from its `await_mark`."""
        self.broker._marks.release()

    def stall(self):
        """Do nothing, neither read nor write, until the test is over."""
        assert self.broker._finished.wait(self.broker.remaining()), 'the test did not end'

    # Reading

    def _receive(self):
        """Read something; False at the end of the stream, however it comes."""
        self.sock.settimeout(self.broker.remaining())
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            return False
        self._buffer += data
        return bool(data)

    def read(self, count):
        """Read this many bytes."""
        while len(self._buffer) < count:
            if not self._receive():
                raise AssertionError(f'the client hung up after {self._buffer!r}')
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def expect_header(self, header=None):
        """Read the protocol header; that of the version that is spoken by default."""
        header = header or self.version.header
        data = self.read(len(header))
        assert data == header, f'the client began with {data!r}'

    def expect_frame(self):
        """Read one frame: (type, channel, payload)."""
        frame_type, channel, size = struct.unpack('>BHI', self.read(7))
        payload = self.read(size)
        end = self.read(1)
        assert end == END, f'a frame ended in {end!r}'
        return frame_type, channel, payload

    def expect_method(self, channel, name):
        """Read a method, before which heartbeats may come; return its values, as attributes."""
        frame = self.expect_frame()
        while frame == (FRAME_HEARTBEAT, 0, b''):
            frame = self.expect_frame()
        method = read_method(frame, self.version)
        assert method is not None, f'expected {name}, got {frame!r}'
        assert (method.channel, method.name) == (channel, name), f'expected {name}, got {method}'
        return method

    def expect_content(self, channel):
        """Read a content header and its body: (property list, body)."""
        frame_type, at, payload = self.expect_frame()
        assert (frame_type, at) == (FRAME_HEADER, channel), f'no content header: {payload!r}'
        class_id, weight, size = struct.unpack('>HHQ', payload[:12])
        assert (class_id, weight) == (60, 0)
        body = b''
        while len(body) < size:
            frame_type, at, piece = self.expect_frame()
            assert (frame_type, at) == (FRAME_BODY, channel), f'no content body: {piece!r}'
            body += piece
        assert len(body) == size
        return payload[12:], body

    def rest(self):
        """Read until the client ends the stream; return what came."""
        while self._receive():
            pass
        data, self._buffer = self._buffer, b''
        return data

    def expect_end(self):
        """Wait for the end of the stream, before which nothing else may come."""
        data = self.rest()
        assert data == b'', f'the client sent {data!r} before it hung up'

    # Writing

    def send_raw(self, data):
        """Send bytes as they are."""
        self.sock.settimeout(self.broker.remaining())
        self.sock.sendall(data)

    def drip(self, data, interval=0.001):
        """Send bytes one by one, with this many seconds in between, until the client hangs up."""
        for position in range(len(data)):
            try:
                self.send_raw(data[position : position + 1])
            except OSError:
                return
            # There is no event to wait for: the script asks for the time between them.
            if self.broker._finished.wait(interval):
                interval = 0

    def send_frame(self, frame_type, channel, payload, end=END):
        """Send one frame."""
        self.send_raw(frame(frame_type, channel, payload, end))

    def send_heartbeat(self):
        """Send a heartbeat."""
        self.send_frame(FRAME_HEARTBEAT, 0, b'')

    def send_method(self, channel, name, *values):
        """Send a method."""
        self.send_raw(method(channel, name, *values, version=self.version))

    def send_content(self, channel, name, *values, body=b'', properties=b'\0\0'):
        """Send a method with its content."""
        data = method(channel, name, *values) + content(channel, body, properties)
        self.send_raw(data)

    # The usual exchanges

    def expect_login(self, mechanisms=MECHANISMS, locales='en_US', server_properties=None):
        """Read the protocol header, send start, and return the values of start-ok."""
        self.expect_header()
        said = (server_properties or {}, mechanisms, locales)
        self.send_method(0, 'connection.start', *self.version.numbers, *said)
        return self.expect_method(0, 'connection.start_ok')

    def tune(self, *tune):
        """Send tune, and return the values of tune-ok."""
        self.send_method(0, 'connection.tune', *(tune or TUNE))
        self.tuned = self.expect_method(0, 'connection.tune_ok')
        return self.tuned

    def open(self, known_hosts=''):
        """Read open, confirm it, and return its values."""
        opened = self.expect_method(0, 'connection.open')
        self.send_method(0, 'connection.open_ok', known_hosts)
        return opened

    def handshake(self, tune=TUNE, **start):
        """Go through everything that opens a connection; `start` as in `expect_login`."""
        self.expect_login(**start)
        self.tune(*tune)
        self.open()

    def open_channel(self, channel=1):
        """Read channel.open and confirm it."""
        self.expect_method(channel, 'channel.open')
        self.confirm_channel(channel)

    def confirm_channel(self, channel):
        """Say that a channel is open."""
        fields = self.version.methods['channel.open_ok'].fields
        self.send_method(channel, 'channel.open_ok', *['' for _ in fields])

    def expect_close(self):
        """Read connection.close, confirm it, and wait for the end; return its values."""
        closed = self.expect_method(0, 'connection.close')
        self.send_method(0, 'connection.close_ok')
        self.expect_end()
        return closed

    # TLS, and the end

    def start_tls(self, context):
        """Speak TLS from now on."""
        self.sock.settimeout(self.broker.remaining())
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def close(self):
        """End the stream in the usual way."""
        # Not that of TLS, which says nothing to the client.
        over_tls = isinstance(self.sock, ssl.SSLSocket)
        sock = super(ssl.SSLSocket, self.sock) if over_tls else self.sock
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def reset(self):
        """End the stream by a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()

    def drop(self):
        """End the stream if no verb has done so."""
        if self.sock.fileno() != -1:
            self.close()
