"""Heartbeats: those that the broker sends, and the silence of a client."""

from __future__ import annotations

from functools import partial
from typing import Callable, Optional

from amqplib.testing.loop import Loop, Timer

#: After so many heartbeats that did not come, the client is taken to be gone.
MISSED_HEARTBEATS = 3


class Pulse:
    """The heartbeats of a connection.

    heard: when the client was heard last, on the clock of the loop.
    """

    def __init__(self, loop: Loop) -> None:
        self.heard = loop.now
        self._loop = loop
        self._timer: Optional[Timer] = None

    def start(
        self, seconds: float, send: Callable[[], object], on_silence: Callable[[], object]
    ) -> None:
        """Send a heartbeat now and twice in so many seconds, until the client is silent.

        on_silence: called when it has been so for too long.
        """
        send()
        if self._loop.now - self.heard > MISSED_HEARTBEATS * seconds:
            on_silence()
        else:
            again = partial(self.start, seconds, send, on_silence)
            self._timer = self._loop.call_later(seconds / 2, again)

    def stop(self) -> None:
        """Send no more heartbeats."""
        if self._timer is not None:
            self._timer.cancel()
