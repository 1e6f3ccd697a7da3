"""The logger `amqplib`, which costs a program that does not log not even an import.

To import logging takes a quarter of the time that all of this package would take with it. In a
program that has not imported it, nobody can have asked to hear anything.

What is logged is escaped here, and so wherever it comes from: the broker's text can neither begin
a line of its own nor reach a terminal as a command.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    import logging

# Kept, as asking for it takes a lock that all loggers share.
_made: Optional[logging.Logger] = None


def logger() -> logging.Logger:
    """Return the logger. It has a handler, so that what nobody listens to is not printed."""
    global _made  # noqa: PLW0603
    if _made is None:
        import logging  # noqa: PLC0415

        made = logging.getLogger('amqplib')
        made.addHandler(logging.NullHandler())
        _made = made
    return _made


def _logger_if_heard() -> Optional[logging.Logger]:
    # The last thing that logging has when it is imported: it may be in the middle of that.
    if _made is None and not hasattr(sys.modules.get('logging'), 'NullHandler'):
        return None
    return logger()


def escaped(text: str) -> str:
    """Return a text with all characters written out that cannot be printed, as in a literal."""
    if text.isprintable():
        return text
    return ''.join(
        one if one.isprintable() else one.encode('unicode_escape').decode('ascii') for one in text
    )


def _escaped_argument(value: object) -> object:
    return value if isinstance(value, (int, float)) else escaped(str(value))


def debug(text: str, *args: object) -> None:
    """Log what happens, for those who look for the cause of something."""
    heard = _logger_if_heard()
    if heard is not None:
        _log(heard, 10, text, args)


def warning(text: str, *args: object) -> None:
    """Log what the program should know and is not told by an exception."""
    heard = _logger_if_heard()
    if heard is not None:
        _log(heard, 30, text, args)


def _log(heard: logging.Logger, level: int, text: str, args: tuple[object, ...]) -> None:
    # The numbers of the levels are part of logging's contract, and it may not be imported here.
    if heard.isEnabledFor(level):
        heard.log(level, text, *map(_escaped_argument, args), stacklevel=3)


# A program that has imported logging finds the logger from the beginning, and can set it up.
_logger_if_heard()
