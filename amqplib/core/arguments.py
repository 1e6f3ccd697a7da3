"""The arguments of methods: encoders and decoders, compiled once from the row of a method.

An encoder takes the values of the fields, in the order of the row, and returns the payload of a
method frame: class id, method id, arguments. It joins the results of its steps. A step encodes
one field, or several neighbouring numbers or bits. Only if a step fails are the fields encoded
one by one, to find out which of them is wrong.

A decoder takes an AMQPReader and returns the values. It works in steps too.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import groupby
from struct import Struct
from typing import Any, Callable, Optional, Union

from amqplib.core.memoize import lru_cache
from amqplib.core.serialization import (
    ENCODERS,
    LONG,
    LONGLONG,
    SHORT_SIZES,
    Decoded,
    check_all_taken,
    check_end,
    decode_longstr,
    decode_shortstr,
    decode_table,
    encode_longstr,
    encode_shortstr,
    encode_table,
    with_context,
)
from amqplib.core.spec import DELIVER, GET, GET_OK, PUBLISH, SYNTAX_ERROR, FieldTypes, Method
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import ProtocolError

_NUMBER_CODES = {'octet': 'B', 'short': 'H', 'long': 'I', 'longlong': 'Q'}

#: Neighbouring fields of these wire types are encoded and decoded together.
_GROUPS = {'bit': 'bits', **dict.fromkeys(_NUMBER_CODES, 'numbers')}

#: A position among the values, and the wire type.
_Fields = list[tuple[int, str]]


def _groups_of(method: Method) -> list[tuple[str, _Fields]]:
    """Return the steps of a method as (group, fields).

    The group is 'numbers', 'bits', or the wire type of a single field.
    """
    fields = [(position, wire_type) for position, (_, wire_type) in enumerate(method.fields)]
    groups: list[tuple[str, _Fields]] = []
    for group, members in groupby(fields, lambda field: _GROUPS.get(field[1])):
        if group == 'bits':
            bits = list(members)
            groups += [('bits', bits[start : start + 8]) for start in range(0, len(bits), 8)]
        elif group == 'numbers':
            groups.append((group, list(members)))
        else:
            groups += [(field[1], [field]) for field in members]
    return groups


def _numbers(fields: _Fields) -> Struct:
    return Struct('>' + ''.join(_NUMBER_CODES[wire_type] for _, wire_type in fields))


# --- Encoding -----------------------------------------------------------------------------------

Values = tuple[Any, ...]
#: Takes all values; returns the bytes of one or several of them.
_Step = Callable[[Values], bytes]


class Encoders(dict[str, Callable[..., bytes]]):
    """Name of a method -> its encoder: ``encoders['queue.purge'](0, 'tasks', False) -> bytes``.

    An encoder raises ValueError or TypeError, which names the method and the field.

    methods: name -> Method.
    field_types: the encoders of Python types in tables.
    """

    def __init__(self, methods: Mapping[str, Method], field_types: FieldTypes) -> None:
        super().__init__()
        self._methods = methods
        self._field_types = field_types

    def __missing__(self, name: str) -> Callable[..., bytes]:
        self[name] = encoder = compile_encoder(self._methods[name], self._field_types)
        return encoder


def compile_encoder(method: Method, field_types: FieldTypes) -> Callable[..., bytes]:
    """Return the encoder of a method."""
    prefix, count = method.prefix, len(method.fields)
    steps = [_ENCODING_STEPS[group](fields, field_types) for group, fields in _groups_of(method)]

    def encode(*values: Any) -> bytes:
        if len(values) != count:
            raise TypeError(f'{method.name} has {count} fields, not {len(values)}')
        try:
            return prefix + b''.join([step(values) for step in steps])
        except (IndexError, OverflowError, TypeError, ValueError, struct.error):
            _explain(method, values, field_types)
            raise

    return encode


def _explain(method: Method, values: Values, field_types: FieldTypes) -> None:
    """Raise the error that names the first field whose value cannot be encoded."""
    for (name, wire_type), value in zip(method.fields, values):
        try:
            _try_field(wire_type, value, field_types)
        except (TypeError, ValueError) as error:
            raise with_context(error, f'{method.name} {name}') from None


def _try_field(wire_type: str, value: Any, field_types: FieldTypes) -> None:
    if wire_type == 'table':
        _encode_optional_table(value, field_types)
    else:
        _FIELD_ENCODERS[wire_type](value)


def _encode_name(value: Union[str, bytes, bytearray]) -> bytes:
    # The broker closes the connection when a name in a method is not UTF-8.
    encoded = encode_shortstr(value, 'strict')
    encoded[1:].decode('utf-8')
    return encoded


def _encode_optional_table(value: Optional[Mapping[Any, Any]], field_types: FieldTypes) -> bytes:
    return b'\0\0\0\0' if value is None else encode_table(value, field_types)


_FIELD_ENCODERS: dict[str, Callable[[Any], object]] = {
    **ENCODERS,
    'bit': bool,
    'shortstr': _encode_name,
}


def _numbers_step(fields: _Fields, field_types: FieldTypes) -> _Step:
    pack = _numbers(fields).pack
    first = fields[0][0]
    if len(fields) == 1:
        return lambda values: pack(values[first])
    end = first + len(fields)
    return lambda values: pack(*values[first:end])


def _bits_step(fields: _Fields, field_types: FieldTypes) -> _Step:
    first = fields[0][0]
    if len(fields) == 1:
        return lambda values: b'\1' if values[first] else b'\0'
    flags = [(position, 1 << place) for place, (position, _) in enumerate(fields)]

    def encode_bits(values: Values) -> bytes:
        bits = 0
        for position, flag in flags:
            if values[position]:
                bits |= flag
        return SHORT_SIZES[bits]

    return encode_bits


def _name_step(fields: _Fields, field_types: FieldTypes) -> _Step:
    position = fields[0][0]

    def encode_name(values: Values) -> bytes:
        value = values[position]
        if type(value) is not str:
            return _encode_name(value)
        encoded = value.encode()
        return SHORT_SIZES[len(encoded)] + encoded

    return encode_name


def _longstr_step(fields: _Fields, field_types: FieldTypes) -> _Step:
    position = fields[0][0]
    return lambda values: encode_longstr(values[position])


def _table_step(fields: _Fields, field_types: FieldTypes) -> _Step:
    position = fields[0][0]
    return lambda values: _encode_optional_table(values[position], field_types)


_ENCODING_STEPS: dict[str, Callable[[_Fields, FieldTypes], _Step]] = {
    'numbers': _numbers_step,
    'bits': _bits_step,
    'shortstr': _name_step,
    'longstr': _longstr_step,
    'table': _table_step,
}


# Programs use the same few queues, exchanges and routing keys again and again. An unhashable value
# raises a TypeError that names no field. None of these fields is a table or a secret.

#: The encoder of basic.publish.
encode_publish = lru_cache(maxsize=1024)(compile_encoder(PUBLISH, {}))
#: The encoder of basic.get.
encode_get = lru_cache(maxsize=1024, typed=True)(compile_encoder(GET, {}))


# --- Decoding -----------------------------------------------------------------------------------

Decoder = Callable[[AMQPReader], Values]
#: (data, offset, end, values) -> next offset; appends one or several values.
_DecodingStep = Callable[[bytes, int, int, list[Any]], int]


class Decoders(dict[str, Decoder]):
    """Name of a method -> its decoder: ``decoders['queue.purge_ok'](args) -> (message_count,)``.

    A decoder raises ProtocolError (502), which names the method, if the arguments are cut short,
    malformed, or followed by more bytes.

    methods: name -> Method.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        super().__init__()
        self._methods = methods

    def __missing__(self, name: str) -> Decoder:
        decoder = _FAST_DECODERS.get(name) or compile_decoder(self._methods[name])
        self[name] = decoder
        return decoder


def compile_decoder(method: Method) -> Decoder:
    """Return the decoder of a method."""
    steps = [_DECODING_STEPS[group](fields) for group, fields in _groups_of(method)]

    def decode(args: AMQPReader) -> Values:
        data, offset = args.data, args.offset
        end = len(data)
        values: list[Any] = []
        try:
            for step in steps:
                offset = step(data, offset, end, values)
            if offset != end:
                raise ValueError(f'{end - offset} bytes too many')
        except ValueError as error:
            text = f'the arguments of {method.name} cannot be read: {error}'
            raise ProtocolError(SYNTAX_ERROR, text, method.signature, method.python_name) from error
        args.offset = end
        return tuple(values)

    return decode


def _numbers_decoding(fields: _Fields) -> _DecodingStep:
    layout = _numbers(fields)
    size, unpack = layout.size, layout.unpack_from

    def decode_numbers(data: bytes, offset: int, end: int, values: list[Any]) -> int:
        following = offset + size
        if following > end:
            check_end(offset, size, end)
        values += unpack(data, offset)
        return following

    return decode_numbers


def _bits_decoding(fields: _Fields) -> _DecodingStep:
    flags = [1 << place for place in range(len(fields))]

    def decode_bits(data: bytes, offset: int, end: int, values: list[Any]) -> int:
        if offset >= end:
            check_end(offset, 1, end)
        bits = data[offset]
        values += [bits & flag != 0 for flag in flags]
        return offset + 1

    return decode_bits


def _name_decoding(fields: _Fields) -> _DecodingStep:
    def decode_name(data: bytes, offset: int, end: int, values: list[Any]) -> int:
        start = offset + 1
        if offset < end:
            following = start + data[offset]
            if following <= end:
                values.append(data[start:following].decode('utf-8', 'surrogateescape'))
                return following
        return decode_shortstr(data, offset, end)[1]  # raises what is missing

    return decode_name


def _decoding_by(decode: Callable[[bytes, int, int], Decoded]) -> Callable[..., _DecodingStep]:
    def decode_one(data: bytes, offset: int, end: int, values: list[Any]) -> int:
        value, following = decode(data, offset, end)
        values.append(value)
        return following

    return lambda fields: decode_one


_DECODING_STEPS: dict[str, Callable[[_Fields], _DecodingStep]] = {
    'numbers': _numbers_decoding,
    'bits': _bits_decoding,
    'shortstr': _name_decoding,
    'longstr': _decoding_by(decode_longstr),
    'table': _decoding_by(decode_table),
}

_DELIVERY_TAG = Struct('>QB')


def decode_acknowledgement(method: Method, args: AMQPReader) -> tuple[int, bool]:
    """Decode delivery tag and `multiple` of basic.ack or basic.nack: a fast path."""
    data = args.data
    if len(data) != _DELIVERY_TAG.size:
        compile_decoder(method)(args)  # raises what is wrong
    delivery_tag, bits = _DELIVERY_TAG.unpack(data)
    return delivery_tag, bits & 1 == 1


def decode_get_ok(args: AMQPReader) -> tuple[int, bool, str, str, int]:
    """Decode the arguments of basic.get_ok: a fast path."""
    data = args.data
    try:
        redelivered, exchange, routing_key = _decode_source(data[LONGLONG.size : -LONG.size])
    except ValueError:
        return compile_decoder(GET_OK)(args)  # raises what is wrong
    (delivery_tag,) = LONGLONG.unpack_from(data)
    (message_count,) = LONG.unpack_from(data, len(data) - LONG.size)
    args.offset = len(data)
    return delivery_tag, redelivered, exchange, routing_key, message_count


def decode_deliver(args: AMQPReader) -> tuple[str, int, bool, str, str]:
    """Decode the arguments of basic.deliver: a fast path."""
    data = args.data
    try:
        tag_end = 1 + data[0]
        (delivery_tag,) = LONGLONG.unpack_from(data, tag_end)
        source = _decode_source(data[tag_end + LONGLONG.size :])
    except (IndexError, ValueError, struct.error):
        return compile_decoder(DELIVER)(args)  # raises what is wrong
    args.offset = len(data)
    return data[1:tag_end].decode('utf-8', 'surrogateescape'), delivery_tag, *source


@lru_cache(maxsize=128)
def _decode_source(data: bytes) -> tuple[bool, str, str]:
    """Return the values of a bit and two short strings: redelivered, exchange, routing key."""
    end = len(data)
    check_end(0, 1, end)
    exchange, offset = decode_shortstr(data, 1, end)
    routing_key, offset = decode_shortstr(data, offset, end)
    check_all_taken(offset, end)
    return data[0] & 1 == 1, exchange, routing_key


#: The decoders that are faster than compiled ones.
_FAST_DECODERS: dict[str, Decoder] = {DELIVER.name: decode_deliver, GET_OK.name: decode_get_ok}
