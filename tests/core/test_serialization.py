"""Wire types and tables: byte by byte, both ways; limits; damage; random input."""

import re
import struct
import time
from collections import OrderedDict
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from enum import IntEnum
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqplib.core.serialization import (
    MAX_NESTING,
)
from amqplib.core.streams import AMQPReader, AMQPWriter
from tests.helpers.values import READERS, WIRE_TYPES, same, table_of, unhex
from tests.helpers.waiting import time_of


def write(wire_type, value):
    writer = AMQPWriter()
    getattr(writer, f'write_{wire_type}')(value)
    return writer.getvalue()


def read(wire_type, data):
    """Return the value that the whole of the data is."""
    reader = AMQPReader(data)
    value = getattr(reader, f'read_{wire_type}')()
    with pytest.raises(ValueError, match='1 bytes announced where 0 are left'):
        reader.read(1)
    return value


def read_field(field):
    """Return the value of a field, tag and all, in a table."""
    return read('table', table_of(field))['k']


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


@pytest.mark.parametrize(('wire_type', 'value', 'expected'), WIRE_TYPES)
def test_wire_type_both_ways(wire_type, value, expected):
    assert write(wire_type, value) == unhex(expected)
    assert same(read(wire_type, unhex(expected)), value)


@pytest.mark.parametrize(('wire_type', 'value', 'expected'), WIRE_TYPES)
def test_wire_type_cut_short_anywhere_is_refused(wire_type, value, expected):
    data = unhex(expected)
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
def test_a_short_string_over_255_bytes_is_refused(text):
    with pytest.raises(ValueError, match='String too long'):
        write('shortstr', text)


def test_bytes_of_a_short_string_are_counted_not_characters():
    assert write('shortstr', 'é' * 127 + 'a') == b'\xff' + b'\xc3\xa9' * 127 + b'a'


def test_bytes_of_a_long_string_are_counted_not_characters():
    assert write('longstr', '€' * 1000)[:4] == struct.pack('>I', 3000)


@pytest.mark.parametrize('wire_type', ['shortstr', 'longstr'])
@pytest.mark.parametrize('value', [None, 5, ['a'], memoryview(b'a')])
def test_what_is_not_a_string_is_refused(wire_type, value):
    with pytest.raises(TypeError, match='not a str or bytes'):
        write(wire_type, value)


@pytest.mark.parametrize('wire_type', ['shortstr', 'longstr'])
def test_bytes_are_written_as_they_are(wire_type):
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
def test_any_bytes_survive_as_a_short_string(data):
    text = read('shortstr', bytes([len(data)]) + data)
    assert isinstance(text, str)
    assert write('shortstr', text) == bytes([len(data)]) + data


@given(st.binary(max_size=300))
def test_any_bytes_survive_as_a_long_string(data):
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
    """Return the bytes of a field: a tag and hexadecimal digits."""
    return text[:1].encode() + unhex(text[1:])


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


def test_key_of_255_bytes():
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
        ('bytes', '00000008 016b 78 00000005 61'),
        ('nested table', '00000008 016b 46 00000005 61'),
        ('array', '00000007 016b 41 0000000a'),
        ('array beside what it announces', '00000009 016b 41 0000000a 6201'),
    ],
)
def test_length_beyond_its_container_is_refused(what, data):
    with pytest.raises(ValueError, match='announced where'):
        read('table', unhex(data))


@pytest.mark.parametrize(
    'inner',
    [
        # Each is a container of its own, and what is in it would take the bytes behind it.
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


def nested_unhex(depth, kind):
    tag = b'\x01kF' if kind == 'table' else b'A'
    sizes = [struct.pack('>I', level * (len(tag) + 4)) for level in reversed(range(depth))]
    return tag[-1:] + tag.join(sizes)


@pytest.mark.parametrize('kind', ['table', 'array'])
@pytest.mark.parametrize('depth', [2, MAX_NESTING])
def test_nested_both_ways(kind, depth):
    data = table_of(nested_unhex(depth, kind))
    assert write('table', {'k': nested_value(depth, kind)}) == data
    assert read('table', data) == {'k': nested_value(depth, kind)}


@pytest.mark.parametrize('kind', ['table', 'array'])
@pytest.mark.parametrize('depth', [MAX_NESTING + 1, 21_000])
def test_nested_too_deep_is_refused(kind, depth):
    with pytest.raises(ValueError, match='nested more than'):
        read('table', table_of(nested_unhex(depth, kind)))
    with pytest.raises(ValueError, match='nested more than'):
        write('table', {'k': nested_value(depth, kind)})


def test_table_that_contains_itself_is_refused():
    table = {}
    table['self'] = [table]
    with pytest.raises(ValueError, match='nested more than'):
        write('table', table)


# --- Cost ---


@pytest.mark.parametrize('entry', [b'\x00t\x01', b'\x00F\0\0\0\0', b'\x00A\0\0\0\0'], ids=repr)
def test_entries_of_a_table_are_read_without_copying_the_rest(entry):
    entries = entry * 3000
    rest = b'\x01zx' + struct.pack('>I', 1 << 23) + bytes(1 << 23)
    alone = time_of(read, 'table', struct.pack('>I', len(entries)) + entries)
    with_rest = time_of(read, 'table', struct.pack('>I', len(entries) + len(rest)) + entries + rest)
    # With a copy of the rest for each entry, it would be seconds.
    assert with_rest < 5 * alone + 0.2


# --- Random tables, and random bytes ---

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
def test_any_table_comes_back_as_it_was(table):
    assert same(read('table', write('table', table)), table)


@given(st.binary(max_size=60), st.sampled_from(READERS))
def test_random_bytes_are_a_value_or_a_value_error(data, wire_type):
    with suppress(ValueError):
        getattr(AMQPReader(data), f'read_{wire_type}')()


tags = st.sampled_from(sorted(b'SIDTFlLiusbBtfdxAVUZ'))


@given(st.lists(st.tuples(tags, st.binary(max_size=12)), max_size=6), st.integers(0, 80))
@settings(max_examples=300)
def test_random_fields_are_a_table_or_a_value_error(fields, size):
    data = b''.join(b'\x01k' + bytes([tag]) + rest for tag, rest in fields)
    for announced in (len(data), size):
        try:
            table = AMQPReader(struct.pack('>I', announced) + data).read_table()
        except ValueError:
            continue
        assert isinstance(table, dict)


@given(tables, st.data())
def test_damaged_table_is_another_table_or_a_value_error(table, data):
    damaged = bytearray(write('table', table))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    with suppress(ValueError):
        assert isinstance(AMQPReader(damaged).read_table(), dict)
