"""Message, which is that of amqplib.core.message."""

from amqplib.core.message import CONTENT_ENCODING_FLAG, DELIVERY_FIELDS, Message

__all__ = ['CONTENT_ENCODING_FLAG', 'DELIVERY_FIELDS', 'Message']
