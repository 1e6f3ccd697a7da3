"""Message, whose tables may contain None in AMQP 0-9-1."""

from __future__ import annotations

from amqplib.client_0_9_1.spec import FIELD_TYPES
from amqplib.core import message

__all__ = ['FIELD_TYPES', 'Message']


class Message(message.Message):
    __doc__ = message.Message.__doc__

    field_types = FIELD_TYPES
