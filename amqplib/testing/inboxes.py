"""What the decoder asks about channels: whether to keep the contents that come for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from amqplib.core.fast_decoding import Inbox


class Keeper(Protocol):
    """What is asked about a channel."""

    keeps_content: bool


# The decoder puts everything into its own queue.
_OPEN, _CLOSED = Inbox(), Inbox()
_CLOSED.keeps_content = False


class Inboxes(Mapping[int, Inbox]):
    """The inboxes of all channels.

    Contents for a channel that is not open are kept, as its channel.open may have arrived and not
    be handled yet.
    """

    def __init__(self, channels: Mapping[int, Keeper]) -> None:
        self._channels = channels

    def __getitem__(self, number: int) -> Inbox:
        channel = self._channels.get(number)
        return _OPEN if channel is None or channel.keeps_content else _CLOSED

    def __iter__(self) -> Iterator[int]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)
