"""The connection of a Publisher: made when it is needed, and again after a loss."""

from __future__ import annotations

import threading
from contextlib import suppress
from random import uniform
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Optional

from amqplib.core import log, urls
from amqplib.core.abstract_channel import CLOSE_TIMEOUT
from amqplib.core.channel_numbers import AllChannelsOpen
from amqplib.core.deadline import Deadline
from amqplib.core.locks import Mutex
from amqplib.core.spec import DEFAULT_CHANNEL_MAX, INTERNAL_ERROR
from amqplib.exceptions import (
    AMQPChannelException,
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ReentrancyError,
)

if TYPE_CHECKING:
    from amqplib.core.lane import Lane

#: The seconds from one attempt to connect to the next: at first, and at most. The first one is also
#: the pause before the next look for a free channel.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

#: Seconds to wait after an error of a channel that is recoverable.
CHANNEL_PAUSE = 1.0

#: How often in a row the broker may end the connection by an internal error (541) under a lane,
#: before that is raised. RabbitMQ does so for a message whose headers it cannot decode.
MAX_INTERNAL_ERRORS = 3

#: Seconds that connecting may take by default, as for Connection.
CONNECT_TIMEOUT = 30.0


class Link:
    """Connects, and opens channels.

    make: the class Connection.
    places: the arguments of each URL, of which the first one that answers is taken.
    arguments: those that win over them.
    setup: function(channel) that declares what the program needs, or None.

    room: how many channels there may be for lanes, as far as it is known.
    make_room: function(lane, deadline) that is called if all channels are open and this lane needs
        one; it may raise an error, else opening is tried again after a while.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        places: list[dict[str, Any]],
        arguments: dict[str, Any],
        setup: Optional[Callable[[Any], object]],
    ) -> None:
        self._make = make
        self._places = places
        self._arguments = arguments
        self._setup = setup
        self.room = DEFAULT_CHANNEL_MAX
        self.make_room: Callable[[Any, Deadline], object] = lambda lane, deadline: None
        # Held by the thread that connects or opens a channel.
        self._mutex = Mutex()
        self._connection: Any = None
        # That of the connection, whose attribute is shorter while a channel is opened.
        self._rpc_timeout: Optional[float] = None
        self._is_set_up = False
        self._is_closed = False
        # Why there is no connection.
        self._failure: Optional[AMQPException] = None
        self._pause = 0.0
        self._next_attempt = 0.0

    def open(self, lane: Lane, deadline: Deadline) -> None:
        """Give a lane a channel if it has none; before that, connect until it succeeds.

        Raises the error of the last attempt at the deadline, and at once an error that is not
        recoverable, or any error of setup() that is not one of AMQP.
        """
        while not lane.has_channel:
            if self._mutex.is_mine():
                raise ReentrancyError.of_call()
            self._rest(deadline)
            try:
                in_time = self._mutex.run_in_time(deadline, self._try_to_open, lane, deadline)
            except AllChannelsOpen as error:
                if deadline.expired():
                    raise
                self._failure = error.copy()
                self.make_room(lane, deadline)
                pause(FIRST_PAUSE, deadline)
                continue
            except AMQPException as error:
                if not error.recoverable or deadline.expired():
                    raise
                self._failure = error.copy()
                log.warning('the publisher tries again: %s', error)
                if self._is_connected():
                    pause(CHANNEL_PAUSE, deadline)
                continue
            if not in_time:
                raise self._late(deadline)

    def settle(self, lane: Lane, deadline: Deadline) -> None:
        """Do what it takes until at least one message of a lane is settled.

        Raises what attempt() raises.
        """
        before = lane.settled
        while lane.settled == before:
            self.attempt(lane, lane.step, deadline)

    def attempt(self, lane: Lane, action: Callable[[Deadline], object], deadline: Deadline) -> None:
        """Do something with a lane that has a channel; after a loss, it may be repeated.

        action: a method of the lane.

        Raises what open() raises; an error of the action if it is not recoverable, nor because of a
        message, or if the deadline has passed.
        """
        self.open(lane, deadline)
        before = lane.settled
        try:
            action(deadline)
        except AMQPException as error:
            lane.requeue()
            if not self._may_repeat(lane, error, deadline):
                raise
        if lane.settled != before:
            lane.internal_errors = 0
            self._pause = 0.0  # it works: after a loss, connect again at once

    def _may_repeat(self, lane: Lane, error: AMQPException, deadline: Deadline) -> bool:
        if error.recoverable:
            if isinstance(error, AMQPChannelException):
                pause(CHANNEL_PAUSE, deadline)
            elif error.amqp_reply_code == INTERNAL_ERROR:
                lane.internal_errors += 1
                if lane.internal_errors == MAX_INTERNAL_ERRORS:
                    lane.internal_errors = 0
                    return False
            return not deadline.expired()
        if isinstance(error, AMQPChannelException) and lane.blame(error):
            # What is missing may be declared again.
            self._is_set_up = False
            return True
        # If it was idle, the error does not concern what is to be published.
        return lane.was_idle

    def close(self, timeout: Optional[float]) -> None:
        """Close the connection, for good. Errors do not matter, as all is settled before.

        timeout: seconds, of which no more are used than Connection.close() takes by default.
        """
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(AMQPException):
                limit = CLOSE_TIMEOUT if timeout is None else min(timeout, CLOSE_TIMEOUT)
                connection.close(timeout=limit)

    def _rest(self, deadline: Deadline) -> None:
        """Wait until the next attempt to connect may begin."""
        seconds = self._next_attempt - monotonic()
        if seconds > 0 and not self._is_connected():
            pause(seconds, deadline)
            if deadline.expired():
                raise self._late(deadline)

    def _late(self, deadline: Deadline) -> AMQPException:
        if self._failure is not None:
            return self._failure.copy()
        return AMQPTimeout(0, f'not connected within {deadline}')

    def _is_connected(self) -> bool:
        connection = self._connection
        return connection is not None and connection.is_open

    def _try_to_open(self, lane: Lane, deadline: Deadline) -> None:
        if not (self._is_closed or self._is_connected()):
            if monotonic() < self._next_attempt:
                return  # another thread has just tried
            self._connect(deadline)
        connection = self._connection
        if self._is_closed or connection is None:
            self.close(0)  # another thread may have closed it before the connection was made
            raise AMQPConnectionException(0, 'the publisher was closed by this program')
        try:
            connection.rpc_timeout = deadline.earlier(Deadline(self._rpc_timeout)).remaining()
            self._set_up(connection)
            lane.use(connection.channel())
        finally:
            connection.rpc_timeout = self._rpc_timeout
        self._failure = None

    def _connect(self, deadline: Deadline) -> None:
        self._next_attempt = monotonic() + self._pause * uniform(0.5, 1)
        self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)

        def make(**arguments: Any) -> Any:
            own = Deadline(arguments.get('connect_timeout', CONNECT_TIMEOUT), 'connect_timeout')
            arguments['connect_timeout'] = deadline.earlier(own).remaining()
            return self._make(**arguments)

        self._is_set_up = False
        self._connection = connection = urls.connect(make, self._places, self._arguments)
        # One is kept free for setup().
        self.room = max(1, connection.channel_max - 1)
        self._rpc_timeout = connection.rpc_timeout
        log.debug('the publisher has connected: %s', connection)

    def _set_up(self, connection: Any) -> None:
        if self._setup is not None and not self._is_set_up:
            with connection.channel() as channel:
                self._setup(channel)
        self._is_set_up = True


def pause(seconds: float, deadline: Deadline) -> None:
    """Wait for some time, but not beyond the deadline."""
    threading.Event().wait(deadline.earlier(Deadline(seconds)).remaining())
