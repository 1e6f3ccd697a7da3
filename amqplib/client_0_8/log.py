"""The logger `amqplib`, which costs a program that does not log not even an import.

To import logging takes a third of the time that all of this package takes. In a program that has
not imported it, nobody can have asked to hear anything.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging


def logger() -> logging.Logger:
    """Return the logger. It has a handler, so that what nobody listens to is not printed."""
    import logging  # noqa: PLC0415

    found = logging.getLogger('amqplib')
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    return found


def debug(text: str, *args: object) -> None:
    """Log what happens, for those who look for the cause of something."""
    if 'logging' in sys.modules:
        logger().debug(text, *args, stacklevel=2)


def warning(text: str, *args: object, exc_info: bool = False) -> None:
    """Log what the program should know and is not told by an exception."""
    if 'logging' in sys.modules:
        logger().warning(text, *args, exc_info=exc_info, stacklevel=2)
