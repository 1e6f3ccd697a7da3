"""Message, with what tables of 0-9-1 can hold beside those of 0-8: None."""

from __future__ import annotations

from amqplib.client_0_9_1.spec import FIELD_TYPES
from amqplib.core import message

__all__ = ['FIELD_TYPES', 'Message']


class Message(message.Message):
    """A message as that of client_0_8; values in application_headers may be None too."""

    field_types = FIELD_TYPES
