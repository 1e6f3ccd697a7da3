"""The outbox: whole methods one after the other, what is urgent, and what spoils the stream."""

import threading
from collections import deque

import pytest

from amqplib.core import outbox as outbox_module
from amqplib.core.closed import Closed
from amqplib.core.deadline import NO_DEADLINE, NO_WAIT, Deadline
from amqplib.core.outbox import CLEAN, SPOILED, WRITING, Outbox
from amqplib.exceptions import (
    AMQPConnectionException,
    AMQPTimeout,
    ConnectionLost,
    ReentrancyError,
    WriteTimeout,
)
from tests.helpers.frames import method
from tests.helpers.interrupts import (
    Interrupt,
    each_interruption,
    raise_interrupt,
    traces_instructions,
)
from tests.helpers.threads import in_thread

ONE, TWO, THREE = (method(channel, (90, 10)) for channel in (1, 2, 3))
PIECES = [b'head', memoryview(b'body'), b'end']


def nothing(*args):
    pass


class Wire:
    """In place of a transport: what is sent, write by write.

    room: how many bytes the socket takes; None for all.
    on_write: called in the middle of a write.
    on_wait: called when a write has to wait for room.
    """

    def __init__(self):
        self.writes = []
        self.deadlines = []
        self.sent = 0
        self.unfinished = self.needs_input = False
        self.room = None
        self.on_write = nothing
        self.on_wait = self.time_out

    @property
    def stream(self):
        return b''.join(self.writes)

    def send(self, data, deadline=NO_DEADLINE):
        self.send_pieces([data], deadline)

    def send_pieces(self, pieces, deadline=NO_DEADLINE):
        self.on_write()
        self.writes.append(b''.join(pieces))
        self.deadlines.append(deadline)
        self.sent += 1

    def send_some(self, data):
        self.on_write()
        count = len(data) if self.room is None else min(self.room, len(data))
        if count:
            self.writes.append(bytes(data[:count]))
            self.sent += 1
        if self.room is not None:
            self.room -= count
        return count

    def wait_to_send(self, deadline, needs_input):
        self.on_wait()

    def time_out(self):
        raise AMQPTimeout(0, 'nothing could be sent')

    def fail(self, error, unfinished):
        """Have the next write fail."""

        def fail():
            self.on_write = nothing
            self.unfinished = unfinished
            raise error

        self.on_write = fail

    def once(self, function):
        """Have a function called in the middle of the next write."""

        def call():
            self.on_write = nothing
            function()

        self.on_write = call


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def connection_closed():
    return Closed()


@pytest.fixture
def closed(connection_closed):
    return Closed(connection_closed)


@pytest.fixture
def outbox(wire, connection_closed):
    return Outbox(wire, connection_closed)


def is_free(outbox):
    """Return whether any thread can send."""
    return not outbox.is_mine() and in_thread(outbox.run_idle, nothing)


# --- What goes out ---


def test_method_with_its_content_is_one_write(wire, outbox, closed):
    assert outbox.send(ONE, closed) is True
    assert outbox.send(PIECES, closed) is True
    assert wire.writes == [ONE, b'headbodyend']


def test_state_is_writing_in_the_middle_of_a_write_only(wire, outbox, closed):
    states = []
    wire.on_write = lambda: states.append((outbox.state, outbox.is_mine()))
    assert outbox.state is CLEAN
    outbox.send(ONE, closed)
    outbox.send_urgent(TWO)
    assert states == [(WRITING, True)] * 2
    assert outbox.state is CLEAN
    assert is_free(outbox)


def test_on_turn_is_called_when_the_frames_are_next(wire, outbox, closed):
    seen = []
    outbox.send_urgent(TWO)
    outbox.send(ONE, closed, on_turn=lambda: seen.append(list(wire.writes)))
    assert seen == [[TWO]]
    assert wire.writes == [TWO, ONE]


def test_other_threads_wait_until_a_whole_content_is_sent(wire, outbox, closed):
    thread = threading.Thread(target=outbox.send, args=(TWO, closed), daemon=True)

    def start_another():
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        assert wire.writes == []

    wire.once(start_another)
    outbox.send(PIECES, closed)
    thread.join(30)
    assert wire.writes == [b'headbodyend', TWO]


def test_methods_of_several_threads_do_not_mix(wire, outbox, closed):
    def write_in_parts(pieces, deadline=NO_DEADLINE):
        assert outbox.state is WRITING
        for piece in pieces:
            wire.writes.append(bytes(piece))
            threading.Event().wait(0)  # so that other threads have the chance

    wire.send_pieces = write_in_parts
    sent = [[f'{name}{number}'.encode(), b'+', b';'] for name in 'abcd' for number in range(25)]

    def send(own):
        for pieces in own:
            outbox.send(pieces, closed)

    threads = [threading.Thread(target=send, args=(sent[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(wire.stream.split(b'+;')) == sorted([b'', *(pieces[0] for pieces in sent)])


# --- Channels that are closed ---


@pytest.mark.parametrize('which', ['channel', 'connection'])
@pytest.mark.parametrize('how', ['asked', 'ended'])
@pytest.mark.parametrize('way', ['send', 'in time', 'send_soon'])
def test_nothing_is_sent_for_a_shut_channel_or_connection(
    wire, outbox, connection_closed, closed, which, how, way
):
    shut = {'channel': closed, 'connection': connection_closed}[which]
    if how == 'asked':
        shut.ask()
    else:
        shut.end(AMQPConnectionException(320, 'gone'))
    turns = []

    def on_turn():
        turns.append(1)

    if way == 'send_soon':
        sent = outbox.send_soon(ONE, closed, on_turn)
    else:
        sent = outbox.send(ONE, closed, NO_DEADLINE if way == 'send' else Deadline(30), on_turn)
    assert sent is False
    assert turns == []
    assert wire.writes == []
    assert not outbox.urgent


def test_channel_that_is_shut_while_it_waits_for_its_turn_sends_nothing(wire, outbox, closed):
    results, other = [], Closed()
    waits = threading.Event()

    def send():
        waits.set()
        results.append(outbox.send(TWO, closed))

    thread = threading.Thread(target=send)

    def close():
        thread.start()
        assert waits.wait(30)
        closed.ask()

    wire.once(close)
    outbox.send(ONE, other)
    thread.join(30)
    assert results == [False]
    assert wire.writes == [ONE]


def test_frame_that_closes_is_the_last_one(wire, outbox, closed):
    assert outbox.send(ONE, closed, on_turn=closed.ask) is True
    assert outbox.send(TWO, closed) is False
    assert wire.writes == [ONE]


# --- Calls in the middle of a write of the same thread, by a finalizer for instance ---


def test_frames_that_are_sent_within_a_write_go_out_after_it(wire, outbox, closed):
    results, turns, other = [], [], Closed()

    def send_again():
        results.append(outbox.send(TWO, other, on_turn=lambda: turns.append(list(wire.writes))))
        results.append(outbox.send([b'three', b'!'], closed))
        assert wire.writes == []

    wire.once(send_again)
    outbox.send(ONE, closed)
    assert results == [True, True]
    assert turns == [[]]
    assert wire.writes == [ONE, TWO, b'three!']
    assert not outbox.urgent


def test_numbered_frames_within_a_write_for_the_same_channel_are_refused(wire, outbox, closed):
    """The broker might get them before the frames that are being sent, and count differently."""
    turns = []

    def send_again():
        with pytest.raises(ReentrancyError):
            outbox.send(TWO, closed, on_turn=lambda: turns.append('two'))

    wire.once(send_again)
    assert outbox.send(ONE, closed, on_turn=lambda: turns.append('one'))
    assert turns == ['one']
    assert wire.writes == [ONE]


def test_frames_for_a_shut_channel_within_a_write_are_not_sent(wire, outbox, closed):
    results = []
    other = Closed()
    other.ask()
    wire.once(lambda: results.append(outbox.send(TWO, other)))
    outbox.send(ONE, closed)
    assert results == [False]
    assert wire.writes == [ONE]


def test_frames_that_came_within_a_write_and_cannot_follow_it_stay_queued(wire, outbox, closed):
    def send_again():
        wire.room = 0
        assert outbox.send(TWO, closed)

    wire.once(send_again)
    assert outbox.send(ONE, closed, Deadline(30)) is True
    assert wire.writes == [ONE]
    assert outbox.state is CLEAN
    wire.room = None
    outbox.flush()
    assert wire.writes == [ONE, TWO]


# --- What is urgent ---


def test_urgent_frame_goes_at_once_when_nobody_writes(wire, outbox):
    outbox.send_urgent(ONE)
    assert wire.writes == [ONE]
    assert not outbox.urgent


def test_urgent_frames_come_first(wire, outbox, closed):
    wire.room = 0
    outbox.send_urgent(ONE)
    outbox.send_soon(TWO, closed)
    assert wire.writes == []
    wire.room = None
    outbox.send(THREE, closed)
    assert wire.writes == [ONE, TWO, THREE]


@pytest.mark.parametrize('taken', range(1, len(ONE)))
@pytest.mark.parametrize('rest', ['send', 'send_urgent', 'flush'])
def test_urgent_frame_that_was_sent_in_part_is_continued(wire, outbox, closed, taken, rest):
    wire.room = taken
    outbox.send_urgent(ONE)
    assert wire.stream == ONE[:taken]
    assert outbox.state is CLEAN
    assert is_free(outbox)
    wire.room = None
    if rest == 'flush':
        outbox.flush()
        assert wire.stream == ONE
    elif rest == 'send':
        outbox.send(TWO, closed)
        assert wire.stream == ONE + TWO
    else:
        outbox.send_urgent(TWO)
        assert wire.stream == ONE + TWO
    assert not outbox.urgent


def test_urgent_frame_does_not_wait_for_another_thread_s_write(wire, outbox, closed):
    def send_urgent():
        in_thread(outbox.send_urgent, TWO)
        in_thread(outbox.send_soon, THREE, closed)
        assert wire.writes == []

    wire.once(send_urgent)
    outbox.send(PIECES, closed)
    assert wire.writes == [b'headbodyend', TWO, THREE]


def test_urgent_frame_that_comes_as_the_last_step_of_a_write_is_sent(wire, outbox, closed):
    """The write has made its last check for urgent frames, and still holds the lock."""
    made = []

    class Late(Outbox):
        def _send(self, *args):
            sent = super()._send(*args)
            in_thread(self.send_urgent, TWO)
            made.append(list(wire.writes))
            return sent

    assert Late(wire, Closed()).send(ONE, closed)
    assert made == [[ONE]]
    assert wire.writes == [ONE, TWO]


def test_method_waits_for_the_urgent_frames_before_it(wire, outbox, closed):
    wire.room = 0
    outbox.send_urgent(ONE)

    def make_room():
        wire.room = None

    wire.on_wait = make_room
    outbox.send(TWO, closed)
    assert wire.writes == [ONE, TWO]


def test_urgent_frame_that_fails_spoils_the_stream(wire, outbox, closed):
    wire.fail(ConnectionLost(0, 'broken'), unfinished=False)
    with pytest.raises(ConnectionLost, match='broken'):
        outbox.send_urgent(ONE)
    assert outbox.state is SPOILED
    outbox.flush()
    with pytest.raises(ConnectionLost, match='broken'):
        outbox.send(TWO, closed)
    assert wire.writes == []
    assert not outbox.urgent
    assert is_free(outbox)


@pytest.mark.parametrize('way', ['send_urgent', 'send'])
def test_urgent_frame_is_never_sent_twice(wire, outbox, closed, way):
    """An interrupt comes right after the socket has taken the frame."""
    take = wire.send_some

    def interrupted(data):
        take(data)
        raise Interrupt

    if way == 'send':
        wire.room = 0
        outbox.send_urgent(ONE)
        wire.room = None
    wire.send_some = interrupted
    with pytest.raises(Interrupt):
        outbox.send_urgent(ONE) if way == 'send_urgent' else outbox.send(TWO, closed)
    wire.send_some = take
    outbox.flush()
    with pytest.raises(ConnectionLost, match='cut short'):
        outbox.send(THREE, closed)
    assert wire.writes == [ONE]


# --- What spoils the stream ---


@pytest.mark.parametrize('error', [ConnectionLost(0, 'broken'), Interrupt()], ids=repr)
@pytest.mark.parametrize('frames', [ONE, PIECES], ids=['bytes', 'pieces'])
def test_nothing_follows_a_write_that_was_cut(wire, outbox, closed, error, frames):
    wire.fail(error, unfinished=True)
    with pytest.raises(type(error)):
        outbox.send(frames, closed)
    assert outbox.state is SPOILED
    first = 'broken' if isinstance(error, ConnectionLost) else 'cut short'
    for _ in range(2):
        with pytest.raises(ConnectionLost, match=first):
            outbox.send(ONE, closed)
    # send_urgent() raises nothing here, as that could hide the error that counts.
    outbox.send_urgent(ONE)
    outbox.send_soon(TWO, closed)
    assert not outbox.urgent
    assert wire.writes == []
    assert is_free(outbox)


@pytest.mark.parametrize('error', [ConnectionLost(0, 'broken'), Interrupt()], ids=repr)
def test_write_that_had_not_begun_spoils_nothing(wire, outbox, closed, error):
    wire.fail(error, unfinished=False)
    with pytest.raises(type(error)):
        outbox.send(ONE, closed)
    assert outbox.state is CLEAN
    assert is_free(outbox)
    in_thread(outbox.send, TWO, closed)
    assert wire.writes == [TWO]


def test_error_of_on_turn_spoils_nothing(wire, outbox, closed):
    with pytest.raises(ZeroDivisionError):
        outbox.send(ONE, closed, on_turn=lambda: 1 // 0)
    assert outbox.state is CLEAN
    assert is_free(outbox)
    assert wire.writes == []


# --- Time ---


def test_timeout_before_the_first_byte_spoils_nothing(wire, outbox, closed):
    wire.fail(AMQPTimeout(0, 'nothing could be sent'), unfinished=False)
    with pytest.raises(AMQPTimeout, match='nothing could be sent') as caught:
        outbox.send(ONE, closed, Deadline(30))
    assert type(caught.value) is AMQPTimeout
    assert outbox.state is CLEAN
    assert outbox.send(TWO, closed)
    assert wire.writes == [TWO]


def test_timeout_in_the_middle_is_raised_by_all_later_writes(wire, outbox, closed):
    wire.fail(AMQPTimeout(0, 'nothing could be sent'), unfinished=True)
    errors = []
    for _ in range(3):
        with pytest.raises(WriteTimeout, match='the outcome is unknown') as caught:
            outbox.send(ONE, closed, Deadline(30))
        errors.append(caught.value)
    assert outbox.state is SPOILED
    assert len(set(map(id, errors))) == 3
    assert len({error.args for error in errors}) == 1
    assert 'nothing could be sent, in the middle of a write' in str(errors[0])
    assert wire.writes == []


def test_timeout_before_the_urgent_frames_are_out_sends_nothing(wire, outbox, closed):
    wire.room = 3
    outbox.send_urgent(ONE)
    with pytest.raises(AMQPTimeout) as caught:
        outbox.send(TWO, closed, Deadline(30))
    assert type(caught.value) is AMQPTimeout
    assert outbox.state is CLEAN
    wire.room = None
    outbox.send(THREE, closed)
    assert wire.stream == ONE + THREE


@pytest.mark.parametrize('write_timeout', [None, 0.01])
def test_timeout_while_another_thread_writes(wire, outbox, closed, write_timeout):
    errors = []

    def send():
        deadline = NO_DEADLINE if write_timeout else Deadline(0.01)
        with pytest.raises(AMQPTimeout, match=r'other threads were sending for 0\.01 s') as caught:
            outbox.send(TWO, closed, deadline)
        errors.append(type(caught.value))

    def send_in_thread():
        outbox.write_timeout = write_timeout
        in_thread(send)

    wire.once(send_in_thread)
    outbox.send(ONE, closed)
    assert errors == [AMQPTimeout]
    assert wire.writes == [ONE]
    assert outbox.state is CLEAN


def test_write_timeout_is_the_deadline_of_each_write(wire, outbox, closed):
    outbox.write_timeout = 5
    for frames in (ONE, PIECES, TWO):
        outbox.send(frames, closed)
    assert [deadline.seconds for deadline in wire.deadlines] == [5, 5, 5]
    assert len(set(map(id, wire.deadlines))) == 3
    outbox.write_timeout = None
    outbox.send(ONE, closed)
    assert wire.deadlines[-1].remaining() is None


@pytest.mark.parametrize(('own', 'seconds'), [(3, 3), (8, 5)])
def test_the_earlier_of_deadline_and_write_timeout_counts(wire, outbox, closed, own, seconds):
    outbox.write_timeout = 5
    outbox.send(ONE, closed, Deadline(own))
    assert wire.deadlines[-1].seconds == seconds


def test_an_expired_deadline_leaves_no_time_to_wait_for_another_writer(wire, outbox, closed):
    assert outbox.send(ONE, closed, NO_WAIT) is True

    def send():
        with pytest.raises(AMQPTimeout):
            outbox.send(TWO, closed, NO_WAIT)

    wire.once(lambda: in_thread(send))
    outbox.send(ONE, closed)
    assert wire.writes == [ONE, ONE]


# --- While nobody writes ---


def test_run_idle_does_nothing_during_a_write(wire, outbox, closed):
    done = []
    assert outbox.run_idle(lambda: done.append(outbox.is_mine())) is True
    assert done == [True]
    results = []

    def try_both():
        results.append(outbox.run_idle(done.clear))
        results.append(in_thread(outbox.run_idle, done.clear))

    wire.once(try_both)
    outbox.send(ONE, closed)
    assert results == [False, False]
    assert done == [True]


# --- A frame that is queued just as its channel closes ---


class BeforeAppending(deque):
    """A queue that calls something once, right before it takes the next frame."""

    call = None

    def append(self, item):
        call, self.call = self.call, None
        if call is not None:
            call()
        super().append(item)


def close_by_program(outbox, closed):
    outbox.send(ONE, closed, on_turn=closed.ask)


def close_by_broker(outbox, closed):
    closed.end(AMQPConnectionException(0, 'ended'))
    outbox.send_urgent(ONE)


@pytest.mark.parametrize('close', [close_by_program, close_by_broker])
def test_frame_that_is_queued_as_another_thread_closes_is_not_sent(wire, outbox, closed, close):
    outbox.urgent = BeforeAppending()
    outbox.urgent.call = lambda: in_thread(close, outbox, closed)
    outbox.send_soon(TWO, closed)
    assert wire.writes == [ONE]
    assert not outbox.urgent


def test_close_of_a_channel_that_is_queued_as_the_connection_closes_is_not_sent(
    wire, outbox, connection_closed, closed
):
    outbox.urgent = BeforeAppending()
    outbox.urgent.call = lambda: in_thread(close_by_program, outbox, connection_closed)
    outbox.send_soon(TWO, closed, closed.ask)
    assert wire.writes == [ONE]
    assert not outbox.urgent


def test_frames_that_were_queued_before_the_close_are_sent_before_it(wire, outbox, closed):
    def send_and_close():
        assert outbox.send(TWO, closed)
        assert outbox.send(THREE, closed, on_turn=closed.ask)

    wire.once(send_and_close)
    outbox.send(ONE, Closed())
    assert wire.writes == [ONE, TWO, THREE]


def test_close_that_is_queued_goes_out_even_if_the_broker_closes_too(wire, outbox, closed):
    def close():
        assert outbox.send(TWO, closed, on_turn=closed.ask)
        closed.end(AMQPConnectionException(0, 'ended'))

    wire.once(close)
    outbox.send(ONE, Closed())
    assert wire.writes == [ONE, TWO]


@traces_instructions
@pytest.mark.parametrize('limit', [None, 30])
def test_an_interrupt_between_any_two_instructions_leaves_the_lock_free(limit):
    made = []

    def prepare():
        outbox = Outbox(Wire(), Closed())
        made.append(outbox)
        deadline = NO_DEADLINE if limit is None else Deadline(limit)
        return lambda: outbox.send(ONE, Closed(), deadline), raise_interrupt

    for result in each_interruption(outbox_module, prepare):
        assert isinstance(result, Interrupt)
        assert is_free(made[-1]), f'instruction {len(made)}'
