"""Faults on request: what a program should survive, and rarely meets."""

from __future__ import annotations

from typing import Callable, Optional

from amqplib.testing.errors import Refusal
from amqplib.testing.loop import Loop, Timer

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
        if times > 0:
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
    """Holds up what arrives.

    data: what is held up; nothing may be added to it.
    """

    def __init__(self, loop: Loop, release: Callable[[bytes], object]) -> None:
        self.data = b''
        self._loop = loop
        self._release = release
        self._timer: Optional[Timer] = None

    def put(self, data: bytes, seconds: float) -> None:
        """Hold up bytes for so long."""
        self.data = data
        self._timer = self._loop.call_later(seconds, self.end)

    def end(self) -> None:
        """Release what is held up."""
        data = self.data
        self.discard()
        if data:
            self._release(data)

    def discard(self) -> None:
        """Forget what is held up."""
        self.data = b''
        if self._timer is not None:
            self._timer.cancel()
