"""Fixtures for replayed conversations: the records, and nothing left behind."""

from types import SimpleNamespace

import pytest

import amqplib.client_0_8 as amqp_0_8
from amqplib import client_0_9_1
from tests.helpers import replay
from tests.helpers.memory import scarce_memory
from tests.helpers.scripted_fixtures import _frozen  # noqa: F401


@pytest.fixture(autouse=True)
def _nothing_left_behind(no_leaks):
    """Check each test for descriptors and threads that it leaves."""


@pytest.fixture(autouse=True)
def _little_memory():
    """Let the system refuse what is only announced."""
    with scarce_memory():
        yield


@pytest.fixture(scope='package', params=[amqp_0_8, client_0_9_1], ids=['0-8', '0-9-1'])
def amqp(request):
    """Each of the two clients."""
    return request.param


@pytest.fixture(scope='package')
def recorded(amqp, broker):
    """A conversation with the real broker: its `record`, its `results`, and the `client`."""
    if amqp is amqp_0_8 and broker.refusal:
        pytest.skip(f'needs AMQP 0-8: {broker.refusal}')
    played, results = replay.record(amqp, broker.address)
    return SimpleNamespace(record=played, results=results, client=amqp)
