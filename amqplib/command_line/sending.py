"""Publishing so that each message is accounted for: confirmed, returned or refused.

Both senders have the same methods. A message that the broker returns is confirmed as well.

publish(message, exchange, routing_key): returns soon.
settle(): waits until the broker has confirmed everything.
settled: how many messages, from the first one on, the broker has confirmed or refused.
"""

from __future__ import annotations

import contextlib
from itertools import takewhile
from typing import Any, Callable

from amqplib.command_line.json_lines import Entry
from amqplib.core.spec import TX_COMMIT
from amqplib.exceptions import MessageNacked, PreconditionFailed

#: Messages, and bytes of their bodies, that are on their way at most.
WINDOW, WINDOW_BYTES = 1000, 1 << 26

#: Takes a message that no queue has, and why.
OnRefused = Callable[[Entry, str], Any]


class Sender:
    """What both senders share.

    published: how many messages were published.
    """

    def __init__(self, channel: Any, on_refused: OnRefused, mandatory: bool) -> None:
        self.published = 0
        self._channel = channel
        self._on_refused = on_refused
        self._mandatory = mandatory
        self._bytes = 0
        self._returned = channel.returned_messages

    @property
    def settled(self) -> int:
        raise NotImplementedError

    def publish(self, entry: Entry) -> None:
        self._sent(entry, self._channel.basic_publish(*entry, mandatory=self._mandatory))
        self.published += 1
        self._bytes += len(entry.message.body)
        if self._bytes >= WINDOW_BYTES or self._is_full():
            self.settle()
        self._take_returned()

    def settle(self) -> None:
        try:
            self._wait()
        finally:
            self._take_returned()
        self._bytes = 0

    def _sent(self, entry: Entry, number: Any) -> None:
        """Note that a message was sent; number: what basic_publish() has returned."""

    def _is_full(self) -> bool:
        return False

    def _wait(self) -> None:
        raise NotImplementedError

    def _take_returned(self) -> None:
        while not self._returned.empty():
            code, text, exchange, routing_key, message = self._returned.get()
            self._on_refused(
                Entry(message, exchange, routing_key), f'returned: {code} {text}, no queue takes it'
            )


class ConfirmingSender(Sender):
    """For AMQP 0-9-1: the broker confirms each message."""

    def __init__(self, channel: Any, on_refused: OnRefused, mandatory: bool) -> None:
        super().__init__(channel, on_refused, mandatory)
        self._outstanding: dict[int, Entry] = {}
        channel.confirm_select(WINDOW)
        # Kept, because a channel that is closed has no connection.
        self._timeout = channel.connection.write_timeout
        channel.on_confirm = self._on_confirm

    @property
    def settled(self) -> int:
        return next(iter(self._outstanding), self.published + 1) - 1

    def _sent(self, entry: Entry, number: int) -> None:
        self._outstanding[number] = entry

    def _wait(self) -> None:
        # What the broker refuses comes to on_confirm.
        with contextlib.suppress(MessageNacked):
            self._channel.wait_for_confirms(self._timeout)

    def _on_confirm(self, number: int, multiple: bool, ok: bool) -> None:
        numbers = [number]
        if multiple:
            numbers = list(takewhile(lambda one: one <= number, self._outstanding))
        for one in numbers:
            entry = self._outstanding.pop(one)
            if not ok:
                self._on_refused(entry, 'refused by the broker')


class CommittingSender(Sender):
    """For AMQP 0-8: the broker commits what was published."""

    def __init__(self, channel: Any, on_refused: OnRefused, mandatory: bool) -> None:
        super().__init__(channel, on_refused, mandatory)
        self._committed = 0
        channel.tx_select()

    @property
    def settled(self) -> int:
        return self._committed

    def _is_full(self) -> bool:
        return self.published - self._committed >= WINDOW

    def _wait(self) -> None:
        if self.published > self._committed:
            try:
                self._channel.tx_commit()
            except PreconditionFailed as error:
                if error.amqp_method_sig != TX_COMMIT.signature:
                    raise
                raise MessageNacked(0, f'the broker refused messages: {error}') from error
            self._committed = self.published


SENDERS: dict[str, type[Sender]] = {'0-8': CommittingSender, '0-9-1': ConfirmingSender}
