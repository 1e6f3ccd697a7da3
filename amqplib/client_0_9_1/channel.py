"""Channel: what 0-9-1 and RabbitMQ add, above all publisher confirms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NoReturn, Optional

from amqplib.client_0_9_1.spec import DECODERS, ENCODERS, METHODS, PROTOCOL
from amqplib.core import channel, spec
from amqplib.core.abstract_channel import empty_reply, handlers_by_signature
from amqplib.core.arguments import compile_encoder, decode_acknowledgement
from amqplib.core.channel import Table, begin
from amqplib.core.confirms import Confirms
from amqplib.core.deadline import NO_DEADLINE, Deadline
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
    from amqplib.core.encoding import Frames
    from amqplib.core.spec import Method, Signature
    from amqplib.core.streams import AMQPReader

__all__ = ['Channel']

if TYPE_CHECKING:
    ReturnedMessage = tuple[int, str, str, str, Message]
OnConfirm = Callable[[int, bool, bool], Any]


class Channel(channel.Channel):
    """A channel as that of client_0_8, with publisher confirms and more.

    on_confirm: None, or a function(sequence_number, multiple, ok) that is told of each
        confirmation (ok) or refusal of the broker, with `multiple` of all messages up to this
        one. It is called from wait(), wait_for_confirms() and basic_publish(), and may publish;
        what it publishes has no more time than the call that it is called from.
    """

    _protocol = PROTOCOL
    _encoders = ENCODERS
    _decoders = DECODERS

    if TYPE_CHECKING:
        # The same, of the messages of this version.
        callbacks: dict[str, Optional[Callable[[Message], Any]]]  # type: ignore[assignment]
        returned_messages: Queue[ReturnedMessage]  # type: ignore[assignment]

        def basic_get(
            self, queue: str = '', no_ack: bool = False, ticket: Optional[int] = None
        ) -> Optional[Message]: ...

    def __init__(
        self, connection: Any, channel_id: Optional[int] = None, auto_decode: bool = True
    ) -> None:
        self.on_confirm: Optional[OnConfirm] = None
        # While on_confirm is being called, the deadline of the call that does it.
        self._reporting: Optional[Deadline] = None
        super().__init__(connection, channel_id, auto_decode)

    def access_request(
        self,
        realm: str,
        exclusive: bool = False,
        passive: bool = False,
        active: bool = False,
        write: bool = False,
        read: bool = False,
    ) -> int:
        """Return the ticket 0, without asking the broker: 0-9-1 has no tickets."""
        # What is wrong in client_0_8 is wrong here.
        _encode_access_request(realm, exclusive, passive, active, write, read)
        self._open()
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
        """Bind an exchange to another one: what reaches the source goes to the destination too.

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
        """Remove a binding of exchanges, as it was made."""
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
        """Ask for the messages of a queue, as in client_0_8.

        arguments: dict for the broker, such as {'x-priority': 10} or {'x-stream-offset': 'first'}.
        """
        options = (queue, consumer_tag, no_local, no_ack, exclusive, nowait)
        return self._consume(options, callback, ticket, on_cancel, arguments)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse a message; with `multiple`, all up to this one (0: all there are).

        requeue: put them back, rather than let the broker drop or dead-letter them.
        """
        self._cast('basic.nack', delivery_tag, multiple, requeue)

    def basic_recover(self, requeue: bool = False) -> None:
        """Have all unacknowledged messages delivered again; waits until the broker has done it.

        requeue: to anyone; RabbitMQ closes the connection (540) on False.
        """
        self.basic_recover_sync(requeue)

    # Publishing and confirms (RabbitMQ's confirm class, 85)

    def confirm_select(self, outstanding_limit: Optional[int] = None, nowait: bool = False) -> None:
        """Have the broker confirm what is published on this channel from now on.

        outstanding_limit: how many messages may be unconfirmed; publishing waits (within the
            connection's write_timeout) where there would be more. None for no limit. It may be
            called again to change that.

        Raises PreconditionFailed on a channel with transactions.
        """
        if outstanding_limit is not None:
            if isinstance(outstanding_limit, bool) or not isinstance(outstanding_limit, int):
                raise TypeError(f'outstanding_limit: {outstanding_limit!r} is not an int')
            if outstanding_limit < 1:
                raise ValueError(f'outstanding_limit: {outstanding_limit} is not 1 or more')
        before = self._confirms
        confirms = before or Confirms()

        def begin_to_count() -> None:
            self._confirms = confirms
            self.settle_confirm = self._settle

        sent = self._session.transport.sent
        try:
            self._call('confirm.select', nowait, nowait=nowait, on_turn=begin_to_count)
        except BaseException as error:
            if not self._may_have_sent(sent, error):
                self._confirms = before
            raise
        confirms.free = 0
        confirms.limit = outstanding_limit

    def _publish_in_turn(self, connection: Any, frames: Frames) -> Optional[int]:
        """Publish what may have to wait, or is to be confirmed.

        Returns None; after confirm_select, the message's sequence number (1, 2, ...).
        """
        confirms, session, deadline = self._confirms, self._session, NO_DEADLINE
        if (
            session.blocked is not None
            or not self.active
            or self._reporting is not None
            or (confirms is not None and confirms.given >= confirms.free)
        ):
            deadline = self._wait_for_turn(connection, confirms)
        if confirms is None:
            session.send(frames, self._closed, deadline)
            return None
        sent = session.transport.sent
        taken: list[int] = []
        try:
            session.send(frames, self._closed, deadline, partial(confirms.give, taken))
        except BaseException as error:
            if taken and (self._may_have_sent(sent, error) or not confirms.take_back(taken[0])):
                # Perhaps it was sent: the broker would count it, and the numbers be wrong.
                self._give_up(AMQPChannelException(0, 'interrupted while publishing'))
            raise
        return taken[0]

    def _wait_for_turn(self, connection: Any, confirms: Optional[Confirms]) -> Deadline:
        """Wait until one more message may be sent; return the deadline of the publish."""
        deadline = NO_DEADLINE
        if self._reporting is not None:
            deadline = self._reporting.earlier(Deadline(connection.write_timeout))
        if self._session.blocked is not None:
            deadline = self._wait_until_unblocked(connection, deadline)
        if confirms is not None and confirms.given >= confirms.free:
            deadline = self._make_room(connection, confirms, deadline)
        if not self.active:
            deadline = self._wait_for_flow(connection, deadline)
        return deadline

    # Each of these returns the deadline of the publish, which the first one that waits begins.

    def _wait_until_unblocked(self, connection: Any, deadline: Deadline) -> Deadline:
        what = 'the broker takes no messages'
        return self._wait_to_publish(
            connection, lambda: self._session.blocked is None, deadline, what
        )

    def _make_room(self, connection: Any, confirms: Confirms, deadline: Deadline) -> Deadline:
        """Report what has arrived, and wait until one more message may be outstanding."""
        # Twice: on_confirm may publish too, and so take the room. What the second wait brings is
        # for the next call, as it might go on like this for ever.
        for _ in range(2):
            if self._has_news():
                deadline = begin(deadline, connection.write_timeout)
                self._call_on_confirm_until(deadline)
            self._drop_refused(confirms)
            if not confirms.full:
                break
            deadline = begin(deadline, connection.write_timeout)
            self._wait_for_room(confirms, deadline)
        confirms.let_go()
        if confirms.refuses_too_many or self._has_news():
            # What came before that has asked in vain for another look.
            confirms.free = 0
        return deadline

    def _wait_for_room(self, confirms: Confirms, deadline: Deadline) -> None:
        if not self._session.may_wait():
            raise ReentrancyError.of_call(*self._named('basic.publish'))
        assert confirms.limit is not None
        # Until there is room for several: a wait for each message would cost more.
        in_time = self._wait_for_outstanding(confirms, confirms.limit // 2, deadline)
        if not in_time and confirms.full:
            raise self._not_confirmed(confirms, deadline)

    def _wait_for_outstanding(self, confirms: Confirms, most: int, deadline: Deadline) -> bool:
        """Wait until no more than so many are outstanding; return False at the deadline."""
        return self._wait_until(lambda: confirms.outstanding <= most, deadline)

    def _not_confirmed(self, confirms: Confirms, deadline: Deadline) -> AMQPTimeout:
        text = f'{_messages(confirms.outstanding)} not confirmed within {deadline}'
        return AMQPTimeout(0, text + self._why_blocked(), *self._named('basic.publish'))

    def wait_for_confirms(self, timeout: Optional[float] = None) -> None:
        """Wait until the broker has confirmed everything that was published.

        timeout: seconds; None for no limit.

        Raises MessageNacked if messages were refused since the last call; AMQPTimeout, which
        changes nothing; what closed the channel or the connection; AMQPException if
        confirm_select was not called.
        """
        deadline = Deadline(timeout)
        confirms = self._confirms
        if confirms is None:
            raise AMQPException(0, 'confirm_select was not called on this channel')
        self._call_on_confirm(deadline)
        # The last ones may have been settled by another thread after that, and are to be reported.
        while confirms.outstanding or self._has_news():
            try:
                if confirms.outstanding:
                    self._open()
                    if not self._wait_for_outstanding(confirms, 0, deadline):
                        raise self._not_confirmed(confirms, deadline)
            finally:
                self._call_on_confirm(deadline)
        if confirms.refused:
            self._raise_refused(confirms)
        self._open()

    def _raise_refused(self, confirms: Confirms) -> NoReturn:
        numbers = confirms.take_refused()
        text = f'the broker refused {_messages(len(numbers))}, the first is {numbers[0]}'
        raise MessageNacked(0, text, *self._named('basic.publish'), sequence_numbers=numbers)

    def _drop_refused(self, confirms: Confirms) -> None:
        """Bound what is kept of the numbers that nobody asks for."""
        while confirms.refuses_too_many:
            if self.on_confirm is None:
                self._raise_refused(confirms)
            confirms.refused.popleft()  # on_confirm was told of it

    def _has_news(self) -> bool:
        """Return whether on_confirm is to be told of something, and can be."""
        confirms = self._confirms
        return confirms is not None and bool(confirms.news) and self._reporting is None

    def _call_on_confirm(self, deadline: Deadline) -> None:
        """Call on_confirm for what has arrived by now; not again from within it.

        deadline: that of the call which does this, for what on_confirm publishes.
        """
        if self._confirms is not None and self._reporting is None:
            for _ in range(len(self._confirms.news)):
                self._report(self._confirms, deadline)

    def _call_on_confirm_until(self, deadline: Deadline) -> None:
        """Do the same, but leave to the next call what there is no time for."""
        confirms = self._confirms
        if confirms is not None and self._reporting is None:
            for _ in range(len(confirms.news)):
                self._report(confirms, deadline)
                if deadline.expired():
                    return

    def _report(self, confirms: Confirms, deadline: Deadline) -> None:
        on_confirm = self.on_confirm or _ignore
        self._reporting = deadline
        try:
            on_confirm(*confirms.news[0])
        finally:
            # Not before, so that Ctrl-C does not come in between; and each once.
            confirms.news.popleft()
            self._reporting = None
            if confirms.news:  # after an error: the next publish goes on
                confirms.free = 0

    def wait(
        self,
        allowed_methods: Optional[Sequence[Signature]] = None,
        timeout: Optional[float] = None,
    ) -> Any:
        confirms = self._confirms
        if confirms is None:
            return super().wait(allowed_methods, timeout)
        deadline = NO_DEADLINE if timeout is None else Deadline(timeout)
        if self._has_news():
            # What another channel's wait has read is there already.
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
        # Another thread may read a confirm when wait() has looked at the news, but has not begun.
        return super()._has_arrived() or self._has_news()

    def _basic_ack(self, args: AMQPReader) -> None:
        self._confirmed(spec.ACK, args, True)

    def _basic_nack(self, args: AMQPReader) -> None:
        self._confirmed(_NACK, args, False)

    def _confirmed(self, method: Method, args: AMQPReader, ok: bool) -> None:
        try:
            number, multiple = decode_acknowledgement(method, args)
            self._settle(number, multiple, ok)
        except ProtocolError as error:
            self._break(error)

    def _settle(self, number: int, multiple: bool, ok: bool = True) -> None:
        confirms = self._confirms
        if confirms is None or not confirms.settle(
            number, multiple, ok, self.on_confirm is not None
        ):
            text = f'a confirm of {number}, which was not to be confirmed'
            raise ProtocolError(spec.COMMAND_INVALID, text)
        self._handled = _ACKNOWLEDGED

    _METHOD_MAP = handlers_by_signature(
        PROTOCOL,
        {
            **channel.Channel._HANDLERS,
            'exchange.bind_ok': empty_reply('exchange.bind_ok'),
            'exchange.unbind_ok': empty_reply('exchange.unbind_ok'),
            'confirm.select_ok': empty_reply('confirm.select_ok'),
            'basic.ack': _basic_ack,
            'basic.nack': _basic_nack,
        },
    )
    _IMMEDIATE_METHODS: ClassVar[Any] = frozenset(
        PROTOCOL.methods[name].signature
        for name in ('channel.flow', 'basic.return', 'basic.ack', 'basic.nack')
    )


_encode_access_request = compile_encoder(spec.ACCESS_REQUEST, {})
_NACK = METHODS['basic.nack']
_ACKNOWLEDGED = frozenset((spec.ACK.signature,))
_CONFIRMATIONS = {spec.ACK.signature, _NACK.signature}


def _ignore(number: int, multiple: bool, ok: bool) -> None:
    """Stand in for on_confirm, if it was taken away before it was told."""


def _messages(count: int) -> str:
    return f'{count} message' if count == 1 else f'{count} messages'
