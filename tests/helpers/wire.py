"""AMQP on the wire, made and read without the library's codec.

Names and numbers of methods come from the library's table.
"""

import struct
from types import SimpleNamespace

from amqplib.client_0_8.spec import METHODS
from amqplib.client_0_9_1 import spec as spec_0_9_1
from tests.helpers.packages import CLIENT_0_8, CLIENT_0_9_1

LOOPBACK = '127.0.0.1'
HEADER = b'AMQP\x01\x01\x08\x00'
FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT = 1, 2, 3, 8
END = b'\xce'


class Version:
    """A version of AMQP, with the bytes that a client begins with, and its methods."""

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


def frame(frame_type, channel, payload=b'', end=END):
    """Return the bytes of a frame."""
    return struct.pack('>BHI', frame_type, channel, len(payload)) + payload + end


def method(channel, name, *values, version=VERSION_0_8):
    """Return the bytes of a method frame."""
    return frame(FRAME_METHOD, channel, method_payload(name, *values, version=version))


def method_payload(name, *values, version=VERSION_0_8):
    """Return the payload of a method frame."""
    row = version.methods[name]
    assert len(values) == len(row.fields), f'{name} has the fields {row.fields}'
    data = b''
    bits = []
    for (_, wire_type), value in zip(row.fields, values):
        if wire_type == 'bit':
            bits.append(value)
            continue
        data += pack_bits(bits) + PACKERS[wire_type](value)
        bits = []
    return struct.pack('>HH', *row.signature) + data + pack_bits(bits)


def content(channel, body=b'', properties=b'\0\0', size=None, frame_max=131072):
    """Return the bytes of a content header, and of a body in as many frames as it needs.

    size: the size to be announced, if not that of the body.
    """
    size = len(body) if size is None else size
    data = [frame(FRAME_HEADER, channel, struct.pack('>HHQ', 60, 0, size) + properties)]
    step = frame_max - 8
    data += [
        frame(FRAME_BODY, channel, body[start : start + step])
        for start in range(0, len(body), step)
    ]
    return b''.join(data)


def delivery(channel, tag, number=1, body=b'', properties=b'\0\0'):
    """Return the bytes of a message for a consumer."""
    data = method(channel, 'basic.deliver', tag, number, False, '', 'key')
    return data + content(channel, body, properties)


def pack_bits(bits):
    return bytes([sum(bool(bit) << position for position, bit in enumerate(bits))]) if bits else b''


def pack_short_string(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack('>B', len(data)) + data


def pack_long_string(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack('>I', len(data)) + data


def pack_table(table):
    """Return the bytes of a field table, whose entries may be encoded already."""
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


class Payload:
    """The payload of a method, from which values are taken one by one."""

    def __init__(self, data):
        self.data = data
        self.bits = []

    def take(self, count):
        assert count <= len(self.data), 'a value goes beyond its end'
        taken, self.data = self.data[:count], self.data[count:]
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
        inner = Payload(self.take(self.number(4)))
        entries = {}
        while inner.data:
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
    reader = Payload(payload)
    row = version.by_signature[reader.number(2), reader.number(2)]
    values = {name: reader.value(wire_type) for name, wire_type in row.fields}
    assert not reader.data, f'{row.name} is followed by {reader.data!r}'
    return SimpleNamespace(channel=channel, name=row.name, **values)


def split_frames(data):
    """Return the whole frames at the beginning of the data, and the bytes that follow them."""
    frames = []
    while len(data) >= 8:
        frame_type, channel, size = struct.unpack('>BHI', data[:7])
        if len(data) < size + 8:
            break
        assert data[size + 7 : size + 8] == END
        frames.append((frame_type, channel, data[7 : size + 7]))
        data = data[size + 8 :]
    return frames, data


def methods_in(data, version=VERSION_0_8):
    """Return the methods of the whole frames in the data, as `read_method` does."""
    found = (read_method(arrived, version) for arrived in split_frames(data)[0])
    return [method for method in found if method]
