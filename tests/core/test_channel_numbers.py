"""The numbers of channels, apart from the connection that they belong to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib.core.channel_numbers import ChannelNumbers
from amqplib.exceptions import AMQPException

MOST = 5


@pytest.fixture
def numbers():
    return ChannelNumbers()


def test_the_lowest_free_one_is_chosen(numbers):
    assert numbers.choose({0}, MOST) == 1
    assert numbers.choose({0, 1, 2, 4}, MOST) == 3


def test_a_wanted_one_is_allowed(numbers):
    numbers.check(4)
    numbers.check(65535)


@pytest.mark.parametrize(
    ('wanted', 'error'),
    [(0, ValueError), (-1, ValueError), (65536, ValueError), ('1', TypeError), (True, TypeError)],
)
def test_what_can_be_no_number(numbers, wanted, error):
    with pytest.raises(error, match='channel_id'):
        numbers.check(wanted)


def test_no_more_than_there_may_be(numbers):
    numbers.retire(5)
    with pytest.raises(AMQPException, match='all of the 5 channels are open'):
        numbers.check_room({0, 1, 2, 3, 4}, MOST)
    numbers.check_room({0, 1, 2, 3}, MOST)


def test_higher_numbers_that_were_asked_for_count_too(numbers):
    """So there may be none left below, though there are fewer channels than may be."""
    assert numbers.choose({0, 7, 8, 9}, MOST) == 1
    with pytest.raises(AMQPException, match='no channel number is free'):
        numbers.choose({1, 2}, 2)


def test_a_retired_one_is_not_free_before_it_is_freed(numbers):
    numbers.retire(1)
    assert numbers.choose({0}, MOST) == 2
    with pytest.raises(ValueError, match='has not closed 1 yet'):
        numbers.check(1)
    numbers.free(1)
    assert numbers.choose({0}, MOST) == 1
    numbers.check(1)


def test_who_is_unsure_is_retired_too(numbers):
    numbers.retire(1, unsure=True)
    assert (numbers.retired, numbers.unsure) == ({1}, {1})
    numbers.free(1)
    assert (numbers.retired, numbers.unsure) == (set(), set())


def test_a_number_that_nobody_said_was_free_is_found_when_no_other_is(numbers):
    assert numbers.choose({0, 1, 2, 3}, MOST) == 4
    assert numbers.choose({0, 3, 4, 5}, MOST) in {1, 2}


@given(st.lists(st.tuples(st.sampled_from(['open', 'close', 'retire', 'free']), st.integers(1, 5))))
def test_what_is_chosen_is_the_lowest_that_is_free(steps):
    numbers, taken, retired = ChannelNumbers(), {0}, set()
    for step, number in steps:
        free = sorted(set(range(1, MOST + 1)) - taken - retired)
        if step == 'open' and free:
            assert numbers.choose(taken, MOST) == free[0]
            taken.add(free[0])
        elif step == 'close' and number in taken:
            taken.discard(number)
            numbers.note_free(number)
        elif step == 'retire' and number in taken:
            taken.discard(number)
            retired.add(number)
            numbers.retire(number)
            numbers.note_free(number)
        elif step == 'free' and number in retired:
            retired.discard(number)
            numbers.free(number)
