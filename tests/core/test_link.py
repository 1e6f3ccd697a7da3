"""The connection of a Publisher: when it is made, how often, and what ends the attempts."""

import threading
from types import SimpleNamespace

import pytest

from amqplib.core import link as link_module
from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.core.link import Link
from amqplib.exceptions import (
    AMQPConnectionException,
    AMQPTimeout,
    ConnectionLost,
    LoginRefused,
    NotFound,
    ReentrancyError,
    ResourceLocked,
)

LOST = ConnectionLost(0, 'nobody listens')


class ConnectionLike:
    rpc_timeout = None
    channel_max = 2047

    def __init__(self, log):
        self.log = log
        self.is_open = True

    def channel(self):
        self.log.append(('channel', self.rpc_timeout))
        return ChannelLike()

    def close(self, timeout):
        self.log.append(('close', timeout))
        self.is_open = False


class ChannelLike:
    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass


class LaneLike:
    """In place of a lane: its actions do what a test says."""

    def __init__(self, *outcomes, is_at_fault=False):
        self.has_channel = False
        self.settled = 0
        self.was_idle = False
        self.internal_errors = 0
        self.is_at_fault = is_at_fault
        self.outcomes = list(outcomes)

    def use(self, channel):
        self.has_channel = True

    def step(self, deadline):
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.settled += 1

    def requeue(self):
        self.has_channel = False

    def blame(self, error):
        self.settled += self.is_at_fault
        return self.is_at_fault


class World:
    """Where a link connects.

    outcomes: an error for each attempt that fails; after them, all succeed.
    """

    def __init__(self, *outcomes, setup=None, **arguments):
        self.outcomes = list(outcomes)
        self.log = []
        self.connections = []
        places = [{'host': 'one'}]
        self.link = Link(self.make, places, arguments, setup)

    def make(self, **arguments):
        self.log.append(('connect', arguments['connect_timeout']))
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.connections.append(ConnectionLike(self.log))
        return self.connections[-1]

    def count(self, what):
        return len([one for one, _ in self.log if one == what])


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Do not pause; a list of how long a pause would have been."""
    clock = SimpleNamespace(now=100.0)
    taken = []

    def pause(seconds, deadline):
        taken.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(link_module, 'monotonic', lambda: clock.now)
    monkeypatch.setattr(link_module, 'pause', pause)
    monkeypatch.setattr(link_module, 'uniform', lambda low, high: high)
    return taken


def test_it_connects_when_it_is_needed_and_once():
    world = World()
    assert not world.log
    for _ in range(2):
        world.link.settle(LaneLike(), NO_DEADLINE)
    assert (world.count('connect'), world.count('channel')) == (1, 2)


def test_it_pauses_longer_from_attempt_to_attempt(pauses):
    world = World(*[LOST] * 9)
    world.link.settle(LaneLike(), NO_DEADLINE)
    assert world.count('connect') == 10
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])


def test_after_a_loss_it_connects_again_at_once(pauses):
    world = World()
    lane = LaneLike(None, LOST)
    world.link.settle(lane, NO_DEADLINE)
    world.connections[0].is_open = False
    world.link.settle(lane, NO_DEADLINE)
    assert world.count('connect') == 2
    assert pauses == []


def test_it_pauses_if_connections_are_lost_before_anything_is_settled(pauses):
    world = World()

    class Losing(LaneLike):
        def requeue(self):
            super().requeue()
            world.connections[-1].is_open = False

    world.link.settle(Losing(LOST, LOST, LOST), NO_DEADLINE)
    assert world.count('connect') == 4
    assert pauses == pytest.approx([0.1, 0.2])


def test_the_deadline_raises_the_last_error():
    world = World(*[LOST] * 1000)
    with pytest.raises(ConnectionLost, match='nobody listens'):
        world.link.settle(LaneLike(), Deadline(0))


def test_connecting_takes_no_longer_than_the_deadline():
    world = World(connect_timeout=7)
    world.link.settle(LaneLike(), NO_DEADLINE)
    world.connections[0].is_open = False
    world.link.settle(LaneLike(), Deadline(5))
    (_, first), _, (_, second), _ = world.log
    assert 6 < first <= 7
    assert 4 < second <= 5


def test_opening_a_channel_takes_no_longer_than_the_deadline():
    world = World()
    world.link.settle(LaneLike(), Deadline(5))
    assert 4 < world.log[-1][1] <= 5
    assert world.connections[0].rpc_timeout is None


def test_an_error_that_is_not_recoverable_is_raised_at_once():
    world = World(LoginRefused(403, 'no'))
    with pytest.raises(LoginRefused):
        world.link.settle(LaneLike(), NO_DEADLINE)
    assert world.count('connect') == 1


def test_setup_is_called_for_each_connection_before_anything_else():
    calls = []
    world = World(setup=calls.append)
    for _ in range(2):
        world.link.settle(LaneLike(), NO_DEADLINE)
    assert len(calls) == 1
    world.connections[0].is_open = False
    world.link.settle(LaneLike(), NO_DEADLINE)
    assert len(calls) == 2


def test_setup_is_called_again_if_something_may_be_missing():
    calls = []
    world = World(setup=calls.append)
    lane = LaneLike(NotFound(404, 'gone'), is_at_fault=True)
    world.link.settle(lane, NO_DEADLINE)
    assert lane.settled == 1
    assert len(calls) == 1
    world.link.settle(lane, NO_DEADLINE)
    assert len(calls) == 2


def test_setup_is_tried_again_after_a_recoverable_error(pauses):
    outcomes = [ResourceLocked(405, 'still held'), None]

    def setup(channel):
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    world = World(setup=setup)
    world.link.settle(LaneLike(), NO_DEADLINE)
    assert pauses == [1]
    assert world.count('connect') == 1


@pytest.mark.parametrize('error', [KeyError('a mistake'), NotFound(404, 'passive')])
def test_any_other_error_of_setup_comes_through(error):
    def setup(channel):
        raise error

    world = World(setup=setup)
    for _ in range(2):
        with pytest.raises(type(error)):
            world.link.settle(LaneLike(), NO_DEADLINE)


def test_an_error_of_the_channel_that_is_not_because_of_a_message_is_raised():
    world = World()
    with pytest.raises(NotFound):
        world.link.settle(LaneLike(NotFound(404, 'not ours')), NO_DEADLINE)


def test_an_error_of_a_connection_that_was_idle_is_not_that_of_the_next_message():
    lane = LaneLike(AMQPConnectionException(501, 'because of another one'))
    lane.was_idle = True
    World().link.settle(lane, NO_DEADLINE)
    assert lane.settled == 1


def test_a_timeout_is_raised_at_the_deadline():
    with pytest.raises(AMQPTimeout, match='not confirmed'):
        World().link.settle(LaneLike(AMQPTimeout(0, 'not confirmed')), Deadline(0))


def test_nothing_is_opened_once_it_is_closed():
    world = World()
    world.link.settle(LaneLike(), NO_DEADLINE)
    world.link.close(3)
    assert world.log[-1] == ('close', 3)
    with pytest.raises(AMQPConnectionException, match='closed by this program'):
        world.link.settle(LaneLike(), NO_DEADLINE)


@pytest.mark.parametrize(('timeout', 'limit'), [(None, 10), (60, 10), (0.5, 0.5)])
def test_closing_has_a_limit(timeout, limit):
    """The broker has all messages by then, so a frozen one need not be waited for."""
    world = World()
    world.link.settle(LaneLike(), NO_DEADLINE)
    world.link.close(timeout)
    assert world.log[-1] == ('close', limit)


def test_what_is_connected_while_it_is_closed_is_closed_too():
    world = World()
    make = world.link._make

    def make_and_close(**arguments):
        world.link.close(0)  # as another thread does
        return make(**arguments)

    world.link._make = make_and_close
    with pytest.raises(AMQPConnectionException, match='closed by this program'):
        world.link.settle(LaneLike(), NO_DEADLINE)
    assert [connection.is_open for connection in world.connections] == [False]


def test_a_finalizer_that_interrupts_connecting_is_refused():
    errors = []

    def setup(channel):
        with pytest.raises(ReentrancyError) as caught:
            world.link.settle(LaneLike(), NO_DEADLINE)
        errors.append(caught.value)

    world = World(setup=setup)
    world.link.settle(LaneLike(), NO_DEADLINE)
    assert len(errors) == 1


def test_others_wait_while_one_thread_connects():
    begun, go_on = threading.Event(), threading.Event()

    def setup(channel):
        begun.set()
        assert go_on.wait(20)

    world = World(setup=setup)
    lanes = [LaneLike() for _ in range(3)]
    threads = [
        threading.Thread(target=world.link.settle, args=(lane, NO_DEADLINE)) for lane in lanes
    ]
    threads[0].start()
    assert begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    with pytest.raises(AMQPTimeout, match=r'not connected within 0\.01 s'):
        world.link.settle(LaneLike(), Deadline(0.01))
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert [lane.settled for lane in lanes] == [1, 1, 1]
    assert world.count('connect') == 1
