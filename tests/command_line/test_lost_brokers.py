"""A broker that goes away in the middle of a command, or does not answer."""

import pytest

from amqplib.core.abstract_channel import CLOSE_TIMEOUT
from amqplib.testing import Broker
from tests.command_line.conftest import CLIENTS
from tests.helpers.fault_proxy import DOWN, UP, FaultProxy
from tests.helpers.queues import await_ready, get_bodies, ready_count
from tests.helpers.waiting import poll

BODIES = [f'{number:05}'.encode() * 20 for number in range(3000)]


@pytest.fixture
def proxy(address):
    with FaultProxy(address) as ours:
        yield ours


@pytest.fixture
def run_lost(run, proxy):
    """A function (*arguments) that runs a command through the proxy, which fails.

    It returns the result, and the number in '..., 1,234 messages written'.
    """

    def run_command(*arguments, **options):
        result = run(*arguments, '--url', f'amqp://{proxy.address}', **options)
        assert result.status == 1
        assert result.err.startswith('amqplib: ')
        assert result.err.count('\n') == 1
        return result, int(result.err.replace(',', '').split()[-3])

    return run_command


def test_consume_acknowledges_nothing_that_is_not_written(
    run_lost, channel, queue, message_class, proxy
):
    for body in BODIES:
        channel.basic_publish(message_class(body), routing_key=queue)
    await_ready(channel, queue, len(BODIES))
    proxy.reset_after(DOWN, 250_000)
    result, written = run_lost('consume', queue)
    assert written > 500
    assert result.out.splitlines() == BODIES[:written]
    # The last acknowledgements may not have arrived.
    least = len(BODIES) - written
    poll(lambda: ready_count(channel, queue) >= least, 'what was not acknowledged')
    left = get_bodies(channel, queue, ready_count(channel, queue))
    assert left == BODIES[-len(left) :]


def test_publish_says_how_much_is_safe(run_lost, channel, queue, proxy):
    proxy.reset_after(UP, 350_000)  # more than 1,500 messages, of which 1,000 wait for the broker
    _, confirmed = run_lost('publish', queue, '--lines', given=b'\n'.join(BODIES))
    assert confirmed > 500
    poll(lambda: ready_count(channel, queue) >= confirmed, 'what is confirmed')
    arrived = ready_count(channel, queue)
    assert get_bodies(channel, queue, arrived) == BODIES[:arrived]


def test_a_broker_that_does_not_answer_is_waited_for_until_the_timeout(run, proxy):
    proxy.stall(UP, DOWN)
    result = run('info', '--url', f'amqp://{proxy.address}', '--timeout', '0.2')
    assert result.status == 1
    assert 'within 0.2 s' in result.err


def test_after_the_timeout_a_broker_is_not_waited_for_much_longer(run, protocol, monkeypatch):
    """Closing is limited as well."""
    amqp, limits = CLIENTS[protocol], []
    for closed in amqp.Connection, amqp.Channel:
        monkeypatch.setattr(closed, 'close', recording(closed.close, limits))
    with Broker() as broker:
        broker.block()
        result = run('publish', 'q', 'x', '--url', broker.url, '--timeout', '0.2')
    assert result.status == 1
    assert 'within 0.2 s' in result.err
    assert limits == [0.2]


def recording(close, limits):
    """Return a function that notes the timeout of each close()."""

    def recorded(self, *arguments, timeout=CLOSE_TIMEOUT):
        limits.append(timeout)
        return close(self, *arguments, timeout=timeout)

    return recorded
