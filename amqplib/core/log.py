"""The logger `amqplib`. A program that does not log pays nothing for it, not even an import.

Importing logging would take a quarter of this package's import time. If the program has not
imported logging, nobody can be listening.

Everything that is logged is escaped here: text from the broker can neither start a line of its own
nor send commands to a terminal.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    import logging

# The loggers of the package and of frames. They are kept, because logging.getLogger() takes a lock
# that all loggers share, which an exception of a signal handler could leave locked.
_made: Optional[tuple[logging.Logger, logging.Logger]] = None


def logger() -> logging.Logger:
    """Return the logger. Its handler prevents output in programs that configure no logging."""
    global _made  # noqa: PLW0603
    if _made is None:
        import logging  # noqa: PLC0415

        made = logging.getLogger('amqplib')
        made.addHandler(logging.NullHandler())
        _made = made, made.getChild('frames')
    return _made[0]


def _logger_if_heard() -> Optional[logging.Logger]:
    # NullHandler is the last name that logging defines: its import may still be in progress.
    if _made is None and not hasattr(sys.modules.get('logging'), 'NullHandler'):
        return None
    return logger()


def frames_logger() -> Optional[logging.Logger]:
    """Return the logger of frames, if it is on, else None.

    It is on if its own level is DEBUG, not that of a logger above it: it costs too much for that.
    """
    if _logger_if_heard() is None or _made is None:
        return None
    frames = _made[1]
    return frames if 0 < frames.level <= 10 and _is_enabled(frames, 10) else None


def _is_enabled(one: logging.Logger, level: int) -> bool:
    """Return what isEnabledFor() returns, which may take the lock that all loggers share."""
    enabled: bool = one.manager.disable < level and not one.disabled
    return enabled and level >= one.getEffectiveLevel()


def escaped(text: str) -> str:
    """Return a text with unprintable characters escaped, as in a string literal."""
    if text.isprintable():
        return text
    return ''.join(
        one if one.isprintable() else one.encode('unicode_escape').decode('ascii') for one in text
    )


def _escaped_argument(value: object) -> object:
    return value if isinstance(value, (int, float)) else escaped(str(value))


def debug(text: str, *args: object) -> None:
    """Log what happens, to help find the cause of a problem."""
    heard = _logger_if_heard()
    if heard is not None:
        _log(heard, 10, text, args)


def warning(text: str, *args: object) -> None:
    """Log what the program should know and what no exception reports."""
    heard = _logger_if_heard()
    if heard is not None:
        _log(heard, 30, text, args)


def _log(heard: logging.Logger, level: int, text: str, args: tuple[object, ...]) -> None:
    # The numeric levels are documented by logging, which must not be imported here.
    if _is_enabled(heard, level):
        heard.log(level, text, *map(_escaped_argument, args), stacklevel=3)


# If the program has imported logging, the logger exists from now on and can be configured.
_logger_if_heard()
