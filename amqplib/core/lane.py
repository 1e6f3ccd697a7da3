"""A channel on which one thread at a time publishes, and what is not settled on it.

A message is settled when the broker has confirmed, refused or returned it, or has closed the
channel because of it. Until then it is kept, and is sent again after every loss. Messages are in
flight in the order in which they were added. No two are in flight at once that the same returned
message could stand for: those with one message id, given by the program, for one place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, count, islice
from queue import Empty
from typing import TYPE_CHECKING, Any, Optional

from amqplib.core import spec
from amqplib.core.closed import with_blocked
from amqplib.core.outgoing import frames_of, given_key
from amqplib.core.serialization import encode_shortstr
from amqplib.exceptions import (
    AMQPChannelException,
    AMQPException,
    AMQPTimeout,
    MessageNacked,
    MessageReturned,
    ProtocolError,
)

if TYPE_CHECKING:
    from amqplib.core.deadline import Deadline
    from amqplib.core.encoding import Frames
    from amqplib.core.message import Message
    from amqplib.core.outgoing import Outgoing
    from amqplib.core.serialization import BytesLike

#: Bytes that are gathered for one write.
MAX_GATHERED = 65536

#: A message that was refused, and why.
Refused = tuple['Message', Exception]

_PUBLISH = spec.PUBLISH.signature, spec.PUBLISH.python_name
_RETURN = spec.RETURN.signature, spec.RETURN.python_name


class Lane:
    """What the lanes of both protocols have in common.

    unsent: what is to be sent, in order.
    ready: the frames of all that is unsent, for the channel `number`; if they are of less, they are
        not used.
    sent: number on the channel -> what is sent and not settled, in order.
    refused: the messages that were settled by an error, until they are taken off.
    settled: how many messages were settled.
    was_idle: whether the last channel that was given up had worked before, and nothing was in
        flight on it.
    thread: the id of the thread that uses it; None if no call does.
    internal_errors: how many errors of the broker ended the channel since a message was settled.
    """

    def __init__(self) -> None:
        self.unsent: deque[Outgoing] = deque()
        self.ready: list[bytes] = []
        self.sent: dict[int, Outgoing] = {}
        self.refused: deque[Refused] = deque()
        self.settled = 0
        self.was_idle = False
        self.internal_errors = 0
        self.thread: Optional[int] = None
        self._channel: Any = None
        # The number of the channel, or the one that it probably gets.
        self.number = 1
        # Whether nothing has been settled on the channel yet.
        self._is_new = True
        # How many of the next messages go one at a time, as one of them has closed the channel.
        self._suspects = 0
        # How many messages were in flight when the last channel was given up.
        self._lost = 0
        # Number on the channel -> why the message is not published; the number returned last.
        self._errors: dict[int, AMQPException] = {}
        self._last_returned = 0
        # Whether collect() has begun and not ended.
        self._is_collecting = False
        # The keys (given_key) of what is in flight with a message id of the program.
        self._given: set[Any] = set()

    @property
    def outstanding(self) -> int:
        """How many messages are not settled."""
        return len(self.unsent) + len(self.sent)

    @property
    def has_channel(self) -> bool:
        """Whether it has a channel. If that is closed, the next action raises why."""
        return self._channel is not None

    def use(self, channel: Any) -> None:
        """Publish on this channel, which was just opened."""
        if channel.channel_id != self.number:
            self.ready.clear()
        self._channel, self.number, self._is_new = channel, channel.channel_id, True

    def _await(self, most: int, deadline: Deadline) -> None:
        """Wait until at most `most` of the messages that are sent are not settled."""
        raise NotImplementedError

    def _collect(self) -> None:
        """Settle what the broker has confirmed or refused; with transactions, that is nothing."""

    def collect(self) -> None:
        """Settle what the broker has confirmed or refused.

        After an interrupt in the middle, requeue() keeps the rest: a refusal may have been missed.
        """
        self._is_collecting = True
        self._collect()
        self._is_collecting = False

    # Sending

    def step(self, deadline: Deadline, most: int = 0) -> None:
        """Send what may be sent, and wait until at most `most` are not settled, or for progress.

        Raises the error that ended the channel, or AMQPTimeout.
        """
        self.send(deadline)
        if self.sent:
            self._await(0 if self.unsent else most, deadline)

    def flush(self, deadline: Deadline) -> None:
        """Send what may be sent, while more messages come."""
        self.send(deadline)

    def send(self, deadline: Deadline) -> None:
        """Send what may be sent."""
        while self.unsent and not (self._suspects and self.sent):
            try:
                batch, frames = self._gather()
            except ValueError as error:
                self._settle(self.unsent[0], error)
                self.unsent.popleft()
                continue
            if not batch:
                return
            # Without confirms, all that is sent is settled together.
            first = self._channel.publish_gathered(frames, len(batch), deadline)
            self.sent.update(zip(count(first or len(self.sent) + 1), batch))
            if batch is self.unsent:
                self.unsent = deque()
                return
            for _ in batch:
                self.unsent.popleft()

    def _gather(self) -> tuple[deque[Outgoing], Frames]:
        """Return the next messages for one write, and their frames.

        Raises ValueError if the first one does not fit into the frames of this connection.
        """
        ready, self.ready = self.ready, []
        if ready and len(ready) == len(self.unsent) and not self._suspects:
            return self.unsent, b''.join(ready)
        batch: deque[Outgoing] = deque()
        pieces: list[BytesLike] = []
        size = 0
        for outgoing in islice(self.unsent.copy(), 1 if self._suspects else None):
            try:
                frames = self._frames(outgoing)
            except ValueError:
                if not batch:
                    raise
                break
            if frames is None:
                break
            batch.append(outgoing)
            if isinstance(frames, list):
                return batch, pieces + frames
            pieces.append(frames)
            size += len(frames)
            if size >= MAX_GATHERED:
                break
        return batch, b''.join(pieces)

    def _frames(self, outgoing: Outgoing) -> Optional[Frames]:
        """Return the frames of a message; None if it has to wait for another one like it."""
        given = given_key(outgoing)
        if given is not None and given in self._given:
            return None
        frames = frames_of(outgoing, self.number, self._channel.session_if_open().encoder)
        if given is not None:
            self._given.add(given)
        return frames

    # Settling

    def _settle(self, outgoing: Outgoing, error: Optional[Exception]) -> None:
        """Record the end of a message, which the caller removes after that."""
        if error is not None:
            self.refused.append((outgoing[0], error))
        if self._given:
            self._given.discard(given_key(outgoing))
        self._suspects = max(0, self._suspects - 1)
        self._is_new = False
        self.settled += 1

    def _settle_sent(self, numbers: Iterable[int]) -> None:
        """Settle what was sent with these numbers."""
        for number in numbers:
            self._settle(self.sent[number], self._errors.pop(number, None))
            del self.sent[number]

    def _take_returned(self) -> None:
        """Find out what the broker has returned; it says so before it confirms the message."""
        returned = self._channel.returned_messages
        while True:
            try:
                values = returned.get_nowait()
            except Empty:
                return
            self._note_returned(*values)

    def _note_returned(
        self, code: int, text: str, exchange: str, routing_key: str, message: Message
    ) -> None:
        place = exchange, routing_key, True
        message_id = encode_shortstr(message.properties.get('message_id', ''))
        last = next(reversed(self.sent), 0)
        # The broker returns messages in the order of publishing.
        for number in chain(range(self._last_returned + 1, last + 1), self.sent):
            outgoing = self.sent.get(number)
            if outgoing is None or number in self._errors:
                continue
            published, its_place, _, _, id_start, id_end = outgoing
            if its_place == place and id_start + id_end == message_id:
                error = MessageReturned(code, text, *_PUBLISH, exchange, routing_key, published)
                self._errors[number] = error
                self._last_returned = number
                return
        text = f'a returned message that is not in flight: {exchange!r}, {routing_key!r}'
        raise ProtocolError(spec.COMMAND_INVALID, text, *_RETURN)

    def _late(self, deadline: Deadline) -> AMQPTimeout:
        text = f'{len(self.sent)} of the messages sent are not confirmed within {deadline}'
        blocked = self._channel.session_if_open().blocked
        return AMQPTimeout(0, with_blocked(text, blocked), *_PUBLISH)

    # Losses

    def requeue(self) -> None:
        """Give up the channel, which may be closed; keep what is not settled for another one."""
        if self._channel is not None:
            if not self._is_collecting:
                with suppress(AMQPException):
                    self.collect()
            with suppress(AMQPException):
                self._channel.close(timeout=0)
        # The broker has returned or refused these already.
        self._settle_sent([number for number in self.sent if number in self._errors])
        self._lost = len(self.sent)
        self.was_idle = not (self._lost or self._is_new)
        again = {id(outgoing) for outgoing in self.sent.values()}
        rest = [outgoing for outgoing in self.unsent if id(outgoing) not in again]
        self.unsent = deque([*self.sent.values(), *rest])
        self.sent = {}
        self.ready.clear()
        self._errors.clear()
        self._given.clear()
        self._last_returned = 0
        self._is_collecting = False
        self._channel = None

    def blame(self, error: AMQPChannelException) -> bool:
        """Find the message because of which the broker has closed the channel, after requeue().

        If only one was in flight, it is settled by the error. Else these are now sent one by one.

        Returns False if none was in flight.
        """
        if self._lost == 1:
            self._settle(self.unsent[0], self._fault(error))
            self.unsent.popleft()
        else:
            self._suspects = self._lost
        return self._lost > 0

    def _fault(self, error: AMQPChannelException) -> AMQPException:
        """Return the error of a message because of which the broker has closed the channel."""
        return error

    def give_up(self) -> None:
        """Drop the channel and everything that is not settled."""
        self.requeue()
        self.unsent.clear()


def refused_by_broker(text: str) -> MessageNacked:
    """Return the error of a message that the broker should have confirmed."""
    return MessageNacked(0, text, *_PUBLISH)
