"""One deadline for all the steps of a call."""

import re
import time
from math import inf, nan
from pathlib import Path

import pytest

from amqplib.core import deadline
from amqplib.core.deadline import NO_DEADLINE, Deadline


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(deadline, 'monotonic', clock)
    return clock


def test_the_remaining_seconds_shrink_to_zero(clock):
    limit = Deadline(2.5)
    assert limit.remaining() == 2.5
    clock.now += 1
    assert limit.remaining() == 1.5
    assert not limit.expired()
    clock.now += 1.5
    assert limit.remaining() == 0
    assert limit.expired()
    clock.now += 100
    assert limit.remaining() == 0
    assert limit.expired()


def test_seconds_are_the_original_limit(clock):
    limit = Deadline(2.5)
    clock.now += 1
    assert limit.seconds == 2.5


def test_zero_has_passed_at_once(clock):
    limit = Deadline(0)
    assert limit.expired()
    assert limit.remaining() == 0


@pytest.mark.parametrize('limit', [NO_DEADLINE, Deadline(None)])
def test_no_limit(limit, clock):
    clock.now += 1e9
    assert limit.remaining() is None
    assert limit.seconds is None
    assert not limit.expired()


@pytest.mark.parametrize('seconds', [inf, 10**400, 1e300, 10_000_000])
def test_longer_than_the_system_can_wait_is_no_limit(seconds, clock):
    limit = Deadline(seconds)
    assert limit.remaining() is None
    assert not limit.expired()


def test_days_are_counted(clock):
    assert Deadline(86400).remaining() == 86400


def test_the_wall_clock_does_not_matter(monkeypatch):
    limit = Deadline(1000)
    monkeypatch.setattr(time, 'time', lambda: 0.0)
    assert 990 < limit.remaining() <= 1000
    assert not limit.expired()


@pytest.mark.parametrize('seconds', [-1, -0.001, nan, -inf])
def test_a_negative_number_is_refused(seconds):
    with pytest.raises(ValueError, match='timeout'):
        Deadline(seconds)


@pytest.mark.parametrize('seconds', ['1', True, b'1', [1], object(), 1j])
def test_what_is_not_a_number_is_refused(seconds):
    with pytest.raises(TypeError, match='timeout'):
        Deadline(seconds)


@pytest.mark.parametrize(
    ('seconds', 'words'),
    [
        (30, '30 s'),
        (2.9995134360000293, '3 s'),
        (2.5, '2.5 s'),
        (1, '1 s'),
        (0.1, '0.1 s'),
        (0.09991, '0.1 s'),
        (0.25, '0.25 s'),
        (0, '0 s'),
        (3600.0, '3600 s'),
        (None, 'any time'),
        (inf, 'any time'),
        (10**400, 'any time'),
    ],
)
def test_a_deadline_as_text_is_its_limit(seconds, words):
    assert str(Deadline(seconds)) == words


def test_every_error_shows_a_limit_as_the_text_of_its_deadline():
    for path in Path(deadline.__file__).parents[1].rglob('*.py'):
        text = path.read_text(encoding='utf-8')
        assert not re.findall(r'f\'[^\n]*(?:seconds|timeout|remaining\(\))\} s\b', text), path
