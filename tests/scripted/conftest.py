"""Fixtures for the tests with a scripted broker, which must leave nothing behind."""

import pytest

from tests.helpers.authority import Authority
from tests.helpers.memory import scarce_memory
from tests.helpers.packages import CLIENT_0_8
from tests.helpers.receiving import receive_at_most
from tests.helpers.scripted_fixtures import (  # noqa: F401
    _frozen,
    channels,
    connect,
    nothing_left_behind,
    play,
    session,
)


@pytest.fixture
def little_memory():
    """Let the system refuse more memory than a test can need."""
    with scarce_memory():
        yield


@pytest.fixture
def amqp():
    """The client package that `play` and `connect` are for, if nothing else is said."""
    return CLIENT_0_8


@pytest.fixture
def byte_by_byte(monkeypatch):
    """Let the client take one byte at a time from the socket."""
    receive_at_most(1, monkeypatch.setattr)


@pytest.fixture(scope='session')
def other_authority(tmp_path_factory):
    """An `Authority` that they do not."""
    return Authority(tmp_path_factory.mktemp('other'))
