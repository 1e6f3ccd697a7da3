"""The wire types and tables of AMQP: Python values to bytes, and back.

One function per wire type: ``encode_X(value) -> bytes`` and ``decode_X(data, offset, end) ->
(value, next offset)``, where `end` is the end of the container of the value. A length beyond the
container is refused before anything is decoded. Wrong values and malformed bytes raise ValueError
or TypeError.

Field-table types, read and written (RabbitMQ's set, which differs from the specification's)::

    tag  type               written for         tag  type               written for
    S    long string        str                 x    bytes              bytes, bytearray
    t    boolean            bool                F    table              dict
    I    signed 32          int that fits       A    array              list, tuple
    l L  signed 64          int (as l)          V    void               -
    d    float 64           float               b B  signed, unsigned 8 -
    f    float 32           -                   s u  signed, unsigned 16 -
    D    decimal            Decimal             i    unsigned 32        -
    T    timestamp          datetime
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import floor, isfinite
from operator import index
from struct import Struct
from typing import TYPE_CHECKING, Any, Callable, Union

from amqplib.core.spec import FieldTypes

# The modules of rare types are imported on demand, so that other programs start faster.
if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

#: How deep tables and arrays may be nested, when read or written. The broker has no limit.
MAX_NESTING = 64

OCTET = Struct('>B')
SHORT = Struct('>H')
LONG = Struct('>I')
LONGLONG = Struct('>Q')
_DECIMAL = Struct('>Bi')
_MAX_LONG = (1 << 32) - 1

#: The first byte of a short string, by its size.
SHORT_SIZES = tuple(OCTET.pack(size) for size in range(256))

BytesLike = Union[bytes, bytearray, memoryview]
Decoded = tuple[Any, int]


# --- Encoding: the wire types -------------------------------------------------------------------


def _encode_unsigned(struct: Struct, value: int) -> bytes:
    number = index(value)
    if not 0 <= number < 1 << 8 * struct.size:
        raise ValueError(f'{number} is not a number from 0 to {(1 << 8 * struct.size) - 1}')
    return struct.pack(number)


encode_longlong = partial(_encode_unsigned, LONGLONG)


def _to_bytes(value: Union[str, bytes, bytearray], errors: str) -> bytes:
    if isinstance(value, str):
        return value.encode('utf-8', errors)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise TypeError(f'{type(value).__name__!r} is not a str or bytes')


def encode_shortstr(value: Union[str, bytes, bytearray], errors: str = 'surrogateescape') -> bytes:
    """Encode a string of at most 255 bytes; text as UTF-8, surrogate escapes as their bytes."""
    data = _to_bytes(value, errors)
    if len(data) > 255:
        raise ValueError(f'String too long ({len(data)} bytes, at most 255 are allowed)')
    return SHORT_SIZES[len(data)] + data


def encode_longstr(value: Union[str, bytes, bytearray]) -> bytes:
    """Encode a string of up to 4 GiB; text as UTF-8, surrogate escapes as their bytes."""
    return _after_size(_to_bytes(value, 'surrogateescape'))


def _after_size(data: bytes) -> bytes:
    size = len(data)
    if size > _MAX_LONG:
        raise ValueError(f'{size} bytes are more than 4 GiB')
    return LONG.pack(size) + data


def encode_timestamp(value: Union[datetime, int]) -> bytes:
    """Encode a time as whole seconds since 1970 (UTC); a naive datetime is local time."""
    from datetime import datetime  # noqa: PLC0415

    if isinstance(value, datetime):
        try:
            value = floor(value.timestamp())
        except (OverflowError, OSError, ValueError):
            raise ValueError(f'{value} is out of range') from None
    return encode_longlong(value)


#: Wire type -> its encoder; a table needs the types of its protocol besides.
ENCODERS: dict[str, Callable[[Any], bytes]] = {
    'octet': partial(_encode_unsigned, OCTET),
    'short': partial(_encode_unsigned, SHORT),
    'long': partial(_encode_unsigned, LONG),
    'longlong': encode_longlong,
    'shortstr': encode_shortstr,
    'longstr': encode_longstr,
    'timestamp': encode_timestamp,
}


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
    assert isinstance(exponent, int)  # it is a letter only if the value is not finite
    # A number of more than ten digits exceeds 32 bits: avoid computing 10 ** 999999.
    if exponent > 10 or exponent < -255:
        raise ValueError(f'{value} does not fit into 32 bits and 255 decimal places')
    unscaled = int(''.join(map(str, digits))) * 10 ** max(exponent, 0) * (-1 if sign else 1)
    if not -(1 << 31) <= unscaled < 1 << 31:
        raise ValueError(f'{value} does not fit into 32 bits and 255 decimal places')
    return b'D' + _DECIMAL.pack(max(-exponent, 0), unscaled)


def _tagged(tag: bytes, encode: Callable[[Any], bytes]) -> Callable[[Any, FieldTypes, int], bytes]:
    return lambda value, types, depth: tag + encode(value)


_encode_datetime = _tagged(b'T', encode_timestamp)


def encode_void(value: None, types: FieldTypes, depth: int) -> bytes:
    """Encode None in a table, for versions that have a type for it."""
    return b'V'


def _encode_dict(value: Mapping[Any, Any], types: FieldTypes, depth: int) -> bytes:
    return b'F' + encode_table(value, types, depth)


def _encode_list(value: Union[list[Any], tuple[Any, ...]], types: FieldTypes, depth: int) -> bytes:
    _check_depth(depth)
    items = b''.join([_encode_value(item, types, depth + 1) for item in value])
    return b'A' + _after_size(items)


#: Python type -> its encoder; a subclass uses the first type that matches.
#: Rare types are not included: see _encoder_of.
FIELD_TYPES: FieldTypes = {
    str: _tagged(b'S', encode_longstr),
    bool: _encode_bool,
    int: _encode_int,
    float: _encode_float,
    bytes: _tagged(b'x', encode_longstr),
    bytearray: _tagged(b'x', encode_longstr),
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


def _encoder_of(value: Any, types: FieldTypes) -> Callable[[Any, Any, int], bytes]:
    """Return the encoder for a value whose exact type has none; raise ValueError if none fits."""
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
    """Encode a dict of str keys (at most 255 bytes) and values of the types in `types`.

    Raises ValueError or TypeError that names the key.
    """
    _check_depth(depth)
    # Checked first, because isinstance() with an abstract class is slow.
    if type(table) is not dict and not isinstance(table, Mapping):
        raise TypeError(f'{type(table).__name__!r} is not a dict')
    parts: list[bytes] = []
    for key, value in table.items():
        try:
            parts += encode_shortstr(key), _encode_value(value, types, depth + 1)
        except (TypeError, ValueError) as error:
            raise with_context(error, f'[{key!r}]') from None
    return _after_size(b''.join(parts))


def with_context(error: Exception, name: str) -> Exception:
    """Return the error as a plain ValueError or TypeError that says where it happened."""
    cls = TypeError if isinstance(error, TypeError) else ValueError
    text = str(error)
    return cls('{}{}{}'.format(name, '' if text.startswith('[') else ': ', text))


# --- Decoding: the wire types -------------------------------------------------------------------


def check_end(offset: int, size: int, end: int) -> int:
    """Return the offset after `size` bytes; raise ValueError if it is beyond the end."""
    following = offset + size
    if following > end:
        raise ValueError(f'{size} bytes announced where {end - offset} are left')
    return following


def check_all_taken(offset: int, end: int) -> None:
    """Raise ValueError if there is more after the offset."""
    if offset != end:
        raise ValueError(f'{end - offset} bytes too many')


def _decode_fixed(struct: Struct, data: bytes, offset: int, end: int) -> Decoded:
    following = check_end(offset, struct.size, end)
    return struct.unpack_from(data, offset)[0], following


decode_long = partial(_decode_fixed, LONG)
decode_longlong = partial(_decode_fixed, LONGLONG)


def decode_shortstr(data: bytes, offset: int, end: int) -> Decoded:
    """Decode UTF-8; other bytes become surrogate escapes, which are encoded back unchanged."""
    if offset >= end:
        check_end(offset, 1, end)
    start = offset + 1
    following = start + data[offset]
    if following > end:
        check_end(start, data[offset], end)
    return data[start:following].decode('utf-8', 'surrogateescape'), following


def decode_bytes(data: bytes, offset: int, end: int) -> Decoded:
    """Decode a long string as bytes."""
    size, start = decode_long(data, offset, end)
    following = check_end(start, size, end)
    return data[start:following], following


def decode_longstr(data: bytes, offset: int, end: int) -> Decoded:
    """Decode a long string as text if it is UTF-8, else as bytes."""
    value, following = decode_bytes(data, offset, end)
    try:
        return value.decode('utf-8'), following
    except UnicodeDecodeError:
        return value, following


#: 30 December 9999: later times have no datetime in some time zones.
_END_OF_TIME = 253_402_128_000


def decode_timestamp(data: bytes, offset: int, end: int) -> Decoded:
    """Decode a naive datetime in local time, or an int if there is no such datetime."""
    from datetime import datetime  # noqa: PLC0415

    seconds, following = decode_longlong(data, offset, end)
    if seconds < _END_OF_TIME:
        try:
            return datetime.fromtimestamp(seconds), following
        except (OverflowError, ValueError, OSError):
            pass  # the range is even smaller on some systems
    return seconds, following


# --- Decoding: tables ---------------------------------------------------------------------------

_DOUBLE = Struct('>d')

#: The types of a fixed size: their tags, and under each its code in a Struct.
FIXED_FIELDS: dict[int, Struct] = {
    ord(tag): Struct('>' + code)
    for tag, code in zip(
        'tbBsuIilLfd',
        '?bBhHiIqqfd',
    )
}


def _decode_decimal(data: bytes, offset: int, end: int) -> Decoded:
    from decimal import Decimal  # noqa: PLC0415

    following = check_end(offset, _DECIMAL.size, end)
    scale, unscaled = _DECIMAL.unpack_from(data, offset)
    # Built from its parts, so that it is exact in every decimal context.
    digits = tuple(map(int, str(abs(unscaled))))
    return Decimal((int(unscaled < 0), digits, -scale)), following


def _decode_void(data: bytes, offset: int, end: int) -> Decoded:
    return None, offset


_SIMPLE_FIELDS: dict[int, Callable[[bytes, int, int], Decoded]] = {
    ord('S'): decode_longstr,
    ord('x'): decode_bytes,
    ord('T'): decode_timestamp,
    ord('D'): _decode_decimal,
    ord('V'): _decode_void,
    **{tag: partial(_decode_fixed, struct) for tag, struct in FIXED_FIELDS.items()},
}


def _decode_value(data: bytes, offset: int, end: int, depth: int) -> Decoded:
    start = check_end(offset, 1, end)
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
    end = check_end(offset, size, end)
    items = []
    while offset < end:
        item, offset = _decode_value(data, offset, end, depth + 1)
        items.append(item)
    return items, offset


def decode_table(data: bytes, offset: int, end: int, depth: int = 0) -> Decoded:
    """Decode a field table to a dict; of equal keys, the last one wins."""
    _check_depth(depth)
    size, offset = decode_long(data, offset, end)
    end = check_end(offset, size, end)
    table = {}
    while offset < end:
        key, offset = decode_shortstr(data, offset, end)
        table[key], offset = _decode_value(data, offset, end, depth + 1)
    return table, offset


#: Wire type -> its decoder.
DECODERS: dict[str, Callable[[bytes, int, int], Decoded]] = {
    'octet': partial(_decode_fixed, OCTET),
    'short': partial(_decode_fixed, SHORT),
    'long': decode_long,
    'longlong': decode_longlong,
    'shortstr': decode_shortstr,
    'longstr': decode_longstr,
    'timestamp': decode_timestamp,
    'table': decode_table,
}
