"""One deadline for all the steps of a call, on the monotonic clock."""

from __future__ import annotations

from time import monotonic
from typing import Optional

#: Seconds beyond which a limit is none: three weeks; system calls take not much more.
LONGEST = 2_000_000


def in_words(seconds: Optional[float]) -> str:
    """Return a time as errors word it: what is left of 3 s is 3 s rather than 2.9995134 s."""
    if seconds is None or seconds > LONGEST:
        return 'any time'
    if seconds < 1:
        return f'{seconds:.2g} s'
    return f'{seconds:.1f} s'.replace('.0 ', ' ')


class Deadline:
    """A moment that a call may not go beyond.

    seconds: a number, 0 or more, from now; None for no limit.
    name: of the argument, for the ValueError or TypeError about a wrong one.
    """

    __slots__ = ('_moment', 'seconds')

    def __init__(self, seconds: Optional[float], name: str = 'timeout') -> None:
        if seconds is not None:
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(f'{name}: {seconds!r} is not a number of seconds')
            if not seconds >= 0:
                raise ValueError(f'{name}: {seconds!r} is not 0 or more')
        self.seconds = seconds
        self._moment: Optional[float] = None
        if seconds is not None and seconds <= LONGEST:
            self._moment = monotonic() + seconds

    def __str__(self) -> str:
        """Return the limit that was given, as errors word it."""
        return in_words(self.seconds)

    def remaining(self) -> Optional[float]:
        """Return the seconds that are left, at least 0; None for no limit."""
        if self._moment is None:
            return None
        return max(0.0, self._moment - monotonic())

    def shorten(self, seconds: float) -> None:
        """Let the moment be at most so many seconds from now."""
        moment = monotonic() + seconds
        self._moment = moment if self._moment is None else min(self._moment, moment)

    def earlier(self, other: Deadline) -> Deadline:
        """Return the one of the two that passes first."""
        if self._moment is None:
            return other
        return self if other._moment is None or self._moment <= other._moment else other

    def expired(self) -> bool:
        """Return whether the moment has passed."""
        return self._moment is not None and monotonic() >= self._moment


#: No limit.
NEVER = Deadline(None)
#: Now: what cannot be done without waiting is not done.
AT_ONCE = Deadline(0)
