"""Names that amqplib 1.0.2 and 2.0 had here; the codec itself is in amqplib.core."""

from __future__ import annotations

from typing import Any

from amqplib.core.arguments import (
    compile_decoder,
    compile_encoder,
    decode_acknowledgement,
    decode_get_ok,
    encode_publish,
)
from amqplib.core.properties import GenericContent
from amqplib.core.serialization import FIELD_TYPES, OCTET, encode_table
from amqplib.core.serialization import with_context as named
from amqplib.core.spec import FieldTypes, Method
from amqplib.core.streams import AMQPReader, AMQPWriter

__all__ = [
    'FIELD_TYPES',
    'IS_PY3K',
    'AMQPReader',
    'AMQPWriter',
    'FieldTypes',
    'GenericContent',
    'byte',
    'decode_acknowledgement',
    'decode_arguments',
    'decode_get_ok',
    'encode_method',
    'encode_once',
    'encode_publish',
    'encode_table',
    'named',
]

#: Kept for programs that read it.
IS_PY3K = True


def byte(number: int) -> bytes:
    """Return the byte with this value."""
    return OCTET.pack(number)


def encode_method(
    method: Method, values: tuple[Any, ...], types: FieldTypes = FIELD_TYPES
) -> bytes:
    """Encode a method by its row, as its encoder in amqplib.core.arguments.Encoders does."""
    return compile_encoder(method, types)(*values)


def encode_once(method: Method, *values: Any, types: FieldTypes = FIELD_TYPES) -> bytes:
    """Encode as encode_method does."""
    return compile_encoder(method, types)(*values)


def decode_arguments(method: Method, args: AMQPReader) -> tuple[Any, ...]:
    """Decode by a row, as its decoder in amqplib.core.arguments.Decoders does."""
    return compile_decoder(method)(args)
