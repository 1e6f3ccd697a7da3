"""One deadline for all steps of a call, on the monotonic clock."""

from __future__ import annotations

from time import monotonic
from typing import Optional

#: A longer limit, in seconds, counts as no limit: system calls accept little more than three weeks.
MAX_SECONDS = 2_000_000


def in_words(seconds: Optional[float]) -> str:
    """Return a time for an error message: '3 s' rather than '2.9995134 s'."""
    if seconds is None or seconds > MAX_SECONDS:
        return 'any time'
    if seconds < 1:
        return f'{seconds:.2g} s'
    return f'{seconds:.1f} s'.replace('.0 ', ' ')


class Deadline:
    """The moment by which a call must end.

    seconds: a number of seconds from now, 0 or more; None for no limit.
    name: the name of the argument, for the ValueError or TypeError if it is wrong.
    moment: on the monotonic clock; None for no limit.
    """

    __slots__ = ('moment', 'seconds')

    def __init__(self, seconds: Optional[float], name: str = 'timeout') -> None:
        if seconds is not None:
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(f'{name}: {seconds!r} is not a number of seconds')
            if not seconds >= 0:
                raise ValueError(f'{name}: {seconds!r} is not 0 or more')
        self.seconds = seconds
        self.moment: Optional[float] = None
        if seconds is not None and seconds <= MAX_SECONDS:
            self.moment = monotonic() + seconds

    def __str__(self) -> str:
        """Return the limit for an error message."""
        return in_words(self.seconds)

    def remaining(self) -> Optional[float]:
        """Return the remaining seconds, at least 0; None for no limit."""
        if self.moment is None:
            return None
        return max(0.0, self.moment - monotonic())

    def earlier(self, other: Deadline) -> Deadline:
        """Return the earlier of the two deadlines."""
        if self.moment is None:
            return other
        return self if other.moment is None or self.moment <= other.moment else other

    def expired(self) -> bool:
        """Return whether the deadline has passed."""
        return self.moment is not None and monotonic() >= self.moment


#: No limit.
NO_DEADLINE = Deadline(None)
#: Do only what is possible without waiting.
NO_WAIT = Deadline(0)


def deadline_of(seconds: Optional[float]) -> Deadline:
    """Return a deadline that begins now; NO_DEADLINE for None."""
    return NO_DEADLINE if seconds is None else Deadline(seconds)
