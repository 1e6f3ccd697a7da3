"""Messages as JSON lines: what comes back from a line is what went into it."""

import json
import struct
from datetime import datetime, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib import client_0_8, client_0_9_1
from amqplib.command_line.json_lines import Entry, from_line, to_line

TEXTS = st.text(st.characters(codec='utf-8'), max_size=20)
NAMES = TEXTS.map(lambda text: text[:60])
VALUES = st.recursive(
    TEXTS
    | st.binary(max_size=20)
    | st.booleans()
    | st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(-1000, 1000, places=3)
    | st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1)).map(
        lambda moment: moment.replace(microsecond=0, tzinfo=timezone.utc)
    ),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(NAMES | st.sampled_from(['$bytes', '$other']), values, max_size=3)
    ),
    max_leaves=10,
)


def received(message):
    """Return a message as it arrives."""
    body = message.encode_body()
    return type(message).received(message.encode_properties(), bytes(body))


def same_on_the_wire(one, other):
    return (one.encode_properties(), bytes(one.encode_body())) == (
        other.encode_properties(),
        bytes(other.encode_body()),
    )


@given(
    body=st.binary(max_size=50) | TEXTS.map(str.encode),
    headers=st.dictionaries(NAMES, VALUES, max_size=5),
    exchange=TEXTS,
)
def test_a_line_keeps_bodies_and_headers(body, headers, exchange):
    message = client_0_9_1.Message(body, application_headers=headers)
    line = to_line(Entry(received(message), exchange, 'key'))
    assert line.count(b'\n') == 1
    assert 'properties_base64' not in json.loads(line)
    back = from_line(line, client_0_9_1.Message)
    assert same_on_the_wire(back.message, message)
    assert back[1:] == (exchange, 'key')


def test_a_line_keeps_every_property():
    message = client_0_8.Message(
        b'body', content_type='text/plain', content_encoding='latin-1', delivery_mode=2,
        application_headers={}, priority=255, correlation_id='c', reply_to='r', expiration='1000',
        message_id='m', timestamp=1700000000, type='t', user_id='u', app_id='a', cluster_id='k',
    )  # fmt: skip
    line = to_line(Entry(received(message)))
    assert json.loads(line)['properties']['timestamp'] == 1700000000
    assert same_on_the_wire(from_line(line).message, message)


def test_a_line_is_readable():
    message = client_0_8.Message('grün', content_type='text/plain', application_headers={'n': 1})
    line = to_line(Entry(received(message), 'news', 'weather'), redelivered=True)
    assert line.decode() == (
        '{"body":"grün","properties":{"content_type":"text/plain","content_encoding":"UTF-8"},'
        '"headers":{"n":1},"exchange":"news","routing_key":"weather","redelivered":true}\n'
    )


@pytest.mark.parametrize(
    'field',
    [
        b'\1nl' + struct.pack('>q', 5),  # a short number in a long type
        b'\1nf' + struct.pack('>f', 0.5),
        b'\1nf' + struct.pack('>f', float('nan')),
        b'\1nT' + struct.pack('>Q', 2**64 - 1),  # a time that no datetime can have
        b'\1nS' + struct.pack('>I', 1) + b'\xff',  # text that is not UTF-8
        b'\1nV\1nV',  # a name twice
        b'\1n?',  # a type that does not exist
    ],
)
def test_what_json_cannot_tell_is_kept_in_wire_format(field):
    raw = b'\x20\0' + struct.pack('>I', len(field)) + field
    line = to_line(Entry(client_0_9_1.Message.received(raw, b'')))
    assert 'properties_base64' in json.loads(line)
    assert from_line(line, client_0_9_1.Message).message.encode_properties() == raw


@pytest.mark.parametrize('number', ['nan', 'inf', '-inf'])
def test_a_line_is_json_for_all_readers(number):
    """NaN and Infinity are not."""
    raw = b'\x20\0\0\0\0\x0b\1nd' + struct.pack('>d', float(number))
    line = to_line(Entry(client_0_8.Message.received(raw, b'x')))
    assert not json.loads(line, parse_constant=pytest.fail).get('headers')
    assert from_line(line).message.encode_properties() == raw


def test_a_byte_order_mark_does_no_harm():
    assert from_line(b'\xef\xbb\xbf{"body": "x"}').message.body == b'x'


def test_a_name_that_is_not_utf_8_is_kept_in_ascii():
    raw = b'\x20\0' + struct.pack('>I', 4) + b'\1\xfft\1'
    line = to_line(Entry(client_0_8.Message.received(raw, b'\xc3\xbc')))
    assert line.isascii()
    back = from_line(line).message
    assert back.encode_properties() == raw
    assert back.body == b'\xc3\xbc'


def test_only_a_body_is_needed():
    entry = from_line(b'{"body": "hello"}\n')
    assert entry == Entry(client_0_8.Message(b'hello'), '', '')
    assert entry.message.properties == {}


def test_headers_as_a_person_writes_them():
    line = (
        b'{"body": "", "headers": {"price": {"$decimal": "1.50"}, "raw": {"$bytes": "/w=="},'
        b' "at": {"$timestamp": 0}, "odd": {"$table": {"$bytes": 1}}}}'
    )
    assert from_line(line).message.application_headers == {
        'price': Decimal('1.50'),
        'raw': b'\xff',
        'at': datetime(1970, 1, 1, tzinfo=timezone.utc),
        'odd': {'$bytes': 1},
    }


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('', 'not JSON'),
        ('{"body": "x"', 'not JSON'),
        (b'{"body": "\xff"}', 'not JSON'),
        ('[' * 100_000, 'not JSON'),
        ('[]', 'not a JSON object'),
        ('{}', 'either body or body_base64'),
        ('{"body": "", "body_base64": ""}', 'either body or body_base64'),
        ('{"body": 1}', 'body: 1 is not a string'),
        ('{"body": "\\udcff"}', 'body: '),
        ('{"body_base64": "*"}', 'body_base64: '),
        ('{"body": "", "bdoy": ""}', "'bdoy' is not one of: body"),
        ('{"body": "", "exchange": 1}', 'exchange: 1 is not a string'),
        ('{"body": "", "properties": []}', r'properties: \[\] is not an object'),
        ('{"body": "", "properties": {"color": ""}}', "properties: 'color' is not one of: app_id"),
        ('{"body": "", "properties": {"priority": true}}', 'priority: true is not a number'),
        ('{"body": "x", "body": "y"}', "'body' is there twice"),
        ('{"body": "", "headers": {"a": {"b": 1, "b": 1}}}', "'b' is there twice"),
        ('{"body": "", "headers": {"a": {"$bytes": 1}}}', r"headers\['a'\]: "),
        ('{"body": "", "headers": {"a": {"$decimal": 0.1}}}', r"headers\['a'\]: 0.1 is not text"),
        ('{"body": "", "headers": {"a": {"$timestamp": 1.7}}}', r"headers\['a'\]: 1.7 is not a wh"),
        ('{"body": "", "headers": {"a": {"$timestamp": true}}}', r"headers\['a'\]: true is not"),
        ('{"body": "", "headers": {"a": {"$table": 1}}}', r"headers\['a'\]: "),
        ('{"body": "", "headers": {"a": {"b": {"$x": 1}}}}', r"headers\['a'\]\['b'\]: '\$x' is"),
        ('{"body": "", "headers": {"a": {"$decimal": "one"}}}', r"headers\['a'\]: "),
        ('{"body": "", "headers": {"a": {"$timestamp": 1e99}}}', r"headers\['a'\]: "),
        (
            '{"body": "", "headers": {"a": %s}}' % ('[' * 900 + ']' * 900),
            r"headers\['a'\]: nested more than 64 deep",
        ),
        (
            '{"body": "", "headers": ' + '{"$table": ' * 900 + '1' + '}' * 901,
            'nested more than 64 deep',
        ),
    ],
)
def test_a_wrong_line_is_an_error_that_names_the_field(line, says):
    line = line if isinstance(line, bytes) else line.encode()
    with pytest.raises((TypeError, ValueError), match=says):
        from_line(line)
