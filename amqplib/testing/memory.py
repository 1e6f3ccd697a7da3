"""The limit on the memory that messages occupy."""

from __future__ import annotations

from typing import Callable


class Memory:
    """Counts what the messages occupy; above the limit, or on request, publishers are blocked.

    limit: in bytes.
    on_change: function(), called when publishers are to be blocked or no longer to be blocked.
    """

    def __init__(self, limit: int, on_change: Callable[[], object]) -> None:
        self.limit = limit
        self.used = 0
        self.alarm = False
        self._asked = False
        self._on_change = on_change

    def take(self, size: int) -> None:
        """Count a message."""
        self.used += size
        if self.used > self.limit:
            self._look()

    def give_back(self, size: int) -> None:
        """Count a message no longer."""
        self.used -= size
        if self.alarm:
            self._look()

    def ask_for_alarm(self, wanted: bool) -> None:
        """Set or end the alarm, whatever the messages occupy."""
        self._asked = wanted
        self._look()

    def _look(self) -> None:
        alarm = self._asked or self.used > self.limit
        if alarm != self.alarm:
            self.alarm = alarm
            self._on_change()
