"""Channel: what 0-9-1 and RabbitMQ add to the methods of 0-8."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional

from amqplib.client_0_8 import channel as channel_0_8
from amqplib.client_0_8.abstract_channel import handlers_by_signature, replies_of
from amqplib.client_0_8.basic_message import Message
from amqplib.client_0_8.channel import Table
from amqplib.client_0_8.deadline import Deadline
from amqplib.client_0_8.exceptions import AMQPChannelException, AMQPTimeout, ProtocolError
from amqplib.client_0_8.serialization import AMQPReader
from amqplib.client_0_8.spec import COMMAND_INVALID
from amqplib.client_0_9_1.basic_message import FIELD_TYPES
from amqplib.client_0_9_1.confirms import Confirms
from amqplib.client_0_9_1.exceptions import MessageNacked
from amqplib.client_0_9_1.spec import METHODS

if TYPE_CHECKING:
    from amqplib.client_0_9_1.connection import Connection

__all__ = ['Channel']

OnConfirm = Callable[[int, bool, bool], Any]


class Channel(channel_0_8.Channel):
    """A channel as that of client_0_8, with publisher confirms and more.

    on_confirm: None, or a function(sequence_number, multiple, ok) that is told of each
        confirmation (ok) or refusal of the broker, with `multiple` of all messages up to this
        one. It is called from wait(), wait_for_confirms() and basic_publish().
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
        self._outstanding_limit: Optional[int] = None
        # (sequence number, multiple, ok) for on_confirm.
        self._to_be_told: deque[tuple[int, bool, bool]] = deque()
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
        """
        if outstanding_limit is not None:
            if isinstance(outstanding_limit, bool) or not isinstance(outstanding_limit, int):
                raise TypeError(f'outstanding_limit: {outstanding_limit!r} is not an int')
            if outstanding_limit < 1:
                raise ValueError(f'outstanding_limit: {outstanding_limit} is not 1 or more')
        self._call('confirm.select', nowait, nowait=nowait)
        self._outstanding_limit = outstanding_limit
        if self._confirms is None:
            self._confirms = Confirms()

    def basic_publish(
        self,
        msg: Message,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        immediate: bool = False,
        ticket: Optional[int] = None,
    ) -> Optional[int]:
        """Send a message to an exchange, as in client_0_8.

        Returns None; after confirm_select, the message's sequence number (1, 2, ...). While the
        broker blocks the connection, or with too many messages unconfirmed, it waits within the
        connection's write_timeout, and then raises AMQPTimeout; the message was not sent.
        """
        connection = self.connection
        if connection is not None and connection.blocked is not None:
            self._wait_until_unblocked(connection)
        confirms = self._confirms
        if confirms is None:
            super().basic_publish(msg, exchange, routing_key, mandatory, immediate, ticket)
            return None
        if self._to_be_told:
            self._tell()
        limit = self._outstanding_limit
        if limit is not None and confirms.outstanding >= limit:
            self._wait_for_room(confirms, limit)
        number = confirms.next_number
        # Before it is sent, as another thread may read the confirm at once.
        confirms.next_number = number + 1
        try:
            super().basic_publish(msg, exchange, routing_key, mandatory, immediate, ticket)
        except Exception:
            confirms.next_number = number  # nothing was sent, or nothing will be confirmed
            raise
        except BaseException:
            # It may have been sent or not: the numbers cannot be trusted any more.
            self._abandon(AMQPChannelException(0, 'interrupted while publishing'))
            raise
        return number

    def _wait_until_unblocked(self, connection: Connection) -> None:
        deadline = Deadline(connection.write_timeout)
        try:
            connection._wait_until(self, lambda: connection.blocked is None, deadline)
        except AMQPTimeout:
            text = f'the broker takes no messages for more than {deadline.seconds} s: '
            raise AMQPTimeout(0, text + str(connection.blocked), _BASIC_PUBLISH) from None

    def _wait_for_room(self, confirms: Confirms, limit: int) -> None:
        connection = self._open_connection()
        try:
            # Until there is room for several: a wait for each message would cost more.
            connection._wait_until(
                self,
                lambda: confirms.outstanding <= limit // 2,
                Deadline(connection.write_timeout),
            )
        except AMQPTimeout:
            if confirms.outstanding >= limit:
                text = f'{confirms.outstanding} messages were not confirmed within {{}} s'
                raise AMQPTimeout(0, text.format(connection.write_timeout)) from None
        self._tell()

    def wait_for_confirms(self, timeout: Optional[float] = None) -> None:
        """Wait until the broker has confirmed everything that was published.

        timeout: seconds; None for no limit.

        Raises MessageNacked if messages were refused since the last call; AMQPTimeout, which
        changes nothing; what closed the channel or the connection.
        """
        confirms = self._confirms
        if confirms is None:
            return
        deadline = Deadline(timeout)
        if confirms.outstanding:
            connection = self._open_connection()
            try:
                connection._wait_until(self, lambda: not confirms.outstanding, deadline)
            except AMQPTimeout:
                text = f'{confirms.outstanding} messages were not confirmed within {timeout} s'
                raise AMQPTimeout(0, text) from None
        self._tell()
        refused = confirms.take_refused()
        if refused:
            text = f'the broker refused {len(refused)} messages, the first is {refused[0]}'
            raise MessageNacked(
                0, text, _BASIC_PUBLISH, 'Channel.basic_publish', sequence_numbers=refused
            )

    def _tell(self) -> None:
        """Call on_confirm for what has arrived."""
        while self._to_be_told:
            confirmation = self._to_be_told.popleft()
            if self.on_confirm is not None:
                self.on_confirm(*confirmation)

    def wait(self, allowed_methods: Any = None, timeout: Optional[float] = None) -> Any:
        try:
            return super().wait(allowed_methods, timeout)
        finally:
            self._tell()

    wait.__doc__ = channel_0_8.Channel.wait.__doc__

    def _basic_ack(self, args: AMQPReader) -> None:
        number, multiple = self._decode('basic.ack', args)
        self._settle(number, multiple, ok=True)

    def _basic_nack(self, args: AMQPReader) -> None:
        number, multiple, _ = self._decode('basic.nack', args)
        self._settle(number, multiple, ok=False)

    def _settle(self, number: int, multiple: bool, ok: bool) -> None:
        if self._confirms is None or not self._confirms.settle(number, multiple, ok):
            text = f'a confirm of {number}, which was not to be confirmed'
            self._break(ProtocolError(COMMAND_INVALID, text))
        if self.on_confirm is not None:
            self._to_be_told.append((number, multiple, ok))

    _HANDLERS: ClassVar[dict[str, Callable[..., Any]]] = {
        **channel_0_8.Channel._HANDLERS,
        'exchange.bind_ok': channel_0_8.Channel._done,
        'exchange.unbind_ok': channel_0_8.Channel._done,
        'confirm.select_ok': channel_0_8.Channel._done,
        'basic.ack': _basic_ack,
        'basic.nack': _basic_nack,
    }
    _METHOD_MAP = handlers_by_signature(METHODS, _HANDLERS)

    _IMMEDIATE_METHODS = frozenset(
        METHODS[name].signature
        for name in ('channel.flow', 'basic.return', 'basic.ack', 'basic.nack')
    )


_BASIC_PUBLISH = METHODS['basic.publish'].signature
