"""The encoder: a method with its content, as frames."""

import struct

import pytest

from amqplib.core.arguments import Encoders, encode_publish
from amqplib.core.encoding import (
    ACKNOWLEDGEMENT_SIZE,
    HEARTBEAT_FRAME,
    MAX_JOINED,
    SMALL,
    Encoder,
    method_frame,
    pack_acknowledgement,
)
from amqplib.core.message import Message
from amqplib.core.spec import FRAME_END, FRAME_METHOD, SHARED_ROWS
from tests.helpers import memory
from tests.helpers.frames import BEAT, BODY, HEADER, METHOD, new_decoder

START = (10, 10)
PUBLISH = b'\0\x3c\0\x28'
DELIVER = (60, 60)


def encoded(channel, payload, message=None, frame_max=4096):
    """Return the frames as they are sent."""
    frames = Encoder(frame_max).frames(channel, payload, message)
    return frames if isinstance(frames, bytes) else b''.join(frames)


def frames_in(data):
    """Return (type, channel, payload) of each frame, and check that they are whole."""
    frames = []
    while data:
        frame_type, channel, size = struct.unpack_from('>BHI', data)
        frames.append((frame_type, channel, data[7 : 7 + size]))
        assert data[7 + size] == 0xCE
        data = data[8 + size :]
    return frames


def test_heartbeat():
    assert HEARTBEAT_FRAME == BEAT


def test_method_without_content_is_one_frame():
    frame = bytes.fromhex('01 0005 00000009 0032 001e 0000 0171 00 ce')
    payload = b'\0\x32\0\x1e' + b'\0\0\x01q\0'
    assert encoded(5, payload) == frame
    assert Encoder(4096).method_frame(5, payload) == frame
    assert method_frame(5, payload) == frame


def test_method_without_arguments():
    assert encoded(1, b'\0\x5a\0\x0a') == bytes.fromhex('01 0001 00000004 005a 000a ce')


def test_method_with_content():
    assert encoded(1, PUBLISH + b'args', Message(b'body', priority=5)) == (
        bytes.fromhex('01 0001 00000008 003c 0028') + b'args\xce'
        + bytes.fromhex('02 0001 0000000f 003c 0000 0000000000000004 0800 05 ce')
        + bytes.fromhex('03 0001 00000004') + b'body\xce'
    )  # fmt: skip


@pytest.mark.parametrize('empty', [b'', '', bytearray(), memoryview(b'')])
def test_empty_body_has_a_header_and_no_body_frame(empty):
    message = Message(empty, application_headers={'a': 1})
    (_, (kind, channel, payload)) = frames_in(encoded(1, PUBLISH, message))
    assert (kind, channel) == (HEADER, 1)
    assert payload[:12] == struct.pack('>HHQ', 60, 0, 0)
    assert payload.count(b'\x01aI\x00\x00\x00\x01') == 1


def test_text_is_counted_in_bytes():
    frames = frames_in(encoded(1, PUBLISH, Message('é€')))
    assert frames[1][2] == struct.pack('>HHQ', 60, 0, 5) + b'\x40\x00\x05UTF-8'
    assert frames[2] == (BODY, 1, b'\xc3\xa9\xe2\x82\xac')


SIZES = [
    (frame_max, count * (frame_max - 8) + more)
    for frame_max in (4096, 32776, 131072)
    for count in range(4)
    for more in (-1, 0, 1)
    if count or more >= 0
]


@pytest.mark.parametrize(('frame_max', 'size'), SIZES)
@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview])
def test_body_is_split_at_the_largest_frame(frame_max, size, kind):
    data = bytes(index % 251 for index in range(size))
    frames = encoded(1, PUBLISH + b'args', Message(kind(data)), frame_max)
    first, second, *bodies = frames_in(frames)
    assert first == (METHOD, 1, b'\0\x3c\0\x28args')
    assert second == (HEADER, 1, struct.pack('>HHQ', 60, 0, size) + b'\0\0')
    assert b''.join(payload for _, _, payload in bodies) == data
    assert {(kind, channel) for kind, channel, _ in bodies} <= {(BODY, 1)}
    # All but the last are full.
    chunk = frame_max - 8
    sizes = [len(payload) for _, _, payload in bodies]
    assert sizes == [chunk] * (size // chunk) + ([size % chunk] if size % chunk else [])


def test_frame_max_may_change():
    encoder = Encoder(131072)
    encoder.frame_max = 4096
    frames = b''.join(encoder.frames(1, PUBLISH, Message(b'x' * 400_000)))
    assert max(len(payload) for _, _, payload in frames_in(frames)[2:]) == 4088


def test_small_bodies_are_joined_and_large_ones_are_not_copied():
    encoder = Encoder(131072)
    for size in (0, 1, 4000, 5000, MAX_JOINED):
        assert isinstance(encoder.frames(1, PUBLISH, Message(b'x' * size)), bytes)
    data = b'x' * (MAX_JOINED + 1)
    pieces = encoder.frames(1, PUBLISH, Message(data))
    assert data in [piece.obj for piece in pieces if isinstance(piece, memoryview)]
    assert any(piece.obj is data for piece in pieces if isinstance(piece, memoryview))


#: The arguments of basic.publish: ticket, exchange, routing key, mandatory, immediate.
ARGUMENTS = (7, 'exchange', 'key', True, False)


@pytest.mark.parametrize(
    'properties', [{}, {'priority': 5}, {'application_headers': {'a': 'x' * 3000}}]
)
def test_a_publish_has_the_frames_of_the_general_way(properties):
    encoder, payload = Encoder(4096), encode_publish(*ARGUMENTS)
    for size in (*range(SMALL + 10), 40_000):
        message = Message(b'x' * size, **properties)
        frames = encoder.publish_frames(1, message, *ARGUMENTS)
        assert b''.join(frames if isinstance(frames, list) else [frames]) == encoded(
            1, payload, message
        )


@memory.is_measured
def test_large_properties_are_not_remembered():
    encoder = Encoder(131072)
    with memory.traced() as traced_memory:
        for number in range(50):
            message = Message(
                b'x', message_id=str(number), application_headers={'a': 'x' * 100_000}
            )
            encoder.publish_frames(1, message, *ARGUMENTS)
        del message
        assert traced_memory()[0] < 500_000


def test_the_decoder_finds_what_was_encoded():
    messages = [
        Message(b'x' * size, priority=number)
        for number, size in enumerate((0, 1, 4087, 4088, 4089, 40_000, 100_000))
    ]
    decoder = new_decoder()
    decoder.take(encoded(0, b'\0\x0a\0\x0a' + b'start'))
    for number, message in enumerate(messages, 1):
        # A client does not receive basic.publish, so basic.deliver stands in for it.
        decoder.take(encoded(number, b'\0\x3c\0\x3c' + b'args', message))
    assert decoder.queue.popleft()[1][0] == START
    for number, message in enumerate(messages, 1):
        channel, (signature, args, arrived) = decoder.queue.popleft()
        assert (channel, signature, args.input) == (number, DELIVER, b'args')
        assert arrived.priority == message.priority
        assert (arrived.body or b'') == message.body
    assert not decoder.queue


# --- What is refused ---

TOO_LARGE = {'h': 'x' * 5000}


@pytest.mark.parametrize(
    ('message', 'error', 'words'),
    [
        (Message(b'x', application_headers=TOO_LARGE), ValueError, 'properties take 50.. bytes'),
        (Message(b'x', application_headers={'a': None}), ValueError, 'application_headers'),
        (Message(b'x', priority=256), ValueError, 'priority'),
        (Message(b'x', content_type=5), TypeError, 'content_type'),
        (Message(5), TypeError, 'body'),
        (Message('x', content_encoding='no such thing'), ValueError, 'content_encoding'),
        (Message('é', content_encoding='ascii'), ValueError, 'body'),
    ],
)
def test_content_that_cannot_be_sent_is_refused(message, error, words):
    encoder = Encoder(4096)
    for _ in range(2):
        with pytest.raises(error, match=words):
            encoder.frames(1, PUBLISH + b'args', message)
    frames = encoder.frames(1, PUBLISH + b'args', Message(b'next'))
    assert [kind for kind, _, _ in frames_in(frames)] == [METHOD, HEADER, BODY]


def test_largest_header_fits_and_one_byte_more_does_not():
    # A header has 14 bytes before the properties; the table 4 + 2 + 5 more than its text.
    largest = 4096 - 8 - 14 - 4 - 2 - 5
    message = Message(b'x', application_headers={'h': 'x' * largest})
    assert len(frames_in(encoded(1, PUBLISH, message))[1][2]) == 4088
    message = Message(b'x', application_headers={'h': 'x' * (largest + 1)})
    with pytest.raises(ValueError, match=r'4089 bytes, more than fit into a frame \(4088\)'):
        encoded(1, PUBLISH, message)


@pytest.mark.parametrize('message', [None, Message(b''), Message(b'x')], ids=repr)
def test_arguments_that_fit_into_no_frame_are_refused(message):
    assert len(frames_in(encoded(1, bytes(4088), message))[0][2]) == 4088
    with pytest.raises(ValueError, match='arguments take 4089 bytes'):
        encoded(1, bytes(4089), message)


# --- Acknowledgements ---


@pytest.mark.parametrize('channel', [1, 65535])
@pytest.mark.parametrize('name', ['basic.ack', 'basic.reject'])
@pytest.mark.parametrize('tag', [0, 5, 2**64 - 1])
@pytest.mark.parametrize('bit', [False, True])
def test_acknowledgement_is_the_frame_of_the_general_way(channel, name, tag, bit):
    row = next(row for row in SHARED_ROWS if row.name == name)
    general = encoded(channel, Encoders({name: row}, {})[name](tag, bit))
    size = ACKNOWLEDGEMENT_SIZE
    packed = pack_acknowledgement(FRAME_METHOD, channel, size, row.prefix, tag, bit, FRAME_END)
    assert packed == general
