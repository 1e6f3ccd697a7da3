"""The numbers of a connection's channels: which are free, and which are not free yet."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any, Callable

from amqplib.client_0_8.deadline import NEVER
from amqplib.client_0_8.exceptions import AMQPException, ReentrancyError
from amqplib.client_0_8.spec import DEFAULT_CHANNEL_MAX, NOT_ALLOWED
from amqplib.client_0_8.turns import attempt


class ChannelNumbers:
    """Who chooses a number holds the lock until the channel is registered by it.

    retired: those of channels that were given up, until the broker has confirmed that it closed
        them: what arrives for these is not for a new channel.
    unsure: those of them that the broker may not have opened.
    """

    def __init__(self) -> None:
        self.lock: Any = threading.RLock()
        self.retired: set[int] = set()
        self.unsure: set[int] = set()
        # No number below this one has been freed.
        self._first_free = 1

    def register(self, work: Callable[..., Any], *args: Any) -> None:
        """Do the work that chooses a number and registers a channel by it."""
        if self.lock._is_owned():
            raise ReentrancyError(0, 'this thread is just opening another channel')
        attempt(self.lock, NEVER, work, *args)

    def check_room(self, taken: Collection[int], most: int) -> None:
        """Raise AMQPException if there are as many channels as there may be.

        taken: the numbers of the open channels, and 0.
        """
        if len(taken) + len(self.retired) > most:
            raise AMQPException(NOT_ALLOWED, f'all of the {most} channels are open')

    def choose(self, taken: Collection[int], most: int) -> int:
        """Return the lowest free number up to the highest that there may be."""
        # Programs may have taken channels out of the dict, so that lower ones are free.
        for first in (self._first_free, 1):
            for number in range(first, most + 1):
                if number not in taken and number not in self.retired:
                    self._first_free = number
                    return number
        raise AMQPException(NOT_ALLOWED, 'no channel number is free')

    def check(self, wanted: int) -> None:
        """Raise ValueError or TypeError if a number cannot be that of a new channel."""
        if isinstance(wanted, bool) or not isinstance(wanted, int):
            raise TypeError(f'channel_id: {wanted!r} is not an int')
        if not 0 < wanted <= DEFAULT_CHANNEL_MAX:
            raise ValueError(f'channel_id: {wanted} is not 1 to 65535')
        if wanted in self.retired:
            raise ValueError(f'channel_id: the broker has not closed {wanted} yet')

    def retire(self, number: int, unsure: bool = False) -> None:
        """Keep a number from being chosen until it is freed.

        unsure: the broker may not have opened the channel.
        """
        self.retired.add(number)
        if unsure:
            self.unsure.add(number)

    def free(self, number: int) -> None:
        """Let a number be chosen again."""
        attempt(self.lock, NEVER, self._free, number)

    def _free(self, number: int) -> None:
        self.retired.discard(number)
        self.unsure.discard(number)
        self.note_free(number)

    def note_free(self, number: int) -> None:
        """Learn that the channel with this number is gone; the number may still be retired."""
        self._first_free = min(self._first_free, number)
