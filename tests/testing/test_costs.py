"""What many bindings cost: calls are counted, as times would depend on the machine."""

import sys

import pytest

from amqplib.testing.exchanges import Exchange

pytestmark = pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='elsewhere, other things are calls'
)


def calls_in(function):
    """Return how many calls of functions there are in a call of this one."""
    calls = []
    sys.setprofile(lambda frame, event, arg: calls.append(event))
    try:
        function()
    finally:
        sys.setprofile(None)
    return len(calls)


def calls_to_bind_and_unbind(others, key_of):
    exchange, destination = Exchange('name', 'topic'), object()
    for number in range(others):
        exchange.bind(object(), key_of(number), {'number': number})

    def bind_and_unbind():
        exchange.bind(destination, 'key', {})
        exchange.unbind(destination, 'key', {})
        exchange.bind(destination, 'key', {})
        assert exchange.unbind_all(destination)

    return calls_in(bind_and_unbind)


@pytest.mark.parametrize('key_of', [str, lambda number: 'key'], ids=['other keys', 'the same key'])
def test_a_binding_costs_the_same_however_many_others_there_are(key_of):
    assert calls_to_bind_and_unbind(1000, key_of) == calls_to_bind_and_unbind(10, key_of)
