"""Brokers that break the protocol: each call returns or raises one AMQPException, in time."""

import contextlib
import datetime
import decimal
import random
import socket
import struct
import sys
import threading

import pytest

import amqplib.client_0_8 as amqp
from amqplib.client_0_8.spec import PROTOCOL
from amqplib.core import session as session_module
from amqplib.core.decoding import Decoder
from amqplib.core.fast_decoding import MAX_HEADER
from amqplib.core.legacy import AnyInbox
from tests.helpers.checks import check_closed, check_dead_channel, check_repeated, until_raised
from tests.helpers.memory import taking_memory
from tests.helpers.waiting import lasting
from tests.helpers.wire import content, delivery, frame, method, method_payload, methods_in

pytestmark = pytest.mark.usefixtures('little_memory')

MEGABYTE = 1 << 20

DELIVER = method(1, 'basic.deliver', 'tag', 1, False, '', 'key')
RETURN = method(1, 'basic.return', 312, 'NO_ROUTE', 'x', 'key')
HEADER_FRAME = struct.Struct('>HHQ')


def header(size, class_id=60, weight=0, properties=b'\0\0'):
    """Return the bytes of a content header on channel 1."""
    return frame(2, 1, HEADER_FRAME.pack(class_id, weight, size) + properties)


def method_frame(class_id, method_id, args=b'', channel=1):
    """Return the bytes of a method frame, of any ids."""
    return frame(1, channel, struct.pack('>HH', class_id, method_id) + args)


def announced(frame_type, size, channel=1):
    """Return the bytes of a frame's beginning."""
    return struct.pack('>BHI', frame_type, channel, size)


def body(data):
    """Return the bytes of a body frame on channel 1."""
    return frame(3, 1, data)


def truncated(data, by=1):
    """Return a method frame again, with the last bytes of its arguments missing."""
    return frame(data[0], data[2], data[7 : -1 - by])


#: What a broker might send -> the reply code that says what is wrong with it.
FATAL = {
    # Frames
    'method frame of 4 GiB': (announced(1, 0xFFFFFFFF), 501),
    'header frame of 4 GiB': (DELIVER + announced(2, 0xFFFFFFFF), 501),
    'body frame of 4 GiB': (DELIVER + header(1 << 33) + announced(3, 0xFFFFFFFF), 501),
    'heartbeat of 4 GiB': (announced(8, 0xFFFFFFFF, 0), 501),
    'method frame beyond the cap': (announced(1, MAX_HEADER + 1), 501),
    'header frame beyond the cap': (DELIVER + announced(2, MAX_HEADER + 1), 501),
    'body frame beyond frame_max': (DELIVER + header(1 << 33) + announced(3, 131073), 501),
    'wrong end byte of a method': (frame(1, 1, b'\0\x14\0\x0b', b'\xcd'), 501),
    'wrong end byte of a header': (DELIVER + header(5)[:-1] + b'\0', 501),
    'wrong end byte of a body': (DELIVER + header(5) + body(b'12345')[:-1] + b'\x08', 501),
    'wrong end byte of a heartbeat': (frame(8, 0, b'', b'\x08'), 501),
    **{f'frame of type {kind}': (frame(kind, 1, b''), 501) for kind in (0, 4, 5, 6, 7, 9, 255)},
    'heartbeat with a payload': (frame(8, 0, b'x'), 501),
    'heartbeat on a channel': (frame(8, 1, b''), 505),
    # Contents
    'header without a method': (header(0), 505),
    'body without a method': (body(b'x'), 505),
    'body without a header': (DELIVER + body(b'x'), 505),
    'two headers': (DELIVER + header(5) + header(5), 505),
    'method in the middle of a content': (DELIVER + header(5) + body(b'123') + DELIVER, 505),
    'method in place of a header': (DELIVER + DELIVER, 505),
    'channel.close in the middle of a content': (
        DELIVER + header(5) + method(1, 'channel.close', 404, 'gone', 0, 0),
        505,
    ),
    'more body than announced': (DELIVER + header(5) + body(b'123456'), 505),
    'more body than announced, in parts': (DELIVER + header(5) + body(b'123') * 2, 505),
    'body that goes on after its end': (RETURN + content(1) + body(b''), 505),
    'less body than announced': (DELIVER + header(5) + body(b'1234') + DELIVER, 505),
    'header of another class': (DELIVER + header(0, class_id=50), 505),
    'header with a weight': (DELIVER + header(0, weight=1), 505),
    'header without flags': (DELIVER + frame(2, 1, HEADER_FRAME.pack(60, 0, 0)), 502),
    'header that is cut short': (DELIVER + frame(2, 1, b'\0\x3c\0\0\0'), 502),
    'empty header': (DELIVER + frame(2, 1, b''), 502),
    'content on channel 0': (method(0, 'basic.deliver', 't', 1, False, '', '') + content(0), 504),
    # Channels
    'method for a channel that never was': (method(9, 'channel.open_ok'), 504),
    'message for a channel that never was': (delivery(9, 'tag'), 504),
    'flow for a channel beyond channel_max': (method(65535, 'channel.flow', True), 504),
    'channel method on channel 0': (method(0, 'channel.flow', True), 504),
    'queue method on channel 0': (method(0, 'queue.declare_ok', 'q', 0, 0), 504),
    'connection method on a channel': (method(1, 'connection.tune', 1, 4096, 0), 503),
    'connection.close on a channel': (method(1, 'connection.close', 320, 'x', 0, 0), 503),
    # Methods
    'unknown method': (method_frame(60, 120), 540),
    'unknown class': (method_frame(99, 1, b'what'), 540),
    'unknown method on channel 0': (method_frame(10, 70, channel=0), 540),
    'empty method frame': (frame(1, 1, b''), 502),
    'method frame of three bytes': (frame(1, 1, b'\0\x3c\0'), 502),
    'method of clients': (method(1, 'queue.declare', 0, 'q', *[False] * 5, {}), 503),
    'publish': (method(1, 'basic.publish', 0, '', '', False, False) + content(1), 503),
    'close that is cut short': (truncated(method(1, 'channel.close', 404, 'gone', 0, 0)), 502),
    'close of the connection that is cut short': (
        truncated(method(0, 'connection.close', 320, 'gone', 0, 0)),
        502,
    ),
    'close that is too long': (
        frame(1, 0, method_payload('connection.close', 320, '', 0, 0) + b'!'),
        502,
    ),
    'string beyond its method': (method_frame(20, 40, b'\1\x94\xffgone\0\0\0\0'), 502),
    'alert with an unknown field type': (method_frame(20, 30, b'\1\x38\0\0\0\0\3\1k?'), 502),
    'alert with a table beyond its end': (method_frame(20, 30, b'\1\x38\0\xff\xff\xff\xff'), 502),
    'alert with a string beyond its table': (
        method_frame(20, 30, b'\1\x38\0' + struct.pack('>I', 9) + b'\1kS\0\0\0\xffab'),
        502,
    ),
    'return that is cut short': (
        truncated(RETURN) + content(1),
        502,
    ),
    # Order
    'start again': (method(0, 'connection.start', 8, 0, {}, 'PLAIN', 'en_US'), 503),
    'secure again': (method(0, 'connection.secure', b''), 503),
    'tune again': (method(0, 'connection.tune', 1, 4096, 0), 503),
    'open-ok again': (method(0, 'connection.open_ok', ''), 503),
    'redirect of an open connection': (method(0, 'connection.redirect', '127.0.0.1:1', ''), 503),
    'close-ok that was not asked for': (method(0, 'connection.close_ok'), 503),
    'open-ok of the channel again': (method(1, 'channel.open_ok'), 503),
    'close-ok of the channel that was not asked for': (method(1, 'channel.close_ok'), 503),
    'reply to nothing': (method(1, 'tx.commit_ok'), 503),
    'message that was not asked for': (
        method(1, 'basic.get_ok', 1, False, '', '', 0) + content(1),
        503,
    ),
    # Two faults at once: the first one counts
    'reply to nothing, then no frame': (method(1, 'tx.commit_ok') + b'HTTP/1.1 200 OK\r\n', 503),
    'unknown channel, then unknown type': (method(9, 'tx.commit_ok') + frame(7, 0, b''), 504),
    'unknown type, then unknown method': (frame(7, 0, b'') + method_frame(60, 120), 501),
}

CALLS = {
    'wait': lambda connection, channel: channel.wait(timeout=5),
    'wait for one': lambda connection, channel: channel.wait([(60, 71)], timeout=5),
    'wait of the connection': lambda connection, channel: connection.wait(timeout=5),
    'bind': lambda connection, channel: channel.queue_bind('q', 'x'),
    'get': lambda connection, channel: channel.basic_get('q'),
    'publish': lambda connection, channel: publish_until_raised(channel),
    'open a channel': lambda connection, channel: connection.channel(),
}


def publish_until_raised(channel):
    with lasting(most=2):
        while True:
            channel.basic_publish(amqp.Message('x'), routing_key='q')


def last_method(peer):
    """Return the last method that a client sends, once it has hung up."""
    return methods_in(peer.rest())[-1]


@pytest.fixture
def broken(play, connect):
    """A function that opens a connection with a channel, of which the broker then sends bytes.

    It makes a call, which must fail by the code, and checks all that follows.
    """

    def start(data, code, call, most_memory=4 * MEGABYTE):
        said = []

        def script(peer):
            peer.handshake()
            peer.open_channel()
            peer.await_cue()
            peer.send_raw(data)
            said.append(last_method(peer))

        broker = play(script)
        connection = connect(broker, rpc_timeout=5)
        channel = connection.channel()
        channel.callbacks['tag'] = lambda message: None
        sock = connection.transport.sock
        with taking_memory(most_memory), lasting(most=3):
            broker.cue()
            # Messages before the fault are handed out.
            error = until_raised(lambda: call(connection, channel))
        assert type(error) is amqp.ProtocolError
        assert error.amqp_reply_code == code, error
        broker.finish()
        # The broker was told, in a write of its own and before the end of the stream.
        assert said[0].name == 'connection.close'
        assert said[0].reply_code == code
        check_closed(connection, sock, error, [channel])

    return start


@pytest.mark.parametrize(
    ('fault', 'call'),
    [
        (fault, call)
        for fault in FATAL
        for call in CALLS
        if (fault, call) != ('message that was not asked for', 'get')
    ],
)
def test_fatal_fault(broken, fault, call):
    data, code = FATAL[fault]
    broken(data, code, CALLS[call])


@pytest.mark.parametrize('fault', FATAL)
def test_fatal_fault_byte_by_byte(broken, byte_by_byte, fault):
    data, code = FATAL[fault]
    broken(data, code, CALLS['wait'])


#: The reply to a call, spoiled.
SPOILED_REPLIES = {
    'declare-ok cut short': (
        lambda channel: channel.queue_declare('q'),
        truncated(method(1, 'queue.declare_ok', 'q', 1, 2)),
    ),
    'declare-ok too long': (
        lambda channel: channel.queue_declare('q'),
        frame(1, 1, method_payload('queue.declare_ok', 'q', 1, 2) + b'!'),
    ),
    'declare-ok with a name beyond its end': (
        lambda channel: channel.queue_declare('q'),
        method_frame(50, 11, b'\xffq\0\0\0\1\0\0\0\1'),
    ),
    'purge-ok cut short': (
        lambda channel: channel.queue_purge('q'),
        truncated(method(1, 'queue.purge_ok', 1)),
    ),
    'delete-ok that is empty': (lambda channel: channel.queue_delete('q'), method_frame(50, 41)),
    'consume-ok cut short': (
        lambda channel: channel.basic_consume('q'),
        truncated(method(1, 'basic.consume_ok', 'tag')),
    ),
    'consume-ok that is empty': (lambda channel: channel.basic_consume('q'), method_frame(60, 21)),
    'get-ok cut short': (
        lambda channel: channel.basic_get('q'),
        truncated(method(1, 'basic.get_ok', 1, False, '', '', 0)) + content(1),
    ),
    'flow-ok that is empty': (lambda channel: channel.flow(True), method_frame(20, 21)),
    'ticket cut short': (
        lambda channel: channel.access_request('/data'),
        truncated(method(1, 'access.request_ok', 1)),
    ),
}


@pytest.mark.parametrize('reply', SPOILED_REPLIES)
def test_reply_that_cannot_be_read(broken, reply):
    call, data = SPOILED_REPLIES[reply]
    broken(data, 502, lambda connection, channel: call(channel))


@pytest.mark.parametrize(
    'data',
    [
        truncated(DELIVER) + content(1),
        truncated(DELIVER, by=9) + content(1),
        frame(1, 1, DELIVER[7:-1] + b'!') + content(1),
        truncated(method(1, 'basic.cancel', 'tag', True)),
    ],
)
@pytest.mark.parametrize('call', ['wait', 'open a channel'])
def test_event_that_cannot_be_read(play, connect, data, call):
    """Such a method is queued until the channel is waited for, and fails the connection then."""

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.send_raw(data)
        if call == 'open a channel':
            peer.open_channel(2)
        assert last_method(peer).reply_code == 502

    broker = play(script)
    connection = connect(broker)
    channel = connection.channel()
    sock = connection.transport.sock
    if call == 'open a channel':
        connection.channel()
    with pytest.raises(amqp.ProtocolError) as caught:
        channel.wait(timeout=5)
    assert caught.value.amqp_reply_code == 502
    broker.finish()
    check_closed(connection, sock, caught.value, [channel])


# --- What belongs to a message does not break the connection ------------------------------------


def properties(flags, data):
    return struct.pack('>H', flags) + data


def headers(entries):
    """Return a property list of application_headers alone."""
    return properties(0x2000, struct.pack('>I', len(entries)) + entries)


def nested(depth, tag=b'F'):
    """Return a header with tables, or arrays, in one another."""
    inner = b''
    for _ in range(depth):
        value = tag + struct.pack('>I', len(inner)) + inner
        inner = (b'\1k' if tag == b'F' else b'') + value
    return inner if tag == b'F' else b'\1k' + inner


#: Property lists -> the property that cannot be read.
DAMAGED = {
    'unknown field type': (headers(b'\1k?'), 'application_headers'),
    'string beyond its table': (headers(b'\1kS\0\0\0\xffab'), 'application_headers'),
    'string of 4 GiB': (headers(b'\1kS\xff\xff\xff\xffab'), 'application_headers'),
    'bytes of 4 GiB': (headers(b'\1kx\xff\xff\xff\xffab'), 'application_headers'),
    'table beyond its table': (headers(b'\1kF\0\0\0\x09'), 'application_headers'),
    'array beyond its table': (headers(b'\1kA\0\0\0\x09t\1'), 'application_headers'),
    'element beyond its array': (headers(b'\1kA\0\0\0\2t\1I'), 'application_headers'),
    'number cut short': (headers(b'\1kI\0\0'), 'application_headers'),
    'key beyond its table': (headers(b'\xffkey'), 'application_headers'),
    'key without a value': (headers(b'\1k'), 'application_headers'),
    'tables nested 2000 deep': (headers(nested(2000)), 'application_headers'),
    'tables nested 21000 deep': (headers(nested(18000)), 'application_headers'),
    'arrays nested 2000 deep': (headers(nested(2000, b'A')), 'application_headers'),
    'table beyond the header': (properties(0x2000, b'\0\0\0\x09'), 'application_headers'),
    'string beyond the header': (properties(0x8000, b'\xfftext'), 'content_type'),
    'property that is missing': (properties(0x0800, b''), 'priority'),
    'endless flags': (b'\0\1' * 5000, 'content_type'),
    'flags cut short': (b'\0\1', 'content_type'),
    'flag of a property that there is not': (b'\0\2', 'content_type'),
}


@pytest.mark.parametrize('damage', DAMAGED)
def test_damaged_property_stays_with_its_message(play, connect, damage):
    raw, name = DAMAGED[damage]

    def script(peer):
        peer.handshake()
        peer.open_channel()
        for mark in (b'first', b'second'):
            peer.expect_method(1, 'basic.get')
            peer.send_content(
                1, 'basic.get_ok', 1, False, '', 'q', 0,
                body=mark, properties=raw if mark == b'first' else b'\x08\0\5',
            )  # fmt: skip
        peer.expect_close()

    connection = connect(play(script))
    channel = connection.channel()
    with taking_memory(8 * MEGABYTE), lasting(most=2):
        message = channel.basic_get('q')
        assert message.body == b'first'
        assert message.delivery_tag == 1
        for _ in range(2):
            with pytest.raises(ValueError, match=name):
                getattr(message, name)
        assert name not in message.properties
        assert repr(message)
    following = channel.basic_get('q')
    assert (following.body, following.priority) == (b'second', 5)
    connection.close()


ODD_VALUES = {
    'time beyond all calendars': (b'T' + b'\xff' * 8, 2**64 - 1),
    'time in milliseconds': (b'T' + struct.pack('>Q', 1772000000000000), 1772000000000000),
    'decimal with 255 places': (b'D\xff\0\0\0\1', decimal.Decimal('1E-255')),
    'text that is not UTF-8': (b'S\0\0\0\2\xff\xfe', b'\xff\xfe'),
    'nothing': (b'V', None),
    'truth beyond 1': (b't\x07', True),
    'smallest number': (b'l\x80' + b'\0' * 7, -(2**63)),
    'empty array': (b'A\0\0\0\0', []),
    'empty table': (b'F\0\0\0\0', {}),
}


@pytest.mark.parametrize('odd', ODD_VALUES)
def test_odd_value_is_read(play, connect, odd):
    data, value = ODD_VALUES[odd]

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.send_raw(delivery(1, 'tag', properties=headers(b'\1k' + data + b'\2\xff\xfet\1')))
        peer.expect_close()

    connection = connect(play(script))
    channel = connection.channel()
    got = []
    channel.callbacks['tag'] = got.append
    channel.wait(timeout=5)
    assert got[0].application_headers == {'k': value, '\udcff\udcfe': True}
    connection.close()


def test_timestamp_property_out_of_range_is_a_number(play, connect):
    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.send_raw(delivery(1, 'tag', properties=properties(0x0040, b'\xff' * 8)))
        peer.send_raw(delivery(1, 'tag', properties=properties(0x0040, b'\0' * 8)))
        peer.expect_close()

    connection = connect(play(script))
    channel = connection.channel()
    got = []
    channel.callbacks['tag'] = got.append
    channel.wait(timeout=5)
    channel.wait(timeout=5)
    assert got[0].timestamp == 2**64 - 1
    assert got[1].timestamp == datetime.datetime.fromtimestamp(0)
    connection.close()


# --- What is odd and allowed --------------------------------------------------------------------


def test_header_frame_beyond_frame_max_is_read(play, connect):
    value = b'x' * 1000000

    def script(peer):
        peer.handshake(tune=(10, 4096, 0))
        peer.open_channel()
        peer.expect_method(1, 'basic.get')
        entry = b'\1kx' + struct.pack('>I', len(value)) + value
        peer.send_content(1, 'basic.get_ok', 1, False, '', 'q', 0, properties=headers(entry))
        peer.expect_close()

    connection = connect(play(script))
    message = connection.channel().basic_get('q')
    assert message.application_headers == {'k': value}
    connection.close()


def test_body_frames_with_a_payload_of_frame_max_are_read(session):
    def script(peer):
        peer.send_raw(DELIVER + header(131072) + body(b'x' * 131072))
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.channel.wait(timeout=5)
    assert len(got[0].body) == 131072
    ours.connection.close()


def test_frames_of_channels_and_heartbeats_in_any_order(play, connect):
    def deliver(channel):
        return method(channel, 'basic.deliver', 'tag', channel, False, '', '')

    def head(channel):
        return frame(2, channel, HEADER_FRAME.pack(60, 0, 4) + b'\0\0')

    heartbeat = frame(8, 0, b'')
    mixed = [
        deliver(1), heartbeat, deliver(2), head(2), heartbeat, head(1), frame(3, 2, b'a'),
        frame(3, 1, b'bc'), heartbeat, frame(3, 2, b'ddd'), heartbeat, frame(3, 1, b''),
        frame(3, 1, b'ee'),
    ]  # fmt: skip

    def script(peer):
        peer.handshake()
        peer.open_channel(1)
        peer.open_channel(2)
        peer.send_raw(b''.join(mixed))
        peer.expect_close()

    connection = connect(play(script))
    channels = [connection.channel(), connection.channel()]
    got = []
    for channel in channels:
        channel.callbacks['tag'] = got.append
    for channel in channels:
        channel.wait(timeout=5)
    assert [(m.delivery_tag, m.body) for m in got] == [(1, b'bcee'), (2, b'addd')]
    connection.close()


def test_thousands_of_empty_body_frames_are_nothing(session):
    def script(peer):
        peer.send_raw(DELIVER + header(3) + body(b'') * 5000 + body(b'123') + delivery(1, 'tag'))
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    with taking_memory(2 * MEGABYTE):
        ours.channel.wait(timeout=5)
        ours.channel.wait(timeout=5)
    assert [m.body for m in got] == [b'123', '']
    ours.connection.close()


@pytest.mark.parametrize(
    'data',
    [
        DELIVER + header(2**63),
        DELIVER + header(2**64 - 1) + body(b'x' * 1000),
        DELIVER + header(5000) + announced(3, 5000),
        announced(1, MAX_HEADER),
        DELIVER + announced(2, MAX_HEADER),
    ],
)
def test_announced_size_takes_no_memory(session, data):
    def script(peer):
        peer.send_raw(data)
        peer.mark()
        peer.rest()

    ours = session(script)
    ours.broker.await_mark()
    with taking_memory(MEGABYTE), lasting(0.2, 2), pytest.raises(amqp.AMQPTimeout):
        ours.channel.wait(timeout=0.2)
    assert ours.channel.is_open
    with lasting(0.2, 2), pytest.raises(amqp.AMQPTimeout):
        ours.connection.close(timeout=0.2)


@pytest.mark.skipif(sys.platform != 'linux', reason='only there is it limited')
def test_memory_is_as_little_as_these_tests_say():
    with pytest.raises(MemoryError):
        bytearray(0xFFFFFFFF)


@pytest.mark.parametrize('drop', [b'\x08\0\0\0\0\0\0\xce', body(b''), body(b'x')])
def test_endless_bytes_do_not_extend_a_deadline(session, drop):
    """Heartbeats, empty body frames and a body that drips in are no progress."""

    def script(peer):
        peer.send_raw(DELIVER + header(2**40))
        peer.drip(drop * 2000, interval=0.001)

    ours = session(script, rpc_timeout=0.3)
    with lasting(0.2, 1), pytest.raises(amqp.AMQPTimeout):
        ours.channel.wait(timeout=0.2)
    with lasting(0.3, 1.2), pytest.raises(amqp.AMQPTimeout) as caught:
        ours.channel.queue_bind('q', 'x')
    check_dead_channel(ours.channel, caught.value)
    with lasting(0.1, 1), pytest.raises(amqp.AMQPTimeout) as caught:
        ours.connection.close(timeout=0.1)
    check_closed(ours.connection, ours.sock, caught.value)


def test_half_a_frame_waits_for_its_other_half(session):
    whole = delivery(1, 'tag', body=b'body')

    def script(peer):
        for position in (3, 7, 20, len(DELIVER), len(DELIVER) + 10, len(whole) - 1):
            peer.send_raw(whole[:position])
            peer.mark()
            peer.await_cue()
            peer.send_raw(whole[position:])
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    for number in range(1, 7):
        ours.broker.await_mark()
        with pytest.raises(amqp.AMQPTimeout):
            ours.channel.wait(timeout=0.02)
        ours.broker.cue()
        ours.channel.wait(timeout=5)
        assert [m.body for m in got] == [b'body'] * number
    ours.connection.close()


def test_padded_header_frame_leaves_the_next_one_alone(session):
    def script(peer):
        peer.send_raw(delivery(1, 'tag', properties=b'\0\0pad') + delivery(1, 'tag', body=b'next'))
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.channel.wait(timeout=5)
    ours.channel.wait(timeout=5)
    assert [m.body for m in got] == ['', b'next']
    ours.connection.close()


def test_delivery_for_an_unknown_consumer_is_dropped(session):
    def script(peer):
        peer.send_raw(delivery(1, 'who?') + delivery(1, 'tag', body=b'mine'))
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    assert ours.channel.wait(timeout=5) is None
    assert got == []
    ours.channel.wait(timeout=5)
    assert [m.body for m in got] == [b'mine']
    ours.connection.close()


def test_consume_ok_with_another_tag_gives_the_consumer_that_tag(session):
    def script(peer):
        peer.expect_method(1, 'basic.consume')
        peer.send_method(1, 'basic.consume_ok', 'yours')
        peer.send_raw(delivery(1, 'mine') + delivery(1, 'yours', body=b'x'))
        peer.expect_close()

    ours = session(script)
    got = []
    assert ours.channel.basic_consume('q', consumer_tag='mine', callback=got.append) == 'yours'
    ours.channel.wait(timeout=5)
    ours.channel.wait(timeout=5)
    assert [m.body for m in got] == [b'x']
    ours.connection.close()


def test_messages_around_the_consume_ok_all_reach_the_callback(session):
    """A broker may be so fast that they overtake its reply."""

    def script(peer):
        peer.expect_method(1, 'basic.consume')
        before = b''.join(delivery(1, 'tag', number) for number in range(500))
        behind = b''.join(delivery(1, 'tag', number) for number in range(500, 1000))
        peer.send_raw(before + method(1, 'basic.consume_ok', 'tag') + behind)
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.basic_consume('q', callback=lambda message: got.append(message.delivery_tag))
    for _ in range(1000):
        ours.channel.wait(timeout=5)
    assert got == list(range(1000))
    ours.connection.close()


def test_reply_of_another_kind_than_awaited(session):
    def script(peer):
        peer.expect_method(1, 'queue.declare')
        peer.send_method(1, 'queue.bind_ok')
        assert last_method(peer).reply_code == 503

    ours = session(script)
    with pytest.raises(amqp.ProtocolError) as caught:
        ours.channel.queue_declare('q')
    ours.broker.finish()
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


def test_flood_of_messages_before_a_reply_is_kept_in_order(session):
    count = 5000

    def script(peer):
        peer.expect_method(1, 'queue.bind')
        peer.send_raw(b''.join(delivery(1, 'tag', number) for number in range(count)))
        peer.send_method(1, 'queue.bind_ok')
        peer.expect_close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    with lasting(most=4):
        ours.channel.queue_bind('q', 'x')
        for _ in range(count):
            ours.channel.wait(timeout=0)
    assert got == list(range(count))
    with pytest.raises(amqp.AMQPTimeout):
        ours.channel.wait(timeout=0)
    ours.connection.close()


def test_answers_are_not_kept_for_ever_for_a_broker_that_reads_none(session, monkeypatch):
    monkeypatch.setattr(session_module, 'MAX_OWED', 100)
    closes = method(9, 'channel.close', 320, 'again', 0, 0) * 1000

    def script(peer):
        with contextlib.suppress(OSError):
            while True:
                peer.send_raw(closes)

    ours = session(script)
    ours.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with pytest.raises(amqp.ConnectionLost, match='reads none of them') as caught:
        ours.channel.wait()
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        (b'x' * 255, 'x' * 255),
        (b'\xff\xfe', '\ufffd\ufffd'),
        (b'line\r\nline\0\x1b[31m', 'line\r\nline\0\x1b[31m'),
        (b'', ''),
    ],
)
@pytest.mark.parametrize('name', ['connection.close', 'channel.close'])
def test_reply_text_of_any_bytes(session, name, text, shown):
    number = 0 if name == 'connection.close' else 1

    def script(peer):
        peer.send_method(number, name, 404, text, 50, 10)
        peer.expect_method(number, name + '_ok')
        if number:
            peer.expect_close()

    ours = session(script)
    kind = amqp.NotFound if number else amqp.AMQPConnectionException
    with pytest.raises(kind) as caught:
        ours.channel.wait(timeout=5)
    assert caught.value.args == (404, shown, (50, 10), 'Channel.queue_declare')
    str(caught.value).encode()  # it can be printed
    ours.connection.close()


@pytest.mark.parametrize(('code', 'class_id', 'method_id'), [(0, 0, 0), (65535, 65535, 65535)])
def test_close_with_meaningless_code_and_method(session, code, class_id, method_id):
    def script(peer):
        peer.send_method(1, 'channel.close', code, '?', class_id, method_id)
        peer.expect_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = session(script)
    with pytest.raises(amqp.AMQPChannelException) as caught:
        ours.channel.wait(timeout=5)
    assert caught.value.args == (code, '?', (class_id, method_id), '')
    ours.connection.close()


def test_second_close_of_a_channel_is_answered_too(session):
    def script(peer):
        close = method(1, 'channel.close', 406, 'too late', 60, 80)
        peer.send_raw(close)
        peer.expect_method(1, 'channel.close_ok')
        peer.send_raw(close * 2 + method(1, 'channel.close_ok'))
        peer.mark()
        peer.expect_method(2, 'channel.open')
        for _ in range(2):
            peer.expect_method(1, 'channel.close_ok')
        peer.send_method(2, 'channel.open_ok')
        peer.expect_close()

    ours = session(script)
    with pytest.raises(amqp.PreconditionFailed) as caught:
        ours.channel.wait(timeout=5)
    ours.broker.await_mark()
    assert ours.connection.channel(2).is_open
    check_dead_channel(ours.channel, caught.value)
    ours.connection.close()


def test_message_for_a_channel_closed_before_is_fatal(session):
    def script(peer):
        peer.expect_method(1, 'channel.close')
        peer.send_method(1, 'channel.close_ok')
        peer.await_cue()
        peer.send_raw(delivery(1, 'tag'))
        assert last_method(peer).reply_code == 504

    ours = session(script)
    ours.channel.close()
    ours.broker.cue()
    with pytest.raises(amqp.ProtocolError) as caught:
        ours.connection.wait(timeout=5)
    ours.broker.finish()
    check_closed(ours.connection, ours.sock, caught.value)


def test_messages_for_a_channel_that_is_being_given_up_are_dropped(session):
    def script(peer):
        peer.expect_method(1, 'queue.bind')
        peer.expect_method(1, 'channel.close')  # after the time was over
        peer.send_method(1, 'queue.bind_ok')
        peer.send_raw(delivery(1, 'tag', body=b'late'))
        peer.open_channel(2)
        peer.send_method(1, 'channel.close_ok')
        peer.expect_method(2, 'basic.get')
        peer.send_method(2, 'basic.get_empty', '')
        peer.open_channel(1)
        peer.expect_close()

    ours = session(script, rpc_timeout=0.1)
    with pytest.raises(amqp.AMQPTimeout) as caught:
        ours.channel.queue_bind('q', 'x')
    check_dead_channel(ours.channel, caught.value)
    ours.connection.rpc_timeout = None
    second = ours.connection.channel()
    assert second.channel_id == 2  # the number 1 is not free yet
    assert second.basic_get('q') is None
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


def test_channel_that_is_closed_as_soon_as_it_is_open(play, connect):
    def script(peer):
        peer.handshake()
        peer.expect_method(1, 'channel.open')
        peer.send_raw(
            method(1, 'channel.open_ok') + method(0, 'connection.close', 320, 'bye', 0, 0)
        )
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    connection = connect(play(script))
    sock = connection.transport.sock
    try:
        channel = connection.channel()
    except amqp.AMQPConnectionException as error:
        check_closed(connection, sock, error)
    else:
        assert not channel.is_open
        with pytest.raises(amqp.AMQPConnectionException) as caught:
            channel.wait(timeout=5)
        check_closed(connection, sock, caught.value, [channel])


# --- The end at every byte, and whatever else may come -----------------------------------------

CONVERSATION = (
    delivery(1, 'tag', body=b'one')
    + frame(8, 0, b'')
    + RETURN
    + content(1, b'two', b'\x80\0\4text')
    + method(0, 'connection.close', 320, 'bye', 0, 0)
)


@pytest.mark.parametrize('end', ['close', 'reset'])
@pytest.mark.parametrize('position', range(len(CONVERSATION)))
def test_end_at_every_byte(session, end, position):
    def script(peer):
        peer.send_raw(CONVERSATION[:position])
        getattr(peer, end)()

    ours = session(script)
    ours.channel.callbacks['tag'] = lambda message: None
    with lasting(most=2):
        error = until_raised(lambda: ours.channel.wait(timeout=5))
    assert type(error) is amqp.ConnectionLost
    ours.broker.finish()
    check_closed(ours.connection, ours.sock, error, [ours.channel])


def test_whole_conversation_ends_with_the_reason_of_the_broker(session):
    def script(peer):
        peer.send_raw(CONVERSATION)
        peer.reset()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    error = until_raised(lambda: ours.channel.wait(timeout=5))
    assert error.args[:2] == (320, 'bye')
    assert [m.body for m in got] == [b'one']
    assert ours.channel.returned_messages.get_nowait()[4].body == b'two'
    check_closed(ours.connection, ours.sock, error, [ours.channel])


def read_in(*portions):
    """Return the methods that a Decoder finds, or the error, as something to compare."""
    decoder = Decoder(PROTOCOL, amqp.Message, AnyInbox())
    try:
        for portion in portions:
            decoder.take(portion)
    except amqp.AMQPException as error:
        failure = (type(error), error.args)
    else:
        failure = None
    found = [
        (channel, signature, args.data, message and (message.properties, message.body))
        for channel, (signature, args, message) in decoder.queue
    ]
    return found, failure


@pytest.mark.parametrize('ending', ['', 'bad frame type', 'bad end byte', 'too much body'])
def test_every_split_gives_the_same(ending):
    data = (
        CONVERSATION
        + {
            '': b'',
            'bad frame type': frame(7, 1, b'xyz'),
            'bad end byte': frame(1, 1, b'\0\x14\0\x0b', b'!'),
            'too much body': DELIVER + header(3) + body(b'1234'),
        }[ending]
    )
    whole = read_in(data)
    assert len(whole[0]) == 3
    assert (whole[1] is not None) == bool(ending)
    for position in range(1, len(data)):
        assert read_in(data[:position], data[position:]) == whole, position
    assert read_in(*[data[i : i + 1] for i in range(len(data))]) == whole


def mutated(data, chance):
    """Return the data with some bytes changed, deleted, doubled or inserted."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        position = chance.randrange(len(data))
        kind = chance.randrange(4)
        if kind == 0:
            data[position] = chance.choice((0, 1, 2, 3, 8, 0x7F, 0xCE, 0xFF))
        elif kind == 1:
            data[position] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[position : position + chance.randint(1, 8)]
        else:
            data[position:position] = data[position : position + chance.randint(1, 40)]
    return bytes(data)


@pytest.mark.parametrize('seed', range(60))
def test_mutated_conversation_ends_in_values_or_one_error(session, seed):
    data = mutated(CONVERSATION, random.Random(seed))

    def script(peer):
        peer.send_raw(data)
        peer.close()

    ours = session(script)
    got = []
    ours.channel.callbacks['tag'] = got.append
    with lasting(most=3):
        error = until_raised(lambda: ours.channel.wait(timeout=5))
        # If it closed only the channel, the connection goes on to its own end.
        until_raised(lambda: ours.connection.wait(timeout=5), amqp.AMQPConnectionException)
    assert error.args
    while not ours.channel.returned_messages.empty():
        got.append(ours.channel.returned_messages.get()[4])
    for message in got:
        assert isinstance(message.properties, dict)
    ours.broker.finish()
    assert ours.sock.fileno() == -1
    assert ours.connection.transport is None
    assert ours.connection.close() is None


@pytest.mark.parametrize('seed', range(40))
def test_noise_ends_in_one_error(play, connect, seed):
    chance = random.Random(seed)
    noise = bytes(chance.choice((0, 1, 1, 2, 3, 8, 10, 60, 0xCE, chance.randrange(256)))
                  for _ in range(chance.randint(1, 600)))  # fmt: skip

    def script(peer):
        if seed % 2:
            peer.handshake()
            peer.open_channel()
        else:
            peer.expect_header()
        peer.send_raw(noise)
        peer.close()

    broker = play(script)
    opened = []

    def use():
        opened.append(connect(broker))
        channel = opened[0].channel()
        raise until_raised(lambda: channel.wait(timeout=5), amqp.AMQPConnectionException)

    with lasting(most=3), pytest.raises(amqp.AMQPConnectionException) as caught:
        use()
    for connection in opened:
        assert connection.transport is None
        check_repeated(caught.value, connection.channel)
        for _ in range(2):
            assert connection.close() is None


def test_two_threads_learn_of_the_same_fault(session):
    def script(peer):
        peer.open_channel(2)
        peer.await_cue()
        peer.send_frame(7, 0, b'')
        assert last_method(peer).reply_code == 501

    ours = session(script)
    second = ours.connection.channel()
    errors = []

    def wait(channel):
        try:
            channel.wait(timeout=5)
        except amqp.AMQPException as error:
            errors.append(error)

    threads = [threading.Thread(target=wait, args=(channel,)) for channel in (ours.channel, second)]
    for thread in threads:
        thread.start()
    ours.broker.cue()
    for thread in threads:
        thread.join(5)
    assert len(errors) == 2
    assert errors[0].args == errors[1].args
    assert type(errors[0]) is type(errors[1]) is amqp.ProtocolError
    check_closed(ours.connection, ours.sock, errors[0], [ours.channel, second])
