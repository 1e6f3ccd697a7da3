"""The decoder: methods with their content, in bytes of whatever portions, and hostile ones."""

import gc
import random
import struct
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqplib.client_0_8.spec import PROTOCOL
from amqplib.client_0_9_1.spec import PROTOCOL as PROTOCOL_0_9_1
from amqplib.exceptions import MessageTooLarge, ProtocolError, ProtocolVersionRefused
from tests.helpers import memory
from tests.helpers.frames import (
    BEAT,
    BODY,
    FIRST,
    HEADER,
    HEARTBEAT,
    METHOD,
    AllOpen,
    InboxLike,
    body,
    content,
    feed,
    frame,
    header,
    method,
    new_decoder,
    split,
)

START = (10, 10)
TUNE = (10, 30)
QUEUE_DECLARE_OK = (50, 11)
RETURN = (60, 50)
DELIVER = (60, 60)
GET_OK = (60, 71)
GET_EMPTY = (60, 72)


def test_golden_bytes_of_frames():
    assert BEAT == b'\x08\x00\x00\x00\x00\x00\x00\xce'
    assert method(1, (90, 10)) == b'\x01\x00\x01\x00\x00\x00\x04\x00\x5a\x00\x0a\xce'
    assert header(1, 5) == bytes.fromhex('02 0001 0000000e 003c 0000 0000000000000005 0000 ce')


def plain(queued):
    """Return a method that was found as comparable values."""
    channel, (signature, args, message) = queued
    if message is None:
        return channel, signature, args.input
    return channel, signature, args.input, message._serialize_properties(), message.body


def outcome(portions, limit=4096):
    """Return the methods that are found in portions of a stream, and the error that ends it."""
    portions = list(portions)
    one, other = (outcome_of(portions, limit, into) for into in (False, True))
    assert one == other
    return one


def outcome_of(portions, limit, into):
    decoder = new_decoder(limit)
    error = None
    for portion in portions:
        try:
            feed(decoder, portion, into)
        except (ProtocolError, ProtocolVersionRefused) as caught:
            error = (type(caught), caught.amqp_reply_code, caught.amqp_reply_text)
            break
    return [plain(one) for one in decoder.queue], error


def methods_in(*frames):
    """Return the methods of a stream, which is right and begins as it should."""
    (first, *methods), error = outcome([FIRST, *frames])
    assert first == (0, START, b'start')
    assert error is None
    return methods


def error_in(*frames):
    """Return the methods before the error and the error of a stream, in whatever portions."""
    (first, *methods), error = outcome([FIRST, *frames])
    assert first == (0, START, b'start')
    data = b''.join((FIRST, *frames))
    assert outcome([data]) == outcome(split(data)) == ([first, *methods], error)
    return methods, error


SESSION = [
    FIRST,
    method(0, TUNE, b'tune'),
    BEAT,
    *content(1, DELIVER, b'one'),
    *content(2, RETURN, b'', b'\x08\x00\x05'),
    method(1, DELIVER, b'1'),
    BEAT,
    method(2, GET_OK, b'2'),
    header(2, 7),
    method(3, GET_EMPTY, b'\0'),
    header(1, 5, b'\x80\x00\x01c'),
    BEAT,
    body(1, b'aaa'),
    body(2, b'bbbb'),
    body(2, b''),
    BEAT,
    method(0, (10, 99), b'unknown'),
    body(2, b'bbb'),
    body(1, b'aa'),
    BEAT,
    *content(1, DELIVER, b'\xce' * 20, b'\x08\x00\xce', 7),
    method(65535, QUEUE_DECLARE_OK, b'\xce\xce'),
]
SESSION_METHODS = [
    (0, START, b'start'),
    (0, TUNE, b'tune'),
    (1, DELIVER, b'args', b'\0\0', b'one'),
    (2, RETURN, b'args', b'\x08\x00\x05', ''),
    (3, GET_EMPTY, b'\0'),
    (0, (10, 99), b'unknown'),
    (2, GET_OK, b'2', b'\0\0', b'bbbbbbb'),
    (1, DELIVER, b'1', b'\x80\x00\x01c', b'aaaaa'),
    (1, DELIVER, b'args', b'\x08\x00\xce', b'\xce' * 20),
    (65535, QUEUE_DECLARE_OK, b'\xce\xce'),
]
STREAM = b''.join(SESSION)


def test_session_frame_by_frame():
    assert outcome(SESSION) == (SESSION_METHODS, None)


def test_session_at_once():
    assert outcome([STREAM]) == (SESSION_METHODS, None)


def test_session_in_two_portions_of_any_size():
    for position in range(1, len(STREAM)):
        portions = [STREAM[:position], STREAM[position:]]
        assert outcome(portions) == (SESSION_METHODS, None), position


@pytest.mark.parametrize('size', [1, 2, 3, 7, 8, 9, 64])
def test_session_in_portions_of_one_size(size):
    assert outcome(split(STREAM, size)) == (SESSION_METHODS, None)


@given(st.lists(st.integers(1, len(STREAM) - 1), unique=True).map(sorted))
def test_session_in_random_portions(positions):
    edges = [0, *positions, len(STREAM)]
    portions = [STREAM[start:end] for start, end in zip(edges, edges[1:])]
    assert outcome(portions) == (SESSION_METHODS, None)


def test_session_with_a_heartbeat_between_any_two_frames():
    for position in range(1, len(SESSION) + 1):
        frames = [*SESSION[:position], BEAT, *SESSION[position:]]
        assert outcome([b''.join(frames)]) == (SESSION_METHODS, None), position
        assert outcome(frames) == (SESSION_METHODS, None), position


def test_whole_method_is_there_as_soon_as_its_last_byte_is():
    for frames in (content(1, DELIVER, b'body'), content(1, DELIVER, b''), [method(1, (90, 11))]):
        data = b''.join(frames)
        decoder = new_decoder()
        decoder.take(FIRST + data[:-1])
        assert len(decoder.queue) == 1
        assert decoder.incomplete
        decoder.take(data[-1:])
        assert len(decoder.queue) == 2
        assert not decoder.incomplete


# --- the largest message ---


@pytest.mark.parametrize('signature', [DELIVER, RETURN])
@pytest.mark.parametrize('portion', [1, 1 << 20])
def test_message_of_the_largest_size_is_taken_and_one_byte_more_is_not(signature, portion):
    decoder = new_decoder(max_message_size=5)
    frames = [*content(1, signature, b'12345'), *content(1, signature, b'123456')]
    decoder.take(FIRST)
    portions = split(b''.join(frames), portion)
    with pytest.raises(MessageTooLarge, match=r'6 bytes; max_message_size is 5') as caught:
        list(map(decoder.take, portions))
    assert [method[2].body for _, method in decoder.queue if method[2]] == [b'12345']
    assert caught.value.args[0] == 311
    assert caught.value.args[2] == signature


def test_too_large_a_message_is_refused_by_its_header():
    decoder = new_decoder(max_message_size=1000)
    decoder.take(FIRST + method(1, DELIVER))
    with pytest.raises(MessageTooLarge):
        decoder.take(header(1, 1 << 40))


def test_what_a_closed_channel_drops_may_be_of_any_size():
    inbox = InboxLike()
    inbox.keeps_content = False
    decoder = new_decoder(inboxes={1: inbox}, max_message_size=2)
    decoder.take(FIRST + b''.join(content(1, DELIVER, b'123')))
    assert len(decoder.queue) == 1


# --- sizes ---


@pytest.mark.parametrize('limit', [4096, 131072])
@pytest.mark.parametrize('frames', [0, 1, 2, 3])
@pytest.mark.parametrize('more', [-1, 0, 1])
def test_body_at_the_edges_of_frames(limit, frames, more):
    chunk = limit - 8
    size = max(frames * chunk + more, 0)
    sent = bytes(index % 251 for index in range(size))
    data = FIRST + b''.join(content(1, DELIVER, sent, size=chunk))
    expected = [(0, START, b'start'), (1, DELIVER, b'args', b'\0\0', sent or '')]
    assert outcome([data], limit) == (expected, None)
    assert outcome(split(data, 1000), limit) == (expected, None)


def test_body_in_frames_of_one_byte():
    sent = bytes(range(256))
    (received,) = methods_in(*content(1, DELIVER, sent, size=1))
    assert received[-1] == sent


@pytest.mark.parametrize('into', [False, True])
def test_body_frame_of_the_limit_is_read_and_one_byte_more_is_not(into):
    decoder = new_decoder()
    decoder.take(FIRST)
    decoder.queue.clear()
    for limit in (4096, 131072):
        decoder.body_limit = limit
        for portion in content(1, DELIVER, b'x' * limit):
            feed(decoder, portion, into)
        _, (_, _, message) = decoder.queue.popleft()
        assert message.body == b'x' * limit
    decoder.take(method(1, DELIVER) + header(1, 200_000))
    with pytest.raises(ProtocolError, match='frame of type 3 and 131073 bytes') as caught:
        decoder.take(b'\x03\x00\x01\x00\x02\x00\x01')
    assert caught.value.amqp_reply_code == 501


def test_header_may_be_larger_than_a_body_frame():
    properties = b'\x20\x00\x00\x01\x86\xa6\x01kS\x00\x01\x86\x9f' + b'h' * 99_999
    (received,) = methods_in(*content(1, DELIVER, b'body', properties))
    assert received[3:] == (properties, b'body')


# --- large bodies, which are received to where they stay ---

SIZES = st.one_of(st.integers(0, 40_000), st.sampled_from([16383, 16384, 131071, 131072, 300_000]))


@given(
    sizes=st.lists(SIZES, min_size=1, max_size=3),
    frame_size=st.sampled_from([4096, 16384, 40_000, 131064, 131072]),
    portion=st.one_of(st.integers(1000, 40_000), st.sampled_from([131071, 131072, 131073])),
)
@settings(max_examples=60)
def test_large_bodies_arrive_whole_in_whatever_portions(sizes, frame_size, portion):
    bodies = [random.Random(size).randbytes(size) for size in sizes]
    frames = [frame for sent in bodies for frame in content(1, DELIVER, sent, size=frame_size)]
    methods, error = outcome(split(b''.join([FIRST, *frames, BEAT]), portion), 131072)
    assert error is None
    assert [message[-1] for message in methods[1:]] == [sent or '' for sent in bodies]


def test_large_bodies_of_two_channels_may_take_turns():
    one, other = random.Random(1).randbytes(200_000), random.Random(2).randbytes(200_000)
    pairs = zip(content(1, DELIVER, one, size=50_000), content(2, DELIVER, other, size=50_000))
    frames = [frame for pair in pairs for frame in pair]
    for portion in (9_999, 50_008, 131072):
        methods, error = outcome(split(b''.join([FIRST, *frames]), portion), 131072)
        assert error is None
        assert [message[-1] for message in methods[1:]] == [one, other]


def test_wrong_end_behind_a_large_body_frame_is_noticed():
    frames = content(1, DELIVER, bytes(100_000))
    wrong = b''.join([FIRST, *frames])[:-1] + b'\0'
    for portion in (1000, 30_000, 100_000):
        _, error = outcome(split(wrong, portion), 131072)
        assert error[:2] == (ProtocolError, 501)


def test_end_of_a_frame_that_comes_late_spoils_nothing():
    sent = bytes(range(1, 251)) * 400
    frames = content(1, DELIVER, sent, size=4096)
    behind_first_payload = len(frames[0] + frames[1] + frames[2]) - 1
    data = b''.join(frames)
    portions = [FIRST, data[:behind_first_payload], data[behind_first_payload:]]
    methods, error = outcome(portions)
    assert error is None
    assert methods[1][-1] == sent


@memory.is_measured
@pytest.mark.parametrize('into', [False, True])
def test_memory_of_a_large_body_is_not_kept(into):
    decoder = new_decoder(131072)
    decoder.take(FIRST)
    frames = content(1, DELIVER, bytes(8 * 1024 * 1024), size=131072)
    portions = split(b''.join(frames), 131072)
    del frames
    with memory.traced() as traced_memory:
        while portions:
            feed(decoder, portions.pop(0), into)
        assert len(decoder.queue) == 2
        decoder.queue.clear()
        assert traced_memory()[0] < 1024 * 1024


def test_bodies_that_were_read_stay_as_they_are():
    decoder = new_decoder(131072)
    decoder.take(FIRST)
    for byte in b'abc':
        for portion in split(b''.join(content(1, DELIVER, bytes([byte]) * 100_000)), 50_000):
            feed(decoder, portion, into=True)
    bodies = [message.body for _, (_, _, message) in list(decoder.queue)[1:]]
    assert bodies == [bytes([byte]) * 100_000 for byte in b'abc']


@memory.is_measured
def test_memory_for_a_large_body_is_taken_as_it_arrives():
    decoder = new_decoder(1 << 31)
    frame_header = struct.pack('>BHI', BODY, 1, 1 << 30)
    portion = FIRST + method(1, DELIVER) + header(1, 1 << 40) + frame_header
    with memory.traced() as traced_memory:
        for arrived in range(20):
            feed(decoder, portion, into=True)
            portion = bytes(50_000)
            assert traced_memory()[0] < 2 * 50_000 * arrived + 400_000


# --- Large bodies: when memory is handed out ---


def test_room_is_for_the_rest_of_a_large_frame():
    decoder = new_decoder(131072)
    decoder.take(FIRST + method(1, DELIVER) + header(1, 100_000))
    assert decoder.room() is None
    decoder.take(body(1, bytes(100_000))[:20_007])
    with decoder.room() as room:
        assert len(room) == 80_000


def test_room_in_a_cycle_of_garbage_is_freed_without_a_word(monkeypatch):
    reports = []
    monkeypatch.setattr(sys, 'unraisablehook', reports.append)
    decoder = new_decoder(131072)
    decoder.take(FIRST + method(1, DELIVER) + header(1, 100_000))
    decoder.take(body(1, bytes(100_000))[:20_007])
    decoder.cycle = decoder, decoder.room()
    del decoder
    gc.collect()
    assert not reports


def test_no_room_is_handed_out_where_little_is_missing():
    decoder = new_decoder(131072)
    decoder.take(FIRST + method(1, DELIVER) + header(1, 100_000))
    decoder.take(body(1, bytes(100_000))[:-10_000])
    assert decoder.room() is None


def test_no_room_is_handed_out_between_payload_and_end():
    decoder = new_decoder(131072)
    decoder.take(FIRST + method(1, DELIVER) + header(1, 200_000) + body(1, bytes(100_000))[:-1])
    assert decoder.room() is None
    decoder.take(b'\xce')
    assert decoder.room() is None


def test_payload_that_looks_like_the_end_of_its_frame_is_payload():
    """The frame is larger than the memory that is handed out for it at once."""
    lookalike = b'\xce' + struct.pack('>BHI', BODY, 1, 4096)
    data = lookalike * (1 << 16)
    stream = b''.join([FIRST, *content(1, DELIVER, data), BEAT])
    start = len(stream) - len(data) - 9
    methods, error = outcome([stream[: start + 8], stream[start + 8 :]], 1 << 20)
    assert error is None
    assert methods[1][-1] == data


# --- Channels ---


class Closed:
    """The inboxes of a connection with no channel."""

    @staticmethod
    def get(channel):
        return None


def test_content_for_a_channel_that_is_not_open_is_an_error_before_it_is_collected():
    decoder = new_decoder(inboxes=Closed)
    decoder.take(FIRST)
    with pytest.raises(ProtocolError, match=r'channel 5, which is not open') as caught:
        decoder.take(method(5, GET_OK))
    assert caught.value.amqp_reply_code == 504
    assert caught.value.args[2:] == (GET_OK, 'Channel.basic_get_ok')


def test_whole_content_for_a_channel_that_is_not_open_is_left_to_the_session():
    decoder = new_decoder(inboxes=Closed)
    decoder.take(b''.join([FIRST, *content(5, GET_OK, b'body')]))
    assert plain(decoder.queue[-1])[:2] == (5, GET_OK)


def test_method_without_content_is_found_for_any_channel():
    decoder = new_decoder(inboxes=Closed)
    decoder.take(FIRST + method(5, (20, 40), b'x'))
    assert plain(decoder.queue[-1]) == (5, (20, 40), b'x')


@pytest.mark.parametrize('into', [False, True])
def test_content_that_a_channel_does_not_keep_is_read_and_dropped(into):
    inboxes = AllOpen()
    inboxes.get(1).keeps_content = False
    decoder = new_decoder(131072, inboxes)
    stream = [FIRST, *content(1, DELIVER, bytes(100_000), size=50_000), method(1, (90, 11))]
    for portion in split(b''.join(stream), 10_000):
        feed(decoder, portion, into)
    assert [signature for _, (signature, _, _) in decoder.queue] == [START, (90, 11)]


@memory.is_measured
def test_content_that_a_channel_does_not_keep_takes_no_memory():
    inboxes = AllOpen()
    inboxes.get(1).keeps_content = False
    decoder = new_decoder(131072, inboxes)
    decoder.take(FIRST + method(1, DELIVER) + header(1, 1 << 23))
    portion = body(1, bytes(1 << 17))
    with memory.traced() as traced_memory:
        for _ in range(1 << 6):
            decoder.take(portion)
        assert traced_memory()[0] < 1 << 17
    assert not decoder.incomplete


@pytest.mark.parametrize('gone', [False, True], ids=['not kept', 'closed'])
@pytest.mark.parametrize('into', [False, True])
def test_content_that_is_not_wanted_any_more_is_read_and_dropped(gone, into):
    """The channel is closed in the middle of the content."""
    inboxes = {1: InboxLike()}
    decoder = new_decoder(131072, inboxes)
    frames = b''.join([*content(1, DELIVER, bytes(200_000), size=100_000), method(1, (90, 11))])
    feed(decoder, FIRST + frames[:60_000], into)
    if gone:
        del inboxes[1]
    else:
        inboxes[1].keeps_content = False
    for portion in split(frames[60_000:], 50_000):
        feed(decoder, portion, into)
    assert [signature for _, (signature, _, _) in decoder.queue] == [START, (90, 11)]
    assert not decoder.incomplete


def test_last_method_is_the_one_that_became_complete_last():
    decoder = new_decoder()
    assert not decoder.is_last(0, START)
    decoder.take(FIRST)
    assert decoder.is_last(0, START)
    assert not decoder.is_last(1, START)
    assert not decoder.is_last(0, TUNE)
    decoder.take(method(0, TUNE) + method(1, DELIVER))
    assert decoder.is_last(0, TUNE)


# --- cost ---


def test_large_body_takes_time_by_its_size():
    chunk = 131064
    sent = bytes(64 * 1024 * 1024)
    data = b''.join((FIRST, *content(1, DELIVER, sent, size=chunk)))
    portions = split(data, 65536)
    begun = time.process_time()
    methods, error = outcome(portions, 131072)
    # With a copy of what came before for each portion, it would be minutes.
    assert time.process_time() - begun < 10
    assert error is None
    assert len(methods[1][-1]) == len(sent)


@pytest.mark.parametrize(
    'frames',
    [[BEAT], [method(1, (90, 11))], content(1, DELIVER, b''), content(1, DELIVER, b'x')],
    ids=['heartbeats', 'methods', 'empty', 'messages'],
)
def test_small_frames_are_read_without_copying_the_rest(frames):
    many = FIRST + b''.join(frames) * 3000
    rest = b''.join(content(1, DELIVER, bytes(1 << 23), size=131072))

    def processor_time(data):
        begun = time.process_time()
        methods, error = outcome([data], 131072)
        assert error is None
        assert len(methods) >= (1 if frames == [BEAT] else 3001)
        return time.process_time() - begun

    alone = min(processor_time(many) for _ in range(3))
    with_rest = min(processor_time(many + rest) for _ in range(3))
    # With a copy of the rest for each frame, it would be seconds.
    assert with_rest < 5 * alone + 0.2


def test_many_empty_body_frames_are_no_progress_and_keep_nothing():
    empty = body(1, b'') * 10_000
    frames = [method(1, DELIVER, b''), header(1, 1), empty]
    assert methods_in(*frames) == []
    assert methods_in(*frames, body(1, b'x')) == [(1, DELIVER, b'', b'\0\0', b'x')]


@memory.is_measured
@pytest.mark.parametrize(
    'announcement',
    [
        method(1, DELIVER) + header(1, 2**63),
        method(1, DELIVER) + header(1, 2**64 - 1) + b'\x03\x00\x01\x00\x00\x10\x00',
        b'\x01\x00\x01\x00\x0f\xff\xff',
        method(1, DELIVER) + b'\x02\x00\x01\x00\x0f\xff\xff',
    ],
)
def test_nothing_is_allocated_because_it_was_announced(announcement):
    decoder = new_decoder()
    decoder.take(FIRST)
    with memory.traced() as traced_memory:
        feed(decoder, announcement, into=True)
        assert traced_memory()[1] < 100_000
    assert len(decoder.queue) == 1


# --- what the protocol does not allow ---

GOOD = method(1, (90, 11), b'good')

VIOLATIONS = [
    ('a wrong end byte of a method', 501, [frame(METHOD, 1, b'\0\x5a\0\x0b', b'\xcd')]),
    ('a wrong end byte of a heartbeat', 501, [frame(HEARTBEAT, 0, end=b'\0')]),
    (
        'a wrong end byte of a method with content',
        501,
        [frame(METHOD, 1, b'\0\x3c\0\x3c', b'\xcd'), header(1, 1), body(1, b'x')],
    ),
    (
        'a wrong end byte of a header',
        501,
        [method(1, DELIVER), header(1, 1)[:-1] + b'\0', body(1, b'x')],
    ),
    (
        'a wrong end byte of a body',
        501,
        [method(1, DELIVER), header(1, 1), body(1, b'x')[:-1] + b'\0'],
    ),
    ('a method frame over 1 MiB', 501, [b'\x01\x00\x01\x00\x10\x00\x01']),
    ('a method frame of 4 GiB', 501, [b'\x01\x00\x01\xff\xff\xff\xff']),
    (
        'a header frame over 1 MiB, with its body',
        501,
        content(1, DELIVER, b'x', properties=b'\0\0' + bytes(1 << 20)),
    ),
    ('a header frame of 4 GiB', 501, [method(1, DELIVER), b'\x02\x00\x01\xff\xff\xff\xff']),
    (
        'a body frame over the limit',
        501,
        [method(1, DELIVER), header(1, 10_000), b'\x03\x00\x01\x00\x00\x10\x01'],
    ),
    ('a heartbeat of 4 GiB', 501, [b'\x08\x00\x00\xff\xff\xff\xff']),
    *((f'a frame of type {kind}', 501, [frame(kind, 0)]) for kind in (0, 4, 5, 6, 7, 9, 206, 255)),
    ('a heartbeat with a payload', 501, [frame(HEARTBEAT, 0, b'x')]),
    ('a heartbeat on a channel', 505, [frame(HEARTBEAT, 1)]),
    *(
        (f'a method frame of {size} bytes', 502, [frame(METHOD, 1, b'\0\x3c\0'[:size])])
        for size in range(4)
    ),
    ('a header without a method', 505, [header(1, 5)]),
    ('a header on another channel', 505, [method(1, DELIVER), header(2, 5)]),
    (
        'a header on another channel, and a body',
        505,
        [method(1, DELIVER), header(2, 1), body(1, b'x')],
    ),
    (
        'a method instead of a header',
        505,
        [method(1, DELIVER), b'\x01' + header(1, 1)[1:], body(1, b'x')],
    ),
    (
        'a frame of unknown type instead of a header',
        501,
        [method(1, DELIVER), b'\x04' + header(1, 1)[1:], body(1, b'x')],
    ),
    ('a header after a method without content', 505, [method(1, (90, 11)), header(1, 5)]),
    ('a second header', 505, [method(1, DELIVER), header(1, 5), header(1, 5)]),
    ('a body without a method', 505, [body(1, b'x')]),
    ('a body without a header', 505, [method(1, DELIVER), body(1, b'x')]),
    ('a body on another channel', 505, [method(1, DELIVER), header(1, 1), body(2, b'x')]),
    ('a body on channel 0', 505, [body(0, b'x')]),
    ('a body after an empty content', 505, [*content(1, DELIVER, b''), body(1, b'')]),
    ('a body after the whole content', 505, [*content(1, DELIVER, b'x'), body(1, b'x')]),
    ('more body than announced', 505, [method(1, DELIVER), header(1, 2), body(1, b'xyz')]),
    (
        'more body than announced in the second frame',
        505,
        [method(1, DELIVER), header(1, 2), body(1, b'x'), body(1, b'yz')],
    ),
    ('a method in the middle of a content', 505, [method(1, DELIVER), method(1, (90, 11))]),
    (
        'a method instead of the rest of a body',
        505,
        [method(1, DELIVER), header(1, 2), body(1, b'x'), method(1, (90, 11))],
    ),
    (
        'a second content in the middle of a content',
        505,
        [method(1, DELIVER), *content(1, DELIVER, b'x')],
    ),
    ('a header of another class', 505, [method(1, DELIVER), header(1, 1, class_id=70)]),
    (
        'a header of another class with its body',
        505,
        [method(1, DELIVER), header(1, 1, class_id=70), body(1, b'x')],
    ),
    (
        'a header with a weight',
        505,
        [method(1, DELIVER), header(1, 1, weight=1), body(1, b'x')],
    ),
    ('an empty header', 502, [method(1, DELIVER), frame(HEADER, 1)]),
    (
        'a header without flags',
        502,
        [method(1, DELIVER), header(1, 1, properties=b''), body(1, b'x')],
    ),
    ('a content on channel 0', 504, [*content(0, DELIVER, b'x')]),
    # Two violations at once: which of them is named does not depend on the portions.
    ('a body without a method with a wrong end byte', 505, [frame(BODY, 1, b'x', b'\0')]),
    (
        'more body than announced with a wrong end byte',
        505,
        [method(1, DELIVER), header(1, 1), frame(BODY, 1, b'xy', b'\0')],
    ),
    ('a frame of type 0 with a wrong end byte', 501, [frame(0, 1, b'x', b'\0')]),
    ('a method frame of 1 byte with a wrong end byte', 501, [frame(METHOD, 1, b'x', b'\0')]),
]


@pytest.mark.parametrize(
    ('code', 'frames'),
    [(code, frames) for _, code, frames in VIOLATIONS],
    ids=[name for name, _, _ in VIOLATIONS],
)
def test_violation_is_one_error_in_whatever_portions(code, frames):
    methods, error = error_in(GOOD, *frames, GOOD)
    assert error[:2] == (ProtocolError, code)
    assert methods[0] == (1, (90, 11), b'good')
    assert methods.count((1, (90, 11), b'good')) == 1


def test_content_before_a_violation_is_delivered():
    methods, error = error_in(*content(1, DELIVER, b'body'), body(1, b'x'))
    assert methods == [(1, DELIVER, b'args', b'\0\0', b'body')]
    assert error[:2] == (ProtocolError, 505)


def test_error_of_a_content_names_its_method():
    with pytest.raises(ProtocolError, match='weight 5') as caught:
        new_decoder().take(FIRST + method(1, GET_OK) + header(1, 1, weight=5))
    assert caught.value.amqp_method_sig == GET_OK


@given(st.data())
@settings(max_examples=200)
def test_damaged_session_is_the_same_methods_and_the_same_error_in_any_portions(data):
    damaged = bytearray(STREAM)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(1, len(damaged) - 1))
        damaged[position] = data.draw(st.sampled_from([0, 1, 2, 3, 8, 0xCE]) | st.integers(0, 255))
    expected = outcome([bytes(damaged)])
    assert outcome(split(bytes(damaged))) == expected
    assert outcome(split(bytes(damaged), data.draw(st.integers(2, 40)))) == expected


@given(st.binary(max_size=100))
def test_random_bytes_are_methods_or_an_error(data):
    assert outcome([FIRST + data]) == outcome([FIRST, *split(data)])


# --- The first bytes ---


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'AMQP\x00\x00\x09\x01', 'speaks AMQP 0-9-1, not 0-9-1$'),
        (b'AMQP\x03\x01\x00\x00', r'speaks AMQP 1\.0, not 0-9-1$'),
        (b'AMQP\x01\x01\x09\x01', 'speaks AMQP 1-1-9-1, not 0-9-1$'),
        (b'AMQP\x00\x01\x00\x00', r'speaks AMQP 1\.0, not 0-9-1$'),
        (b'AMQP\x01\x01\x08\x00', 'speaks AMQP 0-8, not 0-9-1$'),
        (b'AMQP\x01\x01\x00\x0a', 'speaks AMQP 0-10, not 0-9-1$'),
        (b'AMQP\x00\x00\x09\x01AMQP', 'speaks AMQP 0-9-1, not 0-9-1$'),
        (b'\x15\x03\x01\x00\x02\x02\x0a', 'TLS alert.*ssl=True'),
        (b'HTTP/1.1 400 Bad Request\r\n', r"does not speak AMQP.*b'H"),
        (b'-ERR unknown command\r\n', 'does not speak AMQP'),
        (b'SSH-2.0-OpenSSH_9.2\r\n', 'does not speak AMQP'),
        (b'AMQX', 'does not speak AMQP'),
        (b'\x00', 'does not speak AMQP'),
        (BEAT, 'does not speak AMQP'),
        (header(0, 5), 'does not speak AMQP'),
    ],
)
def test_peer_that_speaks_something_else_is_refused_at_once(data, words):
    with pytest.raises(ProtocolVersionRefused, match=words):
        new_decoder(protocol=PROTOCOL_0_9_1).take(data)
    methods, error = outcome(split(data))
    assert methods == []
    assert error[0] is ProtocolVersionRefused


def test_version_that_the_broker_speaks_comes_with_advice():
    with pytest.raises(ProtocolVersionRefused) as caught:
        new_decoder(protocol=PROTOCOL).take(b'AMQP\x00\x00\x09\x01')
    assert str(caught.value).endswith('speaks AMQP 0-9-1, not 0-8' + PROTOCOL.version_advice)
    assert 'client_0_9_1' in PROTOCOL.version_advice


def test_beginning_of_a_protocol_header_is_waited_for():
    *beginning, last = split(b'AMQP\x00\x00\x09\x01')
    decoder = new_decoder(protocol=PROTOCOL_0_9_1)
    for byte in beginning:
        decoder.take(byte)
        assert not decoder.queue
    with pytest.raises(ProtocolVersionRefused, match=r'speaks AMQP 0-9-1, not 0-9-1$'):
        decoder.take(last)


def test_protocol_header_in_the_middle_is_no_offer():
    _, error = error_in(b'AMQP\x00\x00\x09\x01')
    assert error[:2] == (ProtocolError, 501)


def test_only_the_beginning_of_what_a_stranger_says_is_shown():
    with pytest.raises(ProtocolVersionRefused) as caught:
        new_decoder().take(b'x' * 100_000)
    assert len(str(caught.value)) < 200
