"""Which of the messages that were published the broker has confirmed.

Messages are numbered from 1 in the order of publishing. The broker confirms or refuses numbers
one by one or all up to one, in any order, and each once. What is kept grows with the messages
that are outstanding, and with nothing else.

One thread publishes; the one that reads may be another. What a reader notes is complete before
the numbers stop being outstanding, so that who waits for that finds it.
"""

from __future__ import annotations

from collections import deque

#: (sequence number, multiple, ok)
Confirmation = tuple[int, bool, bool]


class Confirms:
    """The messages of one channel that are to be confirmed.

    open: the numbers that are outstanding: neither confirmed nor refused.
    refused: the numbers that were refused and not taken yet.
    news: confirmations as they came, for those who want to be told of each.
    """

    def __init__(self) -> None:
        self.refused: deque[int] = deque()
        self.news: deque[Confirmation] = deque()
        self._next = 1
        self.open: set[int] = set()
        # No number below this one is open.
        self._lowest = 1

    @property
    def outstanding(self) -> int:
        """How many messages are neither confirmed nor refused."""
        return len(self.open)

    def add(self) -> int:
        """Return the number of the message that is published next."""
        number = self._next
        # Before it is sent, as the confirm may be read at once.
        self.open.add(number)
        self._next = number + 1
        return number

    def take_back(self, number: int) -> None:
        """Undo add(): the message was not sent."""
        self.open.discard(number)
        self._next = number

    def settle(self, number: int, multiple: bool, ok: bool, tell: bool = False) -> bool:
        """Note that a message, or all up to it, was confirmed or refused.

        number: 0 with `multiple` stands for all there are.
        tell: whether to put it among the news.

        Returns False if there is no such open message: the broker must not do that.
        """
        if multiple:
            return self._settle_up_to(number, ok, tell)
        if number not in self.open:
            return False
        if not ok:
            self.refused.append(number)
        if tell:
            self.news.append((number, False, ok))
        self.open.discard(number)
        if number == self._lowest:
            self._lowest = number + 1
        return True

    def _settle_up_to(self, number: int, ok: bool, tell: bool) -> bool:
        last = number or self._next - 1
        if last >= self._next:
            return False
        settled = self._open_up_to(last)
        if not ok:
            self.refused.extend(settled)
        if tell and settled:
            self.news.append((last, True, ok))
        self.open.difference_update(settled)
        self._lowest = max(self._lowest, last + 1)
        return True

    def _open_up_to(self, last: int) -> list[int]:
        if last - self._lowest < len(self.open):
            return [number for number in range(self._lowest, last + 1) if number in self.open]
        # A copy, as the other thread may add to it.
        return sorted(number for number in tuple(self.open) if number <= last)

    def take_refused(self) -> tuple[int, ...]:
        """Return the numbers that were refused since the last time, ascending."""
        taken = []
        while self.refused:
            taken.append(self.refused.popleft())
        return tuple(sorted(taken))
