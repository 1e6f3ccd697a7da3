"""What is said of wrong arguments from the program: ValueError or TypeError, with their names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amqplib.core.deadline import Deadline


def check_text(name: str, value: Any) -> None:
    """Raise unless an argument is a text that can be sent."""
    if not isinstance(value, str):
        raise TypeError(f'{name}: {value!r} is not a str')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f'{name}: {value!r} cannot be encoded in UTF-8') from None


def check_texts(name: str, values: Iterable[Any]) -> None:
    """Raise unless an argument is texts, and at least one."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f'{name}: {values!r} is not a tuple of str')
    if not values:
        raise ValueError(f'{name}: there has to be one')
    for value in values:
        check_text(name, value)


def check_seconds(name: str, value: Any) -> None:
    """Raise unless an argument is a time."""
    if value is None:
        raise TypeError(f'{name}: {value!r} is not a number of seconds')
    Deadline(value, name)
