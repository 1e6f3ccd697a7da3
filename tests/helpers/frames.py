"""Frames made by hand, with arguments as bytes, and a decoder to feed them to."""

import struct

from amqplib.client_0_8.spec import PROTOCOL
from amqplib.core.decoding import Decoder
from amqplib.core.message import Message
from tests.helpers.wire import frame

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8


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
    """A channel, as far as the decoder looks at it."""

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
