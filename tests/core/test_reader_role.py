"""The reader role: one thread at a time reads, and another one is woken when it stops."""

import threading

import pytest

from amqplib.core import locks, reader_role
from amqplib.core.deadline import NO_DEADLINE, NO_WAIT, Deadline
from amqplib.core.reader_role import ReaderRole
from tests.helpers.interrupts import (
    Interrupt,
    each_interruption,
    raise_interrupt,
    traces_instructions,
)
from tests.helpers.threads import in_thread


@pytest.fixture(autouse=True)
def wait_step(monkeypatch):
    """A function that sets how often, in seconds, waiting threads check; by default here, never."""

    def set_step(seconds):
        monkeypatch.setattr(reader_role, '_WAIT_STEP', seconds)

    set_step(1000)
    return set_step


@pytest.fixture
def role():
    return ReaderRole()


class Reader:
    """A thread that has the role until it is told to stop."""

    def __init__(self, role):
        self._begun, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=role.try_read, args=(self._read,), daemon=True)
        self._thread.start()
        assert self._begun.wait(30)

    def _read(self):
        self._begun.set()
        assert self._stop.wait(30)

    def stop(self):
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


class Waiter:
    """A thread that waits; `result` is what its wait returned."""

    def __init__(self, role, deadline=NO_DEADLINE):
        self.is_ready = False
        self.result = None
        self._role, self._deadline = role, deadline
        before = len(role.waiters)
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()
        while len(role.waiters) == before and self._thread.is_alive():
            self._thread.join(0.001)

    def _wait(self):
        self.result = self._role.wait_for_reader(lambda: self.is_ready, self._deadline)

    def join(self):
        self._thread.join(30)
        assert not self._thread.is_alive(), 'it waits'

    def is_waiting(self):
        return self._thread.is_alive()


@pytest.fixture
def reader(role):
    reader = Reader(role)
    yield reader
    reader.stop()


# --- Who reads ---


def test_the_thread_that_reads_has_the_role(role):
    seen = []
    assert not role.is_mine()
    assert role.try_read(lambda *args: seen.append((args, role.is_mine())), 1, 2) is True
    assert seen == [((1, 2), True)]
    assert not role.is_mine()
    assert not role.is_taken()


def test_only_one_thread_reads(role, reader):
    assert role.is_taken()
    assert not role.is_mine()
    assert role.try_read(pytest.fail) is False


def test_a_read_cannot_begin_inside_another_one(role):
    seen = []
    role.try_read(lambda: seen.append(role.try_read(pytest.fail)))
    assert seen == [False]


def test_role_is_free_after_an_error(role):
    with pytest.raises(ZeroDivisionError):
        role.try_read(lambda: 1 // 0)
    assert not role.is_taken()


@traces_instructions
@pytest.mark.parametrize('module', [reader_role, locks], ids=lambda module: module.__name__)
def test_interrupt_between_any_two_instructions_leaves_the_role_free(module):
    made = []

    def prepare():
        made.append(ReaderRole())
        return lambda: made[-1].try_read(lambda: None), raise_interrupt

    for result in each_interruption(module, prepare):
        assert isinstance(result, Interrupt)
        assert not in_thread(made[-1].is_taken)


# --- Waiting for the reader ---


def test_no_thread_waits_for_a_reader_if_none_reads(role):
    assert role.wait_for_reader(lambda: False, NO_DEADLINE) is True
    assert not role.waiters


def test_a_wait_that_is_over_already_returns_at_once(role, reader):
    assert role.wait_for_reader(lambda: True, NO_DEADLINE) is True
    assert not role.waiters


@pytest.mark.parametrize('deadline', [NO_WAIT, Deadline(0.01)], ids=str)
def test_wait_ends_at_the_deadline(role, reader, deadline):
    assert role.wait_for_reader(lambda: False, deadline) is False
    assert not role.waiters


def test_a_wait_that_is_over_at_its_deadline_is_in_time(role, reader):
    answers = iter([False, True, True])
    assert role.wait_for_reader(lambda: next(answers), NO_WAIT) is True


def test_threads_whose_wait_is_over_are_woken_and_no_others(role, reader):
    one, other = Waiter(role), Waiter(role)
    one.is_ready = True
    role.wake_ready()
    one.join()
    assert one.result is True
    assert other.is_waiting()
    assert len(role.waiters) == 1
    other.is_ready = True
    role.wake_ready()
    other.join()


def test_when_the_reader_stops_one_thread_is_woken_to_read(role):
    reader = Reader(role)
    waiters = [Waiter(role) for _ in range(3)]
    role.handed_over = False
    reader.stop()
    assert role.handed_over
    # Each that is woken and leaves without having read wakes the next.
    for waiter in waiters:
        waiter.join()
        assert waiter.result is True
    assert not role.waiters


def test_nobody_is_woken_to_read_where_nobody_waits(role):
    role.handed_over = True
    Reader(role).stop()
    assert not role.handed_over


def test_an_error_of_ready_ends_the_wait(role, reader):
    with pytest.raises(ZeroDivisionError):
        role.wait_for_reader(lambda: 1 // 0, NO_DEADLINE)
    assert not role.waiters


@traces_instructions
def test_interrupt_of_a_wait_leaves_no_waiter_behind(role, reader):
    def prepare():
        return lambda: role.wait_for_reader(lambda: False, NO_WAIT), raise_interrupt

    for result in each_interruption(reader_role, prepare):
        assert isinstance(result, Interrupt)
        # One interrupt may come before the waiter is to be removed; it is then woken in vain.
        assert len(role.waiters) <= 1
        role.waiters.clear()


@traces_instructions
def test_no_thread_is_left_waiting_if_the_one_woken_to_read_is_interrupted(wait_step):
    """The interrupt may come at any instruction, also while it wakes the next thread."""
    wait_step(0.01)
    made = []

    def prepare():
        role = ReaderRole()
        held = Reader(role)
        next_one = Waiter(role)
        made.append((next_one, held))

        def wait():
            # The reader stops as soon as this thread is listed, and wakes the first in the list.
            def stop_then():
                if len(role.waiters) == 2:
                    mine = list(role.waiters)[-1]
                    role.waiters = {mine: role.waiters.pop(mine), **role.waiters}
                    held.stop()
                return False

            role.wait_for_reader(stop_then, NO_DEADLINE)

        return wait, raise_interrupt

    for result in each_interruption(reader_role, prepare):
        assert isinstance(result, Interrupt)
        next_one, held = made[-1]
        held.stop()
        next_one.join()
        assert next_one.result is True
