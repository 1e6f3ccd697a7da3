"""Channel: the methods of the classes channel, basic and tx. It inherits those that declare.

To add a protocol method, add its row to ``spec.py`` of its version, or of the core if all versions
have it. Then add a function here, in ``declarations.py``, or in ``channel.py`` of the client: a
function that sends the method (`_call` if there is a reply, else `_cast`), or a handler if the
broker sends it: `_basic_deliver` for basic.deliver. A reply needs none if `_call` is to return its
fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from struct import error as StructError
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional

from amqplib.core import log, spec
from amqplib.core.abstract_channel import CLOSE_TIMEOUT, Late, copy_of, printable
from amqplib.core.arguments import encode_get
from amqplib.core.channel_numbers import CLOSE_ABANDONED
from amqplib.core.checks import check_callable
from amqplib.core.closed import Closed, channel_closed
from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.core.declarations import Declarations, Table
from amqplib.core.encoding import ACKNOWLEDGEMENT_SIZE, method_frame, pack_acknowledgement
from amqplib.core.message import COVERED, NO_ACK, Message, check_message
from amqplib.core.spec import FRAME_END, FRAME_METHOD
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import (
    NO_METHOD,
    AMQPChannelException,
    AMQPException,
    AMQPTimeout,
    ConsumerCancelled,
    ReentrancyError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from queue import Queue

    from amqplib.core.confirms import Confirms
    from amqplib.core.consumer import Consumer
    from amqplib.core.encoding import Frames
    from amqplib.core.fast_decoding import ArrivedMethod
    from amqplib.core.outbox import OnTurn
    from amqplib.core.session import Session
    from amqplib.core.spec import Signature

ReturnedMessage = tuple[int, str, str, str, Message]
Alert = tuple[int, str, Table]

_ACK_PREFIX = spec.ACK.prefix
#: How many tags of consumers with no_ack a channel remembers.
MAX_NO_ACK_TAGS = 100

_GET_FIELDS = tuple(name for name, _ in spec.GET_OK.fields)


def _make_queue(channel: Channel) -> Queue[Any]:
    # Imported here, because most programs do not need it, and created late, because a Queue has
    # four locks and most channels need no Queue: with a thousand channels, this matters.
    from queue import Queue  # noqa: PLC0415

    if not hasattr(Queue(), 'mutex'):
        return Queue()  # gevent's, which greenlets share without locks
    from amqplib.core.unlocked_queue import UnlockedQueue  # noqa: PLC0415

    return UnlockedQueue()


class Channel(Declarations):
    """A channel of a connection, for working with exchanges, queues and messages.

    connection: the Connection to open it on.
    channel_id: its number; the lowest free one by default.
    auto_decode: decode the bodies of messages that have a content_encoding to text.

    A channel belongs to one thread at a time. If the broker closes the channel, the current call
    and every later one raise AMQPChannelException (a subclass, by the reply code). If the
    connection is closed, they raise AMQPConnectionException. If no reply comes within the
    connection's rpc_timeout, the call raises AMQPTimeout and the channel is closed. If a finalizer
    or signal handler has interrupted amqplib, calls that would have to wait raise ReentrancyError.
    Wrong arguments raise ValueError or TypeError before anything is sent.

    If a method has a `ticket`, None stands for default_ticket. If it has `nowait`, True means not
    to wait for the broker's reply; the method then returns None.

    is_open: bool.
    active: False while the broker has paused publishing.
    default_ticket: int; the ticket that was requested last.
    callbacks: dict of consumer tag -> function, one entry for each consumer.
    returned_messages: Queue of (reply_code, reply_text, exchange, routing_key, Message).
    alerts: Queue of (reply_code, reply_text, details).

    With AMQP 0-9-1 there is also:

    on_confirm: None, or a function(sequence_number, multiple, ok) that is called when the broker
        confirms (ok) or refuses a message; with `multiple`, all messages up to this one. wait(),
        wait_for_confirms() and basic_publish() call it. It may publish; what it publishes shares
        the time limit of the call.
    """

    returned_messages: Queue[ReturnedMessage] = Late(_make_queue)  # type: ignore[assignment]
    alerts: Queue[Alert] = Late(_make_queue)  # type: ignore[assignment]

    #: Whether tx_select was called, and whether a block of transaction() has not ended yet.
    _has_transactions = _in_transaction = False

    #: The tags of the last consumers with no_ack.
    _no_ack: tuple[str, ...] = ()

    #: For Message and Consumer: the delivery tag up to which `multiple` has settled all.
    settled_up_to = 0
    #: What it was after the last commit.
    _settled_before = 0
    #: The messages that were settled since then; None without transactions.
    uncommitted: Optional[list[Message]] = None

    def __init__(
        self, connection: Any, channel_id: Optional[int] = None, auto_decode: bool = True
    ) -> None:
        session = connection.open_session()
        super().__init__(connection, session, Closed(session.closed, self._do_close))
        self._numbers = connection.numbers
        # Its number, once channel_id is None: another thread may be about to handle its end.
        self._last_number: Optional[int] = None
        self.is_open = False
        self.active = True
        self.auto_decode = auto_decode
        self.callbacks: dict[str, Optional[Callable[[Message], Any]]] = {}
        self._on_cancel: dict[str, Callable[[str], Any]] = {}
        # The state of confirms; None without confirm_select.
        self._confirms: Optional[Confirms] = None
        try:
            connection.register(self, channel_id)
            log.debug('using channel %s', self.channel_id)
            self._x_open()
        except BaseException:
            self._never_opened()
            raise

    def _never_opened(self) -> None:
        """Give up a channel that could not be opened."""
        if self.is_open:
            self._give_up(AMQPChannelException(0, 'interrupted while opening'))
        elif self._closed.end(AMQPChannelException(0, 'the channel was never opened'), True):
            self._free_number()  # nothing was sent
            self._do_close()

    def __repr__(self) -> str:
        state = 'open' if self.is_open else 'closed'
        return f'<{type(self).__name__} {self.channel_id} {state}>'

    # The channel class (specification, class 20)

    def _x_open(self) -> None:
        self._call('channel.open', '')

    def _open_ok(self, args: AMQPReader) -> None:
        self._decode('channel.open_ok', args)
        log.debug('channel open')

    def _on_open_ok(self, args: AMQPReader) -> bool:
        self.is_open = self._closed.cause is None
        return True

    def opening_has_ended(self) -> bool:
        """Return whether it has been opened, or never will be (for its connection)."""
        return self.is_open or self._closed.cause is not None

    def flow(self, active: bool) -> bool:
        """Ask the broker to pause or resume sending messages.

        active: False to pause, True to resume.

        Returns whether the broker sends from now on. RabbitMQ closes the connection on False
        (NotSupported): use basic_qos instead.
        """
        now_active: bool = self._call('channel.flow', active)
        return now_active

    def _flow(self, args: AMQPReader) -> None:
        (self.active,) = self._decode('channel.flow', args)
        self._x_flow_ok(self.active)

    def _x_flow_ok(self, active: bool) -> None:
        self._answer(self.channel_id, 'channel.flow_ok', active)

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
        """Close the channel. All messages published on it have then reached the broker.

        reply_code, reply_text, method_sig: what to tell the broker; old programs set them.
        timeout: seconds to wait for the broker; None for no limit.

        Does nothing if the channel is closed. Raises the error of an earlier message or method, if
        no call has raised it; AMQPTimeout; ConnectionLost. The channel is closed in any case.

        Called by a finalizer or a signal handler that has interrupted amqplib, it does not wait.
        """
        closed, deadline = self._closed, Deadline(timeout)
        if not self.is_open or closed.cause is not None:
            if closed.cause is not None and not closed.reported:
                self._raise_cause()
            return
        # Wrong values are found before anything is changed.
        payload = self._encode(self._CLOSE, reply_code, reply_text, *method_sig)
        if closed.asked:
            return  # within a close(), which goes on
        try:
            self._close_in_time(payload, deadline)
        except AMQPException:
            if not closed.by_program:  # by a signal handler that closed it first, for instance
                raise

    def _close_in_time(self, payload: bytes, deadline: Deadline) -> None:
        frame = method_frame(self._require_open()[1], payload)
        if self._calls or not self._session.may_wait():
            self._give_up(channel_closed(), reported=True, frame=frame)
            return
        try:
            self.delivery_queue = None
            self.method_queue.clear()
            self._ask_to_close(frame, deadline)
        except AMQPTimeout as error:
            self._give_up(error, reported=True)
            raise
        except BaseException:
            self._give_up(AMQPChannelException(0, 'interrupted while closing'), reported=True)
            raise
        if not self._closed.by_program:  # the broker's close came first, or the connection ended
            self._raise_cause()

    # The end. Each way records the cause first; after that, sending is refused. The number is free
    # when both sides have sent a close or a close-ok; other threads see the end before that.

    def _on_close_ok(self, args: AMQPReader) -> None:
        """The broker confirms that the channel is closed."""
        self._decode('channel.close_ok', args)
        closed, number = self._closed, self.channel_id or self._last_number
        if closed.cause is not None and closed.close_queued and number is not None:
            # Another thread has given it up just now.
            self._numbers.linger(number, self, open_pending=False)
            self._numbers.end_lingering(number)
            return
        if not closed.asked:
            raise self._why_refused(spec.CHANNEL_CLOSE_OK.signature)
        # Before any thread learns of the end.
        self._free_number()
        self._close_ok(args)

    def _close_ok(self, args: AMQPReader) -> None:
        self._closed.end_as_asked()
        self._do_close()

    def _on_close(self, args: AMQPReader) -> None:
        """The broker closes the channel."""
        cause = self._why_closed(args)
        log.debug('channel %s closed by the broker: %s', self.channel_id, cause)
        number = self.channel_id or self._last_number
        if number is None:
            return
        first = self._closed.end(cause)
        self.is_open = False  # not before, as whoever finds it closed looks for the cause
        if not first:
            # Another thread has given it up just now, and sends a close of its own.
            self._answer(number, 'channel.close_ok')
            return
        if self._closed.close_queued:
            # The two closes crossed: the broker still confirms the one of this side.
            self._numbers.linger(number, self, open_pending=False)
        self._answer(number, 'channel.close_ok')
        self._numbers.free(number, self)
        connection = self.connection
        if connection is not None:  # else another thread has raised the cause just now
            connection.note_closed(self._closed)

    def session_ended(self) -> None:
        self._closed.end_with_connection()
        self.is_open = False
        if self._closed.reported:
            self._do_close()

    def _give_up(
        self, cause: AMQPException, reported: bool = False, frame: Optional[bytes] = None
    ) -> None:
        """Close the channel on this side; its number lingers until the broker has closed it too.

        frame: that of channel.close, if the program closes it.
        """
        number = self.channel_id
        open_pending = not self.is_open
        if number is None or not self._closed.end(cause, reported, by_program=frame is not None):
            return
        self.is_open = False
        self._numbers.linger(number, self, open_pending)
        if not (self._closed.close_queued or open_pending):
            if frame is None:
                frame = method_frame(number, CLOSE_ABANDONED)
            self._session.send_urgent(frame)
        if reported:
            self._do_close()

    def _close(self, args: AMQPReader) -> None:
        # For programs that dispatch methods themselves; the read loop calls _on_close.
        if self.channel_id is not None:
            self._on_close(args)
        self._raise_cause()

    def _do_close(self) -> None:
        self.is_open = False
        self.delivery_queue = None
        if not self._closed.shut:
            self._free_number()  # as nobody else will: subclasses may do this alone
        self._last_number = self.channel_id or self._last_number
        self.channel_id = self.connection = None
        # Without callbacks, the remaining messages could only be dropped.
        self.method_queue.clear()
        self.callbacks = {}
        self._on_cancel = {}
        sorter = self._sorter
        if sorter is not None:
            sorter.close()
            self._sorter = None

    def _free_number(self) -> None:
        number = self.channel_id
        if number is not None:
            self._numbers.free(number, self)

    # Answers to the broker

    def _answer(self, number: Optional[int], name: str, *values: Any) -> None:
        """Send a method from the read loop, which must not wait for other writers."""
        if number is not None:
            self._session.send_urgent(method_frame(number, self._encode(name, *values)))

    # The basic class (specification, class 60)

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, a_global: bool = False
    ) -> None:
        """Limit how much the broker sends ahead of acknowledgements.

        prefetch_size: bytes; RabbitMQ supports only 0, no limit.
        prefetch_count: messages, 0 to 65535; 0 means no limit.
        a_global: for the channel as a whole, rather than for each new consumer on it.
        """
        self._call('basic.qos', prefetch_size, prefetch_count, a_global)

    # Its docstring is that of basic_consume in the clients.
    def _consume(
        self,
        options: tuple[str, str, bool, bool, bool, bool],
        callback: Optional[Callable[[Any], Any]],
        ticket: Optional[int],
        on_cancel: Optional[Callable[[str], Any]],
        *arguments: Any,
    ) -> str:
        """Consume the messages of a queue; wait() then calls the callback with each message.

        consumer_tag: a name for the consumer; '' makes one up.
        no_local: leave out messages published by this connection (RabbitMQ ignores this).
        no_ack: messages need no acknowledgement; the broker deletes them once they are sent.
        exclusive: be the only consumer; else AccessRefused.
        callback: function of a Message; None discards messages, which stay unacknowledged.
        on_cancel: function of the consumer tag; wait() calls it when the broker cancels the
            consumer, for instance because the queue is deleted. Without it, wait() raises
            ConsumerCancelled.
        arguments: dict for the broker, such as {'x-priority': 10} or {'x-stream-offset': 'first'}
            (AMQP 0-9-1).

        Returns the consumer tag, the key of the callback in callbacks. Raises NotFound.
        """
        queue, consumer_tag, *flags, nowait = options
        check_callable('callback', callback)
        check_callable('on_cancel', on_cancel)
        if nowait and not consumer_tag:
            # Without a reply, the tag that the broker makes up would be unknown.
            consumer_tag = self._require_open()[0].new_consumer_tag()
        tag = self._call(
            'basic.consume', self._ticket(ticket), queue, consumer_tag, *flags, nowait,
            *arguments, nowait=nowait,
        )  # fmt: skip
        tag = consumer_tag if tag is None else tag
        self._note_no_ack(tag, flags[1])
        self.callbacks[tag] = callback
        if self.is_open:
            self.delivery_queue = self._sorter or self.method_queue
        if on_cancel is not None:
            self._on_cancel[tag] = on_cancel
        return tag

    def _note_no_ack(self, tag: str, no_ack: bool) -> None:
        """Remember for why_settled() which consumers have no_ack, so that deliveries need not say.

        This includes cancelled ones, whose messages the program may still have; the oldest go.
        """
        if no_ack or tag in self._no_ack:
            others = tuple(other for other in self._no_ack if other != tag)
            self._no_ack = (*others, tag)[-MAX_NO_ACK_TAGS:] if no_ack else others

    def why_settled(self, delivery_tag: int, consumer_tag: Optional[str]) -> Optional[str]:
        """Return why a message needs no acknowledgement (for Message), or None."""
        if consumer_tag in self._no_ack:
            return NO_ACK
        return COVERED if delivery_tag <= self.settled_up_to else None

    # Its docstring is that of consume in the clients.
    def _iterate(
        self,
        options: tuple[str, str, bool, bool, bool, bool],
        ticket: Optional[int],
        on_cancel: Optional[Callable[[str], Any]],
        prefetch: Optional[int],
        timeout: Optional[float],
        stop: Optional[Callable[[], object]],
        *arguments: Any,
    ) -> Consumer[Any]:
        """Consume the messages of a queue, to iterate over: ``for msg in ch.consume('tasks')``.

        prefetch: how many messages the broker sends ahead of acknowledgements, as in basic_qos,
            where it stays set for the consumers that follow; None leaves what is set there.
        timeout: seconds without a message after which a loop ends; None for no limit.
        stop: function that is asked before each message and at least twice a second; a loop ends
            when it returns true.
        on_cancel: function of the consumer tag, called when the broker cancels the consumer; loops
            then end. Without it, they raise ConsumerCancelled.
        consumer_tag, no_local, no_ack, exclusive, arguments: those of basic_consume.

        Returns a Consumer. Raises NotFound.
        """
        from amqplib.core.consumer import Consumer, Sorter  # noqa: PLC0415

        check_callable('stop', stop)
        check_callable('on_cancel', on_cancel)
        # Made here, so that the first message finds its consumer.
        tag = options[1] or self._require_open()[0].new_consumer_tag()
        options = (options[0], tag, *options[2:])
        consumer: Consumer[Any] = Consumer(self, tag, options[3], timeout, stop, on_cancel)
        # Wrong values are found before anything is sent.
        self._encode('basic.consume', self._ticket(ticket), *options, *arguments)
        if prefetch is not None:
            self.basic_qos(0, prefetch, False)
        self._sorter = sorter = self._sorter or Sorter(self.method_queue)
        sorter.ready[tag] = consumer.ready
        if self.delivery_queue is not None:
            self.delivery_queue = sorter
        callback, cancelled = consumer.ready.append, consumer.cancelled_by_broker
        try:
            self._consume(options, callback, ticket, cancelled, *arguments)
        except BaseException:
            self._drop_consumer(tag)
            raise
        return consumer

    def wait_for_messages(self, ready: Callable[[], object], deadline: Deadline) -> bool:
        """Wait until ready() is true (for a Consumer); return False at the deadline."""
        self._require_open()
        return self._wait_until(ready, deadline)

    def requeue(self, delivery_tags: Sequence[int], on_turn: OnTurn) -> None:
        """Reject messages in one write, so that they go back to their queue in this order."""
        _, number = self._require_open()
        frames = [
            method_frame(number, self._encode('basic.reject', tag, True)) for tag in delivery_tags
        ]
        self._session.send(b''.join(frames), self._closed, on_turn=on_turn)

    def basic_cancel(self, consumer_tag: str, nowait: bool = False) -> None:
        """Cancel a consumer by its consumer_tag.

        Its callback is removed: messages that the broker has already sent are dropped, and the log
        says how many. They stay unacknowledged, and go back to the queue when the channel is
        closed; those of a consumer with no_ack are lost.
        """
        self._cancel(consumer_tag, nowait)

    def end_consumer(self, consumer_tag: str) -> None:
        """Cancel a consumer (for a Consumer), within the time that close() has by default."""
        self._cancel(consumer_tag, False, self._exit_deadline())

    def _basic_cancel_ok(self, args: AMQPReader) -> None:
        self._decode('basic.cancel_ok', args)

    def _exit_deadline(self) -> Deadline:
        """Return the deadline of a call at the end of a block."""
        limits = CLOSE_TIMEOUT, self._require_open()[0].rpc_timeout
        return Deadline(min(filter(None, limits)))

    def _cancel(self, consumer_tag: str, nowait: bool, deadline: Optional[Deadline] = None) -> None:
        self._call('basic.cancel', consumer_tag, nowait, nowait=nowait, deadline=deadline)
        self._drop_consumer(consumer_tag)
        count = self._drop_deliveries(consumer_tag)
        if count:
            log.warning(
                "%s messages dropped that were sent before the consumer '%s' was cancelled",
                count,
                consumer_tag,
            )

    def _drop_deliveries(self, consumer_tag: str) -> int:
        """Remove what is queued for a consumer; return how many deliveries there were."""
        queue = self.method_queue
        dropped = {id(one): one for one in copy_of(queue) if self._is_for(consumer_tag, one)}
        kept: list[ArrivedMethod] = []
        try:
            # Only what is there now: another thread may be adding more.
            for _ in range(len(queue) if dropped else 0):
                method = queue.popleft()
                if id(method) not in dropped:
                    kept.append(method)
        except IndexError:
            pass  # a finalizer or another thread has taken some
        finally:
            queue.extendleft(reversed(kept))
        return sum(method[0] == spec.DELIVER.signature for method in dropped.values())

    def _is_for(self, consumer_tag: str, method: ArrivedMethod) -> bool:
        """Return whether a queued method is for this consumer."""
        method_sig, args, msg = method
        # Decoded with readers of their own, because the methods may still be dispatched.
        if method_sig == spec.DELIVER.signature and msg is not None:
            if msg.raw_delivery is None:
                msg.raw_delivery = self._decode('basic.deliver', AMQPReader(args.input))
            return bool(msg.raw_delivery[0] == consumer_tag)
        if method_sig != spec.CANCEL.signature:
            return False
        tag, _ = self._decode('basic.cancel', AMQPReader(args.input))
        return bool(tag == consumer_tag)

    def _drop_consumer(self, consumer_tag: str) -> Optional[Callable[[str], Any]]:
        self.callbacks.pop(consumer_tag, None)
        sorter = self._sorter
        if sorter is not None:
            sorter.ready.pop(consumer_tag, None)
            if not sorter.ready:
                self._sorter = None
                if self.delivery_queue is sorter:
                    self.delivery_queue = self.method_queue
        return self._on_cancel.pop(consumer_tag, None)

    def _basic_cancel(self, args: AMQPReader) -> None:
        consumer_tag, _ = self._decode('basic.cancel', args)
        if consumer_tag not in self.callbacks:
            log.debug("the broker cancelled '%s', which this program had cancelled", consumer_tag)
            return
        on_cancel = self._drop_consumer(consumer_tag)
        if on_cancel is not None:
            on_cancel(consumer_tag)
            return
        raise self.why_cancelled(consumer_tag)

    def why_cancelled(self, consumer_tag: str) -> ConsumerCancelled:
        """Return the error for a consumer that the broker has cancelled."""
        text = f'the broker cancelled the consumer {printable(consumer_tag)!r}'
        named = self._named('basic.consume')
        return ConsumerCancelled(0, text, *named, consumer_tag=consumer_tag)

    def _basic_deliver(self, args: AMQPReader, msg: Message) -> None:
        delivery = msg.raw_delivery
        if delivery is None:
            delivery = msg.raw_delivery = self._decode('basic.deliver', args)
        msg.raw_channel = self
        consumer_tag = delivery[0]
        callback = self.callbacks.get(consumer_tag)
        if callback is not None:
            callback(msg)
        elif consumer_tag not in self.callbacks:
            text = "message %s dropped: there is no consumer '%s' any more"
            log.warning(text, delivery[1], consumer_tag)

    def basic_get(
        self, queue: str = '', no_ack: bool = False, ticket: Optional[int] = None
    ) -> Optional[Message]:
        """Return the next message of a queue, or None if there is none. Raises NotFound.

        no_ack: the message needs no acknowledgement; the broker deletes it once it is sent.
        """
        if ticket is None:
            ticket = self.default_ticket
        try:
            payload = encode_get(ticket, queue, no_ack)
        except TypeError:  # this one finds out what is wrong
            payload = self._encode('basic.get', ticket, queue, no_ack)
        msg: Optional[Message] = self._request(spec.GET, payload)
        if no_ack and isinstance(msg, Message):
            msg.raw_settled = NO_ACK
        return msg

    def _basic_get_ok(self, args: AMQPReader, msg: Message) -> Message:
        values = self._decode('basic.get_ok', args)
        msg.raw_delivery_info = dict(zip(_GET_FIELDS, values))
        msg.raw_channel = self
        return msg

    def _basic_get_empty(self, args: AMQPReader) -> None:
        self._decode('basic.get_empty', args)

    def basic_publish(
        self,
        msg: Message,
        exchange: str = '',
        routing_key: str = '',
        mandatory: bool = False,
        immediate: bool = False,
        ticket: Optional[int] = None,
    ) -> Optional[int]:
        """Publish a message to an exchange; '' delivers to the queue named by routing_key.

        msg: a Message; it can be published again.
        mandatory: if no queue takes the message, the broker returns it: see returned_messages.
        immediate: not supported by RabbitMQ, which closes the connection (NotSupported).

        Returns the number of the message after confirm_select(), else None. A later call raises the
        error if it fails, at the latest close(). Raises the error that closed the channel, if it is
        known by now.
        """
        if ticket is None:
            ticket = self.default_ticket
        connection, channel_id, session = self.connection, self.channel_id, self._session
        if self._closed.shut or connection is None or channel_id is None:
            self._raise_cause()
        if monotonic() >= session.poll_due:
            session.poll_input(self._closed)
        try:
            frames = session.encoder.publish_frames(
                channel_id, msg, ticket, exchange, routing_key, mandatory, immediate
            )
        except (AttributeError, TypeError):  # the general way finds out what is wrong
            check_message(msg)
            values = (ticket, exchange, routing_key, mandatory, immediate)
            payload = self._encode('basic.publish', *values)
            frames = session.encoder.frames(channel_id, payload, msg)
        if self._confirms is not None or not self.active or session.blocked is not None:
            return self._publish_in_turn(connection, frames)
        session.send(frames, self._closed)
        return None

    def session_if_open(self) -> Session:
        """Return the session (for Publisher); raise the cause if the channel is closed."""
        self._require_open()
        return self._session

    def publish_gathered(self, frames: Frames, count: int, deadline: Deadline) -> Optional[int]:
        """Send the frames of several publishes as one write (for Publisher).

        deadline: limits all waits of this call.

        Returns the sequence number of the first one, if the broker is to confirm them. Raises what
        basic_publish raises; ReentrancyError where the caller could not wait for the confirms.
        """
        connection, session = self._require_open()[0], self._session
        if not session.may_wait():
            raise ReentrancyError.of_call(*self._named('basic.publish'))
        if monotonic() >= session.poll_due:
            session.poll_input(self._closed)
        return self._publish_in_turn(connection, frames, count, deadline)

    def _publish_in_turn(
        self, connection: Any, frames: Frames, count: int = 1, deadline: Deadline = NO_DEADLINE
    ) -> Optional[int]:
        """Publish messages that may have to wait, or that the broker is to confirm."""
        deadline = self._wait_for_flow(connection, deadline)
        self._session.send(frames, self._closed, deadline)
        return None

    def _wait_for_flow(self, connection: Any, deadline: Deadline) -> Deadline:
        """Wait until the broker resumes the channel; return the deadline of the call."""
        what = 'the broker has paused the channel'
        return self._wait_to_publish(connection, lambda: self.active, deadline, what)

    def _wait_to_publish(
        self, connection: Any, ready: Callable[[], object], deadline: Deadline, what: str
    ) -> Deadline:
        """Wait within the connection's write_timeout, which starts at the first wait of a call."""
        deadline = begin(deadline, connection.write_timeout)
        if not self._wait_until(ready, deadline):
            text = f'{what} for more than {deadline}'
            raise AMQPTimeout(0, text + self._why_blocked(), *self._named('basic.publish'))
        self._require_open()  # raises why, if it was closed with that
        return deadline

    def _why_blocked(self) -> str:
        return '' if self._session.blocked is None else f': {self._session.blocked}'

    def _basic_return(self, args: AMQPReader, msg: Message) -> None:
        values = self._decode('basic.return', args)
        self.returned_messages.put((*values, msg))

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a message by its delivery_tag: the broker may delete it.

        multiple: all messages of the channel up to this one too; delivery_tag 0 means all.
        """
        channel_id = self.channel_id
        if self._closed.shut or channel_id is None:
            self._raise_cause()
        try:
            frame = pack_acknowledgement(
                FRAME_METHOD, channel_id, ACKNOWLEDGEMENT_SIZE, _ACK_PREFIX, delivery_tag,
                bool(multiple), FRAME_END,
            )  # fmt: skip
        except (StructError, TypeError, ValueError):
            self._encode('basic.ack', delivery_tag, multiple)  # raises what is wrong
            raise
        self._session.send(frame, self._closed)
        if multiple:
            self._note_settled(delivery_tag)

    def _note_settled(self, delivery_tag: int) -> None:
        """Remember that the program has settled everything up to a message; 0 means all."""
        sorter = self._sorter
        if not delivery_tag and sorter is not None:
            delivery_tag = sorter.last_delivery_tag()
        self.settled_up_to = max(self.settled_up_to, delivery_tag)

    def basic_reject(self, delivery_tag: int, requeue: bool) -> None:
        """Reject a message by its delivery_tag.

        requeue: put it back into the queue; else the broker drops or dead-letters it.
        """
        self._cast('basic.reject', delivery_tag, requeue)

    def basic_recover_sync(self, requeue: bool = False) -> None:
        """Redeliver all unacknowledged messages of the channel; wait until the broker has done it.

        requeue: to any consumer; RabbitMQ refuses False (NotSupported).
        """
        self._call('basic.recover', requeue)

    # The tx class (specification, class 90)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Let what is published and acknowledged in a block take effect at its end, all or nothing.

        The end of the block commits. An exception in the block rolls back, and is raised. If the
        rollback fails, the channel is closed, so that nothing of the block is ever committed.

        Raises AMQPException if the channel is in a transaction already, or has confirms; and what
        tx_commit raises.
        """
        self._require_open()
        if self._in_transaction:
            raise AMQPException(0, 'this channel is already in a transaction')
        if self._confirms is not None:
            raise AMQPException(0, 'a channel with confirm_select cannot have transactions')
        if not self._has_transactions:
            self.tx_select()
        try:
            self._in_transaction = True
            yield
            self.tx_commit()
        except BaseException:
            if not self._closed.shut:  # else the broker has rolled back
                self._roll_back()
            raise

    def _roll_back(self) -> None:
        """Roll back, or close the channel: the next commit must not include what was sent."""
        try:
            self._undo(self._exit_deadline())
        except BaseException as error:
            text = f'a transaction could not be rolled back: {error}'
            self._give_up(AMQPChannelException(0, text), reported=True)
            if not isinstance(error, AMQPException):
                raise
            log.warning('%s', text)

    def tx_select(self) -> None:
        """Use transactions on this channel from now on."""
        self._call('tx.select')
        self._has_transactions = True
        self._begin_transaction()

    def _begin_transaction(self) -> None:
        self._settled_before = self.settled_up_to
        self.uncommitted = []

    def tx_commit(self) -> None:
        """Make what was published and acknowledged since the last commit take effect.

        Raises PreconditionFailed if tx_select was not called before.
        """
        self._call('tx.commit')
        self._in_transaction = False
        self._begin_transaction()

    def commit_by(self, deadline: Deadline) -> None:
        """Commit within a deadline rather than within rpc_timeout (for Publisher)."""
        self._call('tx.commit', deadline=deadline)

    def tx_rollback(self) -> None:
        """Undo what was published and acknowledged since the last commit.

        The messages that were acknowledged or rejected can then be so again.
        """
        self._undo(None)

    def _undo(self, deadline: Optional[Deadline]) -> None:
        self._call('tx.rollback', deadline=deadline)
        self._in_transaction = False
        for msg in self.uncommitted or ():
            msg.raw_settled = None
        self.settled_up_to = self._settled_before
        self._begin_transaction()

    _IMMEDIATE: ClassVar[tuple[str, ...]] = ('channel.flow', 'channel.alert', 'basic.return')
    _CLOSE = 'channel.close'
    _ERROR = AMQPChannelException
    _WANTED_TO_THE_END = (spec.RETURN.signature,)


def begin(deadline: Deadline, seconds: Optional[float]) -> Deadline:
    """Return the deadline of a call that has to wait: without a deadline, one starts now."""
    return Deadline(seconds) if deadline is NO_DEADLINE and seconds is not None else deadline
