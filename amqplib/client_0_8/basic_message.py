"""Message, where amqplib 1.0.2 had it."""

from amqplib.core.message import Message

__all__ = ['Message']
