"""Frames to methods and back, without a socket: octets in whatever portions, and hostile ones."""

import random
import struct
import threading
import time

import memory
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqplib.client_0_8.basic_message import Message
from amqplib.client_0_8.deadline import NEVER, Deadline
from amqplib.client_0_8.exceptions import (
    AMQPTimeout,
    ConnectionLost,
    ProtocolError,
    ProtocolVersionRefused,
)
from amqplib.client_0_8.method_framing import (
    MethodReader,
    MethodWriter,
    acknowledgement_frame,
)
from amqplib.client_0_8.serialization import AMQPWriter, encode_method
from amqplib.client_0_8.spec import METHODS

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8

START = (10, 10)
TUNE = (10, 30)
QUEUE_DECLARE_OK = (50, 11)
PUBLISH = (60, 40)
RETURN = (60, 50)
DELIVER = (60, 60)
GET_OK = (60, 71)
GET_EMPTY = (60, 72)


# --- Frames made by hand ---


def frame(frame_type, channel, payload=b'', end=b'\xce'):
    return struct.pack('>BHI', frame_type, channel, len(payload)) + payload + end


def method(channel, signature, args=b''):
    return frame(METHOD, channel, struct.pack('>HH', *signature) + args)


def header(channel, size, properties=b'\0\0', class_id=60, weight=0):
    return frame(HEADER, channel, struct.pack('>HHQ', class_id, weight, size) + properties)


def body(channel, octets):
    return frame(BODY, channel, octets)


def content(channel, signature, octets, properties=b'\0\0', size=None):
    """Return the frames of a method with content, its body in frames of that size."""
    frames = [method(channel, signature, b'args'), header(channel, len(octets), properties)]
    size = size or max(len(octets), 1)
    return frames + [
        body(channel, octets[start : start + size]) for start in range(0, len(octets), size)
    ]


BEAT = frame(HEARTBEAT, 0)
FIRST = method(0, START, b'start')


def test_golden_octets_of_frames():
    assert BEAT == b'\x08\x00\x00\x00\x00\x00\x00\xce'
    assert method(1, (90, 10)) == b'\x01\x00\x01\x00\x00\x00\x04\x00\x5a\x00\x0a\xce'
    assert header(1, 5) == bytes.fromhex('02 0001 0000000e 003c 0000 0000000000000005 0000 ce')


# --- Reading ---


class Source:
    """In place of a transport: a read buffer, and portions that arrive."""

    def __init__(self, portions=(), receives_into=False):
        self._read_buffer = b''
        self.portions = [bytes(portion) for portion in portions]
        self.receives_into = receives_into
        self.deadlines = []

    def receive(self, deadline):
        self.deadlines.append(deadline)
        if not self.portions:
            raise AMQPTimeout(0, 'nothing arrived')
        self._read_buffer += self.portions.pop(0)

    def receive_into(self, room, deadline):
        assert not self._read_buffer
        portion = self.portions.pop(0)
        count, following = min(len(portion), len(room)), len(room) + 8
        room[:count] = portion[:count]
        self._read_buffer = portion[count:following]
        if len(portion) > following:
            self.portions.insert(0, portion[following:])
        return count


def plain(method):
    """Return a method that was read as comparable values."""
    channel, signature, args, message = method
    if message is None:
        return channel, signature, args.input
    return channel, signature, args.input, message._serialize_properties(), message.body


def outcome(portions, limit=None):
    """Return the methods that are read from portions of a stream, and the error that ends it."""
    portions = list(portions)
    one, other = (outcome_of(Source(portions, into), limit) for into in (False, True))
    assert one == other
    return one


def outcome_of(source, limit):
    reader = MethodReader(source)
    if limit is not None:
        reader.body_limit = limit
    error = None
    while source.portions:
        try:
            reader.receive(NEVER)
        except (ProtocolError, ProtocolVersionRefused) as caught:
            error = (type(caught), caught.amqp_reply_code, caught.amqp_reply_text)
            break
    return [plain(one) for one in reader.queue], error


def split(data, size=1):
    return [data[start : start + size] for start in range(0, len(data), size)]


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
@settings(deadline=None)
def test_session_in_random_portions(positions):
    edges = [0, *positions, len(STREAM)]
    portions = [STREAM[start:end] for start, end in zip(edges, edges[1:])]
    assert outcome(portions) == (SESSION_METHODS, None)


def test_session_with_a_heartbeat_between_any_two_frames():
    for position in range(1, len(SESSION) + 1):
        frames = [*SESSION[:position], BEAT, *SESSION[position:]]
        assert outcome([b''.join(frames)]) == (SESSION_METHODS, None), position
        assert outcome(frames) == (SESSION_METHODS, None), position


def test_whole_method_is_there_as_soon_as_its_last_octet_is():
    for frames in (content(1, DELIVER, b'body'), content(1, DELIVER, b''), [method(1, (90, 11))]):
        data = b''.join(frames)
        source = Source([FIRST + data[:-1], data[-1:]])
        reader = MethodReader(source)
        reader.receive(NEVER)
        assert len(reader.queue) == 1
        reader.receive(NEVER)
        assert len(reader.queue) == 2
        assert source._read_buffer == b''


def test_read_method_waits_until_there_is_one():
    source = Source([*split(FIRST), BEAT, BEAT, method(1, (90, 11)), b''.join(SESSION[3:6])])
    reader = MethodReader(source)
    assert plain(reader.read_method()) == (0, START, b'start')
    assert plain(reader.read_method()) == (1, (90, 11), b'')
    assert plain(reader.read_method()) == (1, DELIVER, b'args', b'\0\0', b'one')
    assert set(source.deadlines) == {NEVER}


def test_methods_that_were_read_are_handed_out_before_more_is_read():
    source = Source([FIRST + method(1, (90, 11)) + method(1, (90, 21))])
    reader = MethodReader(source)
    assert [reader.read_method()[1] for _ in range(3)] == [START, (90, 11), (90, 21)]
    assert source.portions == []


def test_deadline_is_passed_on_and_a_timeout_loses_nothing():
    data = b''.join(content(1, DELIVER, b'body'))
    source = Source([FIRST])
    reader = MethodReader(source)
    deadline = Deadline(5)
    reader.receive(deadline)
    assert source.deadlines == [deadline]
    reader.queue.clear()
    for octet in split(data):
        with pytest.raises(AMQPTimeout):
            reader.receive(deadline)
        source.portions.append(octet)
        reader.receive(deadline)
    assert [plain(one) for one in reader.queue] == [(1, DELIVER, b'args', b'\0\0', b'body')]


def test_expected_types_are_those_of_channels_in_the_middle_of_a_content():
    source = Source([FIRST + method(1, DELIVER) + method(2, DELIVER) + header(2, 5)])
    reader = MethodReader(source)
    assert reader.expected_types == {}
    reader.receive(NEVER)
    assert reader.expected_types == {1: HEADER, 2: BODY}
    source.portions.append(body(2, b'12345'))
    reader.receive(NEVER)
    assert reader.expected_types == {1: HEADER}
    assert reader.running


# --- Reading: sizes ---


@pytest.mark.parametrize('limit', [4096, 131072])
@pytest.mark.parametrize('frames', [0, 1, 2, 3])
@pytest.mark.parametrize('more', [-1, 0, 1])
def test_body_at_the_edges_of_frames(limit, frames, more):
    chunk = limit - 8
    size = max(frames * chunk + more, 0)
    octets = bytes(index % 251 for index in range(size))
    data = FIRST + b''.join(content(1, DELIVER, octets, size=chunk))
    expected = [(0, START, b'start'), (1, DELIVER, b'args', b'\0\0', octets or '')]
    assert outcome([data], limit) == (expected, None)
    assert outcome(split(data, 1000), limit) == (expected, None)


def test_body_in_frames_of_one_octet():
    octets = bytes(range(256))
    (received,) = methods_in(*content(1, DELIVER, octets, size=1))
    assert received[-1] == octets


def test_body_frame_of_the_limit_is_read_and_one_octet_more_is_not():
    source = Source([FIRST])
    reader = MethodReader(source)
    reader.receive(NEVER)
    reader.queue.clear()
    for limit in (4096, 131072):
        reader.body_limit = limit
        source.portions = content(1, DELIVER, b'x' * limit)
        while source.portions:
            reader.receive(NEVER)
        assert reader.queue.popleft()[3].body == b'x' * limit
    source.portions = [method(1, DELIVER) + header(1, 200_000), b'\x03\x00\x01\x00\x02\x00\x01']
    reader.receive(NEVER)
    with pytest.raises(ProtocolError, match='frame of type 3 and 131073 octets') as caught:
        reader.receive(NEVER)
    assert caught.value.amqp_reply_code == 501


def test_header_may_be_larger_than_a_body_frame():
    properties = b'\x20\x00\x00\x01\x86\xa6\x01kS\x00\x01\x86\x9f' + b'h' * 99_999
    (received,) = methods_in(*content(1, DELIVER, b'body', properties))
    assert received[3:] == (properties, b'body')


# --- Reading: large bodies, which are received to where they stay ---

SIZES = st.one_of(st.integers(0, 40_000), st.sampled_from([16383, 16384, 131071, 131072, 300_000]))


@given(
    sizes=st.lists(SIZES, min_size=1, max_size=3),
    frame_size=st.sampled_from([4096, 16384, 40_000, 131064, 131072]),
    portion=st.one_of(st.integers(1000, 40_000), st.sampled_from([131071, 131072, 131073])),
)
@settings(deadline=None, max_examples=60)
def test_large_bodies_arrive_whole_in_whatever_portions(sizes, frame_size, portion):
    bodies = [random.Random(size).randbytes(size) for size in sizes]
    frames = [frame for octets in bodies for frame in content(1, DELIVER, octets, size=frame_size)]
    methods, error = outcome(split(b''.join([FIRST, *frames, BEAT]), portion), 131072)
    assert error is None
    assert [message[-1] for message in methods[1:]] == [octets or '' for octets in bodies]


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
    octets = bytes(range(1, 251)) * 400
    frames = content(1, DELIVER, octets, size=4096)
    behind_first_payload = len(frames[0] + frames[1] + frames[2]) - 1
    data = b''.join(frames)
    portions = [FIRST, data[:behind_first_payload], data[behind_first_payload:]]
    methods, error = outcome(portions)
    assert error is None
    assert methods[1][-1] == octets


@memory.is_measured
@pytest.mark.parametrize('into', [False, True])
def test_memory_of_a_large_body_is_not_kept(into):
    source = Source([FIRST], receives_into=into)
    reader = MethodReader(source)
    reader.body_limit = 131072
    frames = content(1, DELIVER, bytes(8 * 1024 * 1024), size=131072)
    source.portions += split(b''.join(frames), 131072)
    del frames
    with memory.traced() as traced_memory:
        while source.portions:
            reader.receive(NEVER)
        reader.queue.clear()
        assert traced_memory()[0] < 1024 * 1024


def test_bodies_that_were_read_stay_as_they_are():
    source = Source([FIRST], receives_into=True)
    reader = MethodReader(source)
    reader.body_limit = 131072
    for octet in b'abc':
        source.portions += split(b''.join(content(1, DELIVER, bytes([octet]) * 100_000)), 50_000)
    while source.portions:
        reader.receive(NEVER)
    bodies = [message.body for *_, message in list(reader.queue)[1:]]
    assert bodies == [bytes([octet]) * 100_000 for octet in b'abc']


@memory.is_measured
def test_memory_for_a_large_body_is_taken_as_it_arrives():
    source = Source([FIRST], receives_into=True)
    reader = MethodReader(source)
    reader.body_limit = 1 << 31
    frame_header = struct.pack('>BHI', BODY, 1, 1 << 30)
    source.portions += [method(1, DELIVER) + header(1, 1 << 40) + frame_header]
    with memory.traced() as traced_memory:
        for arrived in range(20):
            reader.receive(NEVER)
            source.portions.append(bytes(50_000))
            assert traced_memory()[0] < 2 * 50_000 * arrived + 400_000


# --- Reading: cost ---


def test_large_body_takes_time_by_its_size():
    chunk = 131064
    octets = bytes(64 * 1024 * 1024)
    data = b''.join((FIRST, *content(1, DELIVER, octets, size=chunk)))
    portions = split(data, 65536)
    begun = time.monotonic()
    methods, error = outcome(portions, 131072)
    # With a copy of what came before for each portion, it would be minutes.
    assert time.monotonic() - begun < 10
    assert error is None
    assert len(methods[1][-1]) == len(octets)


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
    reader = MethodReader(Source([FIRST, announcement]))
    reader.receive(NEVER)
    with memory.traced() as traced_memory:
        reader.receive(NEVER)
        assert traced_memory()[1] < 100_000
    assert len(reader.queue) == 1


# --- Reading: what the protocol does not allow ---

GOOD = method(1, (90, 11), b'good')

VIOLATIONS = [
    ('a wrong end octet of a method', 501, [frame(METHOD, 1, b'\0\x5a\0\x0b', b'\xcd')]),
    ('a wrong end octet of a heartbeat', 501, [frame(HEARTBEAT, 0, end=b'\0')]),
    (
        'a wrong end octet of a method with content',
        501,
        [frame(METHOD, 1, b'\0\x3c\0\x3c', b'\xcd'), header(1, 1), body(1, b'x')],
    ),
    (
        'a wrong end octet of a header',
        501,
        [method(1, DELIVER), header(1, 1)[:-1] + b'\0', body(1, b'x')],
    ),
    (
        'a wrong end octet of a body',
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
        (f'a method frame of {size} octets', 502, [frame(METHOD, 1, b'\0\x3c\0'[:size])])
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
    ('a body without a method with a wrong end octet', 505, [frame(BODY, 1, b'x', b'\0')]),
    (
        'more body than announced with a wrong end octet',
        505,
        [method(1, DELIVER), header(1, 1), frame(BODY, 1, b'xy', b'\0')],
    ),
    ('a frame of type 0 with a wrong end octet', 501, [frame(0, 1, b'x', b'\0')]),
    ('a method frame of 1 octet with a wrong end octet', 501, [frame(METHOD, 1, b'x', b'\0')]),
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


def test_reader_says_that_it_has_stopped():
    reader = MethodReader(Source([FIRST, frame(0, 0)]))
    reader.receive(NEVER)
    assert reader.running
    with pytest.raises(ProtocolError):
        reader.receive(NEVER)
    assert not reader.running


def test_error_of_a_content_names_its_method():
    reader = MethodReader(Source([FIRST + method(1, GET_OK) + header(1, 1, weight=5)]))
    with pytest.raises(ProtocolError, match='weight 5') as caught:
        reader.receive(NEVER)
    assert caught.value.amqp_method_sig == GET_OK


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_session_is_the_same_methods_and_the_same_error_in_any_portions(data):
    damaged = bytearray(STREAM)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(1, len(damaged) - 1))
        damaged[position] = data.draw(st.sampled_from([0, 1, 2, 3, 8, 0xCE]) | st.integers(0, 255))
    expected = outcome([bytes(damaged)])
    assert outcome(split(bytes(damaged))) == expected
    assert outcome(split(bytes(damaged), data.draw(st.integers(2, 40)))) == expected


@given(st.binary(max_size=100))
@settings(deadline=None)
def test_random_octets_are_methods_or_an_error(octets):
    assert outcome([FIRST + octets]) == outcome([FIRST, *split(octets)])


# --- Reading: the first octets ---


@pytest.mark.parametrize(
    ('octets', 'words'),
    [
        (b'AMQP\x00\x00\x09\x01', 'speaks AMQP 0-9-1$'),
        (b'AMQP\x03\x01\x00\x00', r'speaks AMQP 1\.0$'),
        (b'AMQP\x01\x01\x09\x01', 'speaks AMQP 1-1-9-1$'),
        (b'AMQP\x00\x01\x00\x00', r'speaks AMQP 1\.0$'),
        (b'AMQP\x01\x01\x08\x00', 'speaks AMQP 0-8$'),
        (b'AMQP\x01\x01\x00\x0a', 'speaks AMQP 0-10$'),
        (b'AMQP\x00\x00\x09\x01AMQP', 'speaks AMQP 0-9-1$'),
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
def test_peer_that_speaks_something_else_is_refused_at_once(octets, words):
    with pytest.raises(ProtocolVersionRefused, match=words):
        MethodReader(Source([octets])).receive(NEVER)
    methods, error = outcome(split(octets))
    assert methods == []
    assert error[0] is ProtocolVersionRefused


def test_beginning_of_a_protocol_header_is_waited_for():
    source = Source(split(b'AMQP\x00\x00\x09\x01'))
    reader = MethodReader(source)
    for _ in range(7):
        reader.receive(NEVER)
        assert not reader.queue
    with pytest.raises(ProtocolVersionRefused, match=r'speaks AMQP 0-9-1$'):
        reader.receive(NEVER)


def test_protocol_header_in_the_middle_is_no_offer():
    _, error = error_in(b'AMQP\x00\x00\x09\x01')
    assert error[:2] == (ProtocolError, 501)


def test_only_the_beginning_of_what_a_stranger_says_is_shown():
    with pytest.raises(ProtocolVersionRefused) as caught:
        MethodReader(Source([b'x' * 100_000])).receive(NEVER)
    assert len(str(caught.value)) < 200


# --- Writing ---


class Recorder:
    """In place of a transport: what is written, write by write."""

    def __init__(self):
        self.writes = []
        self.deadlines = []
        self.sent = 0
        self.cut = False
        self.error = None
        self.meanwhile = lambda: None
        self.has_room = True
        self.room = None  # octets that it takes at once; None for all

    def is_ready(self, seconds, write):
        return False, self.has_room

    def send(self, octets, deadline=NEVER):
        self.send_pieces([octets], deadline)

    def send_pieces(self, pieces, deadline=NEVER):
        if self.error is not None:
            raise self.error
        self.meanwhile()
        self.writes.append(b''.join(pieces))
        self.deadlines.append(deadline)
        self.sent += 1
        self.behind()

    def send_at_once(self, octets):
        self.cut = True
        if not self.has_room:
            return 0
        taken = octets[: self.room]
        self.send_pieces([taken])
        return len(taken)

    def behind(self):
        pass


def writer_to(dest, frame_max=4096):
    return MethodWriter(dest, frame_max)


def frames_in(octets):
    """Return (type, channel, payload) of each frame, and check that they are whole."""
    frames = []
    while octets:
        frame_type, channel, size = struct.unpack_from('>BHI', octets)
        frames.append((frame_type, channel, octets[7 : 7 + size]))
        assert octets[7 + size] == 0xCE
        octets = octets[8 + size :]
    return frames


def test_method_without_content_is_one_frame():
    dest = Recorder()
    writer_to(dest).write_method(5, (50, 30), b'\0\0\x01q\0')
    assert dest.writes == [bytes.fromhex('01 0005 00000009 0032 001e 0000 0171 00 ce')]


def test_method_without_arguments():
    dest = Recorder()
    writer_to(dest).write_method(1, (90, 10))
    assert dest.writes == [bytes.fromhex('01 0001 00000004 005a 000a ce')]


def test_arguments_may_be_a_writer():
    args = AMQPWriter()
    args.write_short(0)
    args.write_shortstr('q')
    args.write_bit(False)
    args.write_bit(True)
    dest = Recorder()
    writer_to(dest).write_method(1, (50, 40), args)
    assert dest.writes == [bytes.fromhex('01 0001 00000009 0032 0028 0000 0171 02 ce')]


def test_method_with_content_is_one_write():
    dest = Recorder()
    writer_to(dest).write_method(1, PUBLISH, b'args', Message(b'body', priority=5))
    assert dest.writes == [
        bytes.fromhex('01 0001 00000008 003c 0028') + b'args\xce'
        + bytes.fromhex('02 0001 0000000f 003c 0000 0000000000000004 0800 05 ce')
        + bytes.fromhex('03 0001 00000004') + b'body\xce'
    ]  # fmt: skip


@pytest.mark.parametrize('empty', [b'', '', bytearray(), memoryview(b'')])
def test_empty_body_has_a_header_and_no_body_frame(empty):
    dest = Recorder()
    writer_to(dest).write_method(1, PUBLISH, b'', Message(empty, application_headers={'a': 1}))
    (written,) = dest.writes
    (_, (kind, channel, payload)) = frames_in(written)
    assert (kind, channel) == (HEADER, 1)
    assert payload[:12] == struct.pack('>HHQ', 60, 0, 0)
    assert payload.count(b'\x01aI\x00\x00\x00\x01') == 1


def test_text_is_counted_in_octets():
    dest = Recorder()
    writer_to(dest).write_method(1, PUBLISH, b'', Message('é€'))
    frames = frames_in(dest.writes[0])
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
    octets = bytes(index % 251 for index in range(size))
    dest = Recorder()
    writer_to(dest, frame_max).write_method(1, PUBLISH, b'args', Message(kind(octets)))
    assert len(dest.writes) == 1
    first, second, *bodies = frames_in(dest.writes[0])
    assert first == (METHOD, 1, b'\0\x3c\0\x28args')
    assert second == (HEADER, 1, struct.pack('>HHQ', 60, 0, size) + b'\0\0')
    assert b''.join(payload for _, _, payload in bodies) == octets
    assert {(kind, channel) for kind, channel, _ in bodies} <= {(BODY, 1)}
    # All but the last are full.
    chunk = frame_max - 8
    sizes = [len(payload) for _, _, payload in bodies]
    assert sizes == [chunk] * (size // chunk) + ([size % chunk] if size % chunk else [])


def test_frame_max_may_change():
    dest = Recorder()
    writer = writer_to(dest, 131072)
    writer.frame_max = 4096
    writer.write_method(1, PUBLISH, b'', Message(b'x' * 400_000))
    sizes = {len(payload) for _, _, payload in frames_in(dest.writes[0])[2:]}
    assert max(sizes) == 4088


def test_what_is_written_is_read():
    dest = Recorder()
    writer = writer_to(dest)
    messages = [
        Message(b'x' * size, priority=number)
        for number, size in enumerate((0, 1, 4087, 4088, 4089, 40_000, 100_000))
    ]
    writer.write_method(0, START, b'start')
    for number, message in enumerate(messages, 1):
        writer.write_method(number, PUBLISH, b'args', message)
    # A client does not read basic.publish: make basic.deliver of it.
    data = b''.join(dest.writes).replace(b'\0\x3c\0\x28args', b'\0\x3c\0\x3cargs')
    source = Source([data])
    reader = MethodReader(source)
    reader.receive(NEVER)
    assert reader.queue.popleft()[1] == START
    for number, message in enumerate(messages, 1):
        channel, signature, args, arrived = reader.queue.popleft()
        assert (channel, signature, args.input) == (number, DELIVER, b'args')
        assert arrived.priority == message.priority
        assert (arrived.body or b'') == message.body
    assert not reader.queue


# --- Writing: what is refused ---

TOO_LARGE = {'h': 'x' * 5000}


@pytest.mark.parametrize(
    ('message', 'error', 'words'),
    [
        (Message(b'x', application_headers=TOO_LARGE), ValueError, 'properties take 50.. octets'),
        (Message(b'x', application_headers={'a': None}), ValueError, 'application_headers'),
        (Message(b'x', priority=256), ValueError, 'priority'),
        (Message(b'x', content_type=5), TypeError, 'content_type'),
        (Message(5), TypeError, 'body'),
        (Message('x', content_encoding='no such thing'), ValueError, 'content_encoding'),
        (Message('é', content_encoding='ascii'), ValueError, 'body'),
    ],
)
def test_content_that_cannot_be_sent_is_refused_before_anything_is_sent(message, error, words):
    dest = Recorder()
    writer = writer_to(dest)
    for _ in range(2):
        with pytest.raises(error, match=words):
            writer.write_method(1, PUBLISH, b'args', message)
    assert dest.writes == []
    writer.write_method(1, PUBLISH, b'args', Message(b'next'))
    assert len(dest.writes) == 1
    assert [kind for kind, _, _ in frames_in(dest.writes[0])] == [METHOD, HEADER, BODY]


def test_largest_header_fits_and_one_octet_more_does_not():
    # A header has 14 octets before the properties; the table 4 + 2 + 5 more than its text.
    largest = 4096 - 8 - 14 - 4 - 2 - 5
    dest = Recorder()
    writer = writer_to(dest)
    writer.write_method(1, PUBLISH, b'', Message(b'x', application_headers={'h': 'x' * largest}))
    assert len(frames_in(dest.writes[0])[1][2]) == 4088
    message = Message(b'x', application_headers={'h': 'x' * (largest + 1)})
    with pytest.raises(ValueError, match=r'4089 octets, more than fit into a frame \(4088\)'):
        writer.write_method(1, PUBLISH, b'', message)
    assert len(dest.writes) == 1


def test_arguments_that_fit_into_no_frame_are_refused():
    dest = Recorder()
    writer = writer_to(dest)
    writer.write_method(1, (50, 10), b'x' * 4084)
    with pytest.raises(ValueError, match='arguments take 4089 octets'):
        writer.write_method(1, (50, 10), b'x' * 4085)
    assert [len(written) for written in dest.writes] == [4096]


def test_nothing_follows_a_write_that_was_cut():
    dest = Recorder()
    writer = writer_to(dest)
    dest.cut = True
    for message in (None, Message(b'x'), Message(b'x' * 100_000)):
        with pytest.raises(ConnectionLost, match='cut short'):
            writer.write_method(1, PUBLISH, b'', message)
    # An answer is not worth an error of its own, which could hide the one that counts.
    writer.write_soon(1, b'\0\x5a\0\x0a')
    assert not writer.pending
    assert dest.writes == []


def test_what_must_go_soon_is_not_begun_where_there_is_no_room():
    # TLS could not take it back.
    dest = Recorder()
    writer = writer_to(dest)
    dest.has_room = False
    writer.write_soon(1, b'\0\x14\0\x29')
    assert dest.writes == []
    dest.has_room = True
    writer.flush()
    assert len(dest.writes) == 1


def test_rest_of_what_must_go_soon_comes_before_anything_else():
    dest = Recorder()
    writer = writer_to(dest)
    dest.room = 5
    writer.write_soon(1, b'\0\x14\0\x29')
    assert [len(written) for written in dest.writes] == [5]
    assert not dest.cut
    writer.write_method(1, (90, 10))
    assert [channel for _, channel, _ in frames_in(b''.join(dest.writes))] == [1, 1]
    assert [len(written) for written in dest.writes] == [5, 7, 12]


@pytest.mark.parametrize('soon', [True, False])
def test_what_must_go_soon_is_sent_once_if_an_interrupt_comes_right_behind(soon):
    method = b'\0\x14\0\x29'
    dest = Recorder()
    writer = writer_to(dest)

    def interrupt():
        del dest.behind
        raise KeyboardInterrupt

    if not soon:
        dest.has_room = False
        writer.write_soon(1, method)
    dest.behind = interrupt
    with pytest.raises(KeyboardInterrupt):
        writer.write_soon(1, method) if soon else writer.write(2, method)
    dest.has_room = True
    writer.flush()
    assert len(dest.writes) == 1


def test_error_of_the_transport_is_the_caller_s_and_the_lock_is_free_again():
    dest = Recorder()
    writer = writer_to(dest)
    dest.error = ConnectionLost(0, 'broken')
    with pytest.raises(ConnectionLost, match='broken'):
        writer.write_method(1, (90, 10))
    dest.error = None
    run_in_thread(writer.write_method, 1, (90, 10))
    assert len(dest.writes) == 1


# --- Writing: time, and threads ---


def run_in_thread(function, *args):
    """Call it in another thread, which must not be held up."""
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), 'it waits'


def test_write_timeout_is_the_deadline_of_each_write():
    dest = Recorder()
    writer = writer_to(dest)
    writer.write_timeout = 5
    for message in (None, Message(b'x'), Message(b'x' * 100_000)):
        writer.write_method(1, PUBLISH, b'', message)
    assert [deadline.seconds for deadline in dest.deadlines] == [5, 5, 5]
    assert len(set(map(id, dest.deadlines))) == 3
    writer.write_timeout = None
    writer.write_method(1, (90, 10))
    assert dest.deadlines[-1].remaining() is None


def test_other_threads_wait_until_a_whole_content_is_written():
    dest = Recorder()
    writer = writer_to(dest)
    threads = []

    def start_another():
        dest.meanwhile = lambda: None
        thread = threading.Thread(target=writer.write_method, args=(2, (90, 10)), daemon=True)
        thread.start()
        threads.append(thread)
        thread.join(0.2)
        assert thread.is_alive()

    dest.meanwhile = start_another
    writer.write_method(1, PUBLISH, b'', Message(b'x' * 100_000))
    threads[0].join(10)
    assert [frames_in(written)[0][1] for written in dest.writes] == [1, 2]


def test_what_must_go_soon_does_not_wait_for_another_thread_s_write():
    dest = Recorder()
    writer = writer_to(dest)

    def send_soon():
        dest.meanwhile = lambda: None
        run_in_thread(writer.write_soon, 2, b'\0\x14\0\x29')
        run_in_thread(writer.write_soon, 3, b'\0\x14\0\x29')
        assert dest.writes == []

    dest.meanwhile = send_soon
    writer.write_method(1, PUBLISH, b'', Message(b'x' * 100_000))
    # Whole, after what was being written, and in order.
    assert [frames_in(written)[0][:2] for written in dest.writes] == [
        (METHOD, 1),
        (METHOD, 2),
        (METHOD, 3),
    ]
    assert dest.writes[1] == bytes.fromhex('01 0002 00000004 0014 0029 ce')


def test_what_must_go_soon_goes_at_once_when_nobody_writes():
    dest = Recorder()
    writer_to(dest).write_soon(2, b'\0\x14\0\x29')
    assert dest.writes == [bytes.fromhex('01 0002 00000004 0014 0029 ce')]


def test_what_must_go_soon_and_is_too_large_is_refused():
    dest = Recorder()
    writer = writer_to(dest)
    with pytest.raises(ValueError, match='arguments take'):
        writer.write_soon(2, b'x' * 5000)
    writer.flush()
    assert dest.writes == []


# --- Acknowledgements ---


@pytest.mark.parametrize('channel', [1, 65535])
@pytest.mark.parametrize(
    ('name', 'tag', 'bit'),
    [
        ('basic.ack', 0, False),
        ('basic.ack', 5, True),
        ('basic.ack', 2**64 - 1, 'yes'),
        ('basic.reject', 5, 2),
        ('basic.reject', 5, None),
    ],
)
def test_acknowledgement_is_the_frame_of_the_general_way(channel, name, tag, bit):
    general = MethodWriter(None, 4096).frames(channel, encode_method(METHODS[name], (tag, bit)))
    assert acknowledgement_frame(channel, METHODS[name], tag, bit) == general


@pytest.mark.parametrize(
    ('tag', 'error'),
    [(-1, ValueError), (2**64, ValueError), ('5', TypeError), (1.0, TypeError), (None, TypeError)],
)
def test_acknowledgement_of_what_is_no_delivery_tag_is_refused(tag, error):
    with pytest.raises(error, match=r'basic\.ack delivery_tag: '):
        acknowledgement_frame(1, METHODS['basic.ack'], tag, False)
