"""The numbers of a connection's channels: which are free, and which linger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqplib.core.arguments import compile_encoder
from amqplib.core.encoding import method_frame
from amqplib.core.fast_decoding import ArrivedMethod, Inbox, not_open
from amqplib.core.spec import (
    CHANNEL_CLOSE,
    CHANNEL_CLOSE_OK,
    CHANNEL_OPEN_OK,
    NOT_ALLOWED,
    REPLY_SUCCESS,
)
from amqplib.exceptions import NO_METHOD, AMQPException

if TYPE_CHECKING:
    from amqplib.core.session import Session
    from amqplib.core.spec import Protocol

#: The payload of the channel.close for a channel that is given up.
CLOSE_ABANDONED = compile_encoder(CHANNEL_CLOSE, {})(REPLY_SUCCESS, 'gave up', *NO_METHOD)


class NumberTaken(ValueError):
    """A channel number is in use.

    channel: the channel that has it.
    """

    def __init__(self, number: int, channel: Any) -> None:
        super().__init__(f'channel_id: {number} is open already')
        self.channel = channel


class AllChannelsOpen(AMQPException):
    """There are as many channels as there may be."""


class ChannelNumbers:
    """Assigns numbers to the channels of a connection, and frees them.

    session: the session, whose inboxes are kept up to date.
    channels: number -> channel, the connection itself as 0; programs read it, and may remove
        channels.
    protocol: for the names of methods in errors.

    lingering: number -> the remains of a channel that was given up.

    There is no lock: a number belongs to the channel that is stored under it, and is taken by a
    single operation. If several threads release a channel, the one that removes it from the holders
    of numbers does the work: for the others, the number may already belong to a successor.
    """

    def __init__(self, session: Session, channels: dict[int, Any], protocol: Protocol) -> None:
        self._session = session
        self._protocol = protocol
        self._inboxes = session.inboxes
        self._channels = channels
        self.lingering: dict[int, Lingering] = {}
        # id -> channel, for the channels that hold a number or try to take one.
        self._holding: dict[int, Inbox] = {}

    def check_room(self, maximum: int) -> None:
        """Raise AllChannelsOpen if the maximum number of channels is open."""
        if self.lingering and self._is_full(maximum):
            # What the broker has answered may not be read yet.
            self._session.poll_input(self._session.closed)
        if self._is_full(maximum):
            raise AllChannelsOpen(NOT_ALLOWED, f'all of the {maximum} channels are open')

    def _is_full(self, maximum: int) -> bool:
        return len(self._channels) + len(self.lingering) > maximum  # channel 0 is among them

    def choose(self, maximum: int) -> int:
        """Return the lowest free number up to the maximum."""
        # From 1 each time: a hint where to start would have to be exact, as threads open and free
        # channels and programs remove them from the dict. 2,000 channels are passed in 0.1 ms.
        for number in range(1, maximum + 1):
            if number not in self._channels and number not in self.lingering:
                return number
        raise AMQPException(NOT_ALLOWED, 'no channel number is free')

    def take(self, number: int, channel: Inbox) -> bool:
        """Assign a number to a channel; return whether it was free."""
        # First, so that an interrupt leaves nothing that cannot be freed.
        self._holding[id(channel)] = channel
        if self._channels.setdefault(number, channel) is not channel:
            return False
        if number in self.lingering:
            del self._channels[number]
            return False
        self._inboxes[number] = channel
        return True

    def holder(self, number: int) -> Any:
        """Return the channel that has a number, or what is left of it; None if it is free."""
        lingering = self.lingering.get(number)
        return self._channels.get(number) if lingering is None else lingering

    def why_taken(self, number: int, holder: Any) -> ValueError:
        """Return the error for a number that is not free."""
        if isinstance(holder, Lingering):
            return ValueError(f'channel_id: the broker has not closed {number} yet')
        return NumberTaken(number, holder)

    def free(self, number: int, channel: Inbox) -> None:
        """Free a number, if this channel has it."""
        if self._holding.pop(id(channel), None) is not None:
            self._free(number, channel)

    def _free(self, number: int, channel: Inbox) -> None:
        if self._inboxes.get(number) is channel:
            self._inboxes.pop(number, None)
        if self._channels.get(number) is channel:
            self._channels.pop(number, None)

    def linger(self, number: int, channel: Inbox, open_pending: bool) -> None:
        """Keep the number of a channel that was given up until the broker has answered.

        open_pending: whether the broker has not said yet that it opened the channel.
        """
        if self._holding.pop(id(channel), None) is None:
            return
        if self._inboxes.get(number) is channel:
            lingering = Lingering(self._session, self, number, open_pending)
            self._inboxes[number] = self.lingering[number] = lingering
        self._free(number, channel)

    def end_lingering(self, number: int) -> None:
        """Free the number of a channel that was given up."""
        self._inboxes.pop(number, None)
        self.lingering.pop(number, None)

    def clear(self) -> None:
        """Release all channels, at the end of the connection."""
        self._channels.clear()
        self.lingering.clear()
        self._holding.clear()

    def arrive_unknown(self, number: int, method: ArrivedMethod) -> None:
        """Handle a method for a channel that is not open; raise ProtocolError for most."""
        signature = method[0]
        if signature == CHANNEL_CLOSE.signature:
            # Sent again before the close-ok to the first one had arrived.
            self._session.send_urgent(method_frame(number, CHANNEL_CLOSE_OK.prefix))
        elif signature != CHANNEL_CLOSE_OK.signature:
            raise not_open(number, signature, self._protocol.name_of(signature))


class Lingering(Inbox):
    """The inbox of a channel that was given up: methods for it are dropped.

    open_pending: whether the broker has not confirmed the opening yet. If it does, the channel is
        closed then; if it refuses, there will be no close-ok.
    """

    keeps_content = False

    def __init__(
        self, session: Session, numbers: ChannelNumbers, number: int, open_pending: bool
    ) -> None:
        self._session = session
        self._numbers = numbers
        self._number = number
        self._open_pending = open_pending

    def arrive(self, method: ArrivedMethod) -> None:
        """Handle only the methods that open or close the channel."""
        signature = method[0]
        if signature == CHANNEL_CLOSE_OK.signature:
            self._free()
        elif signature == CHANNEL_CLOSE.signature:
            self._send(CHANNEL_CLOSE_OK.prefix)
            if self._open_pending:
                self._free()
        elif signature == CHANNEL_OPEN_OK and self._open_pending:
            self._open_pending = False
            self._send(CLOSE_ABANDONED)

    def session_ended(self) -> None:
        """There is nothing to release."""

    def _send(self, payload: bytes) -> None:
        self._session.send_urgent(method_frame(self._number, payload))

    def _free(self) -> None:
        self._numbers.end_lingering(self._number)
