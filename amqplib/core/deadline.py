"""One deadline for all the steps of a call, on the monotonic clock."""

from __future__ import annotations

from time import monotonic
from typing import Optional

#: Seconds beyond which a limit is none: three weeks; system calls take not much more.
MAX_SECONDS = 2_000_000


def in_words(seconds: Optional[float]) -> str:
    """Return a time as errors word it: what is left of 3 s is 3 s rather than 2.9995134 s."""
    if seconds is None or seconds > MAX_SECONDS:
        return 'any time'
    if seconds < 1:
        return f'{seconds:.2g} s'
    return f'{seconds:.1f} s'.replace('.0 ', ' ')


class Deadline:
    """A moment that a call may not go beyond.

    seconds: a number, 0 or more, from now; None for no limit.
    name: of the argument, for the ValueError or TypeError about a wrong one.
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
        """Return the limit that was given, as errors word it."""
        return in_words(self.seconds)

    def remaining(self) -> Optional[float]:
        """Return the seconds that are left, at least 0; None for no limit."""
        if self.moment is None:
            return None
        return max(0.0, self.moment - monotonic())

    def shorten(self, seconds: float) -> None:
        """Let the moment be at most so many seconds from now."""
        moment = monotonic() + seconds
        self.moment = moment if self.moment is None else min(self.moment, moment)

    def earlier(self, other: Deadline) -> Deadline:
        """Return the one of the two that passes first."""
        if self.moment is None:
            return other
        return self if other.moment is None or self.moment <= other.moment else other

    def expired(self) -> bool:
        """Return whether the moment has passed."""
        return self.moment is not None and monotonic() >= self.moment


#: No limit.
NO_DEADLINE = Deadline(None)
#: Now: what cannot be done without waiting is not done.
NO_WAIT = Deadline(0)
