"""Channel: the channel, access, exchange, queue, basic and tx methods of AMQP 0-8.

To add a protocol method, add its row to ``spec.py`` and its function here: one that sends it
(`_call` if there is a reply, else `_cast`), and one in `_HANDLERS` for what the broker sends.
"""

from __future__ import annotations

from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional, Union

from amqplib.client_0_8 import log
from amqplib.client_0_8.abstract_channel import (
    CLOSE_TIMEOUT,
    AbstractChannel,
    ArrivedMethod,
    handlers_by_signature,
    printable,
)
from amqplib.client_0_8.basic_message import Message
from amqplib.client_0_8.deadline import Deadline
from amqplib.client_0_8.exceptions import (
    NO_METHOD,
    AMQPChannelException,
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ConsumerCancelled,
    ProtocolError,
    channel_exception,
)
from amqplib.client_0_8.method_framing import acknowledgement_frame
from amqplib.client_0_8.serialization import (
    AMQPReader,
    decode_get_ok,
    encode_method,
    encode_publish,
)
from amqplib.client_0_8.spec import METHODS, Signature

if TYPE_CHECKING:
    from queue import Queue

    from amqplib.client_0_8.connection import Connection

__all__ = ['Channel']

Table = dict[str, Any]
ReturnedMessage = tuple[int, str, str, str, Message]
Alert = tuple[int, str, Table]

#: Seconds that close() waits to be confirmed when the broker has closed the channel itself.
CONFIRM_TIMEOUT = 1.0


class _LateQueue:
    """An attribute that becomes a Queue when it is first looked at.

    A Queue has four locks, most channels need none, and a thousand channels notice.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, channel: Optional[Channel], owner: type) -> Any:
        if channel is None:
            return self
        # Imported here, as most programs have no use for it.
        from queue import Queue  # noqa: PLC0415

        # Of two threads that come here at once, both get the same one.
        return channel.__dict__.setdefault(self._name, Queue())


class Channel(AbstractChannel):
    """A channel of a connection: where exchanges, queues and messages are worked with.

    connection: the Connection to open it on.
    channel_id: its number; the lowest free one by default.
    auto_decode: make text of the bodies of messages that have a content_encoding.

    A channel belongs to one thread at a time. Every call raises AMQPChannelException (by the
    reply code one of its subclasses) if the broker closes the channel, and again on every later
    call; AMQPConnectionException if the connection is closed; AMQPTimeout if no reply came within
    the connection's rpc_timeout, which closes the channel. Wrong arguments are a ValueError or
    TypeError before anything is sent.

    Where there is a `ticket`, None stands for default_ticket. Where there is `nowait`, True does
    not wait for the broker's reply and returns None.

    is_open: bool.
    active: False while the broker asks not to be sent messages.
    default_ticket: int; the ticket that was requested last.
    callbacks: dict of consumer tag -> function; an entry a consumer.
    returned_messages: Queue of (reply_code, reply_text, exchange, routing_key, Message).
    alerts: Queue of (reply_code, reply_text, details).
    """

    returned_messages: Queue[ReturnedMessage] = _LateQueue()  # type: ignore[assignment]
    alerts: Queue[Alert] = _LateQueue()  # type: ignore[assignment]

    def __init__(
        self, connection: Connection, channel_id: Optional[int] = None, auto_decode: bool = True
    ) -> None:
        self.default_ticket = 0
        self.is_open = False
        self.active = True
        self.callbacks: dict[str, Optional[Callable[[Message], Any]]] = {}
        self._on_cancel: dict[str, Callable[[str], Any]] = {}
        self._closing = False
        # Why the broker closed it, if that crossed with our own close.
        self._crossed: Optional[AMQPException] = None
        # How long close() waits for the broker.
        self._close_deadline = Deadline(None)
        # Until the number is registered, there is nothing to be undone.
        self.connection = self.channel_id = self._cause = None
        connection._check_may_wait()
        try:
            connection._numbers.register(self._take_number, connection, channel_id)
            self.auto_decode = auto_decode
            log.debug('using channel %s', self.channel_id)
            self._x_open()
        except BaseException:
            if self.is_open:
                self._abandon(AMQPChannelException(0, 'interrupted while opening'))
            elif self._cause is None:  # nothing was sent
                self._forget()
                self._lose(AMQPChannelException(0, 'the channel was never opened'))
            raise

    def _take_number(self, connection: Connection, channel_id: Optional[int]) -> None:
        super().__init__(connection, connection._choose_channel_id(channel_id))

    def __repr__(self) -> str:
        state = 'open' if self.is_open else 'closed'
        return f'<{type(self).__name__} {self.channel_id} {state}>'

    def _ticket(self, ticket: Optional[int]) -> int:
        return self.default_ticket if ticket is None else ticket

    # The channel class (specification, class 20)

    def _x_open(self) -> None:
        self._call('channel.open', '')

    def _open_ok(self, args: AMQPReader) -> None:
        # It may have been closed by what came right behind this.
        self.is_open = self._cause is None
        log.debug('channel open')

    def flow(self, active: bool) -> bool:
        """Ask the broker to pause (False) or to go on with (True) sending messages.

        Returns what the broker does from now on. RabbitMQ closes the connection (540) on False:
        use basic_qos.
        """
        now_active: bool = self._call('channel.flow', active)
        return now_active

    def _flow_ok(self, args: AMQPReader) -> Any:
        return self._decode('channel.flow_ok', args)[0]

    def _flow(self, args: AMQPReader) -> None:
        (self.active,) = self._decode('channel.flow', args)
        self._x_flow_ok(self.active)

    def _x_flow_ok(self, active: bool) -> None:
        self._send_soon('channel.flow_ok', active)

    def _alert(self, args: AMQPReader) -> None:
        reply_code, reply_text, details = self._decode('channel.alert', args)
        self.alerts.put((reply_code, reply_text, details))

    def close(
        self,
        reply_code: int = 0,
        reply_text: str = '',
        method_sig: Signature = NO_METHOD,
        timeout: Optional[float] = CLOSE_TIMEOUT,
    ) -> None:
        """Close the channel. What was published on it before has then reached the broker.

        timeout: seconds to wait for the broker; None for no limit.

        Once it is closed, this does nothing. Raises the error of a message or method before that
        failed, if no call has raised it; AMQPTimeout, ConnectionLost; it is closed then too.
        """
        if not self.is_open:
            if self._cause is not None and not self._told:
                self._raise_cause()
            return
        deadline = self._close_deadline = Deadline(timeout)
        values = (reply_code, reply_text, *method_sig)
        self._encode('channel.close', *values)  # before anything is changed
        calling = self._caller == get_ident()
        if calling and self._closing:
            return
        if calling or not self._open_connection()._may_wait():
            # In the middle of another call: the broker's answer frees the number later.
            cause = AMQPChannelException(0, 'the channel was closed by this program')
            self._abandon(cause, told=True)
            return
        try:
            self._closing = True
            self._leave_short_way()
            self.method_queue.clear()
            self._call('channel.close', *values, timeout=deadline)
        except AMQPConnectionException:
            raise  # of which a WriteTimeout is one
        except AMQPTimeout as error:
            self._close_unsent(error, told=True)
            if self._crossed is None:
                raise
        except BaseException:
            self._close_unsent(AMQPChannelException(0, 'interrupted while closing'), told=True)
            raise
        if not self._told:  # the broker's own close came first
            self._raise_cause()

    def _close_unsent(self, error: AMQPException, told: bool = False) -> None:
        """Give up the channel if close() could not even send its method."""
        if self._cause is None:
            self._closing = False
            self._abandon(error, told)

    def _close_ok(self, args: AMQPReader) -> None:
        if self._cause is None:
            self._forget()
            if self._crossed is not None:
                self._lose(self._crossed)
                return
            cause = AMQPChannelException(0, 'the channel was closed by this program')
            self._lose(cause, told=True)

    def _close(self, args: AMQPReader) -> None:
        # For those who dispatch methods themselves; the read loop calls _closed_by_broker.
        self._closed_by_broker(args)
        self._raise_cause()

    def _closed_by_broker(self, args: AMQPReader) -> None:
        """Answer the broker's close, and note why it did that."""
        code, text, class_id, method_id = self._decode('channel.close', args)
        signature = (class_id, method_id)
        cause = channel_exception(code, printable(text), signature, self._name_of(signature))
        log.debug('channel %s closed by the broker: %s', self.channel_id, cause)
        if self._closing:
            # The two closes crossed: the broker still confirms ours, and the number is not free
            # before that. Now and then RabbitMQ does not, as its channel ends just then.
            self._crossed = self._crossed or cause
            self._close_deadline.shorten(CONFIRM_TIMEOUT)
            self._send_soon('channel.close_ok')
            return
        connection, channel_id = self.connection, self.channel_id
        if connection is None or channel_id is None:
            return
        # Whoever sees the cause gives up the number, which is not free before the close-ok.
        connection._numbers.retire(channel_id)
        try:
            self._lose(cause)
            connection._send_soon(channel_id, self._encode('channel.close_ok'))
        finally:
            connection._note_closed(self)
            connection._unregister(channel_id, self)
            connection._numbers.free(channel_id)

    def _arrive(self, method: ArrivedMethod) -> None:
        method_sig = method[0]
        if method_sig == _BASIC_DELIVER and not self._closing:
            self.method_queue.append(method)
        elif method_sig in self._expected:
            self._expected = ()
            self._replies.append(method)
        elif method_sig == _CHANNEL_CLOSE:
            self._closed_by_broker(method[1])
        elif self._closing and method_sig != _BASIC_RETURN:
            log.debug('not handed out, as the channel is closing: %s', method_sig)
        else:
            super()._arrive(method)

    def _use_short_way(self) -> None:
        """Have what the reader knows a short way for come by that, instead of by _arrive()."""
        connection, channel_id = self.connection, self.channel_id
        if connection is not None and channel_id is not None and not self._closing:
            connection._use_short_way(channel_id, self)

    def _leave_short_way(self) -> None:
        """Have all come by _arrive() again, which looks at each."""
        connection, channel_id = self.connection, self.channel_id
        if connection is not None and channel_id is not None:
            connection._close_short_way(channel_id)

    def _send_soon(self, name: str, *values: Any) -> None:
        """Send a method from within the read loop, which must not wait for other writers."""
        payload = self._encode(name, *values)
        connection, channel_id = self.connection, self.channel_id
        if connection is not None and channel_id is not None:
            connection._send_soon(channel_id, payload)

    def _forget(self) -> None:
        """Free the channel's number."""
        connection, channel_id = self.connection, self.channel_id
        if connection is not None and channel_id is not None:
            connection._unregister(channel_id, self)

    def _lose(self, cause: AMQPException, told: bool = False) -> None:
        self.is_open = False
        super()._lose(cause, told)

    def _do_close(self) -> None:
        self.is_open = False
        self._forget()
        self.channel_id = None
        self.connection = None
        # Without the callbacks, what is left could only be dropped.
        self.method_queue.clear()
        self.callbacks = {}
        self._on_cancel = {}

    def _abandon(self, cause: AMQPException, told: bool = False) -> None:
        connection, channel_id = self.connection, self.channel_id
        # After an interrupt, it is not sure that it was to be opened.
        unsure = not told and _CHANNEL_OPEN_OK in self._expected
        if self._closing and not self._expected:
            self._forget()  # the close-ok has come
        elif connection is not None and channel_id is not None:
            # Before it is lost, so that the number is not free for a moment.
            connection._retire(channel_id, self, unsure)
            if unsure and not self._expected:
                # Another thread has read just now that it is open.
                unsure = False
                connection._numbers.unsure.discard(channel_id)
        if self._crossed is not None:
            self._lose(self._crossed)
        else:
            # A copy, as the raised one refers to everything that its traceback does.
            self._lose(cause.again(), told)
        if connection is not None and channel_id is not None and not (self._closing or unsure):
            connection._close_retired(channel_id)

    # The access class (specification, class 30)

    def access_request(
        self,
        realm: str,
        exclusive: bool = False,
        passive: bool = False,
        active: bool = False,
        write: bool = False,
        read: bool = False,
    ) -> int:
        """Request access to a realm, such as '/data'.

        exclusive, passive, active, write, read: the kinds of access that are asked for.

        Returns the ticket, and keeps it as default_ticket. RabbitMQ grants any, and ignores it.
        """
        granted: int = self._call('access.request', realm, exclusive, passive, active, write, read)
        return granted

    def _access_request_ok(self, args: AMQPReader) -> int:
        (self.default_ticket,) = self._decode('access.request_ok', args)
        return self.default_ticket

    # The exchange class (specification, class 40)

    def exchange_declare(
        self,
        exchange: str,
        type: str,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = True,
        internal: bool = False,
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> None:
        """Create an exchange, or check that it exists as described.

        type: 'direct', 'fanout', 'topic', 'headers', or what plugins of the broker offer.
        passive: only check that the name exists.
        durable: survive a restart of the broker.
        auto_delete: go when the last queue is unbound.
        internal: take messages from other exchanges only.

        Raises NotFound (passive), PreconditionFailed (it exists otherwise), AccessRefused.
        """
        self._call(
            'exchange.declare', self._ticket(ticket), exchange, type, passive, durable,
            auto_delete, internal, nowait, arguments, nowait=nowait,
        )  # fmt: skip

    def exchange_delete(
        self,
        exchange: str,
        if_unused: bool = False,
        nowait: bool = False,
        ticket: Optional[int] = None,
    ) -> None:
        """Delete an exchange; RabbitMQ does not mind if it does not exist.

        if_unused: only if no queue is bound to it, else PreconditionFailed.
        """
        self._call(
            'exchange.delete', self._ticket(ticket), exchange, if_unused, nowait, nowait=nowait
        )

    # The queue class (specification, class 50)

    def queue_declare(
        self,
        queue: str = '',
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> Union[tuple[str, int, int], Any]:
        """Create a queue, or check that it exists as described.

        queue: its name; '' lets the broker make one up.
        passive: only check that the name exists.
        durable: survive a restart of the broker.
        exclusive: only for this connection, and gone with it.
        auto_delete: go when the last consumer is gone.

        Returns (name, number of messages, number of consumers); None with nowait.
        Raises NotFound (passive), PreconditionFailed (it exists otherwise), ResourceLocked.
        """
        declared: Optional[tuple[str, int, int]] = self._call(
            'queue.declare', self._ticket(ticket), queue, passive, durable, exclusive,
            auto_delete, nowait, arguments, nowait=nowait,
        )  # fmt: skip
        return declared

    def _queue_declare_ok(self, args: AMQPReader) -> tuple[Any, ...]:
        return self._decode('queue.declare_ok', args)

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = '',
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> None:
        """Bind a queue ('' for the last one declared) to an exchange.

        Raises NotFound if one of them does not exist.
        """
        self._call(
            'queue.bind', self._ticket(ticket), queue, exchange, routing_key, nowait, arguments,
            nowait=nowait,
        )  # fmt: skip

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = '',
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> None:
        """Remove a binding, as it was made.

        nowait: accepted as elsewhere; the protocol has no such flag here, so the reply comes
            and is waited for.
        """
        self._call('queue.unbind', self._ticket(ticket), queue, exchange, routing_key, arguments)

    def queue_purge(
        self, queue: str = '', nowait: bool = False, ticket: Optional[int] = None
    ) -> Optional[int]:
        """Remove all messages that are not delivered from a queue.

        Returns how many there were; None with nowait. Raises NotFound.
        """
        message_count: Optional[int] = self._call(
            'queue.purge', self._ticket(ticket), queue, nowait, nowait=nowait
        )
        return message_count

    def _queue_purge_ok(self, args: AMQPReader) -> Any:
        return self._decode('queue.purge_ok', args)[0]

    def queue_delete(
        self,
        queue: str = '',
        if_unused: bool = False,
        if_empty: bool = False,
        nowait: bool = False,
        ticket: Optional[int] = None,
    ) -> Optional[int]:
        """Delete a queue; RabbitMQ does not mind if it does not exist.

        if_unused, if_empty: only if it has no consumers, no messages; else PreconditionFailed.

        Returns how many messages went with it; None with nowait.
        """
        message_count: Optional[int] = self._call(
            'queue.delete', self._ticket(ticket), queue, if_unused, if_empty, nowait,
            nowait=nowait,
        )  # fmt: skip
        return message_count

    def _queue_delete_ok(self, args: AMQPReader) -> Any:
        return self._decode('queue.delete_ok', args)[0]

    # The basic class (specification, class 60)

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool) -> None:
        """Limit what the broker sends ahead of acknowledgements.

        prefetch_size: octets; RabbitMQ knows only 0, no limit.
        prefetch_count: messages, 0 to 65535; 0 is no limit.
        a_global: for the channel as a whole, rather than each new consumer on it.
        """
        self._call('basic.qos', prefetch_size, prefetch_count, a_global)

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
    ) -> str:
        """Ask for the messages of a queue; wait() then calls the callback with each.

        consumer_tag: a name for the consumer; '' makes one up.
        no_local: not what this connection published (RabbitMQ sends that all the same).
        no_ack: messages need no acknowledgement, and are gone once they are sent.
        exclusive: be the only consumer, else AccessRefused.
        callback: function of a Message; None discards messages, which stay unacknowledged.
        on_cancel: function of the consumer tag, called from wait() when the broker ends the
            consumer, for instance because the queue is deleted; without one, wait() raises
            ConsumerCancelled.

        Returns the consumer tag, the key of the callback in callbacks. Raises NotFound.
        """
        options = (queue, consumer_tag, no_local, no_ack, exclusive, nowait)
        return self._consume(options, callback, ticket, on_cancel)

    def _consume(
        self,
        options: tuple[str, str, bool, bool, bool, bool],
        callback: Optional[Callable[[Any], Any]],
        ticket: Optional[int],
        on_cancel: Optional[Callable[[str], Any]],
        *arguments: Any,
    ) -> str:
        """Consume; `arguments` are what the table has behind the options."""
        queue, consumer_tag, *flags, nowait = options
        check_callable('callback', callback)
        check_callable('on_cancel', on_cancel)
        if nowait and not consumer_tag:
            # No reply will tell what the broker made up.
            consumer_tag = self._open_connection()._new_consumer_tag()
        tag = self._call(
            'basic.consume', self._ticket(ticket), queue, consumer_tag, *flags, nowait,
            *arguments, nowait=nowait,
        )  # fmt: skip
        tag = consumer_tag if tag is None else tag
        self.callbacks[tag] = callback
        self._use_short_way()
        if on_cancel is not None:
            self._on_cancel[tag] = on_cancel
        return tag

    def _basic_consume_ok(self, args: AMQPReader) -> Any:
        return self._decode('basic.consume_ok', args)[0]

    def basic_cancel(self, consumer_tag: str, nowait: bool = False) -> None:
        """End a consumer.

        Its callback goes with it: messages that the broker had sent before are not handed out
        any more; they stay unacknowledged, and come back when the channel is closed.
        """
        self._call('basic.cancel', consumer_tag, nowait, nowait=nowait)
        self._drop_consumer(consumer_tag)

    def _drop_consumer(self, consumer_tag: str) -> Optional[Callable[[str], Any]]:
        self.callbacks.pop(consumer_tag, None)
        return self._on_cancel.pop(consumer_tag, None)

    def _basic_cancel(self, args: AMQPReader) -> None:
        consumer_tag, _ = self._decode('basic.cancel', args)
        on_cancel = self._drop_consumer(consumer_tag)
        if on_cancel is not None:
            on_cancel(consumer_tag)
            return
        text = f'the broker cancelled the consumer {printable(consumer_tag)!r}'
        raise ConsumerCancelled(0, text, _BASIC_CONSUME, consumer_tag=consumer_tag)

    def _basic_deliver(self, args: AMQPReader, msg: Message) -> None:
        delivery = msg._delivery
        if delivery is None:
            delivery = msg._delivery = self._decode('basic.deliver', args)
        msg._channel = self
        consumer_tag, delivery_tag = delivery[:2]
        callback = self.callbacks.get(consumer_tag)
        if callback is not None:
            callback(msg)
        elif consumer_tag not in self.callbacks:
            log.warning(
                'message %s dropped: there is no consumer %r any more',
                delivery_tag,
                consumer_tag,
            )

    def basic_get(
        self, queue: str = '', no_ack: bool = False, ticket: Optional[int] = None
    ) -> Optional[Message]:
        """Return the next message of a queue, or None if there is none. Raises NotFound."""
        if ticket is None:
            ticket = self.default_ticket
        payload = encode_method(_BASIC_GET, (ticket, queue, no_ack))
        msg: Optional[Message] = self._request(_BASIC_GET, payload)
        return msg

    def _basic_get_ok(self, args: AMQPReader, msg: Message) -> Message:
        try:
            values = decode_get_ok(args)
        except ProtocolError as error:
            self._break(error)
        msg._delivery_info = dict(zip(_GET_FIELDS, values))
        return msg

    def basic_publish(
        self,
        msg: Message,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        immediate: bool = False,
        ticket: Optional[int] = None,
    ) -> Optional[int]:
        """Send a message to an exchange; '' sends it to the queue that routing_key names.

        mandatory: if no queue takes it, the broker sends it back: see returned_messages.
        immediate: RabbitMQ closes the connection (540).

        Returns None: there is no reply. A failure is raised by a later call, at the latest by
        close(). Raises what closed the channel, if that is known by now.
        """
        if not isinstance(msg, Message):
            raise TypeError(f'msg: {type(msg).__name__!r} is not a Message')
        if ticket is None:
            ticket = self.default_ticket
        try:
            payload = encode_publish(ticket, exchange, routing_key, mandatory, immediate)
        except TypeError:  # which does not say what is wrong
            values = (ticket, exchange, routing_key, mandatory, immediate)
            payload = encode_method(_BASIC_PUBLISH, values)
        connection, channel_id = self.connection, self.channel_id
        if self._cause is not None or connection is None or channel_id is None:
            self._raise_cause()
        if monotonic() >= connection._next_look:
            connection._look_for_input(self)
        if not self.active:
            connection._wait_for_flow(self)
        connection._send(self, connection.method_writer.frames(channel_id, payload, msg))
        return None

    def _basic_return(self, args: AMQPReader, msg: Message) -> None:
        values = self._decode('basic.return', args)
        self.returned_messages.put((*values, msg))

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a message; with `multiple`, all up to this one (0: all there are)."""
        connection, channel_id = self.connection, self.channel_id
        if self._cause is not None or connection is None or channel_id is None:
            self._raise_cause()
        connection._send(
            self, acknowledgement_frame(channel_id, _BASIC_ACK, delivery_tag, multiple)
        )

    def basic_reject(self, delivery_tag: int, requeue: bool) -> None:
        """Reject a message: put it back (requeue) or let the broker drop or dead-letter it."""
        connection, channel_id = self._open()
        frame = acknowledgement_frame(channel_id, _BASIC_REJECT, delivery_tag, requeue)
        connection._send(self, frame)

    def basic_recover(self, requeue: bool = False) -> None:
        """Have all unacknowledged messages delivered again, without waiting for a reply.

        requeue: to anyone; RabbitMQ closes the connection (540) on False.
        """
        self._cast('basic.recover_async', requeue)

    def basic_recover_sync(self, requeue: bool = False) -> None:
        """Do what basic_recover does, and wait until the broker has done it.

        This is RabbitMQ's addition to AMQP 0-8.
        """
        self._call('basic.recover', requeue)

    # The tx class (specification, class 90)

    def tx_select(self) -> None:
        """Begin to work with transactions on this channel."""
        self._call('tx.select')

    def tx_commit(self) -> None:
        """Make what was published and acknowledged since the last commit take effect.

        Raises PreconditionFailed if tx_select was not called before.
        """
        self._call('tx.commit')

    def tx_rollback(self) -> None:
        """Undo what was published and acknowledged since the last commit."""
        self._call('tx.rollback')

    # Subclasses may call them by the names that they had in amqplib 1.0.2. The first line is for
    # this class body, which does not see what is inherited.
    _take_empty_reply = AbstractChannel._take_empty_reply
    _basic_cancel_ok = _basic_get_empty = _basic_qos_ok = _take_empty_reply
    _exchange_declare_ok = _exchange_delete_ok = _queue_bind_ok = _queue_unbind_ok = (
        _take_empty_reply
    )
    _tx_select_ok = _tx_commit_ok = _tx_rollback_ok = _take_empty_reply

    _HANDLERS: ClassVar[dict[str, Callable[..., Any]]] = {
        'channel.open_ok': _open_ok,
        'channel.flow': _flow,
        'channel.flow_ok': _flow_ok,
        'channel.alert': _alert,
        'channel.close': _close,
        'channel.close_ok': _close_ok,
        'access.request_ok': _access_request_ok,
        'exchange.declare_ok': _take_empty_reply,
        'exchange.delete_ok': _take_empty_reply,
        'queue.declare_ok': _queue_declare_ok,
        'queue.bind_ok': _take_empty_reply,
        'queue.purge_ok': _queue_purge_ok,
        'queue.delete_ok': _queue_delete_ok,
        'queue.unbind_ok': _take_empty_reply,
        'basic.qos_ok': _take_empty_reply,
        'basic.consume_ok': _basic_consume_ok,
        'basic.cancel': _basic_cancel,
        'basic.cancel_ok': _take_empty_reply,
        'basic.return': _basic_return,
        'basic.deliver': _basic_deliver,
        'basic.get_ok': _basic_get_ok,
        'basic.get_empty': _take_empty_reply,
        'basic.recover_ok': _take_empty_reply,
        'tx.select_ok': _take_empty_reply,
        'tx.commit_ok': _take_empty_reply,
        'tx.rollback_ok': _take_empty_reply,
    }
    _METHOD_MAP = handlers_by_signature(METHODS, _HANDLERS)

    _IMMEDIATE_METHODS = frozenset(
        METHODS[name].signature for name in ('channel.flow', 'channel.alert', 'basic.return')
    )


_CHANNEL_OPEN_OK = METHODS['channel.open_ok'].signature
_CHANNEL_CLOSE = METHODS['channel.close'].signature
_BASIC_RETURN = METHODS['basic.return'].signature
_BASIC_CONSUME = METHODS['basic.consume'].signature
_BASIC_DELIVER = METHODS['basic.deliver'].signature
_BASIC_ACK = METHODS['basic.ack']
_BASIC_REJECT = METHODS['basic.reject']
_BASIC_GET = METHODS['basic.get']
_GET_FIELDS = tuple(name for name, _ in METHODS['basic.get_ok'].fields)
_BASIC_PUBLISH = METHODS['basic.publish']


def __getattr__(name: str) -> Any:
    # What old programs import from here.
    if name == 'Queue':
        from queue import Queue  # noqa: PLC0415

        return Queue
    if name == 'AMQP_LOGGER':
        return log.logger()
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def check_callable(name: str, value: Any) -> None:
    """Raise TypeError if it is something that cannot be called; None is nothing."""
    if value is not None and not callable(value):
        raise TypeError(f'{name}: {value!r} cannot be called')
