"""Which of the messages that were published the broker has confirmed.

Messages are numbered from 1 in the order of publishing. The broker confirms or refuses numbers
one by one or all up to one, in any order, and each once. What is kept does not grow with the
messages that are outstanding: the lowest number that is open, and the numbers above it that are
settled already.
"""

from __future__ import annotations


class Confirms:
    """The messages of one channel that are to be confirmed."""

    def __init__(self) -> None:
        #: The number of the next message.
        self.next_number = 1
        # All below this one are settled.
        self._lowest = 1
        self._settled_above: set[int] = set()
        self._refused: list[int] = []

    @property
    def outstanding(self) -> int:
        """How many messages are neither confirmed nor refused."""
        return self.next_number - self._lowest - len(self._settled_above)

    def settle(self, number: int, multiple: bool, ok: bool) -> bool:
        """Note that a message, or all up to it, was confirmed or refused.

        number: 0 with `multiple` stands for all there are.

        Returns False if there is no such open message: the broker must not do that.
        """
        if multiple:
            return self._settle_up_to(number or self.next_number - 1, ok)
        if not self._lowest <= number < self.next_number or number in self._settled_above:
            return False
        if not ok:
            self._refused.append(number)
        self._settled_above.add(number)
        self._advance()
        return True

    def _settle_up_to(self, number: int, ok: bool) -> bool:
        if number >= self.next_number:
            return False
        if not ok:
            numbers = range(self._lowest, number + 1)
            self._refused += [each for each in numbers if each not in self._settled_above]
        if number >= self._lowest:
            self._lowest = number + 1
            if self._settled_above:
                self._settled_above = {each for each in self._settled_above if each > number}
                self._advance()
        return True

    def _advance(self) -> None:
        while self._lowest in self._settled_above:
            self._settled_above.remove(self._lowest)
            self._lowest += 1

    def take_refused(self) -> tuple[int, ...]:
        """Return the numbers that were refused since the last time, ascending."""
        refused, self._refused = self._refused, []
        return tuple(sorted(refused))
