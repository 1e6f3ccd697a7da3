"""Message: properties both ways, damage, bodies, equality, attributes, pickling."""

import array
import copy
import encodings
import gc
import pickle
import re
import struct
import sys
import threading
import time
import weakref
from datetime import datetime, timezone
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqplib.core import properties
from amqplib.core.encoding import Encoder
from amqplib.core.message import CONTENT_ENCODING_FLAG, Message
from amqplib.core.spec import BASIC_PROPERTIES, DELIVER, GET_OK
from tests.helpers import memory

NAMES = [
    'content_type',
    'content_encoding',
    'application_headers',
    'delivery_mode',
    'priority',
    'correlation_id',
    'reply_to',
    'expiration',
    'message_id',
    'timestamp',
    'type',
    'user_id',
    'app_id',
    'cluster_id',
]

# Flags, then the value.
PROPERTY_LISTS = [
    ({}, '0000'),
    ({'content_type': 'text/plain'}, '8000 0a 746578742f706c61696e'),
    ({'content_encoding': 'UTF-8'}, '4000 05 5554462d38'),
    ({'application_headers': {'a': 1}}, '2000 00000007 0161 49 00000001'),
    ({'delivery_mode': 2}, '1000 02'),
    ({'priority': 255}, '0800 ff'),
    ({'correlation_id': 'é'}, '0400 02 c3a9'),
    ({'reply_to': 'q'}, '0200 01 71'),
    ({'expiration': '1000'}, '0100 04 31303030'),
    ({'message_id': ''}, '0080 00'),
    ({'timestamp': 2**63}, '0040 8000000000000000'),
    ({'type': 't'}, '0020 01 74'),
    ({'user_id': 'guest'}, '0010 05 6775657374'),
    ({'app_id': 'a'}, '0008 01 61'),
    ({'cluster_id': 'c'}, '0004 01 63'),
    (
        {
            'content_type': '1',
            'content_encoding': '2',
            'application_headers': {},
            'delivery_mode': 1,
            'priority': 0,
            'correlation_id': '3',
            'reply_to': '4',
            'expiration': '5',
            'message_id': '6',
            'timestamp': 2**64 - 1,
            'type': '7',
            'user_id': '8',
            'app_id': '9',
            'cluster_id': '0',
        },
        'fffc 0131 0132 00000000 01 00 0133 0134 0135 0136 ffffffffffffffff 0137 0138 0139 0130',
    ),
]


def received(properties, body=b'body'):
    """Return a message as it arrives: its property list, in hexadecimal digits or bytes."""
    if isinstance(properties, str):
        properties = bytes.fromhex(properties)
    return Message.received(properties, body)


def sent_on(message):
    """Return the message as the next one receives it."""
    body = bytes(message.encode_body())
    return Message.received(message._serialize_properties(), body)


def consumed(channel):
    message = received('1000 02')
    message.delivery_info = {
        'channel': channel,
        'consumer_tag': 'tag',
        'delivery_tag': 7,
        'redelivered': False,
        'exchange': 'e',
        'routing_key': 'k',
    }
    return message


class ChannelLike:
    """What cannot be pickled, like a channel with its socket."""

    def __init__(self):
        self.lock = threading.Lock()


# --- Properties on the wire ---


@pytest.mark.parametrize(('properties', 'expected'), PROPERTY_LISTS)
def test_properties_both_ways(properties, expected):
    assert Message(b'', **properties)._serialize_properties() == bytes.fromhex(expected)
    message = received(expected)
    assert message.properties == properties
    for name in NAMES:
        if name in properties:
            assert getattr(message, name) == properties[name]
        else:
            assert not hasattr(message, name)


def test_the_order_in_which_properties_are_given_does_not_matter():
    message = Message(b'', type='t', priority=1, content_type='c')
    assert message._serialize_properties() == bytes.fromhex('8820 0163 01 0174')


def test_none_is_not_sent():
    message = Message(b'', priority=None, type='t', application_headers=None, timestamp=None)
    assert message._serialize_properties() == bytes.fromhex('0020 0174')
    assert message.priority is None


def test_timestamp_is_a_naive_local_datetime():
    seconds = 1_000_000_000
    message = received(b'\x00\x40' + struct.pack('>Q', seconds))
    assert message.timestamp == datetime.fromtimestamp(seconds)
    assert message.timestamp.tzinfo is None


def test_aware_datetime_is_sent_as_the_moment_that_it_is():
    message = Message(b'', timestamp=datetime(2001, 9, 9, 1, 46, 40, tzinfo=timezone.utc))
    assert message._serialize_properties() == b'\x00\x40' + struct.pack('>Q', 1_000_000_000)


@pytest.mark.skipif(not hasattr(time, 'tzset'), reason='the time zone cannot be changed')
def test_naive_datetime_is_sent_by_the_zone_of_the_moment(monkeypatch):
    message = Message(b'', timestamp=datetime(2001, 9, 9, 1, 46, 40))
    sent = []
    with monkeypatch.context() as patch:
        for zone in ('WEST+1', 'EAST-1'):
            patch.setenv('TZ', zone)
            time.tzset()
            sent.append(message._serialize_properties())
    time.tzset()
    assert sent == [
        b'\x00\x40' + struct.pack('>Q', 1_000_003_600),
        b'\x00\x40' + struct.pack('>Q', 999_996_400),
    ]


def test_equal_values_of_other_types_are_each_sent_as_their_own():
    assert Message(b'', application_headers={'a': 1})._serialize_properties()[-5:-4] == b'I'
    assert Message(b'', application_headers={'a': 1.0})._serialize_properties()[-9:-8] == b'd'
    assert Message(b'', application_headers={'a': True})._serialize_properties()[-2:-1] == b't'
    assert Message(b'', priority=1)._serialize_properties() == b'\x08\x00\x01'
    with pytest.raises(TypeError, match='priority'):
        Message(b'', priority=1.0)._serialize_properties()
    with pytest.raises(TypeError, match='priority'):
        Message(b'', priority=Decimal(1))._serialize_properties()


def test_a_change_in_the_headers_is_sent():
    headers = {'a': {'b': 1}}
    message = Message(b'', application_headers=headers)
    before = message._serialize_properties()
    headers['a']['b'] = 2
    assert message._serialize_properties() == before[:-1] + b'\x02'


@pytest.mark.parametrize(
    ('properties', 'error', 'words'),
    [
        ({'content_type': 'a' * 256}, ValueError, 'content_type: String too long'),
        ({'content_type': 'é' * 128}, ValueError, 'content_type: String too long'),
        ({'content_type': 5}, TypeError, 'content_type: '),
        ({'expiration': 1000}, TypeError, 'expiration: '),
        ({'delivery_mode': 256}, ValueError, 'delivery_mode: 256'),
        ({'priority': -1}, ValueError, 'priority: -1'),
        ({'priority': '1'}, TypeError, 'priority: '),
        ({'timestamp': -1}, ValueError, 'timestamp: -1'),
        ({'timestamp': 'now'}, TypeError, 'timestamp: '),
        ({'timestamp': 1.5}, TypeError, 'timestamp: '),
        ({'application_headers': {'x': object()}}, ValueError, "application_headers['x']: "),
        ({'application_headers': {'x': None}}, ValueError, "application_headers['x']: "),
        ({'application_headers': {5: 1}}, TypeError, 'application_headers[5]: '),
        ({'application_headers': [1]}, TypeError, 'application_headers: '),
        ({'application_headers': 'x'}, TypeError, 'application_headers: '),
    ],
)
def test_property_that_cannot_be_sent_is_named_each_time(properties, error, words):
    message = Message(b'', **properties)
    for _ in range(2):
        with pytest.raises(error, match=re.escape(words)) as caught:
            message._serialize_properties()
        assert type(caught.value) is error


names = st.text(max_size=10)
values = st.recursive(
    st.text(max_size=10)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
octet = st.integers(0, 255)
property_dicts = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.text(max_size=20) for name in NAMES},
        'delivery_mode': octet,
        'priority': octet,
        'application_headers': st.dictionaries(names, values, max_size=4),
        'timestamp': st.integers(2**40, 2**64 - 1),
    },
)


@given(property_dicts, st.binary(min_size=1, max_size=50))
def test_any_message_arrives_as_it_was_sent(properties, body):
    message = Message(body, **properties)
    arrived = sent_on(message)
    assert arrived == message
    assert arrived.properties == properties
    assert arrived.body == body


# --- Damage ---

TABLE_WITH_UNKNOWN_TAG = '00000004 016b 55 00'


@pytest.mark.parametrize(
    ('table', 'why'),
    [
        (TABLE_WITH_UNKNOWN_TAG, 'Unknown table item type: 85'),
        ('00000003 056b49', 'announced where'),
        ('00000005 016b 49 0000', 'announced where'),
        ('00000003 016b 53', 'announced where'),
    ],
)
def test_what_follows_damaged_headers_can_be_read(table, why):
    message = received('b800 0163' + table + '02 05')
    assert message.content_type == 'c'
    assert message.delivery_mode == 2
    assert message.priority == 5
    assert message.properties == {'content_type': 'c', 'delivery_mode': 2, 'priority': 5}
    for _ in range(2):
        with pytest.raises(ValueError, match=f'application_headers: .*{why}'):
            message.application_headers  # noqa: B018


def test_what_precedes_a_damaged_property_can_be_read():
    # The reply_to announces more than there is, so where the expiration begins is not known.
    message = received('8b00 0163 05 ff71')
    assert message.properties == {'content_type': 'c', 'priority': 5}
    for name in ('reply_to', 'expiration'):
        with pytest.raises(ValueError, match=f'{name}: .*announced where'):
            getattr(message, name)
    with pytest.raises(AttributeError):
        message.type  # noqa: B018


def test_table_that_announces_more_than_there_is_damages_what_follows():
    message = received('a800 0163 000000ff 0161 05')
    assert message.properties == {'content_type': 'c'}
    for name in ('application_headers', 'priority'):
        with pytest.raises(ValueError, match=name):
            getattr(message, name)


def test_a_property_list_that_is_cut_short_damages_what_is_missing():
    whole = bytes.fromhex('8800 0163 05')
    assert received(whole).properties == {'content_type': 'c', 'priority': 5}
    assert received(whole[:4]).properties == {'content_type': 'c'}
    assert received(whole[:3]).properties == {}
    for size in range(2, len(whole)):
        with pytest.raises(ValueError, match=r'priority: .*announced where'):
            received(whole[:size]).priority  # noqa: B018


@pytest.mark.parametrize(
    ('flags', 'why'),
    [
        ('0002 0163', 'does not exist'),
        ('8002 0163', 'does not exist'),
        ('8001 0002 0163', 'does not exist'),
        ('8001', 'do not end'),
        ('8001 0001 00', 'do not end'),
    ],
)
def test_wrong_flags_damage_every_property(flags, why):
    message = received(flags)
    assert message.body == b'body'
    assert message.properties == {}
    for name in NAMES:
        with pytest.raises(ValueError, match=f'{name}: .*{why}'):
            getattr(message, name)


def test_second_word_of_flags_without_a_flag_is_allowed():
    assert received('8001 0000 0163').properties == {'content_type': 'c'}


def test_deep_headers_damage_only_the_headers():
    depth = 21_000
    table = b'\x01kF'.join(struct.pack('>I', 7 * level) for level in reversed(range(depth)))
    message = received(b'\x28\x00' + table + b'\x05')
    assert message.priority == 5
    with pytest.raises(ValueError, match='application_headers: nested more than'):
        message.application_headers  # noqa: B018


@memory.is_freed_at_once
def test_looking_at_damage_again_and_again_keeps_nothing_alive():
    message = received('2000' + TABLE_WITH_UNKNOWN_TAG)
    gc.disable()
    try:
        for _ in range(2):
            with pytest.raises(ValueError, match='application_headers'):
                message.application_headers  # noqa: B018
        gone = weakref.ref(message)
        del message
        assert gone() is None
    finally:
        gc.enable()


def test_damaged_message_is_sent_on_only_after_the_damage_is_dealt_with():
    def looked_at():
        message = received('2800' + TABLE_WITH_UNKNOWN_TAG + '05')
        assert message.priority == 5
        return message

    with pytest.raises(ValueError, match=r'application_headers: .*set or remove it'):
        looked_at()._serialize_properties()
    message = looked_at()
    message.application_headers = {}
    assert message._serialize_properties() == bytes.fromhex('2800 00000000 05')
    message = looked_at()
    del message.application_headers
    assert message._serialize_properties() == bytes.fromhex('0800 05')
    assert not hasattr(message, 'application_headers')


def test_interrupt_while_looking_loses_nothing(monkeypatch):
    def interrupted(data, offset, end):
        raise KeyboardInterrupt

    message = received('8800 0163 05')
    with monkeypatch.context() as patch:
        patch.setitem(properties.DECODERS, 'octet', interrupted)
        with pytest.raises(KeyboardInterrupt):
            message.content_type  # noqa: B018
    assert message.properties == {'content_type': 'c', 'priority': 5}


@given(st.binary(max_size=60), st.booleans())
@settings(max_examples=300)
def test_random_properties_never_hurt_but_where_they_are_looked_at(data, one_word):
    if one_word and len(data) > 1:  # flags that could be right
        data = data[:1] + bytes([data[1] & 0xFC]) + data[2:]
    message = received(data)
    assert message.body == b'body'
    assert isinstance(message.properties, dict)
    assert message == received(data)
    for name in NAMES:
        try:
            value = getattr(message, name)
        except AttributeError:
            assert name not in message.properties
        except ValueError:
            assert name not in message.properties
        else:
            assert message.properties[name] is value


@given(st.binary(min_size=2, max_size=60))
def test_a_received_message_is_sent_on_as_it_came(data):
    message = received(data)
    assert message.encode_body() == b'body'
    assert message._serialize_properties() == data


# --- Bodies ---


@pytest.mark.parametrize(
    ('body', 'expected'),
    [
        (b'\xff\x00', b'\xff\x00'),
        (bytearray(b'ab'), b'ab'),
        (memoryview(b'ab'), b'ab'),
        (memoryview(b'abcd')[::2], b'ac'),
        (memoryview(array.array('B', [1, 2])), b'\x01\x02'),
        (memoryview(b'abcd').cast('B', (2, 2)), b'abcd'),
        (memoryview(b''), b''),
        (memoryview(array.array('I')), b''),
        (b'', b''),
    ],
)
def test_bytes_are_sent_as_they_are_and_say_nothing_of_encoding(body, expected):
    message = Message(body)
    assert bytes(message.encode_body()) == expected
    assert len(message.encode_body()) == len(expected)
    assert message.properties == {}


def test_items_of_several_bytes_are_sent_as_bytes():
    body = array.array('I', [1, 2])
    data = Message(memoryview(body)).encode_body()
    assert len(data) == 2 * body.itemsize
    assert bytes(data) == body.tobytes()


def test_large_bytes_are_not_copied():
    body = b'x' * 1000
    assert Message(body).encode_body() is body


@pytest.mark.parametrize(
    ('text', 'properties', 'data', 'encoding'),
    [
        ('é€', {}, b'\xc3\xa9\xe2\x82\xac', 'UTF-8'),
        ('é', {'content_encoding': 'latin-1'}, b'\xe9', 'latin-1'),
        ('é', {'content_encoding': 'utf-16-be'}, b'\x00\xe9', 'utf-16-be'),
        ('é', {'content_encoding': None}, b'\xc3\xa9', 'UTF-8'),
        ('é', {'content_encoding': ''}, b'\xc3\xa9', 'UTF-8'),
        ('', {}, b'', 'UTF-8'),
    ],
)
def test_text_is_encoded_and_its_encoding_noted(text, properties, data, encoding):
    message = Message(text, **properties)
    assert message.encode_body() == data
    assert message.content_encoding == encoding
    assert message.properties == {'content_encoding': encoding}
    assert message.body == text


@pytest.mark.parametrize('encoding', ['no such thing', 'hex', 'x' * 100])
def test_unknown_encoding_is_named(encoding):
    with pytest.raises(ValueError, match=f'content_encoding: .*{encoding}'):
        Message('text', content_encoding=encoding).encode_body()


@pytest.mark.parametrize(
    ('text', 'properties'),
    [
        ('é', {'content_encoding': 'ascii'}),
        ('a\ud800', {}),
        ('surrogate \udcff', {}),
        pytest.param(
            'text',
            {'content_encoding': 'utf\0-8'},
            marks=pytest.mark.skipif(
                sys.implementation.name == 'pypy', reason='there it is another name of UTF-8'
            ),
        ),
    ],
)
def test_text_that_cannot_be_encoded_is_a_value_error_that_names_the_body(text, properties):
    message = Message(text, **properties)
    with pytest.raises(ValueError, match='body: ') as caught:
        message.encode_body()
    assert text not in str(caught.value)
    assert message.properties == properties


def test_encoding_that_is_no_text_is_a_type_error():
    with pytest.raises(TypeError, match='body: '):
        Message('text', content_encoding=5).encode_body()


@pytest.mark.parametrize('body', [None, 5, ['a'], {'a': 1}, array.array('B', [1])])
def test_what_is_no_body_is_refused(body):
    with pytest.raises(TypeError, match='body: '):
        Message(body).encode_body()


# --- Bodies that were received ---


def test_received_body_is_bytes_until_it_is_decoded():
    message = received('4000 05 5554462d38', b'\xc3\xa9')
    assert message.body == b'\xc3\xa9'
    message.decode_body()
    assert message.body == 'é'


def test_received_empty_body_is_an_empty_text():
    message = received('0000', b'')
    assert message.body == ''
    message.decode_body()
    assert message.body == ''
    message = received('4000 05 5554462d38', b'')
    message.decode_body()
    assert message.body == ''


@pytest.mark.parametrize(
    'properties',
    [
        '0000',
        '8000 05 5554462d38',
        '4000 05 6173636969',
        '4000 04 67686f7374'[:-2],
        '4000 03 686578',
        '4000 00',
        '4000 02 c300',
        '4000 ff 00',
        '4002',
    ],
    ids=['none', 'other', 'wrong', 'unknown', 'hex', 'empty', 'not UTF-8', 'cut', 'wrong flags'],
)
def test_body_that_cannot_be_decoded_stays_bytes(properties):
    message = received(properties, b'\xc3\xa9')
    message.decode_body()
    assert message.body == b'\xc3\xa9'


@pytest.mark.parametrize('name', ['UTF-8', 'Latin-1', 'UTF-16LE', 'sjis'])
def test_body_is_decoded_by_each_name_of_an_encoding(name):
    body = 'text'.encode(name)
    message = Message(body, content_encoding=name)
    message.decode_body()
    assert message.body == 'text'


NO_STRINGS = [5, None, b'utf-8', ['utf-8']]


@pytest.mark.parametrize('name', ['hex', 'idna', 'no such', '', *NO_STRINGS])
def test_codecs_that_senders_must_not_choose_are_not_looked_up(name):
    asked = []

    class Body(bytes):
        def decode(self, *args):
            asked.append(args)

    message = Message(b'', content_encoding=name)
    message.body = Body(b'aaaa')
    message.decode_body()
    assert message.body == b'aaaa'
    assert not asked


def test_encodings_that_senders_make_up_are_not_remembered():
    cached = len(encodings._cache)
    for number in range(500):
        message = Message(b'text', content_encoding=f'made-up-{number}')
        message.decode_body()
        assert message.body == b'text'
    assert len(encodings._cache) == cached


@pytest.mark.parametrize(
    ('body', 'shown'),
    [
        ('é', '1 characters'),
        (b'ab', '2 bytes'),
        (bytearray(3), '3 bytes'),
        (memoryview(bytes(8)).cast('I'), '8 bytes'),
        (None, "'NoneType', which cannot be sent"),
        (5, "'int', which cannot be sent"),
        (Decimal('1.5'), "'Decimal', which cannot be sent"),
        (['a'], "'list', which cannot be sent"),
    ],
)
def test_repr_names_the_kind_and_size_of_the_body(body, shown):
    assert repr(Message(body)) == f'<Message of {shown}>'


def test_a_body_whose_memory_is_released():
    body = memoryview(b'x')
    body.release()
    assert repr(Message(body)) == "<Message of 'memoryview', which cannot be sent>"
    with pytest.raises(ValueError, match='body: '):
        Message(body).encode_body()


def test_the_flag_of_the_encoding_is_in_the_first_byte():
    flags = {
        name: Message(b'', **{name: value})._serialize_properties()[0] & CONTENT_ENCODING_FLAG
        for name, value in (('content_type', 'x'), ('content_encoding', 'x'), ('priority', 1))
    }
    assert flags == {'content_type': 0, 'content_encoding': CONTENT_ENCODING_FLAG, 'priority': 0}


@pytest.mark.parametrize('name', ['channel', 'consumer_tag', 'delivery_tag', 'message_count'])
def test_an_entry_of_delivery_info_is_an_attribute_unless_one_is_assigned(name):
    message = Message(b'')
    assert not hasattr(message, name)
    message.delivery_info = {'another': 1}
    with pytest.raises(AttributeError, match=f'^{name}$'):
        getattr(message, name)
    message.delivery_info[name] = 'there'
    assert getattr(message, name) == 'there'
    setattr(message, name, 'own')
    assert getattr(message, name) == 'own'
    assert message.delivery_info[name] == 'there'


def test_properties_that_were_looked_at_may_have_an_encoding():
    message = received('0000')
    message.content_encoding = 'UTF-8'
    message.decode_body()
    assert message.body == 'body'


def test_decoded_body_is_sent_on_as_it_came():
    message = received('4000 07 6c6174696e2d31', b'\xe9')
    message.decode_body()
    assert message.body == 'é'
    arrived = sent_on(message)
    assert arrived.body == b'\xe9'
    assert arrived.properties == {'content_encoding': 'latin-1'}


def test_interrupt_while_decoding_is_not_swallowed(monkeypatch):
    class Body(bytes):
        __slots__ = ()

        def decode(self, encoding):
            raise KeyboardInterrupt

    message = received('4000 05 5554462d38', Body(b'body'))
    with pytest.raises(KeyboardInterrupt):
        message.decode_body()


# --- Equality ---


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (Message('x'), Message('x')),
        (Message('x'), Message(b'x', content_encoding='UTF-8')),
        (Message('Unicode hello'), Message(b'Unicode hello', content_encoding='UTF-8')),
        (
            Message('é', content_encoding='latin-1'),
            Message(b'\xe9', content_encoding='latin-1'),
        ),
        (Message(b'x'), Message(bytearray(b'x'))),
        (Message(b'x', priority=1, type='t'), Message(b'x', type='t', priority=1)),
        (Message(b'x', priority=None), Message(b'x')),
        (Message(b'x', priority=1), received('0800 01', b'x')),
        (Message(), Message('')),
        (Message('x', content_encoding='no such thing'),) * 2,
    ],
)
def test_equal(one, other):
    assert one == other
    assert other == one
    assert not one != other  # noqa: SIM202


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (Message('x'), Message('y')),
        (Message('x'), Message(b'x')),
        (Message(b'x'), Message(b'x', priority=1)),
        (Message(b'x', priority=1), Message(b'x', priority=2)),
        (Message('é'), Message('é', content_encoding='latin-1')),
        (Message('x'), Message('x', content_encoding='no such thing')),
        (Message(b'x'), b'x'),
        (Message(b'x'), None),
        (Message(b'x'), 'x'),
    ],
)
def test_not_equal(one, other):
    assert one != other
    assert other != one
    assert not one == other  # noqa: SIM201


def test_equal_by_what_it_is_not_by_where_it_came_from():
    assert consumed(ChannelLike()) == Message(b'body', delivery_mode=2)


def test_anything_with_properties_and_a_body_may_be_equal():
    other = SimpleNamespace(properties={'priority': 1}, body=b'x')
    assert Message(b'x', priority=1) == other
    assert Message(b'y', priority=1) != other


def test_comparing_changes_nothing():
    message = Message('x')
    assert message == Message('x')
    assert message.properties == {}
    assert message.body == 'x'


def test_messages_cannot_be_hashed():
    with pytest.raises(TypeError, match='unhashable'):
        hash(Message('x'))


# --- Attributes ---


def test_defaults():
    message = Message()
    assert message.body == ''
    assert message.properties == {}
    assert not hasattr(message, 'delivery_info')


def test_children_are_accepted_and_not_used():
    message = Message('x', None, priority=1)
    assert message == Message('x', children=[Message('y')], priority=1)
    assert not hasattr(message, 'children')


@pytest.mark.parametrize('name', NAMES)
def test_property_as_attribute(name):
    message = Message(b'')
    assert not hasattr(message, name)
    with pytest.raises(AttributeError, match=name):
        getattr(message, name)
    with pytest.raises(AttributeError, match=name):
        delattr(message, name)

    setattr(message, name, 5)
    assert getattr(message, name) == 5
    assert message.properties == {name: 5}

    message.properties[name] = 6
    assert getattr(message, name) == 6

    delattr(message, name)
    assert not hasattr(message, name)
    assert message.properties == {}


def test_assigned_property_is_sent():
    message = Message(b'')
    message.priority = 5
    assert message._serialize_properties() == bytes.fromhex('0800 05')


def test_property_of_a_received_message_can_be_changed():
    message = received('8800 0163 05')
    message.priority = 6
    assert message._serialize_properties() == bytes.fromhex('8800 0163 06')
    del message.content_type
    assert message._serialize_properties() == bytes.fromhex('0800 06')
    message.properties['type'] = 't'
    assert message._serialize_properties() == bytes.fromhex('0820 06 0174')


def test_properties_can_be_replaced():
    for message in (Message(b'', priority=1), received('2000' + TABLE_WITH_UNKNOWN_TAG)):
        message.properties = {'type': 't'}
        assert message.type == 't'
        assert not hasattr(message, 'priority')
        assert message._serialize_properties() == bytes.fromhex('0020 0174')


def test_properties_loaded_again_replace_those_before():
    message = received('0800 05')
    assert message.priority == 5
    message._load_properties(bytes.fromhex('0020 0174'))
    assert message.properties == {'type': 't'}
    message.priority = 1
    message._load_properties(bytes.fromhex('2000' + TABLE_WITH_UNKNOWN_TAG))
    assert message.properties == {}
    message._load_properties(bytes.fromhex('0000'))
    assert not hasattr(message, 'application_headers')


def test_messages_do_not_share_properties():
    properties = {'priority': 1}
    one, other = Message(b'', **properties), Message(b'', **properties)
    one.priority = 2
    assert (other.priority, properties) == (1, {'priority': 1})


def test_other_attributes_are_the_program_s_own():
    message = Message(b'')
    message.seen = True
    assert message.seen is True
    assert message.properties == {}
    del message.seen
    assert not hasattr(message, 'seen')


def test_delivery_info_can_be_read_as_attributes():
    channel = ChannelLike()
    message = consumed(channel)
    assert message.channel is channel
    assert message.delivery_tag == 7
    assert message.redelivered is False
    assert not hasattr(message, 'message_count')
    with pytest.raises(AttributeError, match='message_count'):
        message.message_count  # noqa: B018


def test_properties_go_before_delivery_info():
    message = consumed(None)
    message.delivery_info['priority'] = 'of the delivery'
    assert message.priority == 'of the delivery'
    message.priority = 5
    assert message.priority == 5


def test_unknown_property_is_ignored_with_a_warning_where_it_was_given():
    with pytest.warns(UserWarning, match=r"Message has no property 'prority': it is ignored") as w:
        message = Message(b'x', prority=5, type='t')
    assert w[0].filename == __file__
    assert message.properties == {'type': 't'}
    assert message == Message(b'x', type='t')


def test_the_warning_for_headers_says_their_name():
    with pytest.warns(UserWarning, match="no property 'headers': .*call it application_headers"):
        message = Message(b'x', headers={'a': 1})
    assert message.properties == {}
    with pytest.warns(UserWarning, match="no property 'headers', 'prority': .*application_headers"):
        Message(b'x', prority=5, headers={})


TYPES = {
    'shortstr': 'str', 'octet': 'int', 'table': 'dict[str, Any]',
    'timestamp': 'Union[datetime, int]', 'longlong': 'int', 'long': 'int', 'bit': 'bool',
}  # fmt: skip


def test_type_checkers_know_every_property_and_what_a_delivery_has():
    fields = {**dict(DELIVER.fields), **dict(GET_OK.fields), **dict(BASIC_PROPERTIES)}
    declared = Message.__annotations__
    assert {name: declared[name] for name in fields} == {
        name: TYPES[kind] for name, kind in fields.items()
    }


def test_representation_shows_the_size_and_not_the_body():
    assert repr(Message('secret')) == '<Message of 6 characters>'
    assert repr(Message(b'secret')) == '<Message of 6 bytes>'


def test_subclass_with_an_attribute_of_its_own():
    class Numbered(Message):
        def __init__(self, number, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.number = number

    message = Numbered(5, b'x', priority=1)
    assert (message.number, message.priority, message.body) == (5, 1, b'x')
    assert message._serialize_properties() == bytes.fromhex('0800 01')
    assert repr(message) == '<Numbered of 1 bytes>'


# --- Copies ---


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    'message',
    [
        Message(),
        Message('é', priority=1, application_headers={'a': [1, {'b': Decimal('1.5')}]}),
        Message(b'\xff', timestamp=datetime(2001, 9, 9)),
        received('8800 0163 05'),
        received('2800' + TABLE_WITH_UNKNOWN_TAG + '05'),
    ],
)
def test_pickling(message, protocol):
    copied = pickle.loads(pickle.dumps(message, protocol))
    assert type(copied) is Message
    assert copied == message
    assert copied.body == message.body
    assert copied.properties == message.properties
    again = pickle.loads(pickle.dumps(message, protocol))
    assert again == message


def test_pickling_keeps_the_damage():
    for looked_at in (False, True):
        message = received('2800' + TABLE_WITH_UNKNOWN_TAG + '05')
        if looked_at:
            assert message.priority == 5
        copied = pickle.loads(pickle.dumps(message))
        assert copied.priority == 5
        with pytest.raises(ValueError, match='application_headers: Unknown'):
            copied.application_headers  # noqa: B018


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_consumed_message_is_copied_without_its_channel(duplicate):
    channel = ChannelLike()
    message = consumed(channel)
    copied = duplicate(message)
    assert copied == message
    assert copied.delivery_info == {
        'consumer_tag': 'tag',
        'delivery_tag': 7,
        'redelivered': False,
        'exchange': 'e',
        'routing_key': 'k',
    }
    assert copied.delivery_tag == 7
    assert not hasattr(copied, 'channel')
    assert message.channel is channel


def set_item(message):
    message.properties['priority'] = 6


def set_attribute(message):
    message.priority = 6


def set_all(message):
    message.properties = {'priority': 6}


@pytest.mark.parametrize('change', [set_item, set_attribute, set_all])
@pytest.mark.parametrize('before', [lambda message: None, Message._serialize_properties])
@pytest.mark.parametrize('body', [b'x', 'x'])
def test_properties_changed_after_the_message_was_made_are_sent(change, before, body):
    message = Message(body, priority=5)
    before(message)
    change(message)
    assert message._serialize_properties() == bytes.fromhex('0800 06')


def test_properties_held_on_to_can_be_changed_after_each_sending():
    message = Message(b'x', priority=5)
    held = message.properties
    for priority in range(5):
        held['priority'] = priority
        assert message._serialize_properties() == bytes((8, 0, priority))


def test_removed_property_is_not_sent():
    message = Message(b'x', priority=5, type='t')
    del message.priority
    assert message._serialize_properties() == bytes.fromhex('0020 0174')


class Headers(dict):
    """A dict that can be changed and has a hash all the same."""

    __hash__ = object.__hash__


class Equal(dict):
    """A dict whose hash is that of its items."""

    def __hash__(self):
        return hash(tuple(self.items()))


@pytest.mark.parametrize('kind', [dict, Headers])
def test_headers_are_sent_as_they_are_then(kind):
    headers = kind(a=1)
    message = Message(b'x', application_headers=headers)
    for value in (2, 3):
        headers['a'] = value
        assert message._serialize_properties()[-1] == value


def test_headers_that_are_equal_are_not_taken_for_each_other():
    tags = [
        Message(b'', application_headers=Equal(a=value))._serialize_properties()[8:9]
        for value in (1, True, 1.0)
    ]
    assert tags == [b'I', b't', b'd']


def test_types_of_tables_can_be_chosen_later():
    class Own(Message):
        pass

    Own.field_types = {**Own.field_types, type(None): lambda value, types, depth: b'V'}
    assert Own(b'', application_headers={'a': None})._serialize_properties()[-1:] == b'V'


def test_property_of_an_unknown_kind_can_be_declared_and_not_sent():
    class Own(Message):
        PROPERTIES = (('flag', 'bit'), ('note', 'shortstr'))

    assert Own(b'', note='n')._serialize_properties() == bytes.fromhex('4000 016e')
    with pytest.raises(ValueError, match='flag: '):
        Own(b'', flag=True)._serialize_properties()
    received = Own.received(bytes.fromhex('8000'), b'')
    assert received.properties == {}
    with pytest.raises(ValueError, match='flag: '):
        received.flag  # noqa: B018


@pytest.mark.parametrize('body', [b'x', 'x'])
def test_class_may_encode_its_properties_in_its_own_way(body):
    class Own(Message):
        def _serialize_properties(self):
            self.priority = 6
            return super()._serialize_properties()

    own, other = Own(body, priority=5), Message(body, priority=6)
    frames = [Encoder(4096).frames(1, b'args', message) for message in (own, other)]
    assert frames[0] == frames[1]


def test_class_that_encodes_in_its_own_way_is_asked_for_what_it_loaded():
    class Own(Message):
        def _serialize_properties(self):
            self.priority = 6
            return super()._serialize_properties()

    message = Own(b'x')
    message._load_properties(bytes.fromhex('0800 05'))
    frames = Encoder(4096).frames(1, b'args', message)
    assert frames == Encoder(4096).frames(1, b'args', Message(b'x', priority=6))


def test_value_without_a_hash_is_named():
    message = Message(b'x', message_id=memoryview(bytearray(b'a')))
    with pytest.raises(TypeError, match='message_id: '):
        message._serialize_properties()


def test_two_threads_may_look_at_a_received_message_at_once():
    class Raced(Message):
        """Another thread decodes it right after this one has found it undecoded."""

        found = None

        @property
        def _properties(self):
            if 'seen' not in vars(self):
                self.seen = True
                self.raw_properties = None
                return None
            return self.found

        @_properties.setter
        def _properties(self, properties):
            self.found = properties

    message = Raced.received(bytes.fromhex('0800 05'), b'x')
    assert message.properties == {'priority': 5}


def test_message_that_was_not_initialized_has_no_properties():
    class Own(Message):
        def __init__(self):
            self.body = b'x'

    assert Own().properties == {}
    assert Own() == Message(b'x')
    assert Own()._serialize_properties() == b'\0\0'


@pytest.mark.parametrize('changed', [0, 1])
def test_shallow_copies_share_their_properties(changed):
    message = Message(b'x', priority=5)
    both = message, copy.copy(message)
    both[changed].priority = 6
    assert [one._serialize_properties() for one in both] == [bytes.fromhex('0800 06')] * 2


@pytest.mark.parametrize('body', [b'x', 'x'])
def test_wrong_property_is_found_when_it_is_sent(body):
    message = Message(body, priority='high')
    with pytest.raises(TypeError, match='priority: '):
        message._serialize_properties()
    message.priority = 5
    assert message._serialize_properties() == bytes.fromhex('0800 05')


def test_shallow_copy_keeps_the_channel():
    channel = ChannelLike()
    copied = copy.copy(consumed(channel))
    assert copied.channel is channel
    assert copied.delivery_mode == 2
    assert copied.body == b'body'


def test_pickling_keeps_other_attributes():
    message = Message(b'x')
    message.seen = True
    assert pickle.loads(pickle.dumps(message)).seen is True


# --- Acknowledging ---


class RecordingChannel:
    """In place of a channel: what it is asked to send, or the error that it raises."""

    def __init__(self):
        self.asked = []
        self.error = None
        self.settled_up_to = 0

    uncommitted = None

    def why_settled(self, delivery_tag, consumer_tag):
        return 'was acknowledged with a later one' if delivery_tag <= self.settled_up_to else None

    def basic_ack(self, delivery_tag, multiple):
        self._take('ack', delivery_tag, multiple)
        if multiple:
            self.settled_up_to = delivery_tag

    def basic_reject(self, delivery_tag, requeue):
        self._take('reject', delivery_tag, requeue)

    def _take(self, *values):
        if self.error is not None:
            raise self.error
        self.asked.append(values)


@pytest.fixture
def recording():
    return RecordingChannel()


def delivered(channel, tag=7):
    message = received('1000 02')
    message.raw_channel, message.raw_delivery = channel, ('tag', tag, False, 'e', 'k')
    return message


def got(channel, tag=7):
    message = received('1000 02')
    message.raw_channel, message.raw_delivery_info = channel, {'delivery_tag': tag}
    return message


def refused(why):
    return pytest.raises(ValueError, match=f'^the message {why}')


SETTLE = {
    'ack': (lambda message: message.ack(), ('ack', 7, False)),
    'ack multiple': (lambda message: message.ack(multiple=True), ('ack', 7, True)),
    'reject': (lambda message: message.reject(False), ('reject', 7, False)),
    'requeue': (lambda message: message.reject(requeue=True), ('reject', 7, True)),
}


@pytest.mark.parametrize('make', [delivered, got, consumed])
@pytest.mark.parametrize(('settle', 'asked'), SETTLE.values(), ids=SETTLE)
def test_a_message_is_settled_once(recording, make, settle, asked):
    message = make(recording)
    settle(message)
    assert recording.asked == [asked]
    for again, _ in SETTLE.values():
        with refused(f'was {asked[0]}(nowledg)?ed before'):
            again(message)
    assert recording.asked == [asked]


@pytest.mark.parametrize(('settle', 'asked'), SETTLE.values(), ids=SETTLE)
def test_what_could_not_be_sent_can_be_settled_later(recording, settle, asked):
    message = delivered(recording)
    recording.error = TimeoutError('nothing was sent')
    with pytest.raises(TimeoutError):
        settle(message)
    recording.error = None
    settle(message)
    assert recording.asked == [asked]


def test_after_an_interrupt_nothing_is_sent_again(recording):
    message = delivered(recording)
    recording.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        message.ack()
    recording.error = None
    with refused('was acknowledged before'):
        message.reject(requeue=True)
    assert recording.asked == []


def test_multiple_settles_all_that_came_before(recording):
    first, second, third, fourth = (delivered(recording, tag) for tag in (1, 2, 3, 4))
    second.ack()
    third.ack(multiple=True)
    for covered in (first, got(recording, 2), got(recording, 3)):
        with refused('was acknowledged with a later one'):
            covered.ack()
        with refused('was acknowledged with a later one'):
            covered.reject(requeue=True)
    fourth.ack()
    assert recording.asked == [('ack', 2, False), ('ack', 3, True), ('ack', 4, False)]


@pytest.mark.parametrize(('settle', 'asked'), SETTLE.values(), ids=SETTLE)
def test_a_message_that_was_never_received_cannot_be_settled(settle, asked):
    copied = pickle.loads(pickle.dumps(delivered(RecordingChannel())))
    for message in (Message('body'), received('0000'), copied, copy.deepcopy(copied)):
        with refused('was not received by this process'):
            settle(message)


def test_only_the_message_that_was_received_is_acknowledged(recording):
    message = delivered(recording)
    duplicate = copy.copy(message)
    with refused('is a copy'):
        duplicate.ack()
    message.ack()
    assert recording.asked == [('ack', 7, False)]


def test_a_pickled_message_says_nothing_of_its_channel(recording):
    message = got(recording)
    message.ack()
    assert message.channel is recording
    assert message.delivery_info == {'delivery_tag': 7}
    assert not set(pickle.loads(pickle.dumps(message)).__dict__) & {'raw_channel', 'raw_settled'}
