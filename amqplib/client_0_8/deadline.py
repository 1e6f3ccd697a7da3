"""Deadlines: those of amqplib.core.deadline, under the names that they had here."""

from amqplib.core.deadline import MAX_SECONDS as LONGEST
from amqplib.core.deadline import NO_DEADLINE as NEVER
from amqplib.core.deadline import NO_WAIT as AT_ONCE
from amqplib.core.deadline import Deadline

__all__ = ['AT_ONCE', 'LONGEST', 'NEVER', 'Deadline']
