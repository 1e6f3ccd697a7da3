"""Closed: the first cause, whether it is reported, and how it is raised."""

import pytest

from amqplib.core import closed as module
from amqplib.core.closed import Closed
from amqplib.exceptions import (
    AMQPChannelException,
    AMQPConnectionException,
    ConnectionLost,
    NotFound,
)
from tests.helpers.interrupts import each_interruption, traces_instructions

FIRST = NotFound(404, 'first', (50, 10), 'Channel.queue_declare')
SECOND = AMQPConnectionException(320, 'second')


@pytest.fixture
def whole():
    """How a connection is closed."""
    return Closed()


@pytest.fixture
def part(whole):
    """How a channel of it is closed."""
    return Closed(whole)


def raised_by(closed):
    with pytest.raises(AMQPConnectionException.__base__) as caught:
        closed.raise_cause()
    return caught.value


def test_it_begins_open(whole, part):
    for closed in (whole, part):
        assert closed.cause is None
        assert (closed.shut, closed.asked) == (False, False)
        assert (closed.by_program, closed.reported) == (False, False)


def test_first_cause_counts(whole):
    assert whole.end(FIRST) is True
    assert whole.end(SECOND) is False
    whole.end_as_asked()
    assert whole.cause.args == FIRST.args
    assert whole.shut
    assert not whole.by_program
    assert not whole.reported


def test_later_cause_that_is_reported_says_nothing_of_the_first(whole):
    whole.end(FIRST)
    whole.end(SECOND, reported=True)
    assert not whole.reported


def test_cause_is_a_copy(whole):
    try:
        raise FIRST
    except NotFound:
        whole.end(FIRST)
    assert whole.cause is not FIRST
    assert whole.cause.__traceback__ is None


def test_each_call_raises_a_copy_with_the_same_cause_behind_it(whole):
    error = ConnectionLost.from_error(ConnectionResetError(104, 'reset'), 'it broke')
    whole.end(error)
    one, other = raised_by(whole), raised_by(whole)
    assert one is not other
    assert one is not whole.cause
    assert type(one) is ConnectionLost
    assert one.args == other.args == error.args
    assert one.__cause__ is other.__cause__
    assert isinstance(one.__cause__, ConnectionResetError)
    assert whole.cause.__traceback__ is None, 'it would keep what was there alive'


def test_cause_is_reported_once_a_call_has_raised_it(whole):
    whole.end(FIRST)
    assert not whole.reported
    raised_by(whole)
    assert whole.reported


def test_cause_may_be_reported_from_the_beginning(whole):
    whole.end(FIRST, reported=True)
    assert whole.reported


# --- Asked for by the program ---


def test_end_as_asked(whole):
    whole.ask()
    assert whole.asked
    assert whole.shut
    assert whole.cause is None
    whole.end_as_asked()
    assert not whole.asked
    assert whole.close_queued
    assert whole.shut
    assert whole.by_program
    assert whole.reported


@pytest.mark.parametrize(
    ('of_channel', 'error', 'what'),
    [(False, AMQPConnectionException, 'connection'), (True, AMQPChannelException, 'channel')],
)
def test_end_as_asked_is_an_error_for_later_calls(whole, part, of_channel, error, what):
    closed = part if of_channel else whole
    closed.end_as_asked()
    raised = raised_by(closed)
    assert type(raised) is error
    assert raised.args[:2] == (0, f'the {what} was closed by this program')
    assert not (of_channel and whole.shut)


def test_end_by_something_else_while_it_is_asked_is_not_by_the_program(whole):
    whole.ask()
    whole.end(SECOND)
    whole.end_as_asked()
    assert not whole.by_program
    assert not whole.reported
    assert raised_by(whole).args == SECOND.args


def test_a_close_that_could_not_be_sent_is_taken_back(whole):
    whole.ask()
    whole.take_back()
    assert not whole.shut
    assert not whole.asked


def test_end_cannot_be_taken_back(whole):
    whole.ask()
    whole.end(SECOND)
    whole.take_back()
    assert whole.shut
    assert raised_by(whole).args == SECOND.args


def test_calls_during_the_close_say_so(whole, part):
    part.ask()
    error = raised_by(part)
    assert type(error) is AMQPChannelException
    assert 'the channel was closed by this program' in str(error)
    whole.ask()
    error = raised_by(whole)
    assert type(error) is AMQPConnectionException
    assert 'the connection was closed by this program' in str(error)
    assert not part.reported
    assert not whole.reported


def test_channel_of_a_connection_that_is_being_closed_says_so(whole, part):
    whole.ask()
    error = raised_by(part)
    assert type(error) is AMQPConnectionException
    assert 'the connection was closed' in str(error)


# --- A channel and its connection ---


def test_channel_ends_with_its_connection(whole, part):
    whole.end(SECOND)
    assert part.cause is None
    part.end_with_connection()
    assert part.cause is whole.cause
    assert part.shut
    assert not part.reported


def test_channel_does_not_end_while_its_connection_is_open(whole, part):
    part.end_with_connection()
    assert part.cause is None
    whole.end_with_connection()
    assert whole.cause is None


def test_a_cause_of_the_connection_that_a_channel_raises_is_reported_for_both(whole, part):
    whole.end(SECOND)
    assert raised_by(part).args == SECOND.args
    assert part.reported
    assert whole.reported


def test_a_cause_of_the_channel_is_not_reported_for_its_connection(whole, part):
    part.end(FIRST)
    whole.end(SECOND)
    assert raised_by(part).args == FIRST.args
    assert part.reported
    assert not whole.reported


def test_a_reported_cause_of_the_connection_is_reported_for_its_channels(whole, part):
    whole.end(SECOND, reported=True)
    part.end_with_connection()
    assert part.reported


def test_on_raise_is_called_once(whole):
    called = []
    part = Closed(whole, lambda: called.append(True))
    part.end(FIRST)
    assert called == []
    for _ in range(2):
        raised_by(part)
    assert called == [True]


# --- Two threads ---


@traces_instructions
def test_of_two_threads_one_sets_the_cause():
    """The second thread ends it between any two instructions of the first."""
    made, others = [], []

    def prepare():
        closed = Closed()
        made.append(closed)
        return lambda: closed.end(FIRST), lambda: others.append(closed.end(SECOND, reported=True))

    for first in each_interruption(module, prepare):
        closed, other = made[-1], others[-1]
        assert first is not other
        assert closed.cause.args == (FIRST if first else SECOND).args
        assert closed.reported is other
        assert closed.shut
    assert {True, False} == set(others)


def ask_in_vain(closed):
    closed.ask()
    closed.take_back()


@traces_instructions
@pytest.mark.parametrize('end_comes_between', [True, False])
def test_what_ended_while_the_program_asked_is_not_taken_back(end_comes_between):
    made = []

    def prepare():
        closed = Closed()
        made.append(closed)

        def take_back():
            ask_in_vain(closed)

        def end():
            closed.end(SECOND)

        return (take_back, end) if end_comes_between else (end, take_back)

    for _ in each_interruption(module, prepare):
        assert made[-1].cause.args == SECOND.args
        assert made[-1].shut
