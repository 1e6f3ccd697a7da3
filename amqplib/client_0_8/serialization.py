"""The codec: what the octets of AMQP mean as Python values, and back.

One function per wire type: ``encode_X(value) -> bytes`` and ``decode_X(data, offset, end) ->
(value, next offset)``, where `end` is the end of what contains the value. A length that goes
beyond its container is refused before anything is taken. AMQPReader and AMQPWriter put these
together for the arguments of methods, and GenericContent for the properties of a content.

Wrong values and wrong octets are a ValueError or a TypeError; what may be decoded late, in the
property list of a message, is kept as it came until it is looked at.

Field-table types, read and written (RabbitMQ's set, which differs from the specification's)::

    tag  type               written for         tag  type               written for
    S    long string        str                 x    octets             bytes, bytearray
    t    boolean            bool                F    table              dict
    I    signed 32          int that fits       A    array              list, tuple
    l L  signed 64          int (as l)          V    void               -
    d    float 64           float               b B  signed, unsigned 8 -
    f    float 32           -                   s u  signed, unsigned 16 -
    D    decimal            Decimal             i    unsigned 32        -
    T    timestamp          datetime
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache, partial
from io import BytesIO
from itertools import groupby
from math import floor, isfinite
from operator import index
from struct import Struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional, Union

from amqplib.client_0_8.exceptions import ProtocolError
from amqplib.client_0_8.remembering import lru_cache
from amqplib.client_0_8.spec import COMMON, SYNTAX_ERROR, Method

# The modules of rare types are imported when there is a value of them: a program that has none
# starts sooner.
if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

#: Kept for programs that ask; there has been no other kind for long.
IS_PY3K = True

#: How deep tables and arrays may be nested, to be read or written. The broker has no limit.
MAX_NESTING = 64

_OCTET = Struct('>B')
_SHORT = Struct('>H')
_LONG = Struct('>I')
_LONGLONG = Struct('>Q')
_DECIMAL = Struct('>Bi')

Decoded = tuple[Any, int]


def byte(number: int) -> bytes:
    """Return the octet with this value, as bytes."""
    return _OCTET.pack(number)


# --- Encoding: the wire types -------------------------------------------------------------------


def _encode_unsigned(struct: Struct, value: int) -> bytes:
    number = index(value)
    if not 0 <= number < 1 << 8 * struct.size:
        raise ValueError(f'{number} is not a number from 0 to {(1 << 8 * struct.size) - 1}')
    return struct.pack(number)


encode_octet = partial(_encode_unsigned, _OCTET)
encode_short = partial(_encode_unsigned, _SHORT)
encode_long = partial(_encode_unsigned, _LONG)
encode_longlong = partial(_encode_unsigned, _LONGLONG)


def _to_octets(value: Union[str, bytes, bytearray], errors: str) -> bytes:
    if isinstance(value, str):
        return value.encode('utf-8', errors)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise TypeError(f'{type(value).__name__!r} is not a str or bytes')


def encode_shortstr(value: Union[str, bytes, bytearray], errors: str = 'surrogateescape') -> bytes:
    """Encode a string of at most 255 octets; text as UTF-8, surrogates as the octets they were."""
    octets = _to_octets(value, errors)
    if len(octets) > 255:
        raise ValueError(f'String too long ({len(octets)} octets, at most 255 are allowed)')
    return _OCTET.pack(len(octets)) + octets


def encode_longstr(value: Union[str, bytes, bytearray]) -> bytes:
    """Encode a string of up to 4 GiB; text as UTF-8, surrogates as the octets they were."""
    octets = _to_octets(value, 'surrogateescape')
    return encode_long(len(octets)) + octets


def encode_timestamp(value: Union[datetime, int]) -> bytes:
    """Encode a time as whole seconds since 1970 (UTC); a naive datetime is local time."""
    from datetime import datetime  # noqa: PLC0415

    if isinstance(value, datetime):
        try:
            value = floor(value.timestamp())
        except (OverflowError, OSError, ValueError):
            raise ValueError(f'{value} is out of range') from None
    return encode_longlong(value)


# --- Encoding: tables ---------------------------------------------------------------------------


def _encode_bool(value: bool, types: FieldTypes, depth: int) -> bytes:
    return b't\x01' if value else b't\x00'


def _encode_int(value: int, types: FieldTypes, depth: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b'I' + value.to_bytes(4, 'big', signed=True)
    if -(1 << 63) <= value < 1 << 63:
        return b'l' + value.to_bytes(8, 'big', signed=True)
    raise ValueError(f'{value} does not fit into 64 bits')


def _encode_float(value: float, types: FieldTypes, depth: int) -> bytes:
    if not isfinite(value):
        raise ValueError(f'{value} is refused by brokers')
    return b'd' + _DOUBLE.pack(value)


def _encode_decimal(value: Decimal, types: FieldTypes, depth: int) -> bytes:
    if not value.is_finite():
        raise ValueError(f'{value} is not a finite number')
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # it is a letter for what is not finite
    # A number of ten digits is beyond 32 bits; do not compute 10 ** 999999 to find that out.
    if exponent > 10 or exponent < -255:
        raise ValueError(f'{value} does not fit into 32 bits and 255 decimal places')
    unscaled = int(''.join(map(str, digits))) * 10 ** max(exponent, 0) * (-1 if sign else 1)
    if not -(1 << 31) <= unscaled < 1 << 31:
        raise ValueError(f'{value} does not fit into 32 bits and 255 decimal places')
    return b'D' + _DECIMAL.pack(max(-exponent, 0), unscaled)


def _encode_datetime(value: datetime, types: FieldTypes, depth: int) -> bytes:
    return b'T' + encode_timestamp(value)


def _encode_str(value: str, types: FieldTypes, depth: int) -> bytes:
    return b'S' + encode_longstr(value)


def _encode_bytes(value: bytes, types: FieldTypes, depth: int) -> bytes:
    return b'x' + encode_longstr(value)


def _encode_dict(value: Mapping[Any, Any], types: FieldTypes, depth: int) -> bytes:
    return b'F' + encode_table(value, types, depth)


def _encode_list(value: Union[list[Any], tuple[Any, ...]], types: FieldTypes, depth: int) -> bytes:
    _check_depth(depth)
    items = b''.join(_encode_value(item, types, depth + 1) for item in value)
    return b'A' + encode_long(len(items)) + items


#: (value, types, depth) -> octets. The second Any is FieldTypes: its name in quotes would have to
#: be compiled, which takes longer than to import this module.
Encoder = Callable[[Any, Any, int], bytes]
FieldTypes = Mapping[type, Encoder]

#: Python type -> how it is written; a subclass is written as the first of these that it is.
#: The rare types are not among them: see _encoder_of.
FIELD_TYPES: FieldTypes = {
    str: _encode_str,
    bool: _encode_bool,
    int: _encode_int,
    float: _encode_float,
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    dict: _encode_dict,
    list: _encode_list,
    tuple: _encode_list,
}


def _check_depth(depth: int) -> None:
    if depth > MAX_NESTING:
        raise ValueError(f'nested more than {MAX_NESTING} deep')


def _encode_value(value: Any, types: FieldTypes, depth: int) -> bytes:
    encode = types.get(type(value)) or _encoder_of(value, types)
    return encode(value, types, depth)


def _encoder_of(value: Any, types: FieldTypes) -> Encoder:
    """Return how a value is written whose own type is not among these; else raise ValueError."""
    for known, encode in types.items():
        if isinstance(value, known):
            return encode
    from datetime import datetime  # noqa: PLC0415
    from decimal import Decimal  # noqa: PLC0415

    if isinstance(value, datetime):
        return _encode_datetime
    if isinstance(value, Decimal):
        return _encode_decimal
    raise ValueError(f'{type(value).__name__!r} is not serializable in AMQP')


def encode_table(
    table: Mapping[Any, Any], types: FieldTypes = FIELD_TYPES, depth: int = 0
) -> bytes:
    """Encode a dict of str keys (at most 255 octets) and values of the types in `types`.

    Raises ValueError or TypeError that names the key.
    """
    _check_depth(depth)
    if not isinstance(table, Mapping):
        raise TypeError(f'{type(table).__name__!r} is not a dict')
    parts = []
    for key, value in table.items():
        try:
            parts.append(encode_shortstr(key))
            parts.append(_encode_value(value, types, depth + 1))
        except (TypeError, ValueError) as error:
            raise named(error, f'[{key!r}]') from None
    octets = b''.join(parts)
    return encode_long(len(octets)) + octets


def named(error: Exception, name: str) -> Exception:
    """Return the error again, as a plain ValueError or TypeError that says where it was."""
    cls = TypeError if isinstance(error, TypeError) else ValueError
    text = str(error)
    return cls('{}{}{}'.format(name, '' if text.startswith('[') else ': ', text))


# --- Decoding: the wire types -------------------------------------------------------------------


def _check_end(offset: int, size: int, end: int) -> int:
    """Return the offset behind `size` octets; raise ValueError if that is beyond the end."""
    following = offset + size
    if following > end:
        raise ValueError(f'{size} octets announced where {end - offset} are left')
    return following


def _decode_fixed(struct: Struct, data: bytes, offset: int, end: int) -> Decoded:
    following = _check_end(offset, struct.size, end)
    return struct.unpack_from(data, offset)[0], following


decode_octet = partial(_decode_fixed, _OCTET)
decode_short = partial(_decode_fixed, _SHORT)
decode_long = partial(_decode_fixed, _LONG)
decode_longlong = partial(_decode_fixed, _LONGLONG)


def decode_shortstr(data: bytes, offset: int, end: int) -> Decoded:
    """Decode UTF-8; octets that are not UTF-8 become surrogates, which are written as they were."""
    if offset >= end:
        _check_end(offset, 1, end)
    start = offset + 1
    following = start + data[offset]
    if following > end:
        _check_end(start, data[offset], end)
    return data[start:following].decode('utf-8', 'surrogateescape'), following


def decode_octets(data: bytes, offset: int, end: int) -> Decoded:
    """Decode a long string as bytes."""
    size, start = decode_long(data, offset, end)
    following = _check_end(start, size, end)
    return data[start:following], following


def decode_longstr(data: bytes, offset: int, end: int) -> Decoded:
    """Decode a long string as text if it is UTF-8, else as bytes."""
    octets, following = decode_octets(data, offset, end)
    try:
        return octets.decode('utf-8'), following
    except UnicodeDecodeError:
        return octets, following


#: 30 December 9999: from here on, not every time zone has a datetime that can be written back.
_END_OF_TIME = 253_402_128_000


def decode_timestamp(data: bytes, offset: int, end: int) -> Decoded:
    """Decode a naive datetime in local time; an int where that has no such time."""
    from datetime import datetime  # noqa: PLC0415

    seconds, following = decode_longlong(data, offset, end)
    if seconds < _END_OF_TIME:
        try:
            return datetime.fromtimestamp(seconds), following
        except (OverflowError, ValueError, OSError):
            pass  # some systems have even less
    return seconds, following


# --- Decoding: tables ---------------------------------------------------------------------------

_DOUBLE = Struct('>d')

_FIXED_FIELDS: dict[int, Struct] = {
    ord(tag): Struct('>' + code)
    for tag, code in {
        't': '?',
        'b': 'b',
        'B': 'B',
        's': 'h',
        'u': 'H',
        'I': 'i',
        'i': 'I',
        'l': 'q',
        'L': 'q',
        'f': 'f',
        'd': 'd',
    }.items()
}


def _decode_decimal(data: bytes, offset: int, end: int) -> Decoded:
    from decimal import Decimal  # noqa: PLC0415

    following = _check_end(offset, _DECIMAL.size, end)
    scale, unscaled = _DECIMAL.unpack_from(data, offset)
    # Built from its parts, it is exact under every decimal context.
    digits = tuple(map(int, str(abs(unscaled))))
    return Decimal((int(unscaled < 0), digits, -scale)), following


def _decode_void(data: bytes, offset: int, end: int) -> Decoded:
    return None, offset


_SIMPLE_FIELDS: dict[int, Callable[[bytes, int, int], Decoded]] = {
    ord('S'): decode_longstr,
    ord('x'): decode_octets,
    ord('T'): decode_timestamp,
    ord('D'): _decode_decimal,
    ord('V'): _decode_void,
    **{tag: partial(_decode_fixed, struct) for tag, struct in _FIXED_FIELDS.items()},
}


def _decode_value(data: bytes, offset: int, end: int, depth: int) -> Decoded:
    start = _check_end(offset, 1, end)
    tag = data[offset]
    decode = _SIMPLE_FIELDS.get(tag)
    if decode is not None:
        return decode(data, start, end)
    if tag == 0x46:  # F
        return decode_table(data, start, end, depth)
    if tag == 0x41:  # A
        return _decode_array(data, start, end, depth)
    raise ValueError(f'Unknown table item type: {tag}')


def _decode_array(data: bytes, offset: int, end: int, depth: int) -> Decoded:
    _check_depth(depth)
    size, offset = decode_long(data, offset, end)
    end = _check_end(offset, size, end)
    items = []
    while offset < end:
        item, offset = _decode_value(data, offset, end, depth + 1)
        items.append(item)
    return items, offset


def decode_table(data: bytes, offset: int, end: int, depth: int = 0) -> Decoded:
    """Decode a field table to a dict; of equal keys the last counts."""
    _check_depth(depth)
    size, offset = decode_long(data, offset, end)
    end = _check_end(offset, size, end)
    table = {}
    while offset < end:
        key, offset = decode_shortstr(data, offset, end)
        table[key], offset = _decode_value(data, offset, end, depth + 1)
    return table, offset


# --- The arguments of methods -------------------------------------------------------------------


class AMQPReader:
    """Reads the wire types one after the other from bytes, or from an object with read().

    Bits are taken from one octet as long as bits are read, the lowest first (specification
    4.2.5.2). What is not there or not right is a ValueError.
    """

    # Here, as a reader is made for every method that arrives.
    _offset = bits = bitcount = 0

    def __init__(self, source: Any) -> None:
        self.input = source
        if type(source) is bytes:
            self._data = source
        elif isinstance(source, (bytearray, memoryview)):
            self._data = bytes(source)
        elif hasattr(source, 'read'):
            self._data = b''
        else:
            raise ValueError('AMQPReader needs bytes or an object with read()')

    def close(self) -> None:
        """Forget the source."""
        self.input = self._data = b''
        self._offset = 0

    def _need(self, size: int) -> None:
        """Have `size` more octets at hand, from the source if it is a stream."""
        missing = self._offset + size - len(self._data)
        if missing > 0 and hasattr(self.input, 'read'):
            self._data += self.input.read(missing)
        _check_end(self._offset, size, len(self._data))

    def read(self, n: int) -> bytes:
        """Read n octets as they are."""
        self.bitcount = 0
        self._need(n)
        start = self._offset
        self._offset = start + n
        return self._data[start : start + n]

    def _take(self, decode: Callable[[bytes, int, int], Decoded]) -> Any:
        self.bitcount = 0
        value, self._offset = decode(self._data, self._offset, len(self._data))
        return value

    def read_bit(self) -> bool:
        """Read a bit."""
        if not self.bitcount:
            self.bits = self.read_octet()
            self.bitcount = 8
        bit = bool(self.bits & 1)
        self.bits >>= 1
        self.bitcount -= 1
        return bit

    def read_octet(self) -> int:
        """Read an unsigned 8-bit number."""
        self._need(1)
        return self._take(decode_octet)  # type: ignore[no-any-return]

    def read_short(self) -> int:
        """Read an unsigned 16-bit number."""
        self._need(2)
        return self._take(decode_short)  # type: ignore[no-any-return]

    def read_long(self) -> int:
        """Read an unsigned 32-bit number."""
        self._need(4)
        return self._take(decode_long)  # type: ignore[no-any-return]

    def read_longlong(self) -> int:
        """Read an unsigned 64-bit number."""
        self._need(8)
        return self._take(decode_longlong)  # type: ignore[no-any-return]

    def read_timestamp(self) -> Union[datetime, int]:
        """Read a time: a naive datetime in local time, or an int where there is none."""
        self._need(8)
        return self._take(decode_timestamp)  # type: ignore[no-any-return]

    def read_shortstr(self) -> str:
        """Read a string of up to 255 octets."""
        self._need(1)
        self._need(1 + self._data[self._offset])
        return self._take(decode_shortstr)  # type: ignore[no-any-return]

    def _need_long(self) -> None:
        self._need(4)
        self._need(4 + _LONG.unpack_from(self._data, self._offset)[0])

    def read_longstr(self) -> Union[str, bytes]:
        """Read a long string: str, or bytes if it is not UTF-8."""
        self._need_long()
        return self._take(decode_longstr)  # type: ignore[no-any-return]

    def read_table(self) -> dict[str, Any]:
        """Read a field table."""
        self._need_long()
        return self._take(decode_table)  # type: ignore[no-any-return]


class AMQPWriter:
    """Writes the wire types one after the other, to a buffer or to an object with write().

    Bits are packed into octets with their neighbours, the lowest first; any other write ends
    the octet. Wrong values are a ValueError or TypeError, and nothing is written.

    dest: an object with write(), or None to collect the octets for getvalue().
    """

    #: How Python types are written in tables.
    field_types: FieldTypes = FIELD_TYPES

    def __init__(self, dest: Any = None) -> None:
        self.out = BytesIO() if dest is None else dest
        self.bits = self.bitcount = 0

    def _flush_bits(self) -> None:
        if self.bitcount:
            self.out.write(_OCTET.pack(self.bits))
            self.bits = self.bitcount = 0

    def flush(self) -> None:
        """Write the bits that are still held, and flush the destination."""
        self._flush_bits()
        if hasattr(self.out, 'flush'):
            self.out.flush()

    def close(self) -> None:
        """Flush, and close the destination."""
        self.flush()
        self.out.close()

    def getvalue(self) -> bytes:
        """Return what was written so far."""
        self._flush_bits()
        return self.out.getvalue()

    def write(self, octets: bytes) -> None:
        """Write octets as they are."""
        self._flush_bits()
        self.out.write(octets)

    def write_bit(self, value: Any) -> None:
        """Write a bit: whether the value is true."""
        if self.bitcount == 8:
            self._flush_bits()
        self.bits |= bool(value) << self.bitcount
        self.bitcount += 1

    def write_octet(self, value: int) -> None:
        """Write an unsigned 8-bit number."""
        self.write(encode_octet(value))

    def write_short(self, value: int) -> None:
        """Write an unsigned 16-bit number."""
        self.write(encode_short(value))

    def write_long(self, value: int) -> None:
        """Write an unsigned 32-bit number."""
        self.write(encode_long(value))

    def write_longlong(self, value: int) -> None:
        """Write an unsigned 64-bit number."""
        self.write(encode_longlong(value))

    def write_shortstr(self, value: Union[str, bytes]) -> None:
        """Write a string of up to 255 octets; text as UTF-8."""
        self.write(encode_shortstr(value))

    def write_longstr(self, value: Union[str, bytes]) -> None:
        """Write a string; text as UTF-8."""
        self.write(encode_longstr(value))

    def write_table(self, value: Mapping[str, Any]) -> None:
        """Write a field table."""
        self.write(encode_table(value, self.field_types))

    def write_timestamp(self, value: Union[datetime, int]) -> None:
        """Write a time; a naive datetime is local time."""
        self.write(encode_timestamp(value))


def _write_name(writer: AMQPWriter, value: Union[str, bytes]) -> None:
    # The broker closes the connection when a name in a method is not UTF-8.
    octets = encode_shortstr(value, 'strict')
    octets[1:].decode('utf-8')
    writer.write(octets)


def _write_optional_table(writer: AMQPWriter, value: Optional[Mapping[str, Any]]) -> None:
    writer.write_table({} if value is None else value)


_ARGUMENT_WRITERS: dict[str, Callable[[Any, Any], None]] = {
    'bit': AMQPWriter.write_bit,
    'octet': AMQPWriter.write_octet,
    'short': AMQPWriter.write_short,
    'long': AMQPWriter.write_long,
    'longlong': AMQPWriter.write_longlong,
    'shortstr': _write_name,
    'longstr': AMQPWriter.write_longstr,
    'table': _write_optional_table,
}


def encode_method(
    method: Method, values: tuple[Any, ...], types: FieldTypes = FIELD_TYPES
) -> bytes:
    """Encode the payload of a method frame: class id, method id, and the values of the fields.

    values: in the order of the table.
    types: how Python types are written in tables.

    Raises ValueError or TypeError that names the method and the field.
    """
    try:
        return _remembered_method(method, *values)
    except TypeError:
        # There is a table among them, which cannot be remembered; or one is wrong.
        return encode_once(method, *values, types=types)


def encode_once(method: Method, *values: Any, types: FieldTypes = FIELD_TYPES) -> bytes:
    """Encode as encode_method does, and remember nothing."""
    writer = AMQPWriter()
    writer.field_types = types
    writer.write(method.prefix)
    for (name, wire_type), value in zip(method.fields, values):
        try:
            _ARGUMENT_WRITERS[wire_type](writer, value)
        except (TypeError, ValueError) as error:
            raise named(error, f'{method.name} {name}') from None
    return writer.getvalue()


_DELIVERY_TAG = Struct('>QB')


def decode_acknowledgement(method: Method, args: AMQPReader) -> tuple[int, bool]:
    """Decode the arguments of such a method, as decode_arguments does, but cheaply."""
    data = args._data
    if len(data) != _DELIVERY_TAG.size:
        decode_arguments(method, args)  # says what is wrong
    delivery_tag, bits = _DELIVERY_TAG.unpack(data)
    return delivery_tag, bits & 1 == 1


def decode_get_ok(args: AMQPReader) -> tuple[int, bool, str, str, int]:
    """Decode the arguments of basic.get_ok, as decode_arguments does, but cheaply."""
    data = args._data
    try:
        redelivered, exchange, routing_key = _decode_source(data[_LONGLONG.size : -_LONG.size])
    except ValueError:
        return decode_arguments(_GET_OK, args)  # says what is wrong
    (delivery_tag,) = _LONGLONG.unpack_from(data)
    (message_count,) = _LONG.unpack_from(data, len(data) - _LONG.size)
    return delivery_tag, redelivered, exchange, routing_key, message_count


@lru_cache(maxsize=128)
def _decode_source(data: bytes) -> tuple[bool, str, str]:
    """Return the values of a bit and two short strings: redelivered, exchange, routing key."""
    end = len(data)
    redelivered, offset = _decode_bit(0, True, data, 0, end)
    exchange, offset = decode_shortstr(data, offset, end)
    routing_key, offset = decode_shortstr(data, offset, end)
    if offset != end:
        raise ValueError(f'{end - offset} octets too many')
    return redelivered, exchange, routing_key


#: Programs use few queues, exchanges and routing keys, and each again and again.
_remembered_method = lru_cache(maxsize=1024, typed=True)(encode_once)


@lru_cache(maxsize=1024)
def encode_publish(
    ticket: int, exchange: str, routing_key: str, mandatory: bool, immediate: bool
) -> bytes:
    """Encode basic.publish as encode_method does, but cheaply.

    Raises a TypeError that names no field for what has no hash, and so cannot be remembered.
    """
    return encode_once(_PUBLISH, ticket, exchange, routing_key, mandatory, immediate)


_PUBLISH = COMMON['basic.publish']
_GET_OK = COMMON['basic.get_ok']


def decode_arguments(method: Method, args: AMQPReader) -> tuple[Any, ...]:
    """Decode the values of a method's fields, in the order of the table.

    Raises ProtocolError (502) if they are cut short, wrong, or followed by something else.
    """
    data, offset = args._data, args._offset
    end = len(data)
    values: list[Any] = []
    try:
        for step in _decoders_of(method):
            if type(step) is Struct:
                following = offset + step.size
                if following > end:
                    _check_end(offset, step.size, end)
                values += step.unpack_from(data, offset)
                offset = following
            else:
                value, offset = step(data, offset, end)
                values.append(value)
        if offset != end:
            raise ValueError(f'{end - offset} octets too many')
    except ValueError as error:
        text = f'the arguments of {method.name} cannot be read: {error}'
        raise ProtocolError(SYNTAX_ERROR, text, method.signature, method.python_name) from error
    args._offset = end
    return tuple(values)


_NUMBER_CODES = {'octet': 'B', 'short': 'H', 'long': 'I', 'longlong': 'Q'}
_OTHER_DECODERS: dict[str, Callable[[bytes, int, int], Decoded]] = {
    'shortstr': decode_shortstr,
    'longstr': decode_longstr,
    'table': decode_table,
}
_GROUPS = {'bit': 'bits', **dict.fromkeys(_NUMBER_CODES, 'numbers')}


@cache
def _decoders_of(method: Method) -> list[Any]:
    """Return what decodes a method's fields one after the other.

    Numbers that follow each other go together, by one Struct. Anything else is a function each:
    (data, offset, end) -> (value, next offset).
    """
    decoders: list[Any] = []
    for group, fields in groupby(method.fields, lambda field: _GROUPS.get(field[1])):
        wire_types = [wire_type for _, wire_type in fields]
        if group == 'numbers':
            decoders.append(
                Struct('>' + ''.join(_NUMBER_CODES[wire_type] for wire_type in wire_types))
            )
        elif group == 'bits':
            last = len(wire_types) - 1
            decoders += [
                partial(_decode_bit, bit % 8, bit % 8 == 7 or bit == last)
                for bit in range(last + 1)
            ]
        else:
            decoders += [_OTHER_DECODERS[wire_type] for wire_type in wire_types]
    return decoders


def _decode_bit(place: int, is_last: bool, data: bytes, offset: int, end: int) -> Decoded:
    """Decode one of up to eight bits in an octet, which ends with the last."""
    if offset >= end:
        _check_end(offset, 1, end)
    return data[offset] >> place & 1 == 1, offset + is_last


# --- Properties ---------------------------------------------------------------------------------

_PROPERTY_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    'shortstr': encode_shortstr,
    'octet': encode_octet,
    'short': encode_short,
    'long': encode_long,
    'longlong': encode_longlong,
    'longstr': encode_longstr,
    'timestamp': encode_timestamp,
}

_Decoder = Callable[[bytes, int, int], Decoded]
_PROPERTY_DECODERS: dict[str, _Decoder] = {
    'shortstr': decode_shortstr,
    'octet': decode_octet,
    'short': decode_short,
    'long': decode_long,
    'longlong': decode_longlong,
    'longstr': decode_longstr,
    'table': decode_table,
    'timestamp': decode_timestamp,
}

#: What a content header has that announces no property.
_NO_PROPERTIES = b'\0\0'
#: Properties to a word of flags; its lowest bit says that another word follows.
_FLAGS_PER_WORD = 15


def _decode_flags(data: bytes, names: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], int]:
    """Return the (name, wire type) pairs whose flags are set, and the offset behind the flags."""
    present = []
    for offset in range(0, len(data) - 1, 2):
        (flags,) = _SHORT.unpack_from(data, offset)
        word, names = names[:_FLAGS_PER_WORD], names[_FLAGS_PER_WORD:]
        present += [pair for bit, pair in enumerate(word) if flags & 0x8000 >> bit]
        if flags & 0xFFFE & (0xFFFF >> len(word)):
            raise ValueError('a flag is set for a property that does not exist')
        if not flags & 1:
            return present, offset + 2
    raise ValueError('the property flags do not end')


def _refuse(*args: Any) -> Any:
    raise ValueError('its class declares it as of a type that no property can have')


def _remember_nothing(**properties: Any) -> bytes:
    raise TypeError('nothing is remembered')


def _flag(position: int, words: int) -> int:
    """Return the flag of a property, as a number of all the words of flags."""
    word, bit = divmod(position, _FLAGS_PER_WORD)
    return 0x8000 >> bit << 16 * (words - 1 - word)


class _Property:
    """Attribute access to one property; absent, it is an AttributeError."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, content: Optional[GenericContent], owner: type) -> Any:
        if content is None:
            return self
        properties = content.properties
        if self.name in properties:
            return properties[self.name]
        damage = content._damage.get(self.name)
        if damage is not None:
            raise ValueError(damage)
        # GenericContent.__getattr__ is asked next.
        raise AttributeError(self.name)

    def __set__(self, content: GenericContent, value: Any) -> None:
        content.properties[self.name] = value

    def __delete__(self, content: GenericContent) -> None:
        if self.name not in content.properties and self.name not in content._damage:
            raise AttributeError(self.name)
        content.properties.pop(self.name, None)
        content._damage = {
            name: damage for name, damage in content._damage.items() if name != self.name
        }


class GenericContent:
    """A content with the properties that the class attribute PROPERTIES lists.

    properties: dict of those that are set, by name. Each is also an attribute; one that is
    absent is an AttributeError. A property whose octets cannot be decoded is not in the dict,
    and a ValueError as an attribute.
    """

    PROPERTIES: ClassVar[list[tuple[str, str]]] = [('dummy', 'shortstr')]
    #: How Python types are written in tables.
    field_types: FieldTypes = FIELD_TYPES

    # The octets of the properties, as long as nobody was given the dict, which may be changed.
    _raw_properties: Optional[bytes] = None
    # None if they were received and are not decoded yet.
    _properties: Optional[dict[str, Any]] = None
    # Property name -> why it cannot be decoded.
    _damage: Mapping[str, str] = MappingProxyType({})

    # What follows from PROPERTIES: see _prepare.
    _NAMES: frozenset[str]
    _CHANGEABLE: frozenset[str]
    _FLAGS_SIZE: int
    _NO_FLAGS: int
    _ENCODERS: list[tuple[str, int, Callable[[Any], bytes]]]
    _remembered: Callable[..., bytes]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._prepare()

    @classmethod
    def _prepare(cls) -> None:
        """Work out what depends on the properties of a class."""
        for name, _ in cls.__dict__.get('PROPERTIES', ()):
            setattr(cls, name, _Property(name))
        cls._NAMES = frozenset(name for name, _ in cls.PROPERTIES)
        cls._CHANGEABLE = frozenset(
            name for name, kind in cls.PROPERTIES if kind in ('table', 'timestamp')
        )
        words = 1 + max(0, len(cls.PROPERTIES) - 1) // _FLAGS_PER_WORD
        cls._FLAGS_SIZE = 2 * words
        # Each word but the last says that another one follows.
        cls._NO_FLAGS = sum(1 << 16 * word for word in range(1, words))
        encoders: dict[str, Callable[[Any], bytes]] = {
            **_PROPERTY_ENCODERS,
            # As they are then.
            'table': lambda table: encode_table(table, cls.field_types),
        }
        cls._ENCODERS = [
            (name, _flag(position, words), encoders.get(kind, _refuse))
            for position, (name, kind) in enumerate(cls.PROPERTIES)
        ]
        # Most messages of a program have the properties of others. Where a class encodes in a way
        # of its own, it is asked each time.
        encode: Callable[..., bytes] = _remember_nothing
        if cls._serialize_properties is GenericContent._serialize_properties:
            encode = lru_cache(maxsize=256, typed=True)(cls._encode_unchangeable)
        cls._remembered = staticmethod(encode)

    def __init__(self, **properties: Any) -> None:
        if not self._NAMES.issuperset(properties):
            properties = self._without_unknown(properties)
        self._properties = properties

    def _without_unknown(self, properties: dict[str, Any]) -> dict[str, Any]:
        unknown = properties.keys() - self._NAMES
        names = ', '.join(sorted(map(repr, unknown)))
        text = f'{type(self).__name__} has no property {names}: it is ignored'
        warnings.warn(text, stacklevel=3)
        return {name: properties[name] for name in properties if name not in unknown}

    @property
    def properties(self) -> dict[str, Any]:
        """The properties that are set, by name."""
        # In this order: another thread sets the first to None after it has set the second.
        raw, properties = self._raw_properties, self._properties
        if properties is None:
            properties = self._decode_properties(_NO_PROPERTIES if raw is None else raw)
        self._raw_properties = None
        return properties

    @properties.setter
    def properties(self, properties: dict[str, Any]) -> None:
        self._raw_properties = None
        self._damage = {}
        self._properties = properties

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __eq__(self, other: object) -> bool:
        return hasattr(other, 'properties') and bool(self.properties == other.properties)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def _load_properties(self, raw_bytes: bytes) -> None:
        """Take the property flags and list of a content header; decoded when looked at."""
        self._raw_properties, self._properties = raw_bytes, None
        if self._remembered is _remember_nothing:
            self._decode_properties(raw_bytes)
            self._raw_properties = None

    def _decode_properties(self, raw: bytes) -> dict[str, Any]:
        """Decode what can be decoded, and note for the rest why it cannot be."""
        properties: dict[str, Any] = {}
        damage: dict[str, str] = {}
        present: list[tuple[str, str]] = []
        try:
            present, offset = _decode_flags(raw, list(self.PROPERTIES))
        except ValueError as error:
            damage = {name: f'{name}: {error}' for name, _ in self.PROPERTIES}
        for name, wire_type in present:
            decode: _Decoder = _PROPERTY_DECODERS.get(wire_type, _refuse)
            try:
                following = offset
                if wire_type == 'table':
                    # Whatever is wrong in the table, what follows it can be found.
                    following = decode_octets(raw, offset, len(raw))[1]
                properties[name], offset = decode(raw, offset, len(raw))
            except ValueError as error:
                damage[name] = f'{name}: {error}'
                offset = following if following > offset else len(raw)
        # Only now, so that nothing is lost to an interrupt, or half done for another thread.
        self._damage = damage
        self._properties = properties
        return properties

    def _serialize_properties(self) -> bytes:
        """Return the property flags and list, as a content header carries them.

        Raises ValueError or TypeError that names the property.
        """
        raw = self._raw_properties
        if raw is not None:
            return raw
        if self._damage:
            self._refuse_damage()
        properties = self.properties
        try:
            return self._remembered(**properties)
        except (TypeError, ValueError):
            # There is a table or a time among them, which are not remembered; or one is wrong.
            return self._encode(properties)

    @classmethod
    def _encode_unchangeable(cls, **properties: Any) -> bytes:
        if not cls._NAMES.issuperset(properties):
            raise TypeError('unknown names are not remembered')
        if not cls._CHANGEABLE.isdisjoint(properties):
            # Equal times may be encoded differently: naive ones depend on the zone and on `fold`.
            # Tables may be equal with values of other types, and be changed.
            raise TypeError('times and tables are not remembered')
        return cls._encode(properties)

    @classmethod
    def _encode(cls, properties: Mapping[str, Any]) -> bytes:
        flags = cls._NO_FLAGS
        parts = [b'']
        for name, flag, encode in cls._ENCODERS:
            value = properties.get(name)
            if value is None:
                continue
            flags |= flag
            try:
                parts.append(encode(value))
            except (TypeError, ValueError) as error:
                raise named(error, name) from None
        parts[0] = flags.to_bytes(cls._FLAGS_SIZE, 'big')
        return b''.join(parts)

    def _refuse_damage(self) -> None:
        for name, damage in self._damage.items():
            if self.properties.get(name) is None:
                raise ValueError(f'{damage} (received so; set or remove it to send it on)')


GenericContent._prepare()
