"""Messages through a broker: all properties, types of headers, text, other clients' messages."""

import math
import pickle
import struct
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.packages import only_0_8, only_0_9_1
from tests.helpers.queues import await_ready, drain, get, new_name
from tests.helpers.raw_fields import (
    nested_tables,
    raw_field,
    raw_long,
    with_raw_headers,
    with_raw_property,
)

PROPERTIES = {
    'content_type': 'application/json',
    'content_encoding': 'utf-8',
    'application_headers': {'key': 'value'},
    'delivery_mode': 2,
    'priority': 7,
    'correlation_id': 'question 5',
    'reply_to': 'answers',
    'expiration': '60000',
    'message_id': 'm-1',
    'timestamp': datetime(2009, 2, 13, 23, 31, 30),
    'type': 'greeting',
    'user_id': 'guest',
    'app_id': 'the tests',
    'cluster_id': 'a cluster',
}


@pytest.fixture
def there_and_back(channel, queue):
    """A function that publishes a message and returns what basic_get gives."""

    def send(message):
        channel.basic_publish(message, '', queue)
        return get(channel, queue, no_ack=True)

    return send


# Properties


def test_every_property_at_once(amqp, there_and_back):
    assert [name for name, _ in amqp.Message.PROPERTIES] == list(PROPERTIES)
    received = there_and_back(amqp.Message('body', **PROPERTIES))
    assert received.properties == PROPERTIES
    assert received.body == 'body'
    for name, value in PROPERTIES.items():
        assert getattr(received, name) == value


@pytest.mark.parametrize('name', PROPERTIES)
def test_each_property_alone(amqp, there_and_back, name):
    received = there_and_back(amqp.Message(b'body', **{name: PROPERTIES[name]}))
    assert received.properties == {name: PROPERTIES[name]}


@pytest.mark.parametrize('name', PROPERTIES)
def test_what_is_none_is_not_sent(amqp, there_and_back, name):
    sent = amqp.Message(b'body', **{name: None})
    received = there_and_back(sent)
    assert received.properties == {}
    assert not hasattr(received, name)
    assert received == sent


@pytest.mark.parametrize('name', PROPERTIES)
def test_assigning_to_a_property_sends_it(amqp, there_and_back, name):
    message = amqp.Message(b'body')
    setattr(message, name, PROPERTIES[name])
    assert there_and_back(message).properties == {name: PROPERTIES[name]}


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('priority', 0),
        ('priority', 255),
        ('delivery_mode', 1),
        ('content_type', ''),
        ('message_id', 'x' * 255),
        ('message_id', 'größer \N{SNOWMAN} \U0001f600'),
        ('application_headers', {}),
        ('timestamp', datetime(1970, 1, 2)),
        ('timestamp', datetime(2100, 1, 1)),
    ],
)
def test_values_at_the_limits(amqp, there_and_back, name, value):
    received = there_and_back(amqp.Message(b'body', **{name: value}))
    assert received.properties == {name: value}


def test_an_aware_time_comes_back_as_local_time(amqp, there_and_back):
    zone = timezone(timedelta(hours=5, minutes=30))
    sent = datetime(2020, 6, 1, 12, 0, tzinfo=zone)
    received = there_and_back(amqp.Message(b'', timestamp=sent)).timestamp
    assert received.tzinfo is None
    assert received.astimezone() == sent


def test_seconds_can_be_given_as_a_time(amqp, there_and_back):
    received = there_and_back(amqp.Message(b'', timestamp=1234567890))
    assert received.timestamp == datetime.fromtimestamp(1234567890)


# Headers


@pytest.mark.parametrize(
    'value',
    [
        '',
        'text',
        'größer \N{SNOWMAN} \U0001f600',
        'x' * 70_000,
        True,
        False,
        0,
        -1,
        (1 << 31) - 1,
        -(1 << 31),
        1 << 31,
        -(1 << 31) - 1,
        (1 << 63) - 1,
        -(1 << 63),
        0.0,
        -1.5,
        1e300,
        5e-324,
        math.pi,
        Decimal(0),
        Decimal('3.14'),
        Decimal('-3.14'),
        Decimal(-(1 << 31)),
        Decimal('2147483647'),
        Decimal('1E-255'),
        datetime(2009, 2, 13, 23, 31, 30),
        b'',
        b'\x00\xff\xfe',
        {},
        {'nested': {'deeply': {'list': [1, 'two', {'three': 3.0}]}}},
        [],
        [[], [[]], {}],
        ['mixed', 1, True, 2.5, Decimal('1.5'), b'bytes', datetime(2020, 1, 1)],
    ],
    ids=lambda value: f'{type(value).__name__} {str(value)[:20]}',
)
def test_every_type_of_header(amqp, there_and_back, value):
    headers = {'value': value, 'after': 'it'}
    received = there_and_back(amqp.Message(b'body', application_headers=headers))
    assert received.application_headers == headers
    assert type(received.application_headers['value']) is type(value)


def test_bool_in_a_list_stays_bool(amqp, there_and_back):
    headers = {'list': [True, 1, False, 0]}
    received = there_and_back(amqp.Message(b'', application_headers=headers))
    assert [type(item) for item in received.application_headers['list']] == [bool, int, bool, int]


@pytest.mark.parametrize(
    ('sent', 'received'),
    [((1, 2), [1, 2]), (bytearray(b'bytes'), b'bytes'), (Decimal('1E+3'), Decimal(1000))],
    ids=['tuple', 'bytearray', 'large decimal'],
)
def test_types_that_come_back_as_their_kin(amqp, there_and_back, sent, received):
    message = there_and_back(amqp.Message(b'', application_headers={'value': sent}))
    assert message.application_headers == {'value': received}


@only_0_8
def test_none_in_headers_is_refused(amqp, channel, queue):
    """There is no such type in AMQP 0-8."""
    message = amqp.Message(b'', application_headers={'value': None})
    with pytest.raises(ValueError, match=r'application_headers.*value'):
        channel.basic_publish(message, '', queue)


@only_0_9_1
def test_none_in_headers_comes_back(amqp, there_and_back):
    headers = {'value': None, 'list': [None, 1], 'table': {'in': None}}
    received = there_and_back(amqp.Message(b'', application_headers=headers))
    assert received.application_headers == headers


SIMPLE = st.one_of(
    st.text(max_size=10),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.binary(max_size=10),
    st.integers(-(2**31), 2**31 - 1).map(lambda unscaled: Decimal(unscaled).scaleb(-2)),
)
TABLES = st.dictionaries(
    st.text(max_size=10),
    st.recursive(
        SIMPLE,
        lambda values: (
            st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=10), values, max_size=4)
        ),
        max_leaves=12,
    ),
    max_size=6,
)


@given(headers=TABLES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_headers_come_back_and_the_broker_can_read_them(
    amqp, channel, queue, exchange, there_and_back, headers
):
    assert there_and_back(amqp.Message('x', application_headers=headers)).application_headers == (
        headers
    )
    # In a method, the broker has to take them to pieces.
    channel.queue_bind(queue, exchange, '', arguments=headers)
    channel.queue_unbind(queue, exchange, '', arguments=headers)


def test_keys_of_any_text(amqp, there_and_back):
    headers = {'': 1, ' ': 2, 'größer': 3, 'x' * 255: 4}
    received = there_and_back(amqp.Message(b'', application_headers=headers))
    assert received.application_headers == headers


def test_many_headers(amqp, there_and_back):
    headers = {f'key {number}': number for number in range(5000)}
    received = there_and_back(amqp.Message(b'', application_headers=headers))
    assert received.application_headers == headers


# Headers that the broker makes


@pytest.fixture
def dead_letters(channel, queue):
    """The name of a queue whose rejected and expired messages go to `queue`."""
    arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': queue}
    return channel.queue_declare(exclusive=True, auto_delete=False, arguments=arguments)[0]


def test_the_history_of_a_rejected_message(amqp, channel, queue, dead_letters):
    channel.basic_publish(amqp.Message('x', application_headers={'own': 1}), '', dead_letters)
    channel.basic_reject(get(channel, dead_letters).delivery_tag, requeue=False)
    headers = get(channel, queue).application_headers
    assert headers['own'] == 1
    assert headers['x-first-death-reason'] == 'rejected'
    assert headers['x-first-death-queue'] == dead_letters
    (death,) = headers['x-death']
    assert death['reason'] == 'rejected'
    assert death['queue'] == dead_letters
    assert death['exchange'] == ''
    assert death['routing-keys'] == [dead_letters]
    assert death['count'] == 1
    assert isinstance(death['time'], datetime)
    assert abs(death['time'] - datetime.now()) < timedelta(minutes=5)


def test_the_history_of_an_expired_message(amqp, channel, queue, dead_letters):
    channel.basic_publish(amqp.Message('x', expiration='1'), '', dead_letters)
    message = get(channel, queue)
    assert message.body == 'x'
    assert not hasattr(message, 'expiration')
    (death,) = message.application_headers['x-death']
    assert death['reason'] == 'expired'
    assert death['original-expiration'] == '1'


def test_a_message_with_history_can_be_sent_on(amqp, channel, queue, dead_letters):
    channel.basic_publish(amqp.Message('x'), '', dead_letters)
    counts = []
    for seen in (1, 2, 3):
        channel.basic_reject(get(channel, dead_letters).delivery_tag, requeue=False)
        message = get(channel, queue)
        (death,) = message.application_headers['x-death']
        counts.append(death['count'])
        message.body = message.body.upper()
        message.application_headers['seen'] = seen
        channel.basic_publish(message, '', dead_letters)
    assert get(channel, dead_letters).application_headers['seen'] == 3
    # Since RabbitMQ 4 a broker makes the history anew, whatever a publisher writes into it.
    assert counts in ([1, 2, 3], [1, 1, 1])


def test_headers_that_the_broker_made_larger_than_a_frame(
    amqp, connection, channel, queue, dead_letters
):
    """Dead-lettering adds its history to headers that filled a frame already."""
    big = 'x' * (connection.frame_max - 100)
    message = amqp.Message('x', application_headers={'big': big})
    channel.basic_publish(message, '', dead_letters)
    channel.basic_reject(get(channel, dead_letters).delivery_tag, requeue=False)
    headers = get(channel, queue).application_headers
    assert len(headers['big']) == len(big)
    assert headers['x-death'][0]['queue'] == dead_letters
    assert len(str(headers)) > connection.frame_max


# What other clients may send


@pytest.mark.parametrize(
    ('tag', 'data', 'value'),
    [
        (b'b', b'\x80', -128),
        (b'B', b'\xff', 255),
        (b's', b'\x80\x00', -32768),
        (b'u', b'\xff\xff', 65535),
        (b'I', b'\xff\xff\xff\xff', -1),
        (b'i', b'\xff\xff\xff\xff', 4294967295),
        (b'l', b'\x80' + bytes(7), -(1 << 63)),
        (b'L', b'\x80' + bytes(7), -(1 << 63)),
        (b'f', struct.pack('>f', 1.5), 1.5),
        (b'd', struct.pack('>d', 1.5), 1.5),
        (b't', b'\x00', False),
        (b't', b'\x01', True),
        (b'V', b'', None),
        (b'x', raw_long(b'\xff\x00'), b'\xff\x00'),
        (b'S', raw_long(b'text'), 'text'),
        (b'S', raw_long(b'\xff\xfe'), b'\xff\xfe'),
        (b'D', b'\x02\x00\x00\x01\x3a', Decimal('3.14')),
        (b'D', b'\x00\xff\xff\xff\xff', Decimal(-1)),
        (b'T', struct.pack('>Q', 1234567890), datetime.fromtimestamp(1234567890)),
        (b'T', b'\xff' * 8, (1 << 64) - 1),
        (b'F', raw_long(raw_field(b'in', b'V')), {'in': None}),
        (b'A', raw_long(b'VV' + b'b\x05'), [None, None, 5]),
    ],
    ids=ascii,
)
def test_every_type_that_other_clients_write(amqp, there_and_back, tag, data, value):
    fields = (raw_field(b'value', tag, data), raw_field(b'after', b'b', b'\x01'))
    received = there_and_back(with_raw_headers(amqp, *fields))
    assert received.application_headers == {'value': value, 'after': 1}
    assert type(received.application_headers['value']) is type(value)
    assert received.body == b'odd'


@pytest.fixture
def odd_then_fine(amqp, channel, queue):
    """A function that sends a message and a good one; returns what a consumer gets."""

    def send(odd):
        received = []
        channel.basic_consume(queue, no_ack=True, callback=received.append)
        channel.basic_publish(odd, '', queue)
        channel.basic_publish(amqp.Message('fine', application_headers={'n': 1}), '', queue)
        drain(channel, lambda: len(received) == 2)
        assert received[1].body == 'fine'
        assert received[1].application_headers == {'n': 1}
        return received[0]

    return send


#: More than a recursion can read, and little enough for a broker that reads it by recursion.
NESTED = nested_tables(2_000)


@pytest.mark.parametrize('nested', [NESTED, nested_tables(100)], ids=len)
def test_headers_nested_too_deep_damage_only_that_property(amqp, odd_then_fine, nested):
    message = odd_then_fine(with_raw_headers(amqp, nested))
    assert message.body == b'odd'
    with pytest.raises(ValueError, match=r'application_headers.*nested'):
        _ = message.application_headers
    assert 'application_headers' not in message.properties


def test_damaged_headers_raise_only_when_they_are_read(amqp, channel, queue, odd_then_fine):
    message = odd_then_fine(with_raw_headers(amqp, NESTED))
    assert message.routing_key == queue
    assert message.delivery_tag == 1
    assert message.body == b'odd'
    assert repr(message)


def test_a_damaged_message_can_be_sent_on_as_it_was(amqp, channel, queue, there_and_back):
    message = there_and_back(with_raw_headers(amqp, NESTED))
    again = there_and_back(message)
    assert again._serialize_properties() == message._serialize_properties()


def test_keys_that_are_not_utf8_are_kept(amqp, odd_then_fine, there_and_back):
    message = odd_then_fine(with_raw_headers(amqp, raw_field(b'\xff\xfe', b'b', b'\x05')))
    ((key, value),) = message.application_headers.items()
    assert (key.encode('utf-8', 'surrogateescape'), value) == (b'\xff\xfe', 5)


def test_of_equal_keys_the_last_counts(amqp, odd_then_fine):
    fields = [raw_field(b'key', b'b', b'\x01'), raw_field(b'key', b'b', b'\x02')]
    message = odd_then_fine(with_raw_headers(amqp, *fields))
    # Since RabbitMQ 4 a broker hands on only the first of them.
    arrived = [field for field in fields if field in message._serialize_properties()]
    assert arrived in (fields, fields[:1])
    assert message.application_headers == {'key': len(arrived)}


def test_a_property_that_is_not_utf8_is_written_back_unchanged(amqp, odd_then_fine):
    flag, data = 0x8000, b'\x03\xffab'  # content_type
    message = odd_then_fine(with_raw_property(amqp, flag, data))
    assert message.content_type.encode('utf-8', 'surrogateescape') == b'\xffab'
    copy = amqp.Message(b'', content_type=message.content_type)
    assert copy._serialize_properties() == struct.pack('>H', flag) + data


@pytest.mark.parametrize('seconds', [1 << 63, (1 << 64) - 1])
def test_times_that_no_calendar_has_are_numbers(amqp, odd_then_fine, seconds):
    message = odd_then_fine(with_raw_property(amqp, 0x0040, struct.pack('>Q', seconds)))
    assert message.timestamp == seconds


def test_large_raw_headers_arrive(amqp, odd_then_fine):
    big = raw_field(b'big', b'x', raw_long(bytes(130_000)))
    assert odd_then_fine(with_raw_headers(amqp, big)).application_headers == {'big': bytes(130_000)}


# Text


def test_text_is_sent_as_utf8_and_says_so(amqp, there_and_back):
    message = amqp.Message('größer')
    received = there_and_back(message)
    assert received.body == 'größer'
    assert received.content_encoding == message.content_encoding == 'UTF-8'


@pytest.mark.parametrize('encoding', ['utf-8', 'latin-1', 'utf-16', 'cp1252'])
def test_text_is_sent_in_the_encoding_asked_for(amqp, channel, queue, connection, encoding):
    message = amqp.Message('größer', content_encoding=encoding)
    raw = amqp.Channel(connection, auto_decode=False)
    for _ in range(2):
        channel.basic_publish(message, '', queue)
    decoded, data = get(channel, queue), get(raw, queue)
    assert decoded.body == 'größer'
    assert data.body == 'größer'.encode(encoding)
    assert decoded.content_encoding == data.content_encoding == encoding


def test_bytes_stay_bytes(amqp, there_and_back):
    received = there_and_back(amqp.Message(b'bytes'))
    assert received.body == b'bytes'
    assert received.properties == {}


@pytest.mark.parametrize(
    ('encoding', 'body'),
    [
        ('ascii', b'gr\xc3\xb6\xc3\x9fer'),
        ('utf-8', b'\xff\xfe'),
        ('no such encoding', b'bytes'),
        ('gzip', b'\x1f\x8b'),
        ('', b'bytes'),
        ('\0', b'bytes'),
        ('hex', b'6869'),
    ],
    ids=ascii,
)
def test_bytes_with_a_wrong_encoding_stay_bytes(amqp, odd_then_fine, encoding, body):
    message = odd_then_fine(amqp.Message(body, content_encoding=encoding))
    assert message.body == body
    assert message.content_encoding == encoding


def test_without_auto_decode_nothing_is_decoded(amqp, connection, channel, queue):
    raw = amqp.Channel(connection, auto_decode=False)
    received = []
    raw.basic_consume(queue, no_ack=True, callback=received.append)
    channel.basic_publish(amqp.Message('größer'), '', queue)
    drain(raw, lambda: received)
    assert received[0].body == 'größer'.encode()
    assert received[0].content_encoding == 'UTF-8'


def test_auto_decode_can_be_switched(amqp, channel, queue):
    for _ in range(2):
        channel.basic_publish(amqp.Message('größer'), '', queue)
    channel.auto_decode = False
    assert get(channel, queue).body == 'größer'.encode()
    channel.auto_decode = True
    assert get(channel, queue).body == 'größer'


# The whole


def test_what_comes_back_equals_what_was_sent(amqp, there_and_back):
    for sent in (
        amqp.Message('text'),
        amqp.Message(b'bytes'),
        amqp.Message(''),
        amqp.Message('x', priority=None, application_headers={'n': 1}),
        amqp.Message('body', **PROPERTIES),
    ):
        received = there_and_back(sent)
        assert received == sent
        assert sent == received
    assert received != amqp.Message('another')


def test_messages_that_were_polled_for_can_be_pickled(amqp, there_and_back):
    message = there_and_back(amqp.Message('body', **PROPERTIES))
    copy = pickle.loads(pickle.dumps(message))
    assert copy == message
    assert copy.delivery_info == message.delivery_info


def test_messages_that_a_consumer_received_can_be_pickled(amqp, channel, queue):
    received = []
    channel.basic_publish(amqp.Message('body', **PROPERTIES), '', queue)
    channel.basic_consume(queue, callback=received.append)
    drain(channel, lambda: received)
    copy = pickle.loads(pickle.dumps(received[0]))
    assert copy == received[0]
    assert copy.delivery_tag == 1
    assert copy.routing_key == queue
    assert not hasattr(copy, 'channel')
    assert received[0].channel is channel


def test_persistent_messages_to_durable_queues(amqp, channel, other_channel):
    name, _, _ = channel.queue_declare(new_name(), durable=True, auto_delete=False)
    channel.basic_publish(amqp.Message('x', delivery_mode=2), '', name)
    await_ready(other_channel, name, 1)
    assert get(other_channel, name).delivery_mode == 2
    other_channel.queue_delete(name)
