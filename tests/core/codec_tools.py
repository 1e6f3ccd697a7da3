"""Values and their bytes, frames made by hand, and a decoder to feed them to."""

import struct
import time

from amqplib.client_0_8.spec import PROTOCOL
from amqplib.core.decoding import Decoder
from amqplib.core.message import Message

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8


def frame(frame_type, channel, payload=b'', end=b'\xce'):
    return struct.pack('>BHI', frame_type, channel, len(payload)) + payload + end


def method(channel, signature, args=b''):
    return frame(METHOD, channel, struct.pack('>HH', *signature) + args)


def header(channel, size, properties=b'\0\0', class_id=60, weight=0):
    return frame(HEADER, channel, struct.pack('>HHQ', class_id, weight, size) + properties)


def body(channel, data):
    return frame(BODY, channel, data)


def content(channel, signature, data, properties=b'\0\0', size=None):
    """Return the frames of a method with content, its body in frames of that size."""
    frames = [method(channel, signature, b'args'), header(channel, len(data), properties)]
    size = size or max(len(data), 1)
    return frames + [
        body(channel, data[start : start + size]) for start in range(0, len(data), size)
    ]


BEAT = frame(HEARTBEAT, 0)
#: The first method of a broker, which says that it speaks AMQP.
FIRST = method(0, (10, 10), b'start')


def split(data, size=1):
    return [data[start : start + size] for start in range(0, len(data), size)]


class InboxLike:
    """What the decoder looks at of a channel."""

    keeps_content = True
    delivery_queue = take_confirm = None


class AllOpen(dict):
    """The inboxes of a connection whose channels are all open."""

    def get(self, channel, default=None):
        return self.setdefault(channel, InboxLike())


def new_decoder(limit=4096, inboxes=None, protocol=PROTOCOL, max_message_size=None):
    decoder = Decoder(protocol, Message, AllOpen() if inboxes is None else inboxes)
    decoder.body_limit = limit
    if max_message_size is not None:
        decoder.max_message_size = max_message_size
    return decoder


def feed(decoder, data, into=False):
    """Give a decoder what one system call has received.

    into: whether the call puts it in the memory that the decoder hands out, as far as it does.
    """
    room = decoder.room() if into else None
    if room is None:
        decoder.take(data)
        return
    with room:
        count = min(len(data), len(room))
        room[:count] = data[:count]
        # The end of the frame and the header of the next one are received by the same call.
        following = count + 8 if count == len(room) else count
    decoder.take_room(count, data[count:following])
    if data[following:]:
        feed(decoder, data[following:], into)


# --- Values ---


def unhex(text):
    """Return what hexadecimal digits, with spaces anywhere, stand for."""
    return bytes.fromhex(text)


def same(value, expected):
    """Return whether two values are equal, and of the same types all the way down."""
    return value == expected and repr(value) == repr(expected)


def table_of(field, key=b'\x01k'):
    """Return the bytes of a table with one entry."""
    entry = key + field
    return struct.pack('>I', len(entry)) + entry


def time_of(function, *args):
    """Return the processor time that a call takes, the least of three."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        function(*args)
        times.append(time.process_time() - begun)
    return min(times)


#: Wire type, value, its bytes.
WIRE_TYPES = [
    ('bit', True, '01'),
    ('bit', False, '00'),
    ('octet', 0, '00'),
    ('octet', 255, 'ff'),
    ('short', 0, '0000'),
    ('short', 258, '0102'),
    ('short', 65535, 'ffff'),
    ('long', 0, '00000000'),
    ('long', 16909060, '01020304'),
    ('long', 4294967295, 'ffffffff'),
    ('longlong', 0, '0000000000000000'),
    ('longlong', 72623859790382856, '0102030405060708'),
    ('longlong', 18446744073709551615, 'ffffffffffffffff'),
    ('shortstr', '', '00'),
    ('shortstr', 'abc', '03 616263'),
    ('shortstr', 'é€😀', '09 c3a9 e282ac f09f9880'),
    ('shortstr', 'a\0b', '03 610062'),
    ('shortstr', 'a\udcffb', '03 61ff62'),
    ('shortstr', 'a' * 255, 'ff' + '61' * 255),
    ('longstr', '', '00000000'),
    ('longstr', 'abc', '00000003 616263'),
    ('longstr', 'é€😀', '00000009 c3a9 e282ac f09f9880'),
    ('longstr', b'a\xffb', '00000003 61ff62'),
    ('longstr', 'a' * 256, '00000100' + '61' * 256),
    ('table', {}, '00000000'),
    ('table', {'a': 1}, '00000007 0161 49 00000001'),
    ('table', {'é': 'x', '': True}, '0000000c 02c3a9 53 00000001 78 00 74 01'),
    ('table', {'a\udcff': 1}, '00000008 0261ff 49 00000001'),
]

#: The wire types that can be read.
READERS = ['bit', 'octet', 'short', 'long', 'longlong', 'shortstr', 'longstr', 'table', 'timestamp']
