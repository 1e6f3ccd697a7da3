"""A broker for tests, in the process of the program that is tested. It is not for production."""

from amqplib.testing.broker import Broker

__all__ = ['Broker']
