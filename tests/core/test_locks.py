"""Mutex: one thread at a time, in time, and never left taken."""

import threading

import pytest

from amqplib.core import locks
from amqplib.core.deadline import NO_DEADLINE, NO_WAIT, Deadline
from amqplib.core.locks import Mutex
from amqplib.exceptions import ReentrancyError
from tests.helpers.interrupts import (
    Interrupt,
    each_interruption,
    raise_interrupt,
    traces_instructions,
)
from tests.helpers.threads import in_thread


@pytest.fixture
def mutex():
    return Mutex()


@pytest.fixture
def taken(mutex):
    """The mutex while another thread holds it."""
    held, let_go = threading.Event(), threading.Event()

    def hold():
        held.set()
        assert let_go.wait(30)

    thread = threading.Thread(target=mutex.run, args=(hold,))
    thread.start()
    assert held.wait(30)
    yield mutex
    let_go.set()
    thread.join(30)


def is_free(mutex):
    """Return whether any thread can have the lock."""
    return not mutex.is_mine() and in_thread(mutex.try_run, lambda: None)


def do(mutex, way, work):
    """Have work done in one of the ways."""
    return {
        'run': lambda: mutex.run(work),
        'try_run': lambda: mutex.try_run(work),
        'run_in_time': lambda: mutex.run_in_time(Deadline(30), work),
        'run without limit': lambda: mutex.run_in_time(NO_DEADLINE, work),
    }[way]()


WAYS = ['run', 'try_run', 'run_in_time', 'run without limit']


def test_work_gets_its_arguments_and_its_result_is_returned(mutex):
    assert mutex.run(divmod, 7, 2) == (3, 1)
    done = []
    assert mutex.try_run(done.append, 1) is True
    assert mutex.run_in_time(NO_WAIT, done.append, 2) is True
    assert done == [1, 2]
    assert is_free(mutex)


@pytest.mark.parametrize('way', WAYS)
def test_the_lock_is_held_by_the_thread_that_does_the_work_and_by_no_other(mutex, way):
    seen = []

    def work():
        seen.append((mutex.is_mine(), in_thread(mutex.is_mine), is_free(mutex)))
        seen.append(in_thread(mutex.try_run, seen.append, 'another'))

    do(mutex, way, work)
    assert seen == [(True, False, False), False]
    assert is_free(mutex)


@pytest.mark.parametrize('way', WAYS)
def test_an_error_of_the_work_is_raised_and_the_lock_is_free(mutex, way):
    with pytest.raises(ZeroDivisionError):
        do(mutex, way, lambda: 1 // 0)
    assert is_free(mutex)


@pytest.mark.parametrize('way', WAYS)
def test_the_holder_is_refused_and_keeps_the_lock(mutex, way):
    seen = []

    def work():
        if way == 'run':
            with pytest.raises(ReentrancyError):
                mutex.run(seen.append, 'again')
        else:
            assert do(mutex, way, lambda: seen.append('again')) is False
        seen.append(mutex.is_mine())

    mutex.run(work)
    assert seen == [True]
    assert is_free(mutex)


def test_try_run_does_nothing_while_another_thread_holds_the_lock(taken):
    done = []
    assert taken.try_run(done.append, 1) is False
    assert taken.run_in_time(NO_WAIT, done.append, 2) is False
    assert taken.run_in_time(Deadline(0.01), done.append, 3) is False
    assert done == []


@pytest.mark.parametrize('way', ['run', 'run_in_time', 'run without limit'])
def test_a_waiting_thread_does_the_work_when_the_lock_is_released(mutex, way):
    order, waits = [], threading.Event()

    def wait():
        waits.set()
        do(mutex, way, lambda: order.append('second'))

    thread = threading.Thread(target=wait)

    def first():
        thread.start()
        assert waits.wait(30)
        order.append('first')

    mutex.run(first)
    thread.join(30)
    assert order == ['first', 'second']


@traces_instructions
@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('fails', [False, True], ids=['work succeeds', 'work fails'])
def test_an_interrupt_between_any_two_instructions_leaves_it_free(way, fails):
    made = []

    def prepare():
        mutex = Mutex()
        made.append(mutex)
        return lambda: do(mutex, way, lambda: 1 // 0 if fails else None), raise_interrupt

    interrupted = 0
    for result in each_interruption(locks, prepare):
        assert isinstance(result, Interrupt)
        assert in_thread(made[-1].try_run, lambda: None), f'instruction {len(made)}'
        interrupted += 1
    assert interrupted > 20


@traces_instructions
def test_an_interrupt_of_a_refused_call_leaves_the_lock_to_its_holder():
    def prepare():
        return lambda: mutex.try_run(lambda: None), raise_interrupt

    def work():
        for result in each_interruption(locks, prepare):
            assert isinstance(result, Interrupt)
            assert mutex.is_mine()
            assert not in_thread(mutex.try_run, lambda: None)

    mutex = Mutex()
    mutex.run(work)
    assert is_free(mutex)
