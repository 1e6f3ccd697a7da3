"""Message, with what tables of 0-9-1 can hold beside those of 0-8: None."""

from __future__ import annotations

from typing import Any

from amqplib.client_0_8 import basic_message
from amqplib.client_0_8.serialization import FIELD_TYPES as FIELD_TYPES_0_8
from amqplib.client_0_8.serialization import FieldTypes

__all__ = ['Message']


def _encode_none(value: Any, types: FieldTypes, depth: int) -> bytes:
    return b'V'


#: How Python types are written in tables.
FIELD_TYPES: FieldTypes = {**FIELD_TYPES_0_8, type(None): _encode_none}


class Message(basic_message.Message):
    """A message as that of client_0_8; values in application_headers may be None too."""

    field_types = FIELD_TYPES
