"""Publishing until the broker has the messages, whatever happens meanwhile.

Each call publishes on a lane, a channel that is its own as long as the call lasts. So what the
broker returns, refuses or closes a channel for belongs to that call; and of the threads that wait
for it, one reads for all of them, as everywhere in this library.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional, Union

from amqplib.core import log, urls
from amqplib.core.abstract_channel import CLOSE_TIMEOUT
from amqplib.core.checks import check_callable, check_int
from amqplib.core.deadline import Deadline, deadline_of
from amqplib.core.lanes import Lanes
from amqplib.core.link import Link
from amqplib.core.outgoing import encode
from amqplib.core.publishing import Item, Publishing, publish_all
from amqplib.exceptions import AMQPException

if TYPE_CHECKING:
    from amqplib.core.connection import Connection
    from amqplib.core.lane import Lane, Refused
    from amqplib.core.message import Message


class Publisher:
    """Publishes messages, and returns when the broker has them.

    url: of the broker, or an iterable of URLs; see Connection.from_url.
    setup: function(channel), called on each new connection, and after the broker has closed a
        channel, to declare what the program publishes to; or None.
    window: how many messages of a publish_all(), and how many calls, may be in progress at once.
    timeout: seconds that a message may take; None for no limit.
    arguments: those of Connection, which win over the URL.

    It connects at the first call, and again after a loss; then it publishes again what the broker
    had not confirmed. So a message may arrive twice, but is never lost. By its message_id a
    receiver can tell; if a message has none, it is sent with a new one, and itself not changed.

    Any number of threads may use it. After a fork, the child has connections of its own.
    """

    _connection_class: ClassVar[type[Connection]]
    _lane_class: ClassVar[type[Lane]]

    def __init__(
        self,
        url: Union[str, Iterable[str]],
        setup: Optional[Callable[[Any], object]] = None,
        window: int = 1000,
        timeout: Optional[float] = None,
        **arguments: Any,
    ) -> None:
        check_int('window', window, 1)
        check_callable('setup', setup)
        Deadline(timeout)
        self.window = window
        self.timeout = timeout
        self._places = urls.parse_all(url)
        self._arguments = arguments
        self._setup = setup
        self._latest = self._new_lanes()

    def _new_lanes(self) -> Lanes:
        link = Link(self._connection_class, self._places, self._arguments, self._setup)
        return Lanes(self._lane_class, self.window, link)

    def _lanes(self) -> Lanes:
        """Return the lanes of this process."""
        lanes = self._latest
        if lanes.process != os.getpid():
            # Of the threads that come here at once, all get what the first one has made.
            self._latest = lanes = lanes.in_children.setdefault(os.getpid(), self._new_lanes())
        return lanes

    def publish(
        self, msg: Message, exchange: str = '', routing_key: str = '', mandatory: bool = True
    ) -> None:
        """Publish a message, and return when the broker has it.

        msg: a Message.
        exchange, routing_key: where to; '' delivers to the queue named by routing_key.
        mandatory: if no queue takes the message, raise MessageReturned.

        Raises MessageNacked if the broker refuses it, and the error of the channel if the broker
        closes that for it, such as NotFound; ValueError or TypeError before anything is sent; an
        error that is not recoverable at once; an internal error of the broker (541) when it comes
        the third time in a row; any other one when `timeout` is over. After the last two, the
        broker may have the message or not.
        """
        lanes, deadline = self._lanes(), deadline_of(self.timeout)
        outgoing = encode(msg, (exchange, routing_key, bool(mandatory)), lanes.ids)
        lane = lanes.take(deadline)
        try:
            lane.unsent.append(outgoing)
            lanes.link.settle(lane, deadline)
            refused = lane.refused.popleft() if lane.refused else None
        except BaseException:
            lanes.drop(lane)
            raise
        lanes.put(lane)
        if refused is not None:
            try:
                raise refused[1]
            finally:
                refused = None  # the traceback refers to this frame

    def publish_all(self, items: Iterable[Item], mandatory: bool = True) -> Iterator[Refused]:
        """Publish many messages; an iterator of (message, error) for each one that is refused.

        items: (Message, exchange, routing_key) of each message. They are taken as there is room in
            the window, and many are sent by one write.
        mandatory: as for publish().

        Nothing is published before the first next(); when the iterator ends, the broker has all
        messages except those that were refused. The errors are those of publish(), and ValueError
        or TypeError for a message that cannot be sent. If nothing is confirmed for `timeout`, or
        after an error that is not recoverable, each message that is not confirmed comes with that
        error, which is raised after them; nothing more is taken from `items` then.
        """
        return Publishing(publish_all(self._lanes(), items, bool(mandatory), self.timeout))

    def close(self, timeout: Optional[float] = None) -> None:
        """Wait until all is settled that other calls have begun, and close the connection.

        timeout: seconds; by default the timeout of this publisher.

        Raises the error of the first message that was refused in a publish_all() which the program
        has left before its end; AMQPTimeout; ReentrancyError if this thread itself is in the middle
        of a call, or of a publish_all() that it has neither ended nor left. It is closed in any
        case.
        """
        lanes, deadline = self._lanes(), deadline_of(self.timeout if timeout is None else timeout)
        lanes.is_closed = True
        try:
            refused = lanes.settle_all(deadline)
        finally:
            lanes.link.close(deadline.remaining())
        if refused:
            try:
                raise refused[0][1]
            finally:
                refused.clear()  # the traceback refers to this frame

    def __repr__(self) -> str:
        return f'<{type(self).__name__} to {urls.address(self._places[0])}>'

    def __enter__(self) -> Publisher:  # noqa: PYI034  (Self is of Python 3.11)
        return self

    def __exit__(self, type: object, value: Optional[BaseException], traceback: object) -> None:
        if value is None:
            self.close()
            return
        try:
            timeout = self.timeout
            self.close(CLOSE_TIMEOUT if timeout is None else min(timeout, CLOSE_TIMEOUT))
        except (AMQPException, TypeError, ValueError) as error:
            # The error that ended the block is the one to raise.
            log.warning('closing after an error failed: %s', error)
