"""The queue of returned messages: it is a Queue, but no exception leaves it locked."""

import queue
import threading
from functools import partial

import pytest

from amqplib.core import channel as channel_module
from amqplib.core import unlocked_queue
from amqplib.core.unlocked_queue import UnlockedQueue
from tests.helpers.interrupts import run_interrupted, traces_instructions
from tests.helpers.threads import Worker
from tests.helpers.waiting import poll


@pytest.fixture
def items():
    return UnlockedQueue()


def test_it_does_what_a_queue_does(items):
    assert isinstance(items, queue.Queue)
    assert items.empty()
    items.put('first')
    items.put_nowait('second')
    assert (items.qsize(), items.empty(), items.full()) == (2, False, False)
    assert (items.get_nowait(), items.get(timeout=10)) == ('first', 'second')
    items.task_done()
    items.task_done()
    items.join()


@pytest.mark.parametrize('arguments', [(False,), (True, 0), (True, 0.01)])
def test_nothing_is_there_in_time(items, arguments):
    with pytest.raises(queue.Empty):
        items.get(*arguments)


def test_waiting_threads_get_one_item_each(items):
    threads = [Worker(items.get) for _ in range(2)]
    poll(lambda: len(items._waiters) == 2, 'the threads that wait')
    items.put('first')
    items.put('second')
    assert sorted(thread.result() for thread in threads) == ['first', 'second']
    assert not items._waiters


@traces_instructions
@pytest.mark.parametrize('call', ['put', 'get'])
def test_an_interrupt_between_any_two_instructions_locks_nobody_out(call):
    numbers = []
    for module in (unlocked_queue, queue, threading):
        number, reached = 0, True
        while reached:
            number += 1
            items = channel_module._make_queue(None)
            items.put('item')
            function = items.get_nowait if call == 'get' else partial(items.put, 'another')
            reached, _ = run_interrupted(number, module, function)
            Worker(items.put, 'last').result()
        numbers.append(number)
    assert numbers[0] > 5
