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
accepted, in that order. What fails in it, fails the test: `finish`, at the
latest at the end of the `with` block, raises it again. Every verb is bounded in
time, and nothing is left running.

Names and numbers of methods come from the library's table; their octets are
made and read here, with nothing of the library's codec.
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from types import SimpleNamespace

from packages import CLIENT_0_8, CLIENT_0_9_1

from amqplib.client_0_8.spec import METHODS
from amqplib.client_0_9_1 import spec as spec_0_9_1

LOOPBACK = '127.0.0.1'
HEADER = b'AMQP\x01\x01\x08\x00'
FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT = 1, 2, 3, 8
END = b'\xce'

#: channel_max, frame_max, heartbeat
TUNE = (2047, 131072, 0)
MECHANISMS = 'PLAIN AMQPLAIN'


class Version:
    """A version of AMQP, with the octets that a client begins with, and its methods."""

    def __init__(self, header, major, minor, methods):
        self.header = header
        self.numbers = (major, minor)
        self.methods = methods
        self.by_signature = {row.signature: row for row in methods.values()}


VERSION_0_8 = Version(HEADER, 8, 0, METHODS)
VERSION_0_9_1 = Version(b'AMQP\x00\x00\x09\x01', 0, 9, spec_0_9_1.METHODS)


def version_of(amqp):
    """Return the `Version` that a client package speaks."""
    return {CLIENT_0_8: VERSION_0_8, CLIENT_0_9_1: VERSION_0_9_1}[amqp]


#: Seconds that a script may take altogether.
SCRIPT_SECONDS = 20


class ScriptedBroker:
    """Listens on a loopback port and plays its scripts there, in a thread.

    scripts: functions of a `Peer`, one for each connection.
    tls: an ssl.SSLContext, to speak TLS from the first octet.
    receive_buffer: octets that the system keeps for a script that does not read.
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
            octets = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            return False
        self._buffer += octets
        return bool(octets)

    def read(self, count):
        """Read this many octets."""
        while len(self._buffer) < count:
            if not self._receive():
                raise AssertionError(f'the client hung up after {self._buffer!r}')
        octets, self._buffer = self._buffer[:count], self._buffer[count:]
        return octets

    def expect_header(self, header=None):
        """Read the protocol header; that of the version that is spoken by default."""
        header = header or self.version.header
        octets = self.read(len(header))
        assert octets == header, f'the client began with {octets!r}'

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
        octets, self._buffer = self._buffer, b''
        return octets

    def expect_end(self):
        """Wait for the end of the stream, before which nothing else may come."""
        octets = self.rest()
        assert octets == b'', f'the client sent {octets!r} before it hung up'

    # Writing

    def send_raw(self, octets):
        """Send octets as they are."""
        self.sock.settimeout(self.broker.remaining())
        self.sock.sendall(octets)

    def drip(self, octets, interval=0.001):
        """Send octets one by one, with so many seconds in between; until the client hangs up."""
        for position in range(len(octets)):
            try:
                self.send_raw(octets[position : position + 1])
            except OSError:
                return
            # There is no event to wait for: the time between them is what is asked for.
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
        octets = method(channel, name, *values) + content(channel, body, properties)
        self.send_raw(octets)

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


# --- Octets -------------------------------------------------------------------------------------


def frame(frame_type, channel, payload, end=END):
    """Return the octets of a frame."""
    return struct.pack('>BHI', frame_type, channel, len(payload)) + payload + end


def method(channel, name, *values, version=VERSION_0_8):
    """Return the octets of a method frame."""
    return frame(FRAME_METHOD, channel, method_payload(name, *values, version=version))


def method_payload(name, *values, version=VERSION_0_8):
    """Return the payload of a method frame."""
    row = version.methods[name]
    assert len(values) == len(row.fields), f'{name} has the fields {row.fields}'
    octets = b''
    bits = []
    for (_, wire_type), value in zip(row.fields, values):
        if wire_type == 'bit':
            bits.append(value)
            continue
        octets += pack_bits(bits) + PACKERS[wire_type](value)
        bits = []
    return struct.pack('>HH', *row.signature) + octets + pack_bits(bits)


def content(channel, body=b'', properties=b'\0\0', size=None, frame_max=131072):
    """Return the octets of a content header, and of a body in as many frames as it needs.

    size: the size to be announced, if not that of the body.
    """
    size = len(body) if size is None else size
    octets = [frame(FRAME_HEADER, channel, struct.pack('>HHQ', 60, 0, size) + properties)]
    step = frame_max - 8
    octets += [
        frame(FRAME_BODY, channel, body[start : start + step])
        for start in range(0, len(body), step)
    ]
    return b''.join(octets)


def delivery(channel, tag, number=1, body=b'', properties=b'\0\0'):
    """Return the octets of a message for a consumer."""
    octets = method(channel, 'basic.deliver', tag, number, False, '', 'key')
    return octets + content(channel, body, properties)


def pack_bits(bits):
    return bytes([sum(bool(bit) << position for position, bit in enumerate(bits))]) if bits else b''


def pack_short_string(value):
    octets = value.encode() if isinstance(value, str) else value
    return struct.pack('>B', len(octets)) + octets


def pack_long_string(value):
    octets = value.encode() if isinstance(value, str) else value
    return struct.pack('>I', len(octets)) + octets


def pack_table(table):
    """Return the octets of a field table; given as bytes, its entries are octets already."""
    if isinstance(table, bytes):
        return pack_long_string(table)
    return pack_long_string(
        b''.join(pack_short_string(key) + pack_field(value) for key, value in table.items())
    )


def pack_field(value):
    if isinstance(value, bool):
        return b't' + bytes([value])
    if isinstance(value, int):
        return b'I' + struct.pack('>i', value)
    if isinstance(value, dict):
        return b'F' + pack_table(value)
    return b'S' + pack_long_string(value)


PACKERS = {
    'octet': struct.Struct('>B').pack,
    'short': struct.Struct('>H').pack,
    'long': struct.Struct('>I').pack,
    'longlong': struct.Struct('>Q').pack,
    'shortstr': pack_short_string,
    'longstr': pack_long_string,
    'table': pack_table,
}


class Octets:
    """Octets from which values are taken."""

    def __init__(self, octets):
        self.octets = octets
        self.bits = []

    def take(self, count):
        assert count <= len(self.octets), 'a value goes beyond its end'
        taken, self.octets = self.octets[:count], self.octets[count:]
        return taken

    def number(self, size):
        return int.from_bytes(self.take(size), 'big')

    def value(self, wire_type):
        if wire_type == 'bit':
            if not self.bits:
                octet = self.number(1)
                self.bits = [bool(octet >> position & 1) for position in range(8)]
            return self.bits.pop(0)
        self.bits = []
        return self.TAKERS[wire_type](self)

    def table(self):
        inner = Octets(self.take(self.number(4)))
        entries = {}
        while inner.octets:
            key = inner.value('shortstr')
            entries[key] = inner.field()
        return entries

    def field(self):
        return self.FIELDS[self.take(1)](self)

    TAKERS = {  # noqa: RUF012
        'octet': lambda self: self.number(1),
        'short': lambda self: self.number(2),
        'long': lambda self: self.number(4),
        'longlong': lambda self: self.number(8),
        'shortstr': lambda self: self.take(self.number(1)).decode(),
        'longstr': lambda self: self.take(self.number(4)),
        'table': table,
    }
    FIELDS = {  # noqa: RUF012
        b'S': lambda self: self.take(self.number(4)).decode(),
        b't': lambda self: bool(self.number(1)),
        b'I': lambda self: int.from_bytes(self.take(4), 'big', signed=True),
        b'l': lambda self: int.from_bytes(self.take(8), 'big', signed=True),
        b'x': lambda self: self.take(self.number(4)),
        b'F': table,
    }


def read_method(arrived, version=VERSION_0_8):
    """Return a method frame's values as attributes, with `channel` and `name`; else None."""
    frame_type, channel, payload = arrived
    if frame_type != FRAME_METHOD:
        return None
    octets = Octets(payload)
    row = version.by_signature[octets.number(2), octets.number(2)]
    values = {name: octets.value(wire_type) for name, wire_type in row.fields}
    assert not octets.octets, f'{row.name} is followed by {octets.octets!r}'
    return SimpleNamespace(channel=channel, name=row.name, **values)


def split_frames(octets):
    """Return the whole frames that octets begin with, and what is left of them."""
    frames = []
    while len(octets) >= 8:
        frame_type, channel, size = struct.unpack('>BHI', octets[:7])
        if len(octets) < size + 8:
            break
        assert octets[size + 7 : size + 8] == END
        frames.append((frame_type, channel, octets[7 : size + 7]))
        octets = octets[size + 8 :]
    return frames, octets


def methods_in(octets, version=VERSION_0_8):
    """Return the methods of the whole frames in octets, as `read_method` does."""
    found = (read_method(arrived, version) for arrived in split_frames(octets)[0])
    return [method for method in found if method]
