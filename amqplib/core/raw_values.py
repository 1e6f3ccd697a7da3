"""Property lists and tables whose values stay as they are on the wire.

What is not changed gives the same bytes again. Malformed bytes raise ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Callable

from amqplib.core.properties import decode_flags, flag_of
from amqplib.core.serialization import (
    FIXED_FIELDS,
    LONG,
    SHORT,
    check_all_taken,
    check_end,
    decode_long,
    encode_longstr,
)
from amqplib.core.spec import BASIC_PROPERTIES


def _skip_fixed(size: int, data: bytes, offset: int, end: int) -> int:
    return check_end(offset, size, end)


def _skip_short(data: bytes, offset: int, end: int) -> int:
    return check_end(check_end(offset, 1, end), data[offset], end)


def _skip_long(data: bytes, offset: int, end: int) -> int:
    size, start = decode_long(data, offset, end)
    return check_end(start, size, end)


#: Function (data, offset, end) that returns the offset after a value.
_Skipper = Callable[[bytes, int, int], int]

#: By the wire type of a property.
_SKIPPERS: dict[str, _Skipper] = {
    'octet': partial(_skip_fixed, 1),
    'shortstr': _skip_short,
    'table': _skip_long,
    'timestamp': partial(_skip_fixed, 8),
}

#: By the tag of a table field.
_FIELD_SKIPPERS: dict[int, _Skipper] = {
    **{tag: partial(_skip_fixed, struct.size) for tag, struct in FIXED_FIELDS.items()},
    **{ord(tag): partial(_skip_fixed, size) for tag, size in (('D', 5), ('T', 8), ('V', 0))},
    **dict.fromkeys(b'SxFA', _skip_long),
}


def split_properties(raw: bytes) -> dict[str, bytes]:
    """Return the values in a property list of the basic class by name."""
    present, offset = decode_flags(raw, list(BASIC_PROPERTIES))
    values = {}
    for name, wire_type in present:
        following = _SKIPPERS[wire_type](raw, offset, len(raw))
        values[name] = raw[offset:following]
        offset = following
    check_all_taken(offset, len(raw))
    return values


def join_properties(values: Mapping[str, bytes]) -> bytes:
    """Return the property list of the values, which are as split_properties() returns them."""
    names = [name for name, _ in BASIC_PROPERTIES]
    flags = sum(flag_of(position, 1) for position, name in enumerate(names) if name in values)
    return SHORT.pack(flags) + b''.join(values[name] for name in names if name in values)


def split_table(data: bytes) -> dict[bytes, bytes]:
    """Return the entries of a field table; of equal keys, the first.

    The values begin with the tags of their types. Nested tables and arrays are not looked into.
    """
    offset, end = LONG.size, _skip_long(data, 0, len(data))
    entries: dict[bytes, bytes] = {}
    while offset < end:
        start = _skip_short(data, offset, end)
        check_end(start, 1, end)
        skip = _FIELD_SKIPPERS.get(data[start])
        if skip is None:
            raise ValueError(f'Unknown table item type: {data[start]}')
        following = skip(data, start + 1, end)
        entries.setdefault(data[offset:start], data[start:following])
        offset = following
    return entries


def join_table(entries: Mapping[bytes, bytes]) -> bytes:
    """Return the field table of entries that are as split_table() returns them."""
    return encode_longstr(b''.join(key + value for key, value in entries.items()))
