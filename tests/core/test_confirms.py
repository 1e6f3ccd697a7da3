"""Confirms: which messages are outstanding and which were refused, whatever the broker says."""

import gc
import sys
import threading
from collections.abc import Sized

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib.core.confirms import Confirms


def with_messages(count):
    confirms = Confirms()
    confirms.last_sequence_number = count
    return confirms


def add(confirms):
    """Return the number of the next message."""
    confirms.last_sequence_number += 1
    return confirms.last_sequence_number


def test_nothing_is_outstanding_at_first():
    confirms = Confirms()
    assert confirms.outstanding == 0
    assert confirms.take_refused() == ()
    assert not confirms.confirm(1, False, True)


def test_one_by_one_in_order():
    confirms = with_messages(3)
    for number in (1, 2, 3):
        assert confirms.confirm(number, False, True)
        assert confirms.outstanding == 3 - number
    assert confirms.take_refused() == ()


def test_one_by_one_out_of_order():
    confirms = with_messages(3)
    assert confirms.confirm(3, False, True)
    assert confirms.confirm(1, False, True)
    assert confirms.outstanding == 1
    assert confirms.confirm(2, False, False)
    assert confirms.outstanding == 0
    assert confirms.take_refused() == (2,)


def test_all_up_to_one():
    confirms = with_messages(5)
    assert confirms.confirm(2, False, False)
    assert confirms.confirm(4, True, True)
    assert confirms.outstanding == 1
    assert confirms.take_refused() == (2,)


def test_all_up_to_one_that_is_confirmed_itself():
    confirms = with_messages(5)
    assert confirms.confirm(4, False, True)
    assert confirms.confirm(4, True, False)
    assert confirms.outstanding == 1
    assert confirms.take_refused() == (1, 2, 3)


@pytest.mark.parametrize('last', [1, 2, 3, 4, 5, 6, 7])
def test_all_up_to_one_when_most_are_confirmed(last):
    confirms = with_messages(7)
    for number in (3, 4, 5, 6):
        assert confirms.confirm(number, False, True)
    assert confirms.confirm(last, True, True)
    left = {1: 2, 7: 0}.get(last, 1)
    assert confirms.outstanding == left
    assert confirms.confirm(0, True, False)
    assert confirms.take_refused() == (1, 2, 7)[3 - left :]


def test_those_that_were_skipped_are_confirmed_once():
    confirms = with_messages(8)
    for number in (2, 4, 5, 7, 8):
        assert confirms.confirm(number, False, True)
    assert confirms.outstanding == 3
    for _ in range(2):
        assert confirms.confirm(4, True, False)
        assert confirms.outstanding == 1
    assert not confirms.confirm(1, False, True)
    assert confirms.confirm(6, False, False)
    assert not confirms.confirm(6, False, False)
    assert confirms.outstanding == 0
    assert confirms.confirm(8, True, False)
    assert confirms.take_refused() == (1, 3, 6)


def test_zero_stands_for_all_there_are():
    confirms = with_messages(5)
    assert confirms.confirm(0, True, False, report=True)
    assert confirms.outstanding == 0
    assert confirms.take_refused() == (1, 2, 3, 4, 5)
    assert list(confirms.pending_events) == [(5, True, False)]
    assert confirms.confirm(0, True, True)


def test_refused_numbers_are_taken_once_and_ascending():
    confirms = with_messages(5)
    for number in (5, 2, 4):
        confirms.confirm(number, False, False)
    assert confirms.take_refused() == (2, 4, 5)
    assert confirms.take_refused() == ()
    confirms.confirm(1, False, False)
    assert confirms.take_refused() == (1,)


@pytest.mark.parametrize(
    ('number', 'multiple'), [(0, False), (4, False), (1 << 63, False), (4, True), (1 << 63, True)]
)
def test_a_number_that_was_never_assigned(number, multiple):
    confirms = with_messages(3)
    assert not confirms.confirm(number, multiple, True)
    assert confirms.outstanding == 3


def test_a_number_that_is_confirmed_already():
    confirms = with_messages(3)
    assert confirms.confirm(2, False, True)
    assert not confirms.confirm(2, False, True)
    assert not confirms.confirm(2, False, False)
    assert confirms.take_refused() == ()


def test_events_are_kept_only_where_they_are_wanted():
    confirms = with_messages(5)
    confirms.confirm(1, False, True)
    assert not confirms.pending_events
    confirms.confirm(2, False, True, report=True)
    confirms.confirm(4, True, False, report=True)
    confirms.confirm(4, True, True, report=True)  # this tells nothing new
    assert list(confirms.pending_events) == [(2, False, True), (4, True, False)]


class Model:
    """The same, in the plainest way."""

    def __init__(self):
        self.state = {}  # number -> None, or whether it was confirmed

    def add(self):
        self.state[len(self.state) + 1] = None

    def confirm(self, number, multiple, ok):
        numbers = [one for one in self.state if one <= (number or len(self.state))]
        if not multiple:
            numbers = [number] if self.state.get(number, True) is None else []
            if not numbers:
                return False
        elif number > len(self.state):
            return False
        for one in numbers:
            if self.state[one] is None:
                self.state[one] = ok
        return True

    def outstanding(self):
        return [number for number, ok in self.state.items() if ok is None]

    def refused(self):
        return [number for number, ok in self.state.items() if ok is False]


STEPS = st.lists(
    st.one_of(
        st.just('add'),
        st.just('add and take back'),
        st.just('take refused'),
        st.tuples(st.integers(0, 40), st.booleans(), st.booleans()),
    ),
    max_size=200,
)


@given(STEPS)
def test_confirms_are_like_the_model(steps):
    confirms, model = Confirms(), Model()
    taken = []
    for step in steps:
        if step == 'add':
            add(confirms)
            model.add()
        elif step == 'add and take back':
            number = add(confirms)
            confirms.last_sequence_number = number - 1
        elif step == 'take refused':
            taken += confirms.take_refused()
        else:
            assert confirms.confirm(*step) == model.confirm(*step)
        assert confirms.outstanding == len(model.outstanding())
        assert sorted(taken + list(confirms.refused)) == model.refused()
    confirms.take_refused()
    confirms.confirm(0, True, False)
    assert list(confirms.take_refused()) == model.outstanding()


@given(st.permutations(range(1, 31)), st.lists(st.booleans(), min_size=30, max_size=30))
def test_every_order_confirms_everything(order, verdicts):
    confirms = with_messages(30)
    for number, ok in zip(order, verdicts):
        assert confirms.confirm(number, False, ok)
    assert confirms.outstanding == 0
    refused = {number for number, ok in zip(order, verdicts) if not ok}
    assert confirms.take_refused() == tuple(sorted(refused))


def size(confirms):
    return sum(len(part) for part in vars(confirms).values() if isinstance(part, Sized))


@pytest.mark.parametrize('order', ['in order', 'reversed', 'every second one first'])
@pytest.mark.parametrize('stuck', [0, 1, 20], ids='{} stuck'.format)
@pytest.mark.parametrize('multiple', [False, True], ids=['one by one', 'some at once'])
def test_what_is_kept_does_not_grow_with_the_messages(order, stuck, multiple):
    """This holds even if the first messages are never confirmed, and all the others are."""
    confirms, window, most = Confirms(), 100, 0
    waiting = []
    for _ in range(100 * window):
        waiting.append(add(confirms))
        if len(waiting) < window:
            continue
        first, *others = [number for number in waiting if number > stuck]
        if order == 'reversed':
            others.reverse()
        elif order == 'every second one first':
            others = others[::2] + others[1::2]
        waiting.clear()
        if multiple and not stuck:
            assert confirms.confirm(others.pop(0), False, True)
            assert confirms.confirm(first, True, True)
        else:
            assert confirms.confirm(first, False, True)
        for number in others:
            assert confirms.confirm(number, False, True)
            most = max(most, size(confirms))
        assert confirms.outstanding == stuck
    assert most <= 2 * window
    assert confirms.confirm(0, True, False)
    assert confirms.take_refused() == tuple(range(1, stuck + 1))


def instructions(function, *args):
    """Return how many instructions of Python a call takes, with all that it calls."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == 'opcode'
        return trace

    def run():
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at it when tracing begins
        gc.disable()  # finalizers would be counted too
        sys.settrace(trace)
        try:
            function(*args)
        finally:
            sys.settrace(None)
            gc.enable()

    # In a thread of its own, as what measures coverage traces this one.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert count
    return count


counts_instructions = pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='elsewhere, instructions are not traced'
)


def second_half_ahead(count):
    confirms = with_messages(count)
    for number in range(count, count // 2 - 2, -1):
        assert confirms.confirm(number, False, True)
    return confirms


@counts_instructions
@pytest.mark.parametrize('ok', [True, False])
@pytest.mark.parametrize('last', [1, 10, 'middle', 'all'])
def test_confirms_that_confirm_nothing_cost_the_same_however_much_is_outstanding(last, ok):
    """More than half of the messages are confirmed out of order; then one confirm is repeated."""

    def again(count):
        confirms = second_half_ahead(count)
        number = {'middle': count // 2 - 3, 'all': count}.get(last, last)
        assert confirms.confirm(number, True, ok)
        return instructions(confirms.confirm, number, True, ok)

    assert again(10_000) <= again(10)


@counts_instructions
@pytest.mark.parametrize('order', ['in order', 'reversed', 'from the middle outwards'])
@pytest.mark.parametrize('multiple', ['no', 'every', 'every tenth'])
def test_the_cost_grows_with_the_messages_and_no_faster(order, multiple):
    def confirm_all(count):
        confirms = with_messages(count)
        numbers = list(range(1, count + 1))
        if order == 'reversed':
            numbers.reverse()
        elif order != 'in order':
            numbers.sort(key=lambda number: abs(2 * number - count))
        step = {'no': count + 1, 'every': 1, 'every tenth': 10}[multiple]

        def run():
            for position, number in enumerate(numbers, 1):
                confirms.confirm(number, position % step == 0, position % 3 > 0)
            confirms.confirm(0, True, True)

        spent = instructions(run)
        assert confirms.outstanding == 0
        return spent

    few, many = 200, 2000
    assert confirm_all(many) <= 1.5 * many / few * confirm_all(few)


def test_a_thread_that_reads_beside_the_one_that_publishes():
    confirms = Confirms()
    count = 20_000
    problems = []

    def read():
        confirmed = 0
        while confirmed < count:
            ready = confirms.last_sequence_number
            if ready > confirmed:
                if not confirms.confirm(ready, True, ready % 2 == 0):
                    problems.append(ready)
                confirmed = ready

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(count):
        add(confirms)
    reader.join(60)
    assert not reader.is_alive()
    assert problems == []
    assert confirms.outstanding == 0
