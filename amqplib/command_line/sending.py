"""Publishing so that each message is accounted for: confirmed, returned or refused.

Both senders have the same methods. A message that the broker returns is confirmed as well.

publish(message, exchange, routing_key): returns soon.
settle(): waits until the broker has confirmed everything.
settled: how many messages, from the first one on, the broker has confirmed or refused.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any, Callable

from amqplib.command_line.json_lines import Entry
from amqplib.exceptions import MessageNacked

#: Messages that are on their way at most.
WINDOW = 1000

#: Takes a message that no queue has, and why.
OnRefused = Callable[[Entry, str], Any]


class Sender:
    """What both senders share: messages that are returned."""

    def __init__(self, channel: Any, on_refused: OnRefused, mandatory: bool) -> None:
        self.channel = channel
        self.on_refused = on_refused
        self.mandatory = mandatory
        self.published = 0
        self._returned = channel.returned_messages

    def publish(self, entry: Entry) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        raise NotImplementedError

    @property
    def settled(self) -> int:
        raise NotImplementedError

    def _take_returned(self) -> None:
        while not self._returned.empty():
            code, text, exchange, routing_key, message = self._returned.get()
            self.on_refused(Entry(message, exchange, routing_key), f'returned: {code} {text}')


class ConfirmingSender(Sender):
    """For AMQP 0-9-1: the broker confirms each message."""

    def __init__(self, channel: Any, on_refused: OnRefused, mandatory: bool) -> None:
        super().__init__(channel, on_refused, mandatory)
        self._outstanding: dict[int, Entry] = {}
        channel.confirm_select(WINDOW)
        channel.on_confirm = self._on_confirm

    @property
    def settled(self) -> int:
        return next(iter(self._outstanding), self.published + 1) - 1

    def publish(self, entry: Entry) -> None:
        number = self.channel.basic_publish(*entry, mandatory=self.mandatory)
        self._outstanding[number] = entry
        self.published = number
        self._take_returned()

    def settle(self) -> None:
        try:
            self.channel.wait_for_confirms(self.channel.connection.write_timeout)
        except MessageNacked:
            pass  # on_confirm has got them
        finally:
            self._take_returned()

    def _on_confirm(self, number: int, multiple: bool, ok: bool) -> None:
        outstanding = self._outstanding
        numbers = [number]
        if multiple:
            numbers = list(takewhile(lambda one: one <= number, outstanding))
        for one in numbers:
            entry = outstanding.pop(one)
            if not ok:
                self.on_refused(entry, 'refused by the broker')


class CommittingSender(Sender):
    """For AMQP 0-8: the broker commits what was published, WINDOW messages at a time."""

    def __init__(self, channel: Any, on_refused: OnRefused, mandatory: bool) -> None:
        super().__init__(channel, on_refused, mandatory)
        self._committed = 0
        channel.tx_select()

    @property
    def settled(self) -> int:
        return self._committed

    def publish(self, entry: Entry) -> None:
        self.channel.basic_publish(*entry, mandatory=self.mandatory)
        self.published += 1
        if self.published - self._committed >= WINDOW:
            self.settle()

    def settle(self) -> None:
        if self.published > self._committed:
            self.channel.tx_commit()
            self._committed = self.published
            self._take_returned()


SENDERS: dict[str, type[Sender]] = {'0-8': CommittingSender, '0-9-1': ConfirmingSender}
