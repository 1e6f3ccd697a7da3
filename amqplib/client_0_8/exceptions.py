"""The errors of amqplib.exceptions, and the method names of 0-8, as in amqplib 1.0.2."""

from __future__ import annotations

from amqplib import exceptions
from amqplib.client_0_8.spec import ROWS
from amqplib.core.spec import Signature
from amqplib.exceptions import *  # noqa: F403

__all__ = exceptions.__all__

METHOD_NAME_MAP: dict[Signature, str] = {row.signature: row.python_name for row in ROWS}
