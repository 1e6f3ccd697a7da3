"""Checks of arguments: a TypeError, a ValueError or a warning that names the argument."""

from __future__ import annotations

import sys
import warnings
from typing import Any, Optional

_PACKAGE = __name__.partition('.')[0] + '.'


def check_int(name: str, value: Any, least: int, most: Optional[int] = None) -> None:
    """Raise an error if the value is not an int in the range; bool is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'{name}: {value!r} is not an int')
    if value < least or (most is not None and value > most):
        bounds = f'{least} or more' if most is None else f'{least} to {most}'
        raise ValueError(f'{name}: {value} is not {bounds}')


def check_callable(name: str, value: Any) -> None:
    """Raise TypeError if the value is neither callable nor None."""
    if value is not None and not callable(value):
        raise TypeError(f'{name}: {value!r} cannot be called')


def warn_caller(text: str) -> None:
    """Warn at the line of the program that has called the package, through whatever modules."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get('__name__', '').startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
