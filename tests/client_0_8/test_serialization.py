"""The codec: octets by octets, both ways; limits; damage; random input."""

import re
import struct
import time
from collections import OrderedDict
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from enum import IntEnum
from io import BytesIO
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqplib.client_0_8 import serialization, spec
from amqplib.client_0_8.exceptions import ProtocolError
from amqplib.client_0_8.serialization import (
    MAX_NESTING,
    AMQPReader,
    AMQPWriter,
    GenericContent,
    byte,
    decode_arguments,
    decode_get_ok,
    encode_method,
)


def octets(text):
    """Return what hexadecimal digits, with spaces anywhere, stand for."""
    return bytes.fromhex(text)


def write(wire_type, value):
    writer = AMQPWriter()
    getattr(writer, f'write_{wire_type}')(value)
    return writer.getvalue()


def read(wire_type, data):
    """Return the value that the whole of the data is."""
    reader = AMQPReader(data)
    value = getattr(reader, f'read_{wire_type}')()
    with pytest.raises(ValueError, match='1 octets announced where 0 are left'):
        reader.read(1)
    return value


def table_of(field, key=b'\x01k'):
    """Return the octets of a table with one entry."""
    entry = key + field
    return struct.pack('>I', len(entry)) + entry


def read_field(field):
    """Return the value of a field, tag and all, in a table."""
    return read('table', table_of(field))['k']


def same(value, expected):
    """Return whether two values are equal, and of the same types all the way down."""
    return value == expected and repr(value) == repr(expected)


@pytest.fixture
def two_hours_east(monkeypatch):
    """Local time is UTC+2 in summer and winter."""
    if not hasattr(time, 'tzset'):
        pytest.skip('the system does not let a process have its own time zone')
    with monkeypatch.context() as patch:
        patch.setenv('TZ', 'EAST-2')
        time.tzset()
        yield
    time.tzset()


# --- Wire types ---

WIRE_TYPES = [
    ('bit', True, '01'),
    ('bit', False, '00'),
    ('octet', 0, '00'),
    ('octet', 255, 'ff'),
    ('short', 0, '0000'),
    ('short', 258, '0102'),
    ('short', 65535, 'ffff'),
    ('long', 0, '00000000'),
    ('long', 16909060, '01020304'),
    ('long', 4294967295, 'ffffffff'),
    ('longlong', 0, '0000000000000000'),
    ('longlong', 72623859790382856, '0102030405060708'),
    ('longlong', 18446744073709551615, 'ffffffffffffffff'),
    ('shortstr', '', '00'),
    ('shortstr', 'abc', '03 616263'),
    ('shortstr', 'é€😀', '09 c3a9 e282ac f09f9880'),
    ('shortstr', 'a\0b', '03 610062'),
    ('shortstr', 'a\udcffb', '03 61ff62'),
    ('shortstr', 'a' * 255, 'ff' + '61' * 255),
    ('longstr', '', '00000000'),
    ('longstr', 'abc', '00000003 616263'),
    ('longstr', 'é€😀', '00000009 c3a9 e282ac f09f9880'),
    ('longstr', b'a\xffb', '00000003 61ff62'),
    ('longstr', 'a' * 256, '00000100' + '61' * 256),
    ('table', {}, '00000000'),
    ('table', {'a': 1}, '00000007 0161 49 00000001'),
    ('table', {'é': 'x', '': True}, '0000000c 02c3a9 53 00000001 78 00 74 01'),
    ('table', {'a\udcff': 1}, '00000008 0261ff 49 00000001'),
]


@pytest.mark.parametrize(('wire_type', 'value', 'expected'), WIRE_TYPES)
def test_wire_type_both_ways(wire_type, value, expected):
    assert write(wire_type, value) == octets(expected)
    assert same(read(wire_type, octets(expected)), value)


@pytest.mark.parametrize(('wire_type', 'value', 'expected'), WIRE_TYPES)
def test_wire_type_cut_short_anywhere_is_refused(wire_type, value, expected):
    data = octets(expected)
    for size in range(len(data)):
        with pytest.raises(ValueError, match='announced where'):
            getattr(AMQPReader(data[:size]), f'read_{wire_type}')()


@pytest.mark.parametrize(
    ('wire_type', 'value'),
    [
        ('octet', -1),
        ('octet', 256),
        ('short', -1),
        ('short', 65536),
        ('long', -1),
        ('long', 4294967296),
        ('longlong', -1),
        ('longlong', 18446744073709551616),
        ('timestamp', -1),
        ('timestamp', 18446744073709551616),
    ],
)
def test_a_number_beyond_its_limits_is_refused(wire_type, value):
    with pytest.raises(ValueError, match=f'{value} is not a number from 0 to'):
        write(wire_type, value)


@pytest.mark.parametrize('wire_type', ['octet', 'short', 'long', 'longlong', 'timestamp'])
@pytest.mark.parametrize('value', ['1', 1.0, None, b'1', Decimal(1)])
def test_what_is_not_an_integer_is_refused(wire_type, value):
    with pytest.raises(TypeError):
        write(wire_type, value)


@pytest.mark.parametrize('text', ['a' * 256, 'é' * 128, b'a' * 256, '😀' * 64])
def test_a_short_string_over_255_octets_is_refused(text):
    with pytest.raises(ValueError, match='String too long'):
        write('shortstr', text)


def test_octets_of_a_short_string_are_counted_not_characters():
    assert write('shortstr', 'é' * 127 + 'a') == b'\xff' + b'\xc3\xa9' * 127 + b'a'


def test_octets_of_a_long_string_are_counted_not_characters():
    assert write('longstr', '€' * 1000)[:4] == struct.pack('>I', 3000)


@pytest.mark.parametrize('wire_type', ['shortstr', 'longstr'])
@pytest.mark.parametrize('value', [None, 5, ['a'], memoryview(b'a')])
def test_what_is_not_a_string_is_refused(wire_type, value):
    with pytest.raises(TypeError, match='not a str or bytes'):
        write(wire_type, value)


@pytest.mark.parametrize('wire_type', ['shortstr', 'longstr'])
def test_octets_are_written_as_they_are(wire_type):
    assert write(wire_type, b'\xff\x00')[-2:] == b'\xff\x00'
    assert write(wire_type, bytearray(b'\xff\x00'))[-2:] == b'\xff\x00'


@pytest.mark.parametrize('wire_type', ['shortstr', 'longstr'])
def test_half_a_surrogate_pair_is_refused(wire_type):
    with pytest.raises(ValueError, match='surrogates'):
        write(wire_type, 'a\ud800')


@pytest.mark.parametrize('value', [1, 'no', [None], 0.1])
def test_a_true_value_is_a_set_bit(value):
    assert write('bit', value) == b'\x01'


@pytest.mark.parametrize('value', [0, '', None, []])
def test_a_false_value_is_a_bit_that_is_not_set(value):
    assert write('bit', value) == b'\x00'


@pytest.mark.parametrize('value', [None, [('a', 1)], 'a', 5])
def test_what_is_not_a_dict_is_no_table(value):
    with pytest.raises(TypeError, match='not a dict'):
        write('table', value)


@given(st.binary(max_size=255))
@settings(deadline=None)
def test_any_octets_survive_as_a_short_string(data):
    text = read('shortstr', bytes([len(data)]) + data)
    assert isinstance(text, str)
    assert write('shortstr', text) == bytes([len(data)]) + data


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_octets_survive_as_a_long_string(data):
    value = read('longstr', struct.pack('>I', len(data)) + data)
    assert write('longstr', value)[4:] == data
    assert isinstance(value, str) == _is_utf_8(data)


def _is_utf_8(data):
    try:
        return data.decode('utf-8').encode('utf-8') == data
    except UnicodeDecodeError:
        return False


# --- Timestamps ---


@pytest.mark.parametrize(
    ('value', 'seconds'),
    [
        (datetime(1970, 1, 1, tzinfo=timezone.utc), 0),
        (datetime(2001, 9, 9, 1, 46, 40, tzinfo=timezone.utc), 1_000_000_000),
        (datetime(2001, 9, 9, 3, 46, 40, tzinfo=timezone(timedelta(hours=2))), 1_000_000_000),
        (datetime(2001, 9, 8, 20, 46, 40, tzinfo=timezone(timedelta(hours=-5))), 1_000_000_000),
        (datetime(2001, 9, 9, 1, 46, 40, 999_999, tzinfo=timezone.utc), 1_000_000_000),
        (1_000_000_000, 1_000_000_000),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_time_is_written_as_seconds_since_1970_utc(value, seconds):
    assert write('timestamp', value) == struct.pack('>Q', seconds)


@pytest.mark.usefixtures('two_hours_east')
def test_naive_datetime_is_local_time_both_ways():
    data = struct.pack('>Q', 1_000_000_000)
    assert write('timestamp', datetime(2001, 9, 9, 3, 46, 40)) == data
    assert same(read('timestamp', data), datetime(2001, 9, 9, 3, 46, 40))


@pytest.mark.usefixtures('two_hours_east')
def test_timestamps_of_a_table_are_naive_local_time_both_ways():
    data = table_of(b'T' + struct.pack('>Q', 1_000_000_000))
    assert write('table', {'k': datetime(2001, 9, 9, 3, 46, 40)}) == data
    assert same(read('table', data), {'k': datetime(2001, 9, 9, 3, 46, 40)})


@pytest.mark.parametrize(
    'value', [datetime(1969, 12, 31, tzinfo=timezone.utc), datetime(1, 1, 1), datetime(1900, 1, 1)]
)
def test_time_before_1970_is_refused(value):
    with pytest.raises(ValueError, match=r'is not a number from 0|out of range'):
        write('timestamp', value)


@pytest.mark.parametrize('seconds', [1772000000000, 2**63, 2**64 - 1])
def test_timestamp_that_is_no_date_is_read_as_a_number(seconds):
    data = struct.pack('>Q', seconds)
    assert same(read('timestamp', data), seconds)
    assert same(read_field(b'T' + data), seconds)


class TimeOfALimitedSystem(datetime):
    """What some systems say about times that others know."""

    def timestamp(self):
        raise OSError(22, 'Invalid argument')

    @classmethod
    def fromtimestamp(cls, seconds, tz=None):
        raise OSError(22, 'Invalid argument')


def test_time_that_the_system_does_not_know(monkeypatch):
    with pytest.raises(ValueError, match='out of range'):
        write('timestamp', TimeOfALimitedSystem(2001, 9, 9))
    monkeypatch.setattr('datetime.datetime', TimeOfALimitedSystem)
    assert read('timestamp', struct.pack('>Q', 1_000_000_000)) == 1_000_000_000


@pytest.mark.usefixtures('two_hours_east')
def test_last_timestamps_that_are_dates_can_be_written_back_everywhere():
    for seconds in range(253402300800 - 200_000, 253402300800 + 50_000, 999):
        data = struct.pack('>Q', seconds)
        assert write('timestamp', read('timestamp', data)) == data
    assert read('timestamp', struct.pack('>Q', 253402300800 - 200_000)).year == 9999


@given(st.integers(0, 2**64 - 1) | st.integers(0, 2**34) | st.integers(253402200000, 253402400000))
@settings(deadline=None)
def test_any_timestamp_is_written_back_as_it_was(seconds):
    data = struct.pack('>Q', seconds)
    value = read('timestamp', data)
    assert isinstance(value, (datetime, int))
    assert write('timestamp', value) == data


# --- Field tables: what is read and written ---

FIELDS_BOTH_WAYS = [
    ('', 'S 00000000'),
    ('abc', 'S 00000003 616263'),
    ('é€😀', 'S 00000009 c3a9 e282ac f09f9880'),
    ('a' * 256, 'S 00000100' + '61' * 256),
    (True, 't 01'),
    (False, 't 00'),
    (0, 'I 00000000'),
    (1, 'I 00000001'),
    (-1, 'I ffffffff'),
    (2147483647, 'I 7fffffff'),
    (-2147483648, 'I 80000000'),
    (2147483648, 'l 0000000080000000'),
    (-2147483649, 'l ffffffff7fffffff'),
    (9223372036854775807, 'l 7fffffffffffffff'),
    (-9223372036854775808, 'l 8000000000000000'),
    (0.0, 'd 0000000000000000'),
    (-0.0, 'd 8000000000000000'),
    (1.5, 'd 3ff8000000000000'),
    (-2.0, 'd c000000000000000'),
    (1.7976931348623157e308, 'd 7fefffffffffffff'),
    (5e-324, 'd 0000000000000001'),
    (Decimal('0'), 'D 00 00000000'),
    (Decimal('1'), 'D 00 00000001'),
    (Decimal('-1'), 'D 00 ffffffff'),
    (Decimal('3.14'), 'D 02 0000013a'),
    (Decimal('-3.14'), 'D 02 fffffec6'),
    (Decimal('1.00'), 'D 02 00000064'),
    (Decimal('2147483647'), 'D 00 7fffffff'),
    (Decimal('-2147483648'), 'D 00 80000000'),
    (Decimal('1E-255'), 'D ff 00000001'),
    (b'', 'x 00000000'),
    (b'abc', 'x 00000003 616263'),
    (b'\xff\x00', 'x 00000002 ff00'),
    ({}, 'F 00000000'),
    ({'a': 1}, 'F 00000007 0161 49 00000001'),
    ({'a': {'b': {}}}, 'F 0000000e 0161 46 00000007 0162 46 00000000'),
    ([], 'A 00000000'),
    ([1, 'a', True], 'A 0000000d 49 00000001 53 00000001 61 74 01'),
    ([[], {}], 'A 0000000a 41 00000000 46 00000000'),
]

FIELDS_READ_ONLY = [
    (b'a\xff', 'S 00000002 61ff'),
    (True, 't 02'),
    (True, 't ff'),
    (-128, 'b 80'),
    (127, 'b 7f'),
    (0, 'B 00'),
    (255, 'B ff'),
    (-32768, 's 8000'),
    (32767, 's 7fff'),
    (65535, 'u ffff'),
    (4294967295, 'i ffffffff'),
    (-1, 'l ffffffffffffffff'),
    (5, 'l 0000000000000005'),
    (-9223372036854775808, 'L 8000000000000000'),
    (5, 'L 0000000000000005'),
    (0.5, 'f 3f000000'),
    (-1.5, 'f bfc00000'),
    (inf, 'f 7f800000'),
    (-inf, 'd fff0000000000000'),
    (Decimal('1E-255') * -(2**31), 'D ff 80000000'),
    (None, 'V'),
    ([None, None], 'A 00000002 56 56'),
    ({'a': None}, 'F 00000003 0161 56'),
]


def field(text):
    """Return the octets of a field: a tag and hexadecimal digits."""
    return text[:1].encode() + octets(text[1:])


@pytest.mark.parametrize(('value', 'expected'), FIELDS_BOTH_WAYS)
def test_field_both_ways(value, expected):
    assert write('table', {'k': value}) == table_of(field(expected))
    assert same(read_field(field(expected)), value)


@pytest.mark.parametrize(('value', 'data'), FIELDS_READ_ONLY)
def test_field_that_only_others_write(value, data):
    assert same(read_field(field(data)), value)


@pytest.mark.parametrize('tag', ['f 7fc00000', 'd 7ff8000000000000'])
def test_field_that_is_not_a_number(tag):
    value = read_field(field(tag))
    assert value != value  # noqa: PLR0124


@pytest.mark.parametrize(('value', 'data'), FIELDS_BOTH_WAYS + FIELDS_READ_ONLY)
def test_field_cut_short_anywhere_is_refused(value, data):
    data = field(data)
    for size in range(len(data)):
        with pytest.raises(ValueError, match='announced where'):
            read('table', table_of(data[:size]))


@pytest.mark.parametrize(('value', 'data'), FIELDS_BOTH_WAYS + FIELDS_READ_ONLY)
def test_field_is_read_by_its_own_length(value, data):
    data = table_of(field(data) + b'\x04next' + b'I\x00\x00\x00\x07')
    assert read('table', data)['next'] == 7


class Colour(IntEnum):
    RED = 3


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        (bytearray(b'ab'), 'x 00000002 6162'),
        ((1, 'a'), 'A 0000000b 49 00000001 53 00000001 61'),
        (OrderedDict(a=1), 'F 00000007 0161 49 00000001'),
        (Colour.RED, 'I 00000003'),
        (Text('ab'), 'S 00000002 6162'),
        ('a\udcff', 'S 00000002 61ff'),
        (Decimal('1E+2'), 'D 00 00000064'),
        (Decimal('2E+9'), 'D 00 77359400'),
        (Decimal('-0'), 'D 00 00000000'),
        (datetime(2001, 9, 9, 1, 46, 40, tzinfo=timezone.utc), 'T 000000003b9aca00'),
    ],
)
def test_field_that_comes_back_as_another_type(value, expected):
    assert write('table', {'k': value}) == table_of(field(expected))


def test_decimals_do_not_depend_on_the_decimal_context():
    with localcontext() as context:
        context.prec = 3
        assert write('table', {'k': Decimal('12345.678')}) == table_of(field('D 03 00bc614e'))
        assert same(read_field(field('D 03 00bc614e')), Decimal('12345.678'))


def test_of_equal_keys_the_last_counts():
    data = struct.pack('>I', 14) + b'\x01kI\x00\x00\x00\x01' + b'\x01kI\x00\x00\x00\x02'
    assert read('table', data) == {'k': 2}


@pytest.mark.parametrize('tag', [b'U', b'\x00', b'\xff', b'Z', b'N'])
def test_unknown_tag_is_refused(tag):
    with pytest.raises(ValueError, match=f'Unknown table item type: {tag[0]}'):
        read_field(tag + bytes(8))


# --- Field tables: what is refused ---


@pytest.mark.parametrize(
    'value',
    [
        None,
        nan,
        inf,
        -inf,
        2**63,
        -(2**63) - 1,
        10**400,
        object(),
        {1, 2},
        1j,
        memoryview(b'a'),
        date(2001, 9, 9),
        datetime(1969, 1, 1, tzinfo=timezone.utc),
        Decimal('NaN'),
        Decimal('sNaN'),
        Decimal('Infinity'),
        Decimal('2147483648'),
        Decimal('-2147483649'),
        Decimal('214748364.80'),
        Decimal('1E-256'),
        Decimal('1E+10'),
        Decimal('1E+999999'),
        Decimal('1E-999999'),
        'a\ud800',
        [1, None],
        (1, None),
    ],
)
def test_value_that_cannot_be_written_is_refused_by_its_key(value):
    with pytest.raises(ValueError, match=re.escape("['k']")):
        write('table', {'good': 1, 'k': value})


@pytest.mark.parametrize(
    ('table', 'path'),
    [
        ({'a': {'b': {'c': None}}}, "['a']['b']['c']: "),
        ({'a': [{'b': None}]}, "['a']['b']: "),
        ({'a' * 256: 1}, 'String too long'),
        ({'é' * 128: 1}, 'String too long'),
    ],
)
def test_error_says_where_in_the_table_it_is(table, path):
    with pytest.raises(ValueError, match=re.escape(path)) as caught:
        write('table', table)
    assert type(caught.value) is ValueError


@pytest.mark.parametrize('key', [1, None, ('a',)])
def test_key_that_is_no_string_is_refused(key):
    with pytest.raises(TypeError, match=re.escape(f'[{key!r}]')):
        write('table', {key: 1})


def test_key_of_255_octets():
    table = {'é' * 127 + 'a': 1}
    assert read('table', write('table', table)) == table


# --- Lengths and what contains them ---


@pytest.mark.parametrize(
    ('what', 'data'),
    [
        ('table', '00000001'),
        ('table', 'ffffffff'),
        ('key', '00000001 05'),
        ('key without a value', '00000002 0161'),
        ('long string', '00000008 016b 53 00000005 61'),
        ('long string of 4 GiB', '00000008 016b 53 ffffffff 61'),
        ('octets', '00000008 016b 78 00000005 61'),
        ('nested table', '00000008 016b 46 00000005 61'),
        ('array', '00000007 016b 41 0000000a'),
        ('array beside what it announces', '00000009 016b 41 0000000a 6201'),
    ],
)
def test_length_beyond_its_container_is_refused(what, data):
    with pytest.raises(ValueError, match='announced where'):
        read('table', octets(data))


@pytest.mark.parametrize(
    'inner',
    [
        # Each is a container of its own, and what is in it would take the octets behind it.
        'F 00000003 016b 53',
        'F 00000007 016b 53 00000004',
        'F 00000008 016b 53 00000004 61',
        'F 00000002 056b',
        'F 00000003 016b 49',
        'F 00000003 016b 74',
        'F 00000003 016b 44',
        'F 00000003 016b 54',
        'F 00000007 016b 46 00000004',
        'F 00000007 016b 41 00000004',
        'A 00000001 49',
        'A 00000001 74',
        'A 00000005 53 00000004',
        'A 00000005 41 00000004',
    ],
)
def test_what_is_in_a_container_ends_where_that_ends(inner):
    behind = b'\x01nS\x00\x00\x00\x10' + bytes(16)
    with pytest.raises(ValueError, match='announced where'):
        read('table', table_of(field(inner) + behind))


def test_array_that_never_ends_is_refused_at_once():
    begun = time.monotonic()
    with pytest.raises(ValueError, match='announced where'):
        read_field(b'A' + b'\0\0\0\x0ab\x01')
    with pytest.raises(ValueError, match='announced where'):
        read('table', b'\0\0\0\x0ab\x01')
    assert time.monotonic() - begun < 10


def test_long_string_is_not_taken_for_shorter_than_announced():
    with pytest.raises(ValueError, match='announced where'):
        read('longstr', b'\0\0\0\xffab')
    with pytest.raises(ValueError, match='announced where'):
        read('shortstr', b'\xffab')


# --- Nesting ---


def nested_value(depth, kind):
    value = {} if kind == 'table' else []
    for _ in range(depth - 1):
        value = {'k': value} if kind == 'table' else [value]
    return value


def nested_octets(depth, kind):
    tag = b'\x01kF' if kind == 'table' else b'A'
    sizes = [struct.pack('>I', level * (len(tag) + 4)) for level in reversed(range(depth))]
    return tag[-1:] + tag.join(sizes)


@pytest.mark.parametrize('kind', ['table', 'array'])
@pytest.mark.parametrize('depth', [2, MAX_NESTING])
def test_nested_both_ways(kind, depth):
    data = table_of(nested_octets(depth, kind))
    assert write('table', {'k': nested_value(depth, kind)}) == data
    assert read('table', data) == {'k': nested_value(depth, kind)}


@pytest.mark.parametrize('kind', ['table', 'array'])
@pytest.mark.parametrize('depth', [MAX_NESTING + 1, 21_000])
def test_nested_too_deep_is_refused(kind, depth):
    with pytest.raises(ValueError, match='nested more than'):
        read('table', table_of(nested_octets(depth, kind)))
    with pytest.raises(ValueError, match='nested more than'):
        write('table', {'k': nested_value(depth, kind)})


def test_table_that_contains_itself_is_refused():
    table = {}
    table['self'] = [table]
    with pytest.raises(ValueError, match='nested more than'):
        write('table', table)


# --- Cost ---


def time_of(function, *args):
    """Return the processor time that a call takes, the least of three."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        function(*args)
        times.append(time.process_time() - begun)
    return min(times)


@pytest.mark.parametrize('entry', [b'\x00t\x01', b'\x00F\0\0\0\0', b'\x00A\0\0\0\0'], ids=repr)
def test_entries_of_a_table_are_read_without_copying_the_rest(entry):
    entries = entry * 3000
    rest = b'\x01zx' + struct.pack('>I', 1 << 23) + bytes(1 << 23)
    alone = time_of(read, 'table', struct.pack('>I', len(entries)) + entries)
    with_rest = time_of(read, 'table', struct.pack('>I', len(entries) + len(rest)) + entries + rest)
    # With a copy of the rest for each entry, it would be seconds.
    assert with_rest < 5 * alone + 0.2


# --- Random tables, and random octets ---

text = st.text(max_size=20)
decimals = st.builds(
    lambda unscaled, scale: Decimal(unscaled).scaleb(-scale),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 255),
)
simple_values = (
    text
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | decimals
    | st.binary(max_size=20)
)
tables = st.dictionaries(
    text,
    st.recursive(
        simple_values,
        lambda values: st.lists(values, max_size=4) | st.dictionaries(text, values, max_size=4),
        max_leaves=12,
    ),
    max_size=6,
)


@given(tables)
@settings(deadline=None)
def test_any_table_comes_back_as_it_was(table):
    assert same(read('table', write('table', table)), table)


READERS = ['bit', 'octet', 'short', 'long', 'longlong', 'shortstr', 'longstr', 'table', 'timestamp']


@given(st.binary(max_size=60), st.sampled_from(READERS))
@settings(deadline=None)
def test_random_octets_are_a_value_or_a_value_error(data, wire_type):
    with suppress(ValueError):
        getattr(AMQPReader(data), f'read_{wire_type}')()


tags = st.sampled_from(sorted(b'SIDTFlLiusbBtfdxAVUZ'))


@given(st.lists(st.tuples(tags, st.binary(max_size=12)), max_size=6), st.integers(0, 80))
@settings(deadline=None, max_examples=300)
def test_random_fields_are_a_table_or_a_value_error(fields, size):
    data = b''.join(b'\x01k' + bytes([tag]) + rest for tag, rest in fields)
    for announced in (len(data), size):
        try:
            table = AMQPReader(struct.pack('>I', announced) + data).read_table()
        except ValueError:
            continue
        assert isinstance(table, dict)


@given(tables, st.data())
@settings(deadline=None)
def test_damaged_table_is_another_table_or_a_value_error(table, data):
    damaged = bytearray(write('table', table))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    with suppress(ValueError):
        assert isinstance(AMQPReader(damaged).read_table(), dict)


# --- Bits ---


@pytest.mark.parametrize(
    ('bits', 'expected'),
    [
        ([True], '01'),
        ([False, True], '02'),
        ([True, False, True, True], '0d'),
        ([False] * 7 + [True], '80'),
        ([True] * 8, 'ff'),
        ([True] * 9, 'ff01'),
        ([False] * 15 + [True], '0080'),
        ([False] * 16 + [True], '000001'),
    ],
)
def test_bits_are_packed_lowest_first(bits, expected):
    writer = AMQPWriter()
    for bit in bits:
        writer.write_bit(bit)
    assert writer.getvalue() == octets(expected)
    reader = AMQPReader(octets(expected))
    assert [reader.read_bit() for _ in bits] == bits


@pytest.mark.parametrize(
    ('wire_type', 'value', 'expected'),
    [
        ('octet', 5, '05'),
        ('short', 5, '0005'),
        ('long', 5, '00000005'),
        ('longlong', 5, '0000000000000005'),
        ('timestamp', 2**64 - 1, 'ffffffffffffffff'),
        ('shortstr', 'a', '0161'),
        ('longstr', 'a', '0000000161'),
        ('table', {}, '00000000'),
    ],
)
def test_any_other_type_ends_the_octet_of_bits(wire_type, value, expected):
    writer = AMQPWriter()
    writer.write_bit(True)
    writer.write_bit(True)
    getattr(writer, f'write_{wire_type}')(value)
    writer.write_bit(True)
    assert writer.getvalue() == b'\x03' + octets(expected) + b'\x01'
    reader = AMQPReader(b'\x03' + octets(expected) + b'\x01')
    assert reader.read_bit() is True
    assert reader.read_bit() is True
    assert getattr(reader, f'read_{wire_type}')() == value
    assert reader.read_bit() is True
    assert reader.read_bit() is False


def test_plain_octets_end_the_octet_of_bits():
    writer = AMQPWriter()
    writer.write_bit(True)
    writer.write(b'\xaa')
    writer.write_bit(True)
    assert writer.getvalue() == b'\x01\xaa\x01'
    reader = AMQPReader(b'\x01\xaa\x01')
    assert reader.read_bit() is True
    assert reader.read(1) == b'\xaa'
    assert reader.read_bit() is True


items = st.one_of(
    st.tuples(st.just('bit'), st.booleans()),
    st.tuples(st.just('bit'), st.booleans()),
    st.tuples(st.just('bit'), st.booleans()),
    st.tuples(st.just('octet'), st.integers(0, 2**8 - 1)),
    st.tuples(st.just('short'), st.integers(0, 2**16 - 1)),
    st.tuples(st.just('long'), st.integers(0, 2**32 - 1)),
    st.tuples(st.just('longlong'), st.integers(0, 2**64 - 1)),
    st.tuples(st.just('timestamp'), st.integers(2**63, 2**64 - 1)),
    st.tuples(st.just('shortstr'), text),
    st.tuples(st.just('longstr'), text),
    st.tuples(st.just('table'), st.dictionaries(text, st.integers(-9, 9), max_size=3)),
)


def size_of(wire_type, value):
    fixed = {'octet': 1, 'short': 2, 'long': 4, 'longlong': 8, 'timestamp': 8}
    if wire_type in fixed:
        return fixed[wire_type]
    if wire_type == 'table':
        return 4 + sum(1 + len(key.encode()) + 5 for key in value)
    return {'shortstr': 1, 'longstr': 4}[wire_type] + len(value.encode())


@given(st.lists(items, max_size=30))
@settings(deadline=None)
def test_any_sequence_of_types_comes_back_and_only_neighbouring_bits_share_octets(sequence):
    writer = AMQPWriter()
    for wire_type, value in sequence:
        getattr(writer, f'write_{wire_type}')(value)
    data = writer.getvalue()
    reader = AMQPReader(data)
    assert [getattr(reader, f'read_{wire_type}')() for wire_type, _ in sequence] == [
        value for _, value in sequence
    ]

    expected_size = run = 0
    for wire_type, value in [*sequence, ('octet', 0)]:
        if wire_type == 'bit':
            run += 1
        else:
            expected_size += (run + 7) // 8 + size_of(wire_type, value)
            run = 0
    assert len(data) == expected_size - 1


# --- Reader and writer as objects ---


def test_byte():
    assert byte(0) == b'\x00'
    assert byte(206) == b'\xce'


def test_old_programs_are_told_that_this_is_python_3():
    assert serialization.IS_PY3K is True


@pytest.mark.parametrize('source', [b'\x01\x02', bytearray(b'\x01\x02'), memoryview(b'\x01\x02')])
def test_reader_of_octets(source):
    reader = AMQPReader(source)
    assert reader.read_octet() == 1
    assert reader.read(1) == b'\x02'


@pytest.mark.parametrize('source', [None, 5, 'text', [b'a']])
def test_reader_of_anything_else_is_refused(source):
    with pytest.raises(ValueError, match='AMQPReader'):
        AMQPReader(source)


class Stream:
    """Something with read(), which knows how much was asked for."""

    def __init__(self, data):
        self.data = BytesIO(data)
        self.asked = 0

    def read(self, size):
        self.asked += size
        return self.data.read(size)


def test_reader_of_a_stream_takes_no_more_than_it_needs():
    values = [item for item in WIRE_TYPES if item[0] != 'bit']
    stream = Stream(b''.join(octets(data) for _, _, data in values) + b'\x03' + b'rest')
    reader = AMQPReader(stream)
    taken = 0
    for wire_type, value, data in values:
        assert same(getattr(reader, f'read_{wire_type}')(), value)
        taken += len(octets(data))
        assert stream.asked == taken
    assert [reader.read_bit() for _ in range(8)] == [True, True] + [False] * 6
    assert stream.asked == taken + 1
    assert reader.read(4) == b'rest'


@pytest.mark.parametrize('wire_type', [one for one in READERS if one != 'bit'])
def test_stream_that_ends_too_soon_is_a_value_error(wire_type):
    with pytest.raises(ValueError, match='announced where'):
        getattr(AMQPReader(BytesIO(b'')), f'read_{wire_type}')()
    longer = AMQPReader(BytesIO(b'\x00\x00\x00\x09'))
    with pytest.raises(ValueError, match='announced where'):
        longer.read_longstr()


def test_closed_reader_has_nothing_left():
    reader = AMQPReader(b'\x01\x02')
    reader.close()
    with pytest.raises(ValueError, match='announced where'):
        reader.read_octet()


def test_writer_writes_to_what_it_is_given():
    out = BytesIO()
    writer = AMQPWriter(out)
    writer.write_short(258)
    assert out.getvalue() == b'\x01\x02'
    writer.write_bit(True)
    assert out.getvalue() == b'\x01\x02'
    writer.flush()
    assert out.getvalue() == b'\x01\x02\x01'
    writer.write_bit(True)
    assert writer.getvalue() == b'\x01\x02\x01\x01'


class Destination:
    """Something with write() and close() and no more."""

    def __init__(self):
        self.written = b''
        self.closed = False

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True


def test_closing_the_writer_writes_held_bits_and_closes_the_destination():
    out = Destination()
    writer = AMQPWriter(out)
    writer.write_bit(True)
    writer.close()
    assert (out.written, out.closed) == (b'\x01', True)


@pytest.mark.parametrize(
    ('wire_type', 'value'),
    [
        ('octet', 256),
        ('short', 'a'),
        ('long', -1),
        ('longlong', None),
        ('shortstr', 'a' * 256),
        ('longstr', 5),
        ('table', {'a': 1, 'b': None}),
        ('timestamp', 'now'),
    ],
)
def test_wrong_value_writes_nothing(wire_type, value):
    writer = AMQPWriter()
    writer.write_octet(7)
    writer.write_bit(True)
    with pytest.raises((TypeError, ValueError)):
        getattr(writer, f'write_{wire_type}')(value)
    writer.write_bit(True)
    assert writer.getvalue() == b'\x07\x03'


# --- The arguments of methods ---

ARGUMENTS = [
    (
        'queue.declare',
        (0, 'q', False, True, False, True, False, {'a': 1}),
        '0000 0171 0a 00000007 0161 49 00000001',
    ),
    ('queue.declare_ok', ('amq.gen', 3, 1), '07 616d712e67656e 00000003 00000001'),
    (
        'exchange.declare',
        (7, 'e', 'fanout', True, True, True, True, True, {}),
        '0007 0165 06 66616e6f7574 1f 00000000',
    ),
    ('access.request', ('/data', False, False, True, True, True), '05 2f64617461 1c'),
    ('basic.publish', (0, '', 'é', True, False), '0000 00 02c3a9 01'),
    ('basic.deliver', ('t', 2**64 - 1, True, '', 'k'), '0174 ffffffffffffffff 01 00 016b'),
    ('basic.ack', (5, False), '0000000000000005 00'),
    ('basic.qos', (0, 65535, True), '00000000 ffff 01'),
    ('connection.tune_ok', (2047, 131072, 60), '07ff 00020000 003c'),
    (
        'connection.start_ok',
        ({}, 'PLAIN', '\0a\0b', 'en_US'),
        '00000000 05 504c41494e 00000004 00610062 05 656e5f5553',
    ),
    ('connection.start', (8, 0, {}, 'PLAIN', ''), '08 00 00000000 00000005 504c41494e 00000000'),
    ('channel.close', (404, 'no', 50, 10), '0194 02 6e6f 0032 000a'),
    ('tx.select', (), ''),
]


@pytest.mark.parametrize(('name', 'values', 'expected'), ARGUMENTS)
def test_arguments_both_ways(name, values, expected):
    method = spec.METHODS[name]
    for _ in range(2):
        assert encode_method(method, values) == method.prefix + octets(expected)
    assert same(decode_arguments(method, AMQPReader(octets(expected))), values)


@pytest.mark.parametrize(('name', 'values', 'expected'), ARGUMENTS)
def test_arguments_cut_short_or_too_long_are_the_broker_s_fault(name, values, expected):
    method = spec.METHODS[name]
    data = octets(expected)
    for wrong in [data[:size] for size in range(len(data))] + [data + b'\0']:
        with pytest.raises(ProtocolError, match=f'arguments of {name}') as caught:
            decode_arguments(method, AMQPReader(wrong))
        assert caught.value.amqp_reply_code == 502
        assert caught.value.amqp_method_sig == method.signature


def test_arguments_with_a_broken_table_are_the_broker_s_fault():
    data = octets('07d0 00') + table_of(b'U')
    with pytest.raises(ProtocolError, match='Unknown table item type: 85') as caught:
        decode_arguments(spec.METHODS['channel.alert'], AMQPReader(data))
    assert caught.value.amqp_reply_code == 502


def test_equal_arguments_of_other_types_are_each_encoded_as_their_own():
    method = spec.METHODS['basic.ack']
    assert encode_method(method, (1, True))[4:] == octets('0000000000000001 01')
    assert encode_method(method, (1, 2))[4:] == octets('0000000000000001 01')
    with pytest.raises(TypeError, match='delivery_tag'):
        encode_method(method, (1.0, True))
    with pytest.raises(TypeError, match='delivery_tag'):
        encode_method(method, (Decimal(1), True))


def test_a_table_that_has_changed_is_encoded_as_it_is_now():
    method = spec.METHODS['queue.bind']
    table = {'a': 1}
    before = encode_method(method, (0, 'q', 'e', 'k', False, table))
    table['a'] = 2
    assert encode_method(method, (0, 'q', 'e', 'k', False, table)) == before[:-1] + b'\x02'


def test_no_table_is_an_empty_table():
    values = (0, 'q', 'e', 'k', False, None)
    assert encode_method(spec.METHODS['queue.bind'], values)[-4:] == bytes(4)


@pytest.mark.parametrize(
    ('name', 'values', 'error', 'words'),
    [
        ('basic.qos', (0, 65536, False), ValueError, 'basic.qos prefetch_count: 65536'),
        ('basic.qos', (-1, 0, False), ValueError, 'basic.qos prefetch_size: -1'),
        ('basic.ack', ('5', False), TypeError, 'basic.ack delivery_tag: '),
        ('basic.cancel', ('a' * 256, False), ValueError, 'basic.cancel consumer_tag: String too'),
        ('basic.cancel', (None, False), TypeError, 'basic.cancel consumer_tag: '),
        ('basic.cancel', (b'\xff', False), ValueError, 'basic.cancel consumer_tag: '),
        ('basic.cancel', ('a\udcff', False), ValueError, 'basic.cancel consumer_tag: '),
        ('queue.bind', (0, '', '', '', 0, {'x': None}), ValueError, "queue.bind arguments['x']: "),
        ('queue.bind', (0, '', '', '', 0, {'x': {5: 1}}), TypeError, "arguments['x'][5]: "),
        ('queue.bind', (0, '', '', '', 0, 'x'), TypeError, 'queue.bind arguments: '),
    ],
)
def test_wrong_argument_is_named(name, values, error, words):
    for _ in range(2):
        with pytest.raises(error, match=re.escape(words)) as caught:
            encode_method(spec.METHODS[name], values)
        assert type(caught.value) is error


SOURCES = [
    b'\x00\x01e\x01k',
    b'\x01\x00\x00',
    b'\xfe\x02\xc3\xa9\x01\xff',
    b'\x00\x05e\x01k',  # goes beyond its end
    b'\x00\x01e\x01kk',  # ends too late
    b'\x00\x01e',
    b'',
]


@pytest.mark.parametrize('source', SOURCES)
@pytest.mark.parametrize(
    'around', [(b'\xff' * 8, b'\x00\x00\x00\x05'), (bytes(8), b''), (b'', b'')]
)
def test_arguments_of_get_ok_are_those_of_the_general_way(source, around):
    data = around[0] + source + around[1]
    method = spec.METHODS['basic.get_ok']
    try:
        expected = decode_arguments(method, AMQPReader(data))
    except ProtocolError as error:
        with pytest.raises(ProtocolError, match=re.escape(error.amqp_reply_text)):
            decode_get_ok(AMQPReader(data))
    else:
        assert decode_get_ok(AMQPReader(data)) == expected


# --- Property lists ---


class Everything(GenericContent):
    """A content with each type, and with more properties than one word of flags has room for."""

    PROPERTIES = (
        ('octet', 'octet'),
        ('short', 'short'),
        ('long', 'long'),
        ('longlong', 'longlong'),
        ('shortstr', 'shortstr'),
        ('longstr', 'longstr'),
        ('table', 'table'),
        ('timestamp', 'timestamp'),
        *((f'text_{number}', 'shortstr') for number in range(8, 33)),
    )


def loaded(data, cls=Everything):
    content = cls()
    content._load_properties(data)
    return content


PROPERTY_LISTS = [
    ({}, '0001 0001 0000'),
    ({'octet': 5}, '8001 0001 0000 05'),
    ({'short': 5}, '4001 0001 0000 0005'),
    ({'long': 5}, '2001 0001 0000 00000005'),
    ({'longlong': 5}, '1001 0001 0000 0000000000000005'),
    ({'shortstr': 'a'}, '0801 0001 0000 0161'),
    ({'longstr': 'a'}, '0401 0001 0000 0000000161'),
    ({'table': {'a': 1}}, '0201 0001 0000 00000007 0161 49 00000001'),
    ({'timestamp': 2**63}, '0101 0001 0000 8000000000000000'),
    ({'text_14': 'a'}, '0003 0001 0000 0161'),
    ({'text_15': 'a'}, '0001 8001 0000 0161'),
    ({'text_29': 'a'}, '0001 0003 0000 0161'),
    ({'text_30': 'a'}, '0001 0001 8000 0161'),
    ({'text_32': 'a'}, '0001 0001 2000 0161'),
    (
        {'octet': 5, 'text_14': 'b', 'text_15': 'c', 'text_30': 'd'},
        '8003 8001 8000 05 0162 0163 0164',
    ),
]


@pytest.mark.parametrize(('properties', 'expected'), PROPERTY_LISTS)
def test_property_list_both_ways(properties, expected):
    assert Everything(**properties)._serialize_properties() == octets(expected)
    assert same(loaded(octets(expected)).properties, properties)


def test_the_generic_content_has_one_property():
    assert GenericContent(dummy='a')._serialize_properties() == octets('8000 0161')
    assert GenericContent()._serialize_properties() == octets('0000')
    assert loaded(octets('8000 0161'), GenericContent).dummy == 'a'


def test_flags_may_end_before_all_properties_are_named():
    assert loaded(octets('8000 05')).properties == {'octet': 5}


@pytest.mark.parametrize(
    'flags', ['0001 0001 1000', '0001 0001 0002', '0001 0001 0001 8000', '0001 0001 2001 0002']
)
def test_flag_of_a_property_that_does_not_exist_damages_all(flags):
    content = loaded(octets(flags) + b'\x01a' * 4)
    assert content.properties == {}
    for name in ('octet', 'text_32'):
        with pytest.raises(ValueError, match=f'{name}: .*does not exist'):
            getattr(content, name)


@pytest.mark.parametrize('flags', ['', '00', '0001', '0001 00', '0001' * 20])
def test_flags_that_do_not_end_damage_all(flags):
    content = loaded(octets(flags))
    assert content.properties == {}
    with pytest.raises(ValueError, match=r'short: .*flags do not end'):
        content.short  # noqa: B018


def test_endless_flags_take_time_by_their_size():
    small = time_of(lambda: loaded(b'\x00\x01' * 10_000).properties)
    large = time_of(lambda: loaded(b'\x00\x01' * 80_000).properties)
    assert large < 20 * small


def test_error_of_a_property_names_it():
    with pytest.raises(ValueError, match='octet: 256 is not'):
        Everything(octet=256)._serialize_properties()
    with pytest.raises(TypeError, match='shortstr: '):
        Everything(shortstr=5)._serialize_properties()
    with pytest.raises(ValueError, match=re.escape("table['a']: ")):
        Everything(table={'a': None})._serialize_properties()
    with pytest.raises(TypeError, match='table: '):
        Everything(table=[])._serialize_properties()


def test_contents_are_equal_by_their_properties():
    assert GenericContent(dummy='a') == GenericContent(dummy='a')
    assert GenericContent(dummy='a') == loaded(octets('8000 0161'), GenericContent)
    assert GenericContent(dummy='a') != GenericContent(dummy='b')
    assert GenericContent(dummy='a') != GenericContent()
    assert GenericContent() != None  # noqa: E711
    assert GenericContent() != {}


def test_unknown_property_of_a_content_is_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="GenericContent has no property 'dumy', 'x': it is"):
        content = GenericContent(dumy='a', x=1, dummy='b')
    assert content.properties == {'dummy': 'b'}


def test_property_of_a_class_is_what_makes_it_an_attribute():
    assert GenericContent.dummy.name == 'dummy'
    assert Everything.octet.name == 'octet'


def test_contents_cannot_be_hashed():
    with pytest.raises(TypeError, match='unhashable'):
        hash(GenericContent())


def test_unknown_attribute_is_an_attribute_error():
    content = GenericContent()
    with pytest.raises(AttributeError, match='nothing'):
        content.nothing  # noqa: B018
    with pytest.raises(AttributeError, match='dummy'):
        content.dummy  # noqa: B018


@given(st.binary(max_size=40))
@settings(deadline=None, max_examples=300)
def test_random_property_list_only_hurts_when_it_is_looked_at(data):
    content = loaded(data)
    assert content._serialize_properties() == data
    properties = content.properties
    for name, _ in Everything.PROPERTIES:
        if name in properties:
            assert getattr(content, name) is properties[name]
        else:
            with pytest.raises((AttributeError, ValueError), match=name):
                getattr(content, name)
