"""Frames made by hand, and a decoder to feed them to."""

import struct

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
    delivery_queue = settle_confirm = None


class AllOpen(dict):
    """The inboxes of a connection whose channels are all open."""

    def get(self, channel, default=None):
        return self.setdefault(channel, InboxLike())


def new_decoder(limit=4096, inboxes=None, protocol=PROTOCOL):
    decoder = Decoder(protocol, Message, AllOpen() if inboxes is None else inboxes)
    decoder.body_limit = limit
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
