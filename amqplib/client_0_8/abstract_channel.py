"""AbstractChannel, where amqplib 1.0.2 had it."""

from amqplib.core.abstract_channel import AbstractChannel

__all__ = ['AbstractChannel']
