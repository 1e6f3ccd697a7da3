"""The published messages that the broker has not confirmed yet.

Messages are numbered from 1 in the order of publishing. The broker confirms or refuses each number
once, in any order: a single number, or all numbers up to one. Memory grows only with the number of
outstanding messages. Each message costs constant time in its life, whatever the broker confirms: a
broker that repeats the same confirm costs no more than the reading of it.

The thread that publishes and the thread that reads may differ. Each counter has one writer:
`last_sequence_number` the publisher, `confirmed` the reader. The reader counts a number as
confirmed after it has recorded everything else about it. Therefore a thread that sees nothing
outstanding also sees every refusal and every event. Only `window_end` has two writers: the reader
resets it after it has recorded an event, and the publisher sets it and then checks for events
again. If one overwrites the other, there is one check too many, but never one too few.
"""

from __future__ import annotations

from collections import deque
from typing import Optional

#: (sequence number, multiple, ok)
Confirmation = tuple[int, bool, bool]

_UNLIMITED = 1 << 63

#: How many refused numbers are kept for a later wait_for_confirms().
MAX_REFUSED = 65536


class Confirms:
    """The confirms of one channel.

    limit: how many messages may be outstanding; None for no limit.
    most_refused: how many refused numbers may be kept; None for no limit.
    last_sequence_number: the number of the last message, and so how many there were.
    confirmed: how many of them the broker has confirmed or refused.
    refused: the numbers that were refused and not reported yet.
    pending_events: the confirms that on_confirm has not seen yet.
    window_end: up to this number, messages may be published without any check.
    """

    def __init__(self) -> None:
        self.limit: Optional[int] = None
        self.most_refused: Optional[int] = MAX_REFUSED
        self.last_sequence_number = 0
        self.confirmed = 0
        self.window_end = 0
        self.refused: deque[int] = deque()
        self.pending_events: deque[Confirmation] = deque()
        # This number and all after it are open.
        self._first = 1
        # The numbers below it that are still open: a later one was confirmed first.
        self._skipped: set[int] = set()
        # Up to this number, none is open: `multiple` looks only at the numbers above it.
        self._floor = 0

    @property
    def outstanding(self) -> int:
        """How many messages the broker has neither confirmed nor refused."""
        return self.last_sequence_number - self.confirmed

    @property
    def too_many_refused(self) -> bool:
        """Whether there are more refused numbers than may be kept."""
        return self.most_refused is not None and len(self.refused) > self.most_refused

    @property
    def full(self) -> bool:
        """Whether as many messages are outstanding as may be."""
        return self.limit is not None and self.outstanding >= self.limit

    def reopen_window(self) -> None:
        """Allow publishing without checks, up to the limit."""
        self.window_end = self.confirmed + (_UNLIMITED if self.limit is None else self.limit)

    def assign_numbers(self, taken: list[int], count: int) -> None:
        """Assign the next numbers to messages that are about to be sent; append the first one."""
        # Appended first, so that they can be taken back after an interrupt.
        taken.append(self.last_sequence_number + 1)
        self.last_sequence_number += count

    def take_back(self, number: int, count: int) -> bool:
        """Take back the numbers, from this one on, of messages that were not sent.

        Returns False if later ones exist.
        """
        if self.last_sequence_number >= number + count:
            return False
        self.last_sequence_number = number - 1
        return True

    def confirm(self, number: int, multiple: bool, ok: bool, report: bool = False) -> bool:
        """Record that the broker has confirmed or refused a message, or all up to it.

        number: 0 with `multiple` stands for all messages.
        report: whether to add it to the pending events.

        Returns False if there is no such open message, which is an error of the broker.
        """
        first = self._first
        # Most confirms come in order, and need nothing more.
        if (
            ok
            and not report
            and first <= number <= self.last_sequence_number
            and (multiple or number == first)
            and not self._skipped
        ):
            self._first = number + 1
            self.confirmed += number + 1 - first
            return True
        if multiple:
            found = self._confirm_up_to(number or self.last_sequence_number, ok, report)
        else:
            found = self._confirm_one(number, ok, report)
        # The next publish has to check.
        self.window_end = 0
        return found

    def _confirm_one(self, number: int, ok: bool, report: bool) -> bool:
        is_late = number < self._first
        if number not in self._skipped if is_late else number > self.last_sequence_number:
            return False
        if not ok:
            self.refused.append(number)
        if is_late:
            self._skipped.discard(number)
        else:
            self._skipped.update(range(self._first, number))
            self._first = number + 1
        if report:
            self.pending_events.append((number, False, ok))
        self.confirmed += 1
        return True

    def _confirm_up_to(self, last: int, ok: bool, report: bool) -> bool:
        if last > self.last_sequence_number:
            return False
        late = self._skipped_up_to(last)
        following = range(self._first, last + 1)
        if not ok:
            self.refused.extend(late)
            self.refused.extend(following)
        self._skipped -= late
        self._floor = max(self._floor, last)
        if following:
            self._first = last + 1
        count = len(late) + len(following)
        if report and count:
            self.pending_events.append((last, True, ok))
        self.confirmed += count
        return True

    def _skipped_up_to(self, last: int) -> set[int]:
        """Return the skipped numbers up to this one."""
        if last <= self._floor or not self._skipped:
            return set()
        return self._skipped.intersection(range(self._floor + 1, min(last + 1, self._first)))

    def open_numbers(self) -> tuple[int, set[int]]:
        """Return the first of the numbers that are all open, and the open ones below it.

        Refusals of the other numbers are recorded by now.
        """
        first = self._first  # before the others: see _confirm_one
        return first, self._skipped.copy()

    def take_refused(self) -> tuple[int, ...]:
        """Return the numbers that were refused since the last call, ascending."""
        taken = []
        while self.refused:
            taken.append(self.refused.popleft())
        return tuple(sorted(taken))
