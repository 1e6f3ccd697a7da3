"""Checks of arguments."""

import pytest

from amqplib.core.checks import check_callable, check_int


def test_an_int_in_the_range_is_allowed():
    for number in (1, 4, 65535):
        check_int('channel_id', number, 1, 65535)
    check_int('window', 1 << 70, 1)


@pytest.mark.parametrize(
    ('value', 'error', 'text'),
    [
        (0, ValueError, 'channel_id: 0 is not 1 to 65535'),
        (-1, ValueError, 'channel_id: -1 is not 1 to 65535'),
        (65536, ValueError, 'channel_id: 65536 is not 1 to 65535'),
        ('1', TypeError, "channel_id: '1' is not an int"),
        (True, TypeError, 'channel_id: True is not an int'),
    ],
)
def test_anything_but_an_int_in_the_range_is_refused(value, error, text):
    with pytest.raises(error) as caught:
        check_int('channel_id', value, 1, 65535)
    assert str(caught.value) == text


def test_a_range_without_an_end():
    with pytest.raises(ValueError, match=r'^window: 0 is not 1 or more$'):
        check_int('window', 0, 1)


def test_only_a_callable_or_none_is_allowed():
    check_callable('stop', len)
    check_callable('stop', None)
    with pytest.raises(TypeError, match=r'^stop: 5 cannot be called$'):
        check_callable('stop', 5)
