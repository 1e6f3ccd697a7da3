"""Which of the messages that were published the broker has confirmed.

Messages are numbered from 1 in the order of publishing. The broker confirms or refuses numbers
one by one or all up to one, in any order, and each once. What is kept grows with the messages
that are outstanding, and with nothing else. Each message is looked at a fixed number of times in
its life, however many confirms there are: a broker that sends the same one over and over costs no
more than the reading of it.

One thread publishes; the one that reads may be another. Each of them writes what the other one
only looks at: `given` is the publisher's, `settled` the reader's. A reader counts a number as
settled after everything else about it is noted, so that who waits for that finds the rest. Only
`free` is written by both: the reader sets it back after it has noted something to be looked at,
the publisher sets it and looks again behind that. So if one overwrites the other, it is looked at
once too often, and never not at all.
"""

from __future__ import annotations

from collections import deque
from typing import Optional

#: (sequence number, multiple, ok)
Confirmation = tuple[int, bool, bool]

_UNLIMITED = 1 << 63

#: More refused numbers than this are not kept for a wait_for_confirms() that does not come.
MAX_REFUSED = 65536


class Confirms:
    """The messages of one channel that are to be confirmed.

    limit: how many may be outstanding; None for no limit.
    given: how many numbers were given, which is also the last one; for the publisher to count.
    settled: how many of them were confirmed or refused.
    refused: the numbers that were refused and not taken yet.
    news: confirmations as they came, for those who want to be told of each.
    free: up to this number, messages may be published without looking at the others again.
    """

    def __init__(self) -> None:
        self.limit: Optional[int] = None
        self.given = 0
        self.settled = 0
        self.free = 0
        self.refused: deque[int] = deque()
        self.news: deque[Confirmation] = deque()
        # From this number on, all are open.
        self._first = 1
        # Those below it that were passed over when a later one was settled, and are open yet.
        self._passed: set[int] = set()
        # Up to this number, all are settled: `multiple` goes through the ones above it only.
        self._floor = 0

    @property
    def outstanding(self) -> int:
        """How many messages are neither confirmed nor refused."""
        return self.given - self.settled

    @property
    def refuses_too_many(self) -> bool:
        """Whether more were refused than are kept for who does not ask."""
        return len(self.refused) > MAX_REFUSED

    @property
    def full(self) -> bool:
        """Whether as many messages are outstanding as may be."""
        return self.limit is not None and self.outstanding >= self.limit

    def let_go(self) -> None:
        """Let numbers be given without another look, as far as the limit allows it."""
        self.free = self.settled + (_UNLIMITED if self.limit is None else self.limit)

    def give(self, taken: list[int]) -> None:
        """Give the next number, and append it to the list, when its message is to be sent."""
        # Noted first, so that after an interrupt it can be taken back.
        taken.append(self.given + 1)
        self.given += 1

    def take_back(self, number: int) -> bool:
        """Take back a number whose message was not sent; return False if others came after it."""
        if self.given > number:
            return False
        self.given = number - 1
        return True

    def settle(self, number: int, multiple: bool, ok: bool, tell: bool = False) -> bool:
        """Note that a message, or all up to it, was confirmed or refused.

        number: 0 with `multiple` stands for all there are.
        tell: whether to put it among the news.

        Returns False if there is no such open message: the broker must not do that.
        """
        first = self._first
        # In order, which is how most come, there is nothing more to it.
        if (
            ok
            and not tell
            and first <= number <= self.given
            and (multiple or number == first)
            and not self._passed
        ):
            self._first = number + 1
            self.settled += number + 1 - first
            return True
        if multiple:
            found = self._settle_up_to(number or self.given, ok, tell)
        else:
            found = self._settle_one(number, ok, tell)
        # There may be something to look at.
        self.free = 0
        return found

    def _settle_one(self, number: int, ok: bool, tell: bool) -> bool:
        if number < self._first:
            if number not in self._passed:
                return False
            self._passed.discard(number)
        elif number <= self.given:
            self._passed.update(range(self._first, number))
            self._first = number + 1
        else:
            return False
        if not ok:
            self.refused.append(number)
        if tell:
            self.news.append((number, False, ok))
        self.settled += 1
        return True

    def _settle_up_to(self, last: int, ok: bool, tell: bool) -> bool:
        if last > self.given:
            return False
        late = self._take_passed(last)
        following = range(self._first, last + 1)
        if following:
            self._first = last + 1
        if not ok:
            self.refused.extend(late)
            self.refused.extend(following)
        count = len(late) + len(following)
        if tell and count:
            self.news.append((last, True, ok))
        self.settled += count
        return True

    def _take_passed(self, last: int) -> set[int]:
        """Remove those that were passed over, up to this one, and return them."""
        late: set[int] = set()
        if last > self._floor:
            if self._passed:
                late = self._passed.intersection(range(self._floor + 1, min(last + 1, self._first)))
                self._passed -= late
            self._floor = last
        return late

    def take_refused(self) -> tuple[int, ...]:
        """Return the numbers that were refused since the last time, ascending."""
        taken = []
        while self.refused:
            taken.append(self.refused.popleft())
        return tuple(sorted(taken))
