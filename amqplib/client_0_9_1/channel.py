"""Channel: what 0-9-1 and RabbitMQ add, above all publisher confirms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional

from amqplib.client_0_9_1.spec import METHODS, PROTOCOL
from amqplib.core import channel, spec
from amqplib.core.arguments import compile_encoder, decode_acknowledgement
from amqplib.core.channel import begin
from amqplib.core.checks import check_int
from amqplib.core.confirms import Confirms
from amqplib.core.deadline import NO_DEADLINE, Deadline, deadline_of
from amqplib.core.declarations import Table
from amqplib.exceptions import (
    AMQPChannelException,
    AMQPException,
    AMQPTimeout,
    MessageNacked,
    ProtocolError,
    ReentrancyError,
)

if TYPE_CHECKING:
    from queue import Queue

    from amqplib.client_0_9_1.basic_message import Message
    from amqplib.core.consumer import Consumer
    from amqplib.core.encoding import Frames
    from amqplib.core.spec import Method, Signature
    from amqplib.core.streams import AMQPReader

__all__ = ['Channel']

if TYPE_CHECKING:
    ReturnedMessage = tuple[int, str, str, str, Message]
OnConfirm = Callable[[int, bool, bool], Any]


class Channel(channel.Channel):
    __doc__ = channel.Channel.__doc__

    _protocol = PROTOCOL

    if TYPE_CHECKING:
        # Typed with the messages of this version.
        callbacks: dict[str, Optional[Callable[[Message], Any]]]  # type: ignore[assignment]
        returned_messages: Queue[ReturnedMessage]  # type: ignore[assignment]

        def basic_get(
            self, queue: str = '', no_ack: bool = False, ticket: Optional[int] = None
        ) -> Optional[Message]: ...

    def __init__(
        self, connection: Any, channel_id: Optional[int] = None, auto_decode: bool = True
    ) -> None:
        self.on_confirm: Optional[OnConfirm] = None
        # While on_confirm runs, the deadline of the call that called it.
        self._reporting: Optional[Deadline] = None
        super().__init__(connection, channel_id, auto_decode)

    def _request_access(self, *values: Any) -> int:
        _encode_access_request(*values)  # wrong arguments are errors, as in client_0_8
        self._require_open()
        self.default_ticket = 0
        return 0

    # Exchanges

    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = '',
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> None:
        """Bind an exchange to another one: messages from the source go to the destination too.

        routing_key, arguments: as for queue_bind.

        Raises NotFound if one of them does not exist.
        """
        self._call(
            'exchange.bind', self._ticket(ticket), destination, source, routing_key, nowait,
            arguments, nowait=nowait,
        )  # fmt: skip

    def exchange_unbind(
        self,
        destination: str,
        source: str,
        routing_key: str = '',
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> None:
        """Remove the binding between destination and source with this routing_key and arguments."""
        self._call(
            'exchange.unbind', self._ticket(ticket), destination, source, routing_key, nowait,
            arguments, nowait=nowait,
        )  # fmt: skip

    # Consuming

    def basic_consume(
        self,
        queue: str = '',
        consumer_tag: str = '',
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        callback: Optional[Callable[[Message], Any]] = None,
        ticket: Optional[int] = None,
        on_cancel: Optional[Callable[[str], Any]] = None,
        arguments: Optional[Table] = None,
    ) -> str:
        options = (queue, consumer_tag, no_local, no_ack, exclusive, nowait)
        return self._consume(options, callback, ticket, on_cancel, arguments)

    basic_consume.__doc__ = channel.Channel._consume.__doc__

    def consume(
        self,
        queue: str = '',
        prefetch: Optional[int] = None,
        timeout: Optional[float] = None,
        stop: Optional[Callable[[], object]] = None,
        *,
        consumer_tag: str = '',
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        ticket: Optional[int] = None,
        on_cancel: Optional[Callable[[str], Any]] = None,
        arguments: Optional[Table] = None,
    ) -> Consumer[Message]:
        options = (queue, consumer_tag, no_local, no_ack, exclusive, nowait)
        return self._iterate(options, ticket, on_cancel, prefetch, timeout, stop, arguments)

    consume.__doc__ = channel.Channel._iterate.__doc__

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Reject a message by its delivery_tag.

        multiple: all messages of the channel up to this one too; delivery_tag 0 means all.
        requeue: put them back into the queue; else the broker drops or dead-letters them.
        """
        self._cast('basic.nack', delivery_tag, multiple, requeue)
        if multiple:
            self._note_settled(delivery_tag)

    def basic_recover(self, requeue: bool = False) -> None:
        """Redeliver all unacknowledged messages of the channel; wait until the broker has done it.

        requeue: to any consumer; RabbitMQ refuses False (NotSupported).
        """
        self.basic_recover_sync(requeue)

    # Publishing and confirms (RabbitMQ's confirm class, 85)

    def confirm_select(self, outstanding_limit: Optional[int] = None, nowait: bool = False) -> None:
        """Ask the broker to confirm what is published on this channel from now on.

        outstanding_limit: how many messages may be unconfirmed; if there would be more, publishing
            waits (within the connection's write_timeout). None for no limit. Call it again to
            change the limit.

        Raises PreconditionFailed on a channel with transactions.
        """
        if outstanding_limit is not None:
            check_int('outstanding_limit', outstanding_limit, 1)
        before = self._confirms
        confirms = before or Confirms()

        def begin_to_count() -> None:
            self._confirms = confirms
            self.take_confirm = self._take_confirm

        sent = self._session.transport.sent
        try:
            self._call('confirm.select', nowait, nowait=nowait, on_turn=begin_to_count)
        except BaseException as error:
            if not self._may_have_sent(sent, error):
                self._confirms = before
            raise
        confirms.window_end = 0
        confirms.limit = outstanding_limit

    def _publish_in_turn(
        self, connection: Any, frames: Frames, count: int = 1, deadline: Deadline = NO_DEADLINE
    ) -> Optional[int]:
        """Publish messages that may have to wait, or that the broker is to confirm.

        Returns None; after confirm_select, the sequence number (1, 2, ...) of the first one.
        """
        confirms, session = self._confirms, self._session
        if (
            session.blocked is not None
            or not self.active
            or self._reporting is not None
            or (confirms is not None and confirms.last_sequence_number >= confirms.window_end)
        ):
            deadline = self._wait_for_turn(connection, confirms, deadline)
        if confirms is None:
            session.send(frames, self._closed, deadline)
            return None
        sent = session.transport.sent
        taken: list[int] = []
        try:
            assign = partial(confirms.assign_numbers, taken, count)
            session.send(frames, self._closed, deadline, assign)
        except BaseException as error:
            if taken and (
                self._may_have_sent(sent, error) or not confirms.take_back(taken[0], count)
            ):
                # It may have been sent: if the broker counts it, later numbers are wrong.
                self._give_up(AMQPChannelException(0, 'interrupted while publishing'))
            raise
        return taken[0]

    def _wait_for_turn(
        self, connection: Any, confirms: Optional[Confirms], deadline: Deadline
    ) -> Deadline:
        """Wait until one more message may be sent; return the deadline of the publish."""
        if self._reporting is not None:
            deadline = self._reporting.earlier(Deadline(connection.write_timeout))
        if self._session.blocked is not None:
            deadline = self._wait_until_unblocked(connection, deadline)
        if confirms is not None and confirms.last_sequence_number >= confirms.window_end:
            deadline = self._wait_for_window(connection, confirms, deadline)
        if not self.active:
            deadline = self._wait_for_flow(connection, deadline)
        return deadline

    # Each of these returns the deadline of the publish; the first one that waits starts it.

    def _wait_until_unblocked(self, connection: Any, deadline: Deadline) -> Deadline:
        what = 'the broker takes no messages'
        return self._wait_to_publish(
            connection, lambda: self._session.blocked is None, deadline, what
        )

    def _wait_for_window(self, connection: Any, confirms: Confirms, deadline: Deadline) -> Deadline:
        """Report the confirms that have arrived, and wait until the window has room."""
        # Twice, because on_confirm may publish and so fill the window again. Events that arrive in
        # the second wait are left to the next call, else this might go on forever.
        for _ in range(2):
            if self._has_pending_events():
                deadline = begin(deadline, connection.write_timeout)
                self._call_on_confirm(deadline, or_late=False)
            self._drop_refused(confirms)
            if not confirms.full:
                break
            deadline = begin(deadline, connection.write_timeout)
            self._wait_for_half_window(confirms, deadline)
        confirms.reopen_window()
        if confirms.too_many_refused or self._has_pending_events():
            # An event that came before reopen_window() has reset window_end too early.
            confirms.window_end = 0
        return deadline

    def _wait_for_half_window(self, confirms: Confirms, deadline: Deadline) -> None:
        if not self._session.may_wait():
            raise ReentrancyError.of_call(*self._named('basic.publish'))
        assert confirms.limit is not None
        # Until there is room for several messages: a wait for each would cost more.
        in_time = self.wait_for_room(confirms.limit // 2, deadline)
        if not in_time and confirms.full:
            raise self._not_confirmed(confirms, deadline)

    def confirm_state(self) -> Confirms:
        """Return which messages are confirmed (for Publisher); raise if none are to be."""
        if self._confirms is None:
            raise AMQPException(0, 'confirm_select was not called on this channel')
        return self._confirms

    def wait_for_room(self, most: int, deadline: Deadline) -> bool:
        """Wait until at most `most` messages are outstanding (for Publisher too).

        Returns False at the deadline; raises the error that has closed the channel before.
        """
        confirms = self.confirm_state()
        return self._wait_until(lambda: confirms.outstanding <= most, deadline)

    def _not_confirmed(self, confirms: Confirms, deadline: Deadline) -> AMQPTimeout:
        text = f'{_messages(confirms.outstanding)} not confirmed within {deadline}'
        return AMQPTimeout(0, text + self._why_blocked(), *self._named('basic.publish'))

    def wait_for_confirms(self, timeout: Optional[float] = None) -> None:
        """Wait until the broker has confirmed everything that was published.

        timeout: seconds; None for no limit.

        Raises MessageNacked if the broker has refused messages since the last call; AMQPTimeout,
        which changes nothing; the error that closed the channel or the connection; AMQPException
        if confirm_select was not called.
        """
        deadline = Deadline(timeout)
        confirms = self.confirm_state()
        self._call_on_confirm(deadline)
        # Another thread may have read the last confirms after that; they are to be reported too.
        while confirms.outstanding or self._has_pending_events():
            try:
                if confirms.outstanding:
                    self._require_open()
                    if not self.wait_for_room(0, deadline):
                        raise self._not_confirmed(confirms, deadline)
            finally:
                self._call_on_confirm(deadline)
        if confirms.refused:
            self._raise_refused(confirms)
        self._require_open()

    def _raise_refused(self, confirms: Confirms) -> NoReturn:
        numbers = confirms.take_refused()
        text = f'the broker refused {_messages(len(numbers))}, the first is {numbers[0]}'
        raise MessageNacked(0, text, *self._named('basic.publish'), sequence_numbers=numbers)

    def _drop_refused(self, confirms: Confirms) -> None:
        """Limit the refused numbers that are kept for a wait_for_confirms() that may never come."""
        while confirms.too_many_refused:
            if self.on_confirm is None:
                self._raise_refused(confirms)
            confirms.refused.popleft()  # on_confirm has seen it

    def _has_pending_events(self) -> bool:
        """Return whether there are events for on_confirm, and it is not running already."""
        confirms = self._confirms
        return confirms is not None and bool(confirms.pending_events) and self._reporting is None

    def _call_on_confirm(self, deadline: Deadline, or_late: bool = True) -> None:
        """Call on_confirm for the events that have arrived by now, unless it is running already.

        deadline: the deadline of this call, which also limits what on_confirm publishes.
        or_late: whether to go on after it; else the rest is left to the next call.
        """
        confirms = self._confirms
        if confirms is not None and self._reporting is None:
            for _ in range(len(confirms.pending_events)):
                self._report(confirms, deadline)
                if not or_late and deadline.expired():
                    return

    def _report(self, confirms: Confirms, deadline: Deadline) -> None:
        on_confirm, events = self.on_confirm or _ignore, confirms.pending_events
        self._reporting = deadline
        try:
            if events:  # else a finalizer has reported it just now
                event = events[0]
                try:
                    on_confirm(*event)
                finally:
                    # Removed only now, so that Ctrl-C before the call loses no event.
                    events.popleft()
        finally:
            self._reporting = None
            if events:  # after an error: the next publish goes on
                confirms.window_end = 0

    def wait(
        self,
        allowed_methods: Optional[Sequence[Signature]] = None,
        timeout: Optional[float] = None,
    ) -> Any:
        confirms = self._confirms
        if confirms is None:
            return super().wait(allowed_methods, timeout)
        deadline = deadline_of(timeout)
        if self._has_pending_events():
            # The wait of another channel may have read them.
            self._call_on_confirm(deadline)
            if allowed_methods is None or not _CONFIRMATIONS.isdisjoint(allowed_methods):
                return None
            timeout = deadline.remaining()
        try:
            return super().wait(allowed_methods, timeout)
        finally:
            self._call_on_confirm(deadline)

    wait.__doc__ = channel.Channel.wait.__doc__

    def _has_arrived(self) -> bool:
        # Another thread may read a confirm after wait() has checked for events and before it waits.
        return super()._has_arrived() or self._has_pending_events()

    def _basic_ack(self, args: AMQPReader) -> None:
        self._confirmed(spec.ACK, args, True)

    def _basic_nack(self, args: AMQPReader) -> None:
        self._confirmed(_NACK, args, False)

    def _confirmed(self, method: Method, args: AMQPReader, ok: bool) -> None:
        try:
            number, multiple = decode_acknowledgement(method, args)
            self._take_confirm(number, multiple, ok)
        except ProtocolError as error:
            self._break(error)

    def _take_confirm(self, number: int, multiple: bool, ok: bool = True) -> None:
        confirms = self._confirms
        if confirms is None or not confirms.confirm(
            number, multiple, ok, self.on_confirm is not None
        ):
            text = f'a confirm of {number}, which is not outstanding'
            raise ProtocolError(spec.COMMAND_INVALID, text)
        self._handled = _ACKNOWLEDGED

    _IMMEDIATE = (*channel.Channel._IMMEDIATE, 'basic.ack', 'basic.nack')


_encode_access_request = compile_encoder(spec.ACCESS_REQUEST, {})
_NACK = METHODS['basic.nack']
_ACKNOWLEDGED = frozenset((spec.ACK.signature,))
_CONFIRMATIONS = {spec.ACK.signature, _NACK.signature}


def _ignore(number: int, multiple: bool, ok: bool) -> None:
    """Stand in for on_confirm, if it was removed before all events were reported."""


def _messages(count: int) -> str:
    return f'{count} message' if count == 1 else f'{count} messages'
