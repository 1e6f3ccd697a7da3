"""A broker for tests, in the process of the program that is tested. It is not for production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amqplib.testing.broker import Broker

__all__ = ['Broker']


def __getattr__(name: str) -> Any:
    # Imported late, as pytest imports this package for its fixture, whether it is used or not.
    if name != 'Broker':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from amqplib.testing.broker import Broker  # noqa: PLC0415

    return Broker
