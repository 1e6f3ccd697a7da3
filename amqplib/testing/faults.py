"""Faults on request: what a program should survive, and rarely meets."""

from __future__ import annotations

from typing import Optional

from amqplib.testing.errors import Refusal
from amqplib.testing.loop import Timer

TEXT = 'refused on request'

#: The classes whose methods are refused only by name.
_SPARED = ('connection.', 'channel.')


class _Planned:
    """Refusals; without a method, of any one that does not open or close something."""

    def __init__(self, code: int, text: str, method: Optional[str], times: int) -> None:
        self.code = code
        self.text = text
        self.method = method
        self.times = times

    def is_for(self, name: str) -> bool:
        return not name.startswith(_SPARED) if self.method is None else name == self.method


class Faults:
    """What is to go wrong.

    delay: seconds between the arrival of something and its handling.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self._refusals: list[_Planned] = []

    def refuse(self, code: int, times: int, method: Optional[str], text: str) -> None:
        """Refuse methods that arrive from now on, after those of earlier calls."""
        self._refusals.append(_Planned(code, text, method, times))

    def check(self, name: str) -> None:
        """Refuse a method if its turn has come."""
        for planned in self._refusals:
            if planned.is_for(name):
                planned.times -= 1
                if not planned.times:
                    self._refusals.remove(planned)
                raise Refusal(planned.code, planned.text)


class Hold:
    """What has arrived and is held up.

    data: nothing may be added to it.
    """

    def __init__(self) -> None:
        self.data = b''
        self._timer: Optional[Timer] = None

    def put(self, data: bytes, timer: Timer) -> None:
        """Hold up bytes until a timer takes them, or somebody else does."""
        self.data = data
        self._timer = timer

    def take(self) -> bytes:
        """Take out what is held up."""
        if self._timer is not None:
            self._timer.cancel()
        data, self.data = self.data, b''
        return data
