"""The errors of amqplib.exceptions."""

from amqplib import exceptions
from amqplib.exceptions import *  # noqa: F403

__all__ = exceptions.__all__
