"""Results that are remembered: the right ones, also after an interrupt anywhere."""

import sys

import pytest

from amqplib.core import memoize
from amqplib.core.memoize import lru_cache


def test_a_cached_result_is_not_computed_again():
    asked = []

    @lru_cache(maxsize=4)
    def double(number):
        asked.append(number)
        return 2 * number

    assert [double(number) for number in (1, 2, 1, 2)] == [2, 4, 2, 4]
    assert asked == [1, 2]
    double.cache_clear()
    assert double(1) == 2
    assert asked == [1, 2, 1]


def test_equal_arguments_of_different_types_have_results_of_their_own():
    @lru_cache(maxsize=4, typed=True)
    def show(*args, **kwargs):
        return f'{args} {kwargs}'

    assert [show(1), show(True), show(1.0)] == ['(1,) {}', '(True,) {}', '(1.0,) {}']
    assert [show(a=1), show(a=True), show(b=1)] == ["() {'a': 1}", "() {'a': True}", "() {'b': 1}"]


def test_the_cache_is_bounded():
    @lru_cache(maxsize=4)
    def double(number):
        return 2 * number

    assert [double(number) for number in range(50)] == [2 * number for number in range(50)]
    assert double.cache_info().maxsize == 4
    assert 0 < double.cache_info().currsize <= 4


def test_an_unhashable_argument_is_a_type_error():
    @lru_cache(maxsize=4)
    def same(value):
        return value

    with pytest.raises(TypeError):
        same([])


@pytest.mark.parametrize('arguments', [[1], [9], [1, 2, 3, 9, 8, 7, 1]])
def test_an_interrupt_between_any_two_lines_spoils_no_result(arguments):
    @lru_cache(maxsize=4)
    def double(number):
        return 2 * number

    for line in range(1000):
        for number in range(6):
            double(number)
        finished = ended_before(line, lambda: [double(number) for number in arguments])
        assert [double(number) for number in range(12)] == [2 * number for number in range(12)]
        if finished:
            return
    pytest.fail('it never came to its end')


def ended_before(line, call):
    """Make a call that is interrupted before this line; return whether it ended before that."""

    def trace(frame, event, arg):
        nonlocal line
        if frame.f_code.co_filename not in (__file__, memoize.__file__):
            return None  # such as what is called by the collector
        if event == 'line':
            line -= 1
        if line < 0:
            raise KeyboardInterrupt
        return trace

    traced_before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(traced_before)
    return True
