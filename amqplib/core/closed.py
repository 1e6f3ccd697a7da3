"""Why and how a connection or a channel ended.

::

    open ----------------> ended        the broker, the network or an error ended it
      +---> asked -------> ended        the program closes it
"""

from __future__ import annotations

from typing import Callable, NoReturn, Optional

from amqplib.exceptions import AMQPChannelException, AMQPConnectionException, AMQPException


class Closed:
    """Whether and why a connection, or one of its channels, is closed.

    connection: for a channel, the Closed of its connection.
    on_raise: called when the cause is raised for the first time, unless the program knows already.

    cause: the first error that ended it; None until then. Every later call raises it again.
    shut: whether nothing more may be sent for it, because it has ended or the program closes it.
        It is checked under the lock under which frames are sent.
    close_queued: whether the close frame of the program is sent or about to be.
    close_sent: whether it is sent, or being sent.
    by_program: whether it ended because the program closed it, or its connection.
    reported: whether the program knows: a call has raised the cause, or the program closed it.
    """

    def __init__(
        self, connection: Optional[Closed] = None, on_raise: Optional[Callable[[], object]] = None
    ) -> None:
        self._connection = connection
        self._on_raise = on_raise
        self.cause: Optional[AMQPException] = None
        self.shut = False
        self.close_sent = False
        self.close_queued = False
        self.by_program = False
        self.reported = False

    @property
    def asked(self) -> bool:
        """Whether the program closes it and it has not ended yet."""
        return self.shut and self.cause is None

    def ask(self) -> None:
        """Record that the program closes it: the close frame is the last one sent."""
        # In this order: either the thread that ends it sees this, or this thread sees the cause.
        self.close_queued = self.shut = True
        if self.cause is not None:
            self.close_queued = False

    def take_back(self) -> None:
        """Record that the close frame could not be sent."""
        self.close_queued = self.close_sent = False
        if self.cause is None:
            self.shut = False
        if self.cause is not None:  # it may have ended at this moment
            self.shut = True

    def refuses(self, closes: bool = False) -> bool:
        """Return whether a frame that was queued for it may not be sent any more.

        closes: whether it is the close frame of the program.
        """
        connection = self._connection
        if connection is not None and connection.refuses():
            return True
        return not closes and (self.close_sent or self.cause is not None)

    def end(self, cause: AMQPException, reported: bool = False, by_program: bool = False) -> bool:
        """Record the end; return False if it had ended before: the first cause is kept."""
        return self._end(cause.copy(), reported, by_program)

    def end_as_asked(self) -> None:
        """Record the end that the program has asked for."""
        error = _connection_closed() if self._connection is None else channel_closed()
        self._end(error, True, True)

    def end_with_connection(self) -> None:
        """Record for a channel that its connection has ended."""
        connection = self._connection
        if connection is not None and connection.cause is not None:
            self._end(connection.cause, connection.reported, connection.by_program)

    def _end(self, cause: AMQPException, reported: bool, by_program: bool) -> bool:
        # In one step, because two threads may come here at once.
        ending = (cause, reported, by_program)
        first, known, self.by_program = vars(self).setdefault('_ending', ending)
        # In this order: readers check `shut` first, then `cause`, then the rest.
        self.reported = self.reported or known
        self.cause = first
        self.shut = True
        if first is not cause:
            return False
        self.reported = self.reported or reported
        if self.reported:
            self._on_raise = None  # the channel's own method: it would keep the channel in a cycle
        return True

    def raise_cause(self) -> NoReturn:
        """Raise the cause."""
        on_raise = self._on_raise
        self.end_with_connection()
        cause, connection = self.cause, self._connection
        if cause is None:
            raise self._being_closed()
        self.reported = True
        if connection is not None and connection.cause is cause:
            connection.reported = True
        self._on_raise = None
        if on_raise is not None:
            on_raise()
        raise cause.copy() from cause.__cause__

    def _being_closed(self) -> AMQPException:
        connection = self._connection
        if connection is None or (connection.shut and not self.shut):
            return _connection_closed()
        return channel_closed()


def _connection_closed() -> AMQPException:
    return AMQPConnectionException(0, 'the connection was closed by this program')


def channel_closed() -> AMQPException:
    """Return the cause of the end of a channel that the program closed."""
    return AMQPChannelException(0, 'the channel was closed by this program')


def with_blocked(text: str, blocked: Optional[str]) -> str:
    """Return the text of an error, with why the broker takes no messages, unless that is None."""
    return text if blocked is None else f'{text}; the broker takes no messages: {blocked}'
