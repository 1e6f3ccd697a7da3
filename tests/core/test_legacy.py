"""What amqplib 1.0.2 had besides the client itself: reading and writing methods and frames."""

import pytest

from amqplib import client_0_8, client_0_9_1
from amqplib.client_0_8.method_framing import MethodReader
from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.core.fast_decoding import ConfirmFrames
from amqplib.core.legacy import LegacyTCPTransport, LegacyTransport, MethodWriter
from amqplib.core.message import Message
from amqplib.core.streams import AMQPWriter
from amqplib.core.transport import AbstractTransport, TCPTransport
from amqplib.exceptions import AMQPTimeout, ProtocolError
from tests.helpers.frames import (
    BEAT,
    BODY,
    FIRST,
    HEADER,
    AllOpen,
    body,
    content,
    frame,
    header,
    method,
    new_decoder,
    split,
)

START, DELIVER, PUBLISH = (10, 10), (60, 60), (60, 40)


class Source:
    """In place of a transport: portions that arrive."""

    def __init__(self, *portions):
        self.portions = list(portions)
        self.deadlines = []

    def receive(self, arrived, deadline=NO_DEADLINE):
        self.deadlines.append(deadline)
        if not self.portions:
            return False
        arrived.append(self.portions.pop(0))
        return True

    def limit_of(self, deadline):
        return Deadline(5)


class Dest:
    """In place of a transport: what is sent, write by write."""

    def __init__(self):
        self.writes = []

    def send(self, data):
        self.writes.append(data)

    def send_pieces(self, pieces):
        self.writes.append(b''.join(pieces))


def plain(read):
    """Return a method that was read as comparable values."""
    channel, signature, args, message = read
    if message is None:
        return channel, signature, args.input
    return channel, signature, args.input, message._serialize_properties(), message.body


# --- MethodReader ---


def test_read_method_waits_until_there_is_one():
    stream = [*split(FIRST), BEAT, BEAT, method(1, (90, 11)), *content(1, DELIVER, b'one')]
    source = Source(*stream)
    reader = MethodReader(source)
    assert plain(reader.read_method()) == (0, START, b'start')
    assert plain(reader.read_method()) == (1, (90, 11), b'')
    assert plain(reader.read_method()) == (1, DELIVER, b'args', b'\0\0', b'one')
    assert source.portions == []
    assert set(source.deadlines) == {NO_DEADLINE}


def test_methods_that_were_read_are_handed_out_before_more_is_read():
    source = Source(FIRST + method(1, (90, 11)) + method(1, (90, 21)))
    reader = MethodReader(source)
    assert [reader.read_method()[1] for _ in range(3)] == [START, (90, 11), (90, 21)]
    assert len(source.deadlines) == 1


def test_timeout_of_the_socket_loses_nothing():
    source = Source(FIRST)
    reader = MethodReader(source)
    reader.read_method()
    for byte in split(b''.join(content(1, DELIVER, b'body'))):
        with pytest.raises(AMQPTimeout, match='nothing arrived within 5 s'):
            reader.read_method()
        source.portions.append(byte)
    assert plain(reader.read_method()) == (1, DELIVER, b'args', b'\0\0', b'body')


def test_expected_types_are_those_of_channels_in_the_middle_of_a_content():
    source = Source(FIRST + method(1, DELIVER) + method(2, DELIVER) + header(2, 5))
    reader = MethodReader(source)
    assert reader.expected_types == {}
    reader.read_method()
    assert reader.expected_types == {1: HEADER, 2: BODY}
    assert set(reader.partial_messages) == {1, 2}
    source.portions.append(body(2, b'12345'))
    reader.read_method()
    assert reader.expected_types == {1: HEADER}
    assert reader.running
    assert reader.source is source


def test_reader_says_that_it_has_stopped():
    reader = MethodReader(Source(FIRST, frame(0, 0)))
    reader.read_method()
    assert reader.running
    with pytest.raises(ProtocolError):
        reader.read_method()
    assert not reader.running


def test_method_reader_also_returns_methods_of_the_fast_paths():
    inboxes = AllOpen()
    settled = []
    inboxes.get(1).take_confirm = lambda *confirm: settled.append(confirm)
    decoder = new_decoder(inboxes=inboxes)
    decoder.add_fast_path(ConfirmFrames(inboxes))
    ack = method(1, (60, 80), bytes(8) + b'\1')
    reader = MethodReader(Source(FIRST + ack, ack), decoder)
    assert [reader.read_method()[1] for _ in range(3)] == [START, (60, 80), (60, 80)]
    assert settled == []
    decoder.take(ack)
    assert settled == [(0, True)]


# --- MethodWriter ---


def test_arguments_may_be_bytes_or_a_writer():
    args = AMQPWriter()
    args.write_short(0)
    args.write_shortstr('q')
    args.write_bit(False)
    args.write_bit(True)
    dest = Dest()
    writer = MethodWriter(dest, 4096)
    writer.write_method(1, (50, 40), args)
    writer.write_method(1, (50, 40), b'\0\0\x01q\x02')
    assert dest.writes == [bytes.fromhex('01 0001 00000009 0032 0028 0000 0171 02 ce')] * 2


@pytest.mark.parametrize('size', [0, 1, 100_000])
def test_method_with_its_content_is_one_write(size):
    dest = Dest()
    MethodWriter(dest, 4096).write_method(1, PUBLISH, b'args', Message(b'x' * size))
    assert dest.writes == [b''.join(content(1, PUBLISH, b'x' * size, size=4088))]


def test_frame_max_may_change():
    dest = Dest()
    writer = MethodWriter(dest, 131072)
    writer.frame_max = 4096
    with pytest.raises(ValueError, match='arguments take 5004 bytes'):
        writer.write_method(1, PUBLISH, bytes(5000))
    assert dest.writes == []


def test_writer_of_a_connection_sends_by_its_session():
    sent = []

    class SessionLike:
        closed = object()

        def send(self, frames, closed):
            sent.append((frames, closed))

    session = SessionLike()
    MethodWriter(None, 4096, session).write_method(1, (90, 10))
    assert sent == [(method(1, (90, 10)), session.closed)]


# --- Single frames ---


class Transport(LegacyTransport):
    """A transport without a socket."""

    def __init__(self, *portions):
        self.source, self.dest = Source(*portions), Dest()

    def receive(self, arrived, deadline=NO_DEADLINE):
        return self.source.receive(arrived, deadline)

    def limit_of(self, deadline):
        return self.source.limit_of(deadline)

    def send(self, data, deadline=NO_DEADLINE):
        self.dest.send(data)

    def __del__(self):
        pass


def test_frames_are_read_one_by_one_in_whatever_portions():
    frames = frame(1, 5, b'payload') + frame(8, 0)
    for size in (1, 3, 1000):
        transport = Transport(*split(frames, size))
        assert transport.read_frame() == (1, 5, b'payload')
        assert transport.read_frame() == (8, 0, b'')
    with pytest.raises(AMQPTimeout, match='nothing arrived within 5 s'):
        transport.read_frame()


def test_frame_with_a_wrong_end_is_refused():
    with pytest.raises(ProtocolError, match='ends in 0x00'):
        Transport(frame(1, 5, b'payload', b'\0')).read_frame()


def test_frame_is_written_at_once():
    transport = Transport()
    transport.write_frame(1, 5, b'payload')
    assert transport.dest.writes == [frame(1, 5, b'payload')]


def test_transports_are_those_of_the_core():
    assert issubclass(LegacyTCPTransport, TCPTransport)
    assert issubclass(LegacyTCPTransport, AbstractTransport)


@pytest.mark.parametrize('amqp', [client_0_8, client_0_9_1])
@pytest.mark.parametrize(
    ('ssl', 'name'), [(False, 'TCPTransport'), (None, 'TCPTransport'), ({}, 'SSLTransport')]
)
def test_create_transport_uses_the_classes_that_programs_assign(amqp, ssl, name, monkeypatch):
    monkeypatch.setattr(amqp.transport, name, lambda *args: (name, args[:2]))
    made = amqp.transport.create_transport('broker', 3, ssl)
    assert made == (name, ('broker', 3))
