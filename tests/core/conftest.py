"""Fixtures of the unit tests: a channel without a socket."""

import pytest

from tests.helpers.session_like import open_channel


@pytest.fixture
def opened():
    """What `open_channel` returns."""
    return open_channel()


@pytest.fixture
def connection(opened):
    """In place of a connection."""
    return opened[0]


@pytest.fixture
def channel(opened):
    """Its open channel."""
    return opened[1]
