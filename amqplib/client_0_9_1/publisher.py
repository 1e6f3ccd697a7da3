"""Publisher, by confirms."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

from amqplib.client_0_9_1.connection import Connection
from amqplib.core import lane, publisher

if TYPE_CHECKING:
    from amqplib.core.deadline import Deadline

__all__ = ['Publisher']


class ConfirmLane(lane.Lane):
    """A channel whose messages the broker confirms or refuses, by their numbers."""

    def use(self, channel: Any) -> None:
        channel.confirm_select()
        channel.confirm_state().most_refused = None  # there are no more than messages in flight
        super().use(channel)

    def flush(self, deadline: Deadline) -> None:
        super().flush(deadline)
        self.collect()

    def _await(self, most: int, deadline: Deadline) -> None:
        before = self.settled
        try:
            in_time = self._channel.wait_for_room(most, deadline)
        finally:
            self.collect()
        if not in_time and self.settled == before:
            raise self._late(deadline)

    def _collect(self) -> None:
        confirms = self._channel.confirm_state()
        first, still_open = confirms.open_numbers()
        # The broker returns a message before it confirms it.
        self._take_returned()
        for number in confirms.take_refused():
            error = lane.refused_by_broker('the broker refused the message')
            self._errors.setdefault(number, error)
        settled = takewhile(first.__gt__, self.sent)
        numbers = [number for number in settled if number not in still_open]
        if self._errors or self._given or self._suspects:
            self._settle_sent(numbers)
            return
        self.settled += len(numbers)
        self._is_new = self._is_new and not numbers
        for number in numbers:
            del self.sent[number]


class Publisher(publisher.Publisher):
    __doc__ = publisher.Publisher.__doc__

    _connection_class = Connection
    _lane_class = ConfirmLane
