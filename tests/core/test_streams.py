"""AMQPReader and AMQPWriter: bits between other types, sources and destinations."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib.core.streams import AMQPReader, AMQPWriter
from tests.helpers.values import READERS, WIRE_TYPES, same, unhex

text = st.text(max_size=20)

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
    assert writer.getvalue() == unhex(expected)
    reader = AMQPReader(unhex(expected))
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
def test_any_other_type_ends_the_byte_of_bits(wire_type, value, expected):
    writer = AMQPWriter()
    writer.write_bit(True)
    writer.write_bit(True)
    getattr(writer, f'write_{wire_type}')(value)
    writer.write_bit(True)
    assert writer.getvalue() == b'\x03' + unhex(expected) + b'\x01'
    reader = AMQPReader(b'\x03' + unhex(expected) + b'\x01')
    assert reader.read_bit() is True
    assert reader.read_bit() is True
    assert getattr(reader, f'read_{wire_type}')() == value
    assert reader.read_bit() is True
    assert reader.read_bit() is False


def test_plain_bytes_end_the_byte_of_bits():
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
def test_any_sequence_of_types_comes_back_and_only_neighbouring_bits_share_bytes(sequence):
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


@pytest.mark.parametrize('source', [b'\x01\x02', bytearray(b'\x01\x02'), memoryview(b'\x01\x02')])
def test_reader_of_bytes(source):
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
    stream = Stream(b''.join(unhex(data) for _, _, data in values) + b'\x03' + b'rest')
    reader = AMQPReader(stream)
    taken = 0
    for wire_type, value, data in values:
        assert same(getattr(reader, f'read_{wire_type}')(), value)
        taken += len(unhex(data))
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
