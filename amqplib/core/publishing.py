"""Publishing the messages of an iterable, many in flight and many by one write."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from amqplib.core.deadline import deadline_of
from amqplib.core.encoding import END
from amqplib.core.lane import MAX_GATHERED
from amqplib.core.message import Message
from amqplib.core.outgoing import encode, plan_of, small_frames
from amqplib.exceptions import AMQPException

if TYPE_CHECKING:
    from amqplib.core.lane import Lane, Refused
    from amqplib.core.lanes import Lanes
    from amqplib.core.outgoing import Place

#: A message, and the exchange and the routing key to publish it with.
Item = tuple[Message, str, str]

#: If an iterable takes more than these seconds for an item, what is gathered is sent at once.
_SLOW = 0.001


class Publishing(Iterator['Refused']):
    """What publish_all() returns: it publishes as long as it is asked for what was refused."""

    def __init__(self, refused: Generator[Refused, None, None]) -> None:
        self._refused = refused
        self._is_begun = False

    def __next__(self) -> Refused:
        self._is_begun = True
        return next(self._refused)

    def close(self) -> None:
        """End it; Publisher.close() settles what is not settled."""
        self._is_begun = True
        self._refused.close()

    def __del__(self) -> None:
        if '_is_begun' not in vars(self):
            return  # an interrupt came before it was made
        self._refused.close()  # PyPy would leave it to its next collection
        if not self._is_begun:
            text = 'nothing was published, as nothing has iterated over what publish_all() returned'
            warnings.warn(text, RuntimeWarning, source=self, stacklevel=1)


def publish_all(
    lanes: Lanes, items: Iterable[Item], mandatory: bool, timeout: Optional[float]
) -> Generator[Refused, None, None]:
    """Publish messages, and yield those that are refused, each with the error."""
    lane = lanes.take(deadline_of(timeout))
    try:
        yield from _publish_on(lane, lanes, _Filler(lane, lanes, items, mandatory), timeout)
    except GeneratorExit:
        raise
    except BaseException:
        lane.requeue()  # its channel may be in any state
        raise
    finally:
        if lane.outstanding or lane.refused:
            lanes.leave(lane)
        else:
            lanes.put(lane)


def _publish_on(
    lane: Lane, lanes: Lanes, filler: _Filler, timeout: Optional[float]
) -> Generator[Refused, None, None]:
    refused, more = lane.refused, True
    while more or lane.outstanding:
        more = more and filler.fill()
        try:
            _advance(lane, lanes, more, timeout)
        except AMQPException as error:
            lane.requeue()
            while refused:
                yield refused.popleft()
            # Taken off one by one: if the program leaves now, the rest is for close().
            while lane.unsent:
                yield lane.unsent.popleft()[0], error
            raise
        while refused:
            yield refused.popleft()
    if filler.failure is not None:
        try:
            raise filler.failure
        finally:
            filler.failure = None  # the traceback refers to this frame


def _advance(lane: Lane, lanes: Lanes, more: bool, timeout: Optional[float]) -> None:
    """Send what is gathered; wait if the window is full, or if no more messages will come."""
    link = lanes.link
    if more and lane.outstanding < lanes.most:
        link.attempt(lane, lane.flush, deadline_of(timeout))
        return
    most = lanes.most // 2 if more else 0
    while lane.outstanding > most:
        link.settle(lane, deadline_of(timeout))


class _Known(NamedTuple):
    """How the last message was encoded, as most messages are like the one before."""

    cls: Optional[type] = None
    properties: bytes = b''
    exchange: str = ''
    routing_key: str = ''
    place: Place = ('', '', False)
    id_start: bytes = b''
    room: int = 0
    pack: Callable[..., bytes] = bytes
    first: bytes = b''
    before: bytes = b''
    third: bytes = b''


class _Filler:
    """Takes messages from an iterable, and gathers them on a lane.

    failure: the error of the iterable that has ended it, if any.
    """

    def __init__(self, lane: Lane, lanes: Lanes, items: Iterable[Item], mandatory: bool) -> None:
        self._lane = lane
        self._most = lanes.most
        self._ids = lanes.ids
        self._items = iter(items)
        self._mandatory = mandatory
        self._known = _Known()
        # The number of the channel that this is for.
        self._channel = lane.number
        self.failure: Optional[Exception] = None

    def fill(self) -> bool:
        """Take messages until there are enough for a write; return False if there are no more.

        An error of the iterable is kept: it is to be raised when the messages before are settled.
        """
        if self._channel != self._lane.number:
            self._channel, self._known = self._lane.number, _Known()
        try:
            return self._fill()
        except Exception as error:  # noqa: BLE001
            self.failure = error
            return False

    def _fill(self) -> bool:
        lane, ends, known = self._lane, self._ids.ends, self._known
        cls, properties, last_exchange, last_key, place, start, most, pack, first, head, third = (
            known
        )
        add, add_frames = lane.unsent.append, lane.ready.append
        room, size, before = self._most - lane.outstanding, 0, monotonic()
        for item in self._items:
            try:
                msg, exchange, routing_key = item
            except (TypeError, ValueError):
                kind = type(item).__name__
                text = f'items: {kind!r} is not (Message, exchange, routing_key)'
                raise TypeError(text) from None
            if (
                type(msg) is cls
                and msg.raw_properties is properties
                and exchange is last_exchange
                and routing_key is last_key
                and type(body := msg.body) is bytes
                and 0 < (body_size := len(body)) <= most
            ):
                # What encode() and small_frames() do, without a call.
                end = next(ends)
                add((msg, place, properties, body, start, end))
                frames = pack(first, body_size, head, end, third, body_size) + body + END
                add_frames(frames)
                size += len(frames)
            else:
                added = self._add(msg, exchange, routing_key)
                if not added:
                    return True  # it is refused
                size += added
                (cls, properties, last_exchange, last_key, place, start, most, pack, first, head,
                 third) = self._known  # fmt: skip
            room -= 1
            now = monotonic()
            if room <= 0 or size >= MAX_GATHERED or now - before > _SLOW:
                return True
            before = now
        return False

    def _add(self, msg: Message, exchange: str, routing_key: str) -> int:
        """Encode and add a message; return its size, or 0 if it is refused."""
        lane, place = self._lane, (exchange, routing_key, self._mandatory)
        try:
            outgoing = encode(msg, place, self._ids)
        except (TypeError, ValueError) as error:
            lane.refused.append((msg, error))
            return 0
        lane.unsent.append(outgoing)
        _, _, properties, body, start, _ = outgoing
        if start:
            frames = small_frames(outgoing, lane.number)
            if frames is not None:
                lane.ready.append(frames)
            if properties is msg.raw_properties:
                plan = plan_of(outgoing, lane.number)
                self._known = _Known(
                    type(msg), properties, exchange, routing_key, place, start,
                    plan.room, plan.pack, plan.first, plan.before, plan.third,
                )  # fmt: skip
        return len(body) + len(properties) + 1
