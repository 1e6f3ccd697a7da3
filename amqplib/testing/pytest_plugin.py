"""The fixture amqp_broker, which pytest finds by an entry point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from amqplib import testing

if TYPE_CHECKING:
    from amqplib.testing.broker import Broker


@pytest.fixture
def amqp_broker() -> Iterator[Broker]:
    """A broker of its own for a test, an `amqplib.testing.Broker`."""
    with testing.Broker() as broker:
        yield broker
