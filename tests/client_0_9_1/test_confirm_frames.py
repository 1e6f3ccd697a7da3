"""Confirms the short way: the same ones as the general way finds, in the same order."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqplib.client_0_8.deadline import NEVER
from amqplib.client_0_8.exceptions import ProtocolError
from amqplib.client_0_8.method_framing import MethodReader
from amqplib.client_0_8.serialization import decode_acknowledgement
from amqplib.client_0_9_1.confirms import ConfirmFrames
from amqplib.client_0_9_1.spec import METHODS

ACK = METHODS['basic.ack']
FIRST = b'\x01\0\0\0\0\0\x04\0\x0a\0\x32\xce'  # which says that the peer speaks AMQP
LIMIT = 1000


def frame(frame_type, channel, payload, end=b'\xce'):
    return struct.pack('>BHI', frame_type, channel, len(payload)) + payload + end


def ack(number, bits=0, channel=1, end=b'\xce'):
    return frame(1, channel, ACK.prefix + struct.pack('>QB', number, bits), end)


def nack(number, channel=1):
    return frame(1, channel, METHODS['basic.nack'].prefix + struct.pack('>QB', number, 0))


def returned(channel=1):
    method = METHODS['basic.return'].prefix + b'\x01\x38\x00\x00\x00'
    header = struct.pack('>HHQ', 60, 0, 4) + b'\0\0'
    return frame(1, channel, method) + frame(2, channel, header) + frame(3, channel, b'body')


class Source:
    """In place of a transport: a read buffer, and portions that arrive."""

    receives_into = False

    def __init__(self, portions):
        self._read_buffer = b''
        self.portions = list(portions)

    def receive(self, deadline):
        self._read_buffer += self.portions.pop(0)


class Confirmed:
    """What was read of a stream, in its order.

    channels: those whose confirms go the short way.
    """

    def __init__(self, portions, channels):
        self.read = []
        self.short = 0
        self.source = Source([FIRST, *portions])
        self.reader = MethodReader(self.source)
        self.reader.body_limit = LIMIT
        frames = ConfirmFrames()
        for channel in channels:
            frames.set_target(channel, self.settler(channel))
        self.reader.short_ways[ACK.prefix] = frames.take
        self.error = None
        self.reader.receive(NEVER)
        self.reader.queue.clear()

    def settler(self, channel):
        def settle(number, multiple):
            assert not self.reader.queue
            self.read.append((channel, ACK.signature, (number, multiple)))
            self.short += 1

        return settle

    def receive_all(self, drain):
        """Receive all portions; the queue is emptied behind those for which `drain` is true."""
        for number in range(len(self.source.portions)):
            try:
                self.reader.receive(NEVER)
            except ProtocolError as error:
                self.error = (error.amqp_reply_code, error.amqp_reply_text)
                break
            if drain[number % len(drain)]:
                self.empty_queue()
        self.empty_queue()
        return self

    def empty_queue(self):
        queue = self.reader.queue
        while queue:
            channel, signature, args, _ = queue.popleft()
            if signature == ACK.signature:
                try:
                    args = decode_acknowledgement(ACK, args)
                except ProtocolError as error:
                    args = str(error)
            else:
                args = args.input
            self.read.append((channel, signature, args))


KINDS = [
    ack(1),
    ack(2, 1),
    ack(2**64 - 1, 0xFF),
    ack(0, 1),
    ack(7, channel=2),
    ack(7, channel=3),
    nack(3),
    returned(),
    frame(8, 0, b''),
    frame(1, 1, ACK.prefix + bytes(8)),  # too short
    frame(1, 1, ACK.prefix + bytes(10)),  # too long
    ack(9, end=b'\xcf'),
    frame(2, 1, ACK.prefix + bytes(9)),  # not a method
]


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=30).map(b''.join),
    st.data(),
)
def test_confirms_are_the_same_as_those_of_the_general_way(octets, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(octets) - 1), max_size=5)))
    portions = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)])]
    drain = data.draw(st.lists(st.booleans(), min_size=1, max_size=4))
    short = Confirmed(portions, [1, 2]).receive_all(drain)
    general = Confirmed(portions, []).receive_all(drain)
    assert (short.read, short.error) == (general.read, general.error)
    assert short.source._read_buffer == general.source._read_buffer


def test_many_confirms_all_go_the_short_way():
    confirmed = Confirmed([b''.join(map(ack, range(1, 100)))], [1]).receive_all([False])
    assert confirmed.short == 99


def test_what_was_returned_comes_before_its_confirm():
    confirmed = Confirmed([ack(1) + returned() + ack(2)], [1]).receive_all([False])
    assert [signature[1] for _, signature, _ in confirmed.read] == [80, 50, 80]
    assert confirmed.short == 1


@pytest.mark.parametrize('channels', [[], [2]])
def test_confirms_of_other_channels_are_left(channels):
    confirmed = Confirmed([ack(1)], channels).receive_all([False])
    assert confirmed.read == [(1, ACK.signature, (1, False))]
    assert confirmed.short == 0


def test_channel_that_is_taken_away_is_left_from_then_on():
    frames = ConfirmFrames()
    settled = []
    frames.set_target(1, lambda *confirm: settled.append(confirm))
    assert frames.take(ack(1), 0, LIMIT, []) == len(ack(1))
    frames.set_target(1, None)
    frames.set_target(1, None)
    assert frames.take(ack(2), 0, LIMIT, []) == 0
    assert settled == [(1, False)]


def test_confirm_that_is_wrong_is_where_it_stops():
    frames = ConfirmFrames()

    def settle(number, multiple):
        raise ProtocolError(503, 'wrong')

    frames.set_target(1, settle)
    with pytest.raises(ProtocolError):
        frames.take(ack(1) + ack(2), 0, LIMIT, [])
