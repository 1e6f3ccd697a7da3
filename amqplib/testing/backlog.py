"""The messages of a queue that are ready to be delivered, in their order."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Optional

from amqplib.testing.messages import Entry


class Backlog:
    """Entries, ordered by their positions.

    New ones nearly always come last; those that come back take their old places.

    bytes: the size of all bodies.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._in_order: deque[Entry] = deque()
        # Those that came back or overtake others, as a heap.
        self._others: list[Entry] = []

    def __len__(self) -> int:
        return len(self._in_order) + len(self._others)

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted([*self._in_order, *self._others]))

    def put(self, entry: Entry) -> None:
        """Add an entry at its place."""
        self.bytes += entry.message.size
        if not self._in_order or self._in_order[-1] < entry:
            self._in_order.append(entry)
        else:
            heapq.heappush(self._others, entry)

    def first(self) -> Optional[Entry]:
        """Return the first entry; None if there is none."""
        if not self._others:
            return self._in_order[0] if self._in_order else None
        if not self._in_order or self._others[0] < self._in_order[0]:
            return self._others[0]
        return self._in_order[0]

    def pop(self) -> Entry:
        """Take out the first entry."""
        entry = self.first()
        assert entry is not None
        if self._others and entry is self._others[0]:
            heapq.heappop(self._others)
        else:
            self._in_order.popleft()
        self.bytes -= entry.message.size
        return entry
