"""Checks of arguments: a TypeError or ValueError that names the argument."""

from __future__ import annotations

from typing import Any, Optional


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
