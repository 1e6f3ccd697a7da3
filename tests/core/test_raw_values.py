"""Property lists and tables whose values stay encoded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib.core.message import Message
from amqplib.core.raw_values import join_properties, join_table, split_properties, split_table
from amqplib.core.serialization import decode_table, encode_table
from tests.helpers.values import unhex

EVERY_TAG = (
    't01 b05 B05 s0005 u0005 I00000005 i00000005 l0000000000000005 L0000000000000005 f00000000 '
    'd0000000000000000 D0200000005 T0000000000000005 S0000000161 x0000000161 V '
    'F0000000401 61 56 56 A000000025656'
)


def test_a_property_list_is_split_into_its_values_and_joined_again():
    message = Message(
        b'', content_type='text', application_headers={'n': 1}, priority=3, timestamp=5, app_id=''
    )
    raw = message.encode_properties()
    values = split_properties(raw)
    assert list(values) == [
        'content_type', 'application_headers', 'priority', 'timestamp', 'app_id'
    ]  # fmt: skip
    assert values['content_type'] == b'\x04text'
    assert values['priority'] == b'\x03'
    assert values['app_id'] == b'\0'
    assert join_properties(values) == raw
    del values['priority']
    assert Message.received(join_properties(values), b'').properties == {
        name: value for name, value in message.properties.items() if name != 'priority'
    } | {'timestamp': Message.received(raw, b'').timestamp}


@pytest.mark.parametrize('raw', ['', '80', '8000', '8000 05 61', '0001', '0000 00', '0040 00'])
def test_a_malformed_property_list_cannot_be_split(raw):
    with pytest.raises(ValueError, match=r'announced|end|too many'):
        split_properties(unhex(raw))


def test_a_table_is_split_into_its_entries_and_joined_again():
    entries = {
        bytes((1, 97 + number)): item[:1].encode() + unhex(item[1:])
        for number, item in enumerate(EVERY_TAG.replace(' 61', '61').replace(' 56', '56').split())
    }
    data = join_table(entries)
    assert split_table(data) == entries
    assert join_table(split_table(data)) == data


def test_of_equal_keys_of_a_split_table_the_first_counts():
    data = unhex('00000008 0161 6201 0161 6202')
    assert split_table(data) == {b'\x01a': b'b\x01'}


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(-5, 5) | st.none()))
def test_a_split_table_keeps_what_a_table_has(table):
    table = {key: value for key, value in table.items() if value is not None}
    data = join_table(split_table(encode_table(table)))
    assert decode_table(data, 0, len(data)) == (table, len(data))


@pytest.mark.parametrize(
    'data',
    ['', '000000', '00000001', '0000000101', '00000003016141', '00000003016153', '0000000301615a'],
)
def test_a_malformed_table_cannot_be_split(data):
    with pytest.raises(ValueError, match=r'announced|Unknown'):
        split_table(unhex(data))
