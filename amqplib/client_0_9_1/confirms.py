"""Which of the messages that were published the broker has confirmed.

Messages are numbered from 1 in the order of publishing. The broker confirms or refuses numbers
one by one or all up to one, in any order, and each once. What is kept grows with the messages
that are outstanding, and with nothing else.

One thread publishes; the one that reads may be another. Each of them writes what the other one
only looks at: `given` is the publisher's, `settled` the reader's. A reader counts a number as
settled after everything else about it is noted, so that who waits for that finds the rest. Only
`free` is written by both: the reader sets it back after it has noted something to be looked at,
the publisher sets it and looks again behind that. So if one overwrites the other, it is looked at
once too often, and never not at all.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from struct import Struct
from typing import Any, Callable, Optional

from amqplib.client_0_8.deliveries import ReadMethod
from amqplib.client_0_8.method_framing import acknowledgement_frame
from amqplib.client_0_8.spec import FRAME_END
from amqplib.client_0_9_1.spec import METHODS

#: (sequence number, multiple, ok)
Confirmation = tuple[int, bool, bool]

#: So many numbers that were settled out of order are always kept as they came.
_FEW = 64

_UNLIMITED = 1 << 63

#: More refused numbers than this are not kept for a wait_for_confirms() that does not come.
MOST_REFUSED = 65536

_ACK = METHODS['basic.ack']
#: What an acknowledgement begins with, frame header and signature; delivery tag, bit, frame end.
_CONFIRM = Struct('>11sQBB')


class Confirms:
    """The messages of one channel that are to be confirmed.

    limit: how many may be outstanding; None for no limit.
    given: how many numbers were given, which is also the last one; for the publisher to count.
    gap: whether a number was given to a message that was not sent, and higher ones were sent.
    settled: how many of them were confirmed or refused.
    refused: the numbers that were refused and not taken yet.
    news: confirmations as they came, for those who want to be told of each.
    free: up to this number, messages may be published without looking at the others again.
    """

    def __init__(self) -> None:
        self.limit: Optional[int] = None
        self.given = 0
        self.gap = False
        self.settled = 0
        self.free = 0
        self.refused: deque[int] = deque()
        self.news: deque[Confirmation] = deque()
        # All numbers below this one are settled, but for the stragglers; from it on, only those
        # that are ahead are.
        self._lowest = 1
        self._stragglers: set[int] = set()
        self._ahead: set[int] = set()

    @property
    def outstanding(self) -> int:
        """How many messages are neither confirmed nor refused."""
        return self.given - self.settled

    @property
    def refuses_too_many(self) -> bool:
        """Whether more were refused than are kept for who does not ask."""
        return len(self.refused) > MOST_REFUSED

    @property
    def full(self) -> bool:
        """Whether as many messages are outstanding as may be."""
        return self.limit is not None and self.outstanding >= self.limit

    def take_back(self, number: int) -> None:
        """Note that the message with this number was not sent."""
        if self.given == number:
            self.given = number - 1
        elif self.given > number:
            self.gap = True

    def let_go(self) -> None:
        """Let numbers be given without another look, as far as the limit allows it."""
        self.free = self.settled + (_UNLIMITED if self.limit is None else self.limit)

    def settle(self, number: int, multiple: bool, ok: bool, tell: bool = False) -> bool:
        """Note that a message, or all up to it, was confirmed or refused.

        number: 0 with `multiple` stands for all there are.
        tell: whether to put it among the news.

        Returns False if there is no such open message: the broker must not do that.
        """
        if ok and not tell and self._settle_in_order(number, multiple):
            return True
        if multiple:
            found = self._settle_up_to(number or self.given, ok, tell)
        else:
            found = self._settle_one(number, ok, tell)
        # There may be something to look at.
        self.free = 0
        return found

    def _settle_in_order(self, number: int, multiple: bool) -> bool:
        """Settle what comes next, if that is all there is to it, which is how most come."""
        first = self._lowest
        if not first <= number <= self.given or self._ahead or self._stragglers:
            return False
        if not multiple and number != first:
            return False
        self._lowest = number + 1
        self.settled += number + 1 - first
        return True

    def _settle_one(self, number: int, ok: bool, tell: bool) -> bool:
        if not self._is_open(number):
            return False
        if not ok:
            self.refused.append(number)
        if tell:
            self.news.append((number, False, ok))
        if number == self._lowest:
            self._go_on_from(number + 1)
        elif number < self._lowest:
            self._stragglers.discard(number)
        else:
            self._ahead.add(number)
            if len(self._ahead) > _FEW:
                self._forget_those_ahead()
        self.settled += 1
        return True

    def _is_open(self, number: int) -> bool:
        if number < self._lowest:
            return number in self._stragglers
        return number <= self.given and number not in self._ahead

    def _go_on_from(self, number: int) -> None:
        """Let this be the lowest one, or the next that is open."""
        while self._ahead and number in self._ahead:
            self._ahead.discard(number)
            number += 1
        self._lowest = number

    def _forget_those_ahead(self) -> None:
        """If more are settled ahead than are open, keep the open ones instead."""
        if len(self._ahead) > self.outstanding:
            following = max(self._ahead) + 1
            self._stragglers |= set(range(self._lowest, following)) - self._ahead
            self._ahead.clear()
            self._lowest = following

    def _settle_up_to(self, last: int, ok: bool, tell: bool) -> bool:
        if last > self.given:
            return False
        if not ok:
            self.refused.extend(self._open_up_to(last))
        count = 0
        if self._stragglers:
            late = {number for number in self._stragglers if number <= last}
            self._stragglers -= late
            count = len(late)
        if last >= self._lowest:
            count += last + 1 - self._lowest
            if self._ahead:
                known = self._ahead_up_to(last)
                self._ahead -= known
                count -= len(known)
            self._go_on_from(last + 1)
        if tell and count:
            self.news.append((last, True, ok))
        self.settled += count
        return True

    def _ahead_up_to(self, last: int) -> set[int]:
        if last - self._lowest < len(self._ahead):
            return self._ahead.intersection(range(self._lowest, last + 1))
        return {number for number in self._ahead if number <= last}

    def _open_up_to(self, last: int) -> list[int]:
        return [
            *sorted(number for number in self._stragglers if number <= last),
            *(number for number in range(self._lowest, last + 1) if number not in self._ahead),
        ]

    def take_refused(self) -> tuple[int, ...]:
        """Return the numbers that were refused since the last time, ascending."""
        taken = []
        with suppress(IndexError):  # as soon as there are no more
            while True:
                taken.append(self.refused.popleft())
        return tuple(sorted(taken))


class ConfirmFrames:
    """Takes the frames of basic.ack out of what was read, as they come in numbers.

    A short way: what it leaves goes the general way of MethodReader and Channel.
    """

    def __init__(self) -> None:
        # What begins the frames for a channel -> function(sequence number, multiple).
        self._settle: dict[bytes, Callable[[int, bool], Any]] = {}

    def set_target(self, channel: int, settle: Optional[Callable[[int, bool], Any]]) -> None:
        """Have a function called with the confirms of a channel; None leaves them."""
        lead, *_ = _CONFIRM.unpack(acknowledgement_frame(channel, _ACK, 0, False))
        if settle is not None:
            self._settle[lead] = settle
        else:
            self._settle.pop(lead, None)

    def take(self, data: bytes, offset: int, body_limit: int, queue: deque[ReadMethod]) -> int:
        """Settle the confirms at the offset, unless something on the queue comes before them.

        Returns where they end. Raises ProtocolError if there is nothing to be confirmed.
        """
        last = len(data) - _CONFIRM.size
        while offset <= last and not queue:
            lead, number, bits, frame_end = _CONFIRM.unpack_from(data, offset)
            settle = self._settle.get(lead)
            if settle is None or frame_end != FRAME_END:
                break
            settle(number, bits & 1 == 1)
            offset += _CONFIRM.size
        return offset
