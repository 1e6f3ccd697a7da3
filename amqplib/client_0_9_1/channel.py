"""Channel: what 0-9-1 and RabbitMQ add to the methods of 0-8."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NoReturn, Optional, Union

from amqplib.client_0_8 import basic_message as basic_message_0_8
from amqplib.client_0_8 import channel as channel_0_8
from amqplib.client_0_8 import spec as spec_0_8
from amqplib.client_0_8.abstract_channel import ArrivedMethod, handlers_by_signature, replies_of
from amqplib.client_0_8.channel import Table
from amqplib.client_0_8.deadline import NEVER, Deadline
from amqplib.client_0_8.exceptions import (
    AMQPChannelException,
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ProtocolError,
)
from amqplib.client_0_8.serialization import (
    AMQPReader,
    decode_acknowledgement,
    encode_method,
    encode_publish,
)
from amqplib.client_0_8.spec import COMMAND_INVALID, Method, Signature
from amqplib.client_0_9_1.basic_message import FIELD_TYPES, Message
from amqplib.client_0_9_1.confirms import Confirms
from amqplib.client_0_9_1.exceptions import MessageNacked
from amqplib.client_0_9_1.spec import METHODS

if TYPE_CHECKING:
    from amqplib.client_0_8 import connection as connection_0_8
    from amqplib.client_0_8.transport import Octets, _AbstractTransport
    from amqplib.client_0_9_1.connection import Connection

__all__ = ['Channel']

OnConfirm = Callable[[int, bool, bool], Any]


class Channel(channel_0_8.Channel):
    """A channel as that of client_0_8, with publisher confirms and more.

    on_confirm: None, or a function(sequence_number, multiple, ok) that is told of each
        confirmation (ok) or refusal of the broker, with `multiple` of all messages up to this
        one. It is called from wait(), wait_for_confirms() and basic_publish(), and may publish.
    """

    _methods = METHODS
    _field_types = FIELD_TYPES
    _REPLIES = replies_of(METHODS)

    connection: Optional[Connection]

    def __init__(
        self, connection: Connection, channel_id: Optional[int] = None, auto_decode: bool = True
    ) -> None:
        self.on_confirm: Optional[OnConfirm] = None
        # None until confirm_select() is called.
        self._confirms: Optional[Confirms] = None
        # Whether on_confirm is being called.
        self._in_on_confirm = False
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
        encode_method(_ACCESS_REQUEST, (realm, exclusive, passive, active, write, read))
        self._open_connection()
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
        return self._consume(
            (queue, consumer_tag, no_local, no_ack, exclusive, nowait),
            callback,
            ticket,
            on_cancel,
            arguments,
        )

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
        confirms = self._confirms
        if confirms is None:
            confirms = self._begin_confirms(nowait)
        else:
            self._call('confirm.select', nowait, nowait=nowait)
        confirms.free = 0
        confirms.limit = outstanding_limit
        self._use_short_way()

    def _begin_confirms(self, nowait: bool) -> Confirms:
        transport = self._open_connection().method_writer.dest
        sent = transport.sent
        try:
            self._call('confirm.select', nowait, nowait=nowait)
            confirms = self._confirms = Confirms()
        except BaseException as error:
            if not self._is_unsent(transport, sent, error):
                # The broker may count from now on, where this channel does not.
                self._give_up('interrupted while asking for confirms')
            raise
        return confirms

    def _is_unsent(self, transport: _AbstractTransport, sent: int, error: BaseException) -> bool:
        """Return whether it is sure that a call which has raised an error has sent nothing.

        sent: what transport.sent was before; other threads send too.
        """
        # A write that was cut has closed the connection. Of the other errors, only a timeout says
        # that nothing was sent.
        return self._cause is None and (transport.sent == sent or type(error) is AMQPTimeout)

    def _give_up(self, why: str) -> None:
        """Close the channel, unless it is closed: the broker may think otherwise of its state."""
        if self._cause is None:
            self._abandon(AMQPChannelException(0, why))

    def basic_publish(
        self,
        msg: basic_message_0_8.Message,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        immediate: bool = False,
        ticket: Optional[int] = None,
    ) -> Optional[int]:
        """Send a message to an exchange, as in client_0_8.

        Returns None; after confirm_select, the message's sequence number (1, 2, ...). While the
        broker blocks the connection, or with too many messages unconfirmed, it waits within the
        connection's write_timeout, and then raises AMQPTimeout; the message was not sent. All the
        waits of one call, and its sending, share that time.

        Raises MessageNacked, and sends nothing, if very many messages were refused and neither
        wait_for_confirms nor on_confirm was there to know.
        """
        connection, confirms, deadline = self.connection, self._confirms, NEVER
        if connection is None:
            self._raise_cause()
        if connection.blocked is not None:
            deadline = self._wait_until_unblocked(connection)
        if confirms is not None and confirms.given >= confirms.free:
            deadline = self._make_room(connection, confirms, deadline)
        frames = self._publish_frames(msg, exchange, routing_key, mandatory, immediate, ticket)
        if not self.active:
            deadline = self._wait_for_flow(connection, deadline)
        if confirms is None:
            return connection._send(self, frames, deadline)
        transport = connection.method_writer.dest
        sent = transport.sent
        try:
            return connection._send(self, frames, deadline, confirms)
        except BaseException as error:
            if confirms.gap or not self._is_unsent(transport, sent, error):
                # Perhaps it was sent: the broker would count it, and the numbers be wrong.
                self._give_up('interrupted while publishing')
            raise

    def _publish_frames(
        self,
        msg: basic_message_0_8.Message,
        exchange: str,
        routing_key: str,
        mandatory: bool,
        immediate: bool,
        ticket: Optional[int],
    ) -> Union[bytes, list[Octets]]:
        """Return what is to be sent for a message; raise what closed the channel.

        This is what basic_publish of client_0_8 does before it sends. Here it is apart, so that
        what cannot be encoded has no number yet.
        """
        if not isinstance(msg, basic_message_0_8.Message):
            raise TypeError(f'msg: {type(msg).__name__!r} is not a Message')
        if ticket is None:
            ticket = self.default_ticket
        try:
            payload = encode_publish(ticket, exchange, routing_key, mandatory, immediate)
        except TypeError:  # which does not say what is wrong
            values = (ticket, exchange, routing_key, mandatory, immediate)
            payload = encode_method(METHODS['basic.publish'], values)
        connection, channel_id = self.connection, self.channel_id
        if self._cause is not None or connection is None or channel_id is None:
            self._raise_cause()
        if monotonic() >= connection._next_look:
            connection._look_for_input(self)
        return connection.method_writer.frames(channel_id, payload, msg)

    # Each of these returns the deadline of the publish, which the first one that waits begins.

    def _wait_until_unblocked(self, connection: Connection) -> Deadline:
        deadline = _begun(NEVER, connection)
        what = 'the broker takes no messages'
        self._wait_to_publish(connection, lambda: connection.blocked is None, deadline, what)
        return deadline

    def _make_room(
        self, connection: Connection, confirms: Confirms, deadline: Deadline
    ) -> Deadline:
        """Tell what has arrived, and wait until one more message may be outstanding."""
        while True:
            self._call_on_confirm()
            self._drop_refused(confirms)
            # Callbacks may publish too, and so take the room.
            if confirms.full:
                deadline = _begun(deadline, connection)
                self._wait_for_room(connection, confirms, deadline)
                continue
            confirms.let_go()
            # What came before that has asked in vain for another look.
            if not confirms.refuses_too_many and not self._has_news():
                return deadline

    def _wait_for_flow(self, connection: Connection, deadline: Deadline) -> Deadline:
        deadline = _begun(deadline, connection)
        what = 'the broker has paused the channel'
        self._wait_to_publish(connection, lambda: self.active, deadline, what)
        self._open()  # raises why, if it was closed with that
        return deadline

    def _wait_to_publish(
        self, connection: Connection, ready: Callable[[], bool], deadline: Deadline, what: str
    ) -> None:
        try:
            connection._wait_until(self, ready, deadline)
        except AMQPConnectionException:
            raise  # of which a WriteTimeout of another thread is one
        except AMQPTimeout:
            text = f'{what} for more than {deadline.seconds} s'
            raise AMQPTimeout(0, text + _why(connection), _BASIC_PUBLISH) from None

    def _wait_for_room(
        self, connection: Connection, confirms: Confirms, deadline: Deadline
    ) -> None:
        assert confirms.limit is not None
        try:
            # Until there is room for several: a wait for each message would cost more.
            self._wait_for_outstanding(connection, confirms, confirms.limit // 2, deadline)
        except AMQPConnectionException:
            raise
        except AMQPTimeout:
            if confirms.full:
                raise

    def _wait_for_outstanding(
        self,
        connection: connection_0_8.Connection,
        confirms: Confirms,
        most: int,
        deadline: Deadline,
    ) -> None:
        """Wait until no more than so many messages are outstanding; call on_confirm."""
        try:
            connection._wait_until(self, lambda: confirms.outstanding <= most, deadline)
        except AMQPConnectionException:
            raise
        except AMQPTimeout:
            count = confirms.outstanding
            text = f'{_messages(count)} not confirmed within {deadline.seconds} s'
            raise AMQPTimeout(0, text + _why(connection), _BASIC_PUBLISH) from None
        finally:
            self._call_on_confirm()

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
        if confirms.outstanding and self.connection is not None:
            self.connection._check_may_wait()
        self._call_on_confirm()
        # The last ones may have been settled by another thread behind that, and are to be told too.
        while confirms.outstanding or self._has_news():
            if confirms.outstanding:
                self._wait_for_outstanding(self._open_connection(), confirms, 0, deadline)
            else:
                self._call_on_confirm()
        if confirms.refused:
            self._raise_refused(confirms)

    def _raise_refused(self, confirms: Confirms) -> NoReturn:
        numbers = confirms.take_refused()
        text = f'the broker refused {_messages(len(numbers))}, the first is {numbers[0]}'
        raise MessageNacked(
            0, text, _BASIC_PUBLISH, 'Channel.basic_publish', sequence_numbers=numbers
        )

    def _drop_refused(self, confirms: Confirms) -> None:
        """Bound what is kept of the numbers that nobody asks for."""
        while confirms.refuses_too_many:
            if self.on_confirm is None:
                self._raise_refused(confirms)
            confirms.refused.popleft()  # on_confirm was told of it

    def _has_news(self) -> bool:
        """Return whether on_confirm is to be told of something, and can be."""
        confirms = self._confirms
        return confirms is not None and bool(confirms.news) and not self._in_on_confirm

    def _call_on_confirm(self) -> None:
        """Call on_confirm for what has arrived; not again from within it."""
        confirms = self._confirms
        if confirms is None or self._in_on_confirm:
            return
        self._in_on_confirm = True
        try:
            while confirms.news:
                on_confirm = self.on_confirm or _ignore
                try:
                    on_confirm(*confirms.news[0])
                finally:
                    # Not before, so that Ctrl-C does not come in between; and each once.
                    confirms.news.popleft()
        finally:
            self._in_on_confirm = False
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
        if self._has_news():
            # What another channel's wait has read is there already.
            self._call_on_confirm()
            if allowed_methods is None or not _CONFIRMATIONS.isdisjoint(allowed_methods):
                return None
        try:
            return super().wait(allowed_methods, timeout)
        finally:
            self._call_on_confirm()

    wait.__doc__ = channel_0_8.Channel.wait.__doc__

    def _has_something(self) -> bool:
        # Another thread may read a confirm when wait() has looked at the news, but has not begun.
        return super()._has_something() or self._has_news()

    def _basic_ack(self, args: AMQPReader) -> None:
        self._confirmed(_BASIC_ACK, args, True)

    def _basic_nack(self, args: AMQPReader) -> None:
        self._confirmed(_BASIC_NACK, args, False)

    def _confirmed(self, method: Method, args: AMQPReader, ok: bool) -> None:
        try:
            number, multiple = decode_acknowledgement(method, args)
            self._settle(number, multiple, ok)
        except ProtocolError as error:
            self._break(error)

    def _handle_at_once(self, method: ArrivedMethod) -> None:
        if self._METHOD_MAP.get(method[0]) in (_SETTLE_ACK, _SETTLE_NACK):
            # Nothing of the program's is called, and nothing may be published meanwhile.
            self.dispatch_method(*method)
        else:
            super()._handle_at_once(method)

    def _settle(self, number: int, multiple: bool, ok: bool = True) -> None:
        confirms = self._confirms
        if confirms is None or not confirms.settle(
            number, multiple, ok, self.on_confirm is not None
        ):
            text = f'a confirm of {number}, which was not to be confirmed'
            raise ProtocolError(COMMAND_INVALID, text)
        self._handled = _ACKNOWLEDGED

    _HANDLERS: ClassVar[dict[str, Callable[..., Any]]] = {
        **channel_0_8.Channel._HANDLERS,
        'exchange.bind_ok': channel_0_8.Channel._take_empty_reply,
        'exchange.unbind_ok': channel_0_8.Channel._take_empty_reply,
        'confirm.select_ok': channel_0_8.Channel._take_empty_reply,
        'basic.ack': _basic_ack,
        'basic.nack': _basic_nack,
    }
    _METHOD_MAP = handlers_by_signature(METHODS, _HANDLERS)

    _IMMEDIATE_METHODS = frozenset(
        METHODS[name].signature
        for name in ('channel.flow', 'basic.return', 'basic.ack', 'basic.nack')
    )


_SETTLE_ACK, _SETTLE_NACK = Channel._basic_ack, Channel._basic_nack
_ACCESS_REQUEST = spec_0_8.METHODS['access.request']
_BASIC_ACK = METHODS['basic.ack']
_BASIC_NACK = METHODS['basic.nack']
_ACKNOWLEDGED = frozenset((_BASIC_ACK.signature,))
_CONFIRMATIONS = {_BASIC_ACK.signature, _BASIC_NACK.signature}
_BASIC_PUBLISH = METHODS['basic.publish'].signature


def _begun(deadline: Deadline, connection: Connection) -> Deadline:
    """Return the deadline of a publish that has to wait: if it had none, it begins now."""
    if deadline is NEVER and connection.write_timeout is not None:
        return Deadline(connection.write_timeout)
    return deadline


def _ignore(number: int, multiple: bool, ok: bool) -> None:
    """Stand in for on_confirm, if it was taken away before it was told."""


def _messages(count: int) -> str:
    return f'{count} message' if count == 1 else f'{count} messages'


def _why(connection: connection_0_8.Connection) -> str:
    return '' if connection.blocked is None else f': {connection.blocked}'
