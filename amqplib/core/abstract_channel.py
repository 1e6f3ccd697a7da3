"""What a Connection (which is channel 0) and a Channel have in common.

They send methods, wait for replies, and dispatch the methods that have arrived for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NoReturn, Optional, TypeVar, Union

from amqplib.core import log, spec
from amqplib.core.arguments import Decoders, Encoders
from amqplib.core.closed import Closed, with_blocked
from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.core.fast_decoding import Inbox
from amqplib.core.message import CONTENT_ENCODING_FLAG, Message
from amqplib.core.streams import AMQPReader, AMQPWriter, payload_of
from amqplib.exceptions import (
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ProtocolError,
    ReentrancyError,
    error_of_code,
)

if TYPE_CHECKING:
    from amqplib.core.consumer import Sorter
    from amqplib.core.fast_decoding import ArrivedMethod
    from amqplib.core.outbox import OnTurn
    from amqplib.core.session import Session
    from amqplib.core.spec import Method, Protocol, Signature

#: Seconds that close() waits for the broker by default.
CLOSE_TIMEOUT = 10.0

_NONE: frozenset[Signature] = frozenset()

_IN_USE = (
    'another call on this channel waits for its reply: does each thread have a channel of its own?'
)

Handlers = dict['Signature', Callable[..., Any]]
Entered = TypeVar('Entered', bound='AbstractChannel')


def _check_methods(allowed: object) -> None:
    """Raise TypeError for what is no list of methods: the 1 of wait(1), for instance."""
    if not isinstance(allowed, Collection) or not all(isinstance(one, tuple) for one in allowed):
        text = f'allowed_methods: {allowed!r} is not a list of (class id, method id)'
        raise TypeError(f'{text}; a time limit is passed as timeout=')


def _reply_handler(name: str) -> Callable[[Any, AMQPReader], Any]:
    """Return a handler that returns the fields of a reply: None, the only one, or a tuple."""

    def take(self: AbstractChannel, args: AMQPReader) -> Any:
        values = self._decode(name, args)
        return values if len(values) > 1 else next(iter(values), None)

    return take


class Late:
    """An attribute that is created when it is first read."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, channel: Optional[AbstractChannel], owner: type) -> Any:
        if channel is None:
            return self
        # Two threads that come here at once get the same object.
        return vars(channel).setdefault(self._name, self._make(channel))


class _Computed:
    """A property; but an attribute that a program assigns takes precedence."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, channel: Optional[AbstractChannel], owner: type) -> Any:
        return self if channel is None else self._compute(channel)


if TYPE_CHECKING:
    Computed = property
else:
    Computed = _Computed


class AbstractChannel(Inbox):
    """One of the numbered streams of methods that share a connection.

    channel_id: its number; None once it is closed.
    connection: the connection it belongs to; None once it is closed.
    method_queue: methods that have arrived and wait to be dispatched by wait().
    auto_decode: whether bodies with a content_encoding are decoded to text.
    """

    #: The version of the protocol.
    _protocol: ClassVar[Protocol]
    #: Names of methods that are dispatched when they arrive, whatever the program waits for.
    _IMMEDIATE: ClassVar[tuple[str, ...]] = ()
    # Made for the class of a client, which has a _protocol. By (class id, method id):
    #: The handlers, function(self, args[, content]): `_queue_declare_ok` of queue.declare_ok.
    _METHOD_MAP: ClassVar[Handlers] = {}
    _IMMEDIATE_METHODS: ClassVar[Collection[Signature]] = ()
    #: What takes effect when a method arrives: function(self, args), `_on_close` of channel.close.
    #: It returns whether the method is also the reply to a call.
    _EFFECTS: ClassVar[Handlers] = {}
    # By name:
    _encoders: ClassVar[Encoders]
    _decoders: ClassVar[Decoders]
    #: Whether it belongs to one thread, which makes one call at a time.
    _ONE_CALL: ClassVar[bool] = True
    #: Whether methods that no call waits for are queued.
    _IS_QUEUE: ClassVar[bool] = True
    #: Methods that are not dropped while it is being closed.
    _WANTED_TO_THE_END: ClassVar[Collection[Signature]] = ()
    #: The name of the method that closes it, and the class of the error that says why it is closed.
    _CLOSE: ClassVar[str]
    _ERROR: ClassVar[type[AMQPException]]

    #: In place of method_queue for what arrives, if it does not all go there.
    _sorter: Optional[Sorter] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if '_protocol' in own:
            cls._make_maps()
        elif '_METHOD_MAP' in own:
            # The map of a program's subclass may lack methods that are newer than it.
            inherited: Handlers = super(cls, cls)._METHOD_MAP  # type: ignore[misc]
            cls._METHOD_MAP = {**inherited, **cls._METHOD_MAP}

    @classmethod
    def _make_maps(cls) -> None:
        """Make what follows from the protocol; functions for its methods are found by name."""
        protocol = cls._protocol
        cls._encoders = Encoders(protocol.methods, protocol.field_types)
        cls._decoders = Decoders(protocol.methods)
        cls._METHOD_MAP, cls._EFFECTS = {}, {}
        for row in protocol.methods.values():
            owner, _, name = row.python_name.partition('.')
            if owner != cls.__name__:
                continue
            if row.signature in protocol.replies and not hasattr(cls, f'_{name}'):
                setattr(cls, f'_{name}', _reply_handler(row.name))
            for prefix, functions in ('_', cls._METHOD_MAP), ('_on_', cls._EFFECTS):
                if hasattr(cls, prefix + name):
                    functions[row.signature] = getattr(cls, prefix + name)
        cls._IMMEDIATE_METHODS = frozenset(
            row.signature for row in protocol.methods.values() if row.name in cls._IMMEDIATE
        )

    def __init__(self, connection: Any, session: Session, closed: Closed) -> None:
        # Typed as Any, because the module of Connection imports this one.
        self.connection: Any = connection
        self.channel_id: Optional[int] = None
        self.method_queue: deque[ArrivedMethod] = deque()
        self.auto_decode = False
        self._session = session
        self._closed = closed
        # The calls in progress: id -> (signatures of the expected replies, list for the reply).
        self._calls: dict[int, tuple[Collection[Signature], list[ArrivedMethod]]] = {}
        # Signatures of replies to methods that were sent by _send_method; wait() dispatches them.
        self._unclaimed: set[Signature] = set()
        # Signatures of methods that took effect while a wait() was waiting.
        self._handled: frozenset[Signature] = _NONE

    def __enter__(self: Entered) -> Entered:  # noqa: PYI019  (Self is of Python 3.11)
        return self

    def __exit__(self, type: object, value: Optional[BaseException], traceback: object) -> None:
        if value is None:
            self.close()
            return
        try:
            self.close()
        except AMQPException as error:
            # The error that ended the block is the one to raise.
            log.warning('closing after an error failed: %s', error)

    def close(self) -> None:
        """Close this channel."""
        raise NotImplementedError

    def _do_close(self) -> None:
        """Release the connection; programs override this."""
        raise NotImplementedError

    # Receiving, in the thread that wants a method

    def wait(
        self,
        allowed_methods: Optional[Sequence[Signature]] = None,
        timeout: Optional[float] = None,
    ) -> Any:
        """Wait for one method for this channel; return what its handler returns.

        allowed_methods: list of (class id, method id), to wait for one of these; other methods stay
            queued. None takes any method.
        timeout: seconds; 0 takes only what has arrived, None waits without limit.

        Raises AMQPTimeout when the timeout expires, which loses nothing; the error that closed
        the channel or connection; or what the handler (a callback, for instance) raises.
        """
        method = None
        if allowed_methods is not None:
            _check_methods(allowed_methods)
            method = self._pop_allowed(allowed_methods)
        elif self.method_queue:
            try:
                method = self.method_queue.popleft()
            except IndexError:  # a finalizer has taken the last one just now
                method = None
        if method is None:
            connection, channel_id = self._require_open()
            method = connection.wait_for_channel(self, channel_id, allowed_methods, timeout)
            if method is None:
                return None
        method_sig, args, content = method
        return self.dispatch_method(method_sig, args, content)

    def dispatch_next(self) -> bool:
        """Dispatch one of the methods that have arrived; return False if there is none."""
        method = self._pop_allowed(None)
        if method is None:
            return False
        self.dispatch_method(*method)
        return True

    def wait_for_method(
        self, allowed_methods: Optional[Sequence[Signature]], timeout: Optional[float]
    ) -> Optional[ArrivedMethod]:
        """Wait for a method, and take it off the queue; None if one has already taken effect.

        This is wait() without an override of Connection._wait_method and without a handler.
        """
        self._handled = _NONE
        ready = self._has_arrived if allowed_methods is None else self._watch_for(allowed_methods)
        deadline = NO_DEADLINE if timeout is None else Deadline(timeout)
        if not self._wait_until(ready, deadline):
            limit = self._session.transport.limit_of(deadline)
            raise AMQPTimeout(0, f'nothing arrived within {limit}')
        return self._pop_allowed(allowed_methods)

    def _wait_until(self, ready: Callable[[], object], deadline: Deadline) -> bool:
        """Call session.wait_until() for this channel."""
        return self._session.wait_until(self._closed, ready, deadline)

    def _has_arrived(self) -> bool:
        return bool(self.method_queue or self._handled)

    def _watch_for(self, allowed_methods: Collection[Signature]) -> Callable[[], bool]:
        """Return a function that says whether an allowed method has arrived.

        Each call checks only the methods that came since the last one: a queue may be long.
        """
        queue = self.method_queue
        newest: Optional[ArrivedMethod] = None

        def has_arrived() -> bool:
            nonlocal newest
            if not self._handled.isdisjoint(allowed_methods):
                return True
            # If another thread changes the queue meanwhile, it calls this again.
            with suppress(StopIteration, RuntimeError):
                last = next(reversed(queue))
                # Not decided by the length, as other threads may have emptied the queue.
                for method in takewhile(lambda method: method is not newest, reversed(queue)):
                    if method[0] in allowed_methods:
                        return True
                newest = last
            return False

        return has_arrived

    def _pop_allowed(
        self, allowed_methods: Optional[Sequence[Signature]]
    ) -> Optional[ArrivedMethod]:
        """Take the first allowed method off the queue, if there is one."""
        queue = self.method_queue
        if allowed_methods is None:
            try:
                return queue.popleft()
            except IndexError:  # also if a finalizer has taken the last one just now
                return None
        for method in copy_of(queue):
            if method[0] in allowed_methods:
                with suppress(ValueError):  # another thread has just closed the channel
                    queue.remove(method)
                    return method
        return None

    def dispatch_method(
        self, method_sig: Signature, args: AMQPReader, content: Optional[Message] = None
    ) -> Any:
        """Call the handler of a method; return what it returns."""
        handler = self._METHOD_MAP.get(method_sig)
        if handler is None:
            raise AMQPException(
                spec.NOT_IMPLEMENTED, f'Unknown AMQP method {method_sig}', method_sig, ''
            )
        if content is None:
            return handler(self, args)
        if self.auto_decode:
            raw = content.raw_properties
            if raw is None or raw[0] & CONTENT_ENCODING_FLAG:
                content.decode_body()
        return handler(self, args, content)

    # Receiving, in the thread that reads

    def arrive(self, method: ArrivedMethod) -> None:
        """Take a method that was read: let it take effect, give it to a call, or queue it.

        Raises ProtocolError if the broker must not send it here.
        """
        method_sig = method[0]
        effect = self._EFFECTS.get(method_sig)
        if effect is not None and method_sig not in self._unclaimed and not effect(self, method[1]):
            return
        if (self._closed.shut or self._session.closed.shut) and (
            method_sig not in self._WANTED_TO_THE_END
        ):
            log.debug('dropped, as the channel is being closed: %s', method_sig)
            return
        if self._calls:
            for key, (expected, replies) in list(self._calls.items()):
                if method_sig in expected:
                    # In this order: with its reply, the thread goes on, perhaps with another call.
                    self._calls.pop(key, None)
                    replies.append(method)
                    return
        if method_sig in self._IMMEDIATE_METHODS:
            self._session.call_handler(self.dispatch_method, *method)
            self._handled |= {method_sig}
        elif method_sig in self._unclaimed or (
            # The broker may send it unsolicited.
            self._IS_QUEUE
            and method_sig in self._METHOD_MAP
            and method_sig not in self._protocol.replies
        ):
            self._unclaimed.discard(method_sig)
            (self._sorter or self.method_queue).append(method)
        else:
            raise self._why_refused(method_sig)

    def _why_refused(self, method_sig: Signature) -> ProtocolError:
        name = self._protocol.name_of(method_sig)
        if method_sig in self._protocol.replies:
            text = f'a reply that nothing was waiting for: {name}'
            code = spec.COMMAND_INVALID
        else:
            text = f'a method that brokers do not send here: {name or method_sig}'
            code = spec.COMMAND_INVALID if name else spec.NOT_IMPLEMENTED
        return ProtocolError(code, text, method_sig, name)

    # Sending

    def _send_method(
        self,
        method_sig: Signature,
        args: Union[bytes, AMQPWriter] = b'',
        content: Optional[Message] = None,
    ) -> None:
        """Send a method whose arguments are already encoded."""
        method = self._protocol.by_signature.get(method_sig)
        if method is not None:
            self._unclaimed.update(method.replies)
        payload = payload_of(method_sig, args)
        session, (_, channel_id) = self._session, self._require_open()
        session.send(session.encoder.frames(channel_id, payload, content), self._closed)

    def _transmit(self, payload: bytes, on_turn: OnTurn = None) -> None:
        """Send an encoded method."""
        session, (_, channel_id) = self._session, self._require_open()
        frame = session.encoder.method_frame(channel_id, payload)
        session.send(frame, self._closed, on_turn=on_turn)

    def _encode(self, name: str, *values: Any) -> bytes:
        """Return the payload of the named method with these field values."""
        return self._encoders[name](*values)

    def _cast(self, name: str, *values: Any) -> None:
        """Send a method that has no reply."""
        self._transmit(self._encode(name, *values))

    def _call(
        self,
        name: str,
        *values: Any,
        nowait: bool = False,
        deadline: Optional[Deadline] = None,
        on_turn: OnTurn = None,
    ) -> Any:
        """Send a method and wait for its reply; return what the reply's handler returns.

        values: the field values, in the order of the row.
        nowait: return None without waiting; the values must tell the broker not to reply.
        deadline: the connection's rpc_timeout by default.
        """
        payload = self._encode(name, *values)
        if nowait:
            return self._transmit(payload, on_turn)
        return self._request(self._protocol.methods[name], payload, deadline, on_turn)

    def _request(
        self,
        method: Method,
        payload: bytes,
        deadline: Optional[Deadline] = None,
        on_turn: OnTurn = None,
    ) -> Any:
        """Send an encoded method; otherwise like _call."""
        connection, channel_id, session = self.connection, self.channel_id, self._session
        closed = self._closed
        if closed.shut or connection is None or channel_id is None:
            self._raise_cause()
        if not session.may_wait():
            raise ReentrancyError.of_call(method.signature, method.python_name)
        if self._calls and self._ONE_CALL:
            raise ReentrancyError(0, _IN_USE, method.signature, method.python_name)
        if deadline is None:
            timeout = connection.rpc_timeout
            deadline = NO_DEADLINE if timeout is None else Deadline(timeout)
        frame = session.encoder.method_frame(channel_id, payload)
        replies: list[ArrivedMethod] = []
        sent, no_reply = session.transport.sent, None
        try:
            self._calls[id(replies)] = (method.replies, replies)
            session.send(frame, closed, deadline, on_turn)
            if not session.wait_until(closed, replies.__len__, deadline):
                no_reply = self._no_reply(deadline, method)
                raise no_reply
            reply = replies.pop()
        except BaseException as error:
            if error is no_reply:
                self._give_up(no_reply, reported=True)
            elif self._may_have_sent(sent, error) and not (closed.shut or session.closed.shut):
                # The reply may come when no call waits for it any more. (During a close, it is
                # dropped.)
                text = 'interrupted while waiting for the reply'
                self._give_up(self._ERROR(0, text, method.signature, method.python_name))
            # Not before, as a reply that nothing waits for ends the connection.
            self._calls.pop(id(replies), None)
            raise
        finally:
            # Its traceback refers to this frame.
            no_reply = None
        return self.dispatch_method(*reply)

    def _no_reply(self, deadline: Deadline, method: Method) -> AMQPTimeout:
        text = with_blocked(f'no reply within {deadline}', self._session.blocked)
        return AMQPTimeout(0, text, method.signature, method.python_name)

    def _may_have_sent(self, sent: int, error: BaseException) -> bool:
        """Return whether a call that failed may have sent something.

        sent: the value of transport.sent before; other threads may have sent too.
        """
        # Only a timeout says that nothing was sent.
        return self._session.transport.sent != sent and not isinstance(error, AMQPTimeout)

    def _decode(self, name: str, args: AMQPReader) -> tuple[Any, ...]:
        """Return the field values of the named method.

        Raises ProtocolError if they are malformed, which ends the connection.
        """
        try:
            return self._decoders[name](args)
        except ProtocolError as error:
            self._break(error)

    def _break(self, error: ProtocolError) -> NoReturn:
        """End the connection because of a protocol error, and raise it."""
        self._session.end(error, reported=True)
        raise error

    def _named(self, name: str) -> tuple[Signature, str]:
        """Return the signature and the name of a method, as arguments for an error."""
        method = self._protocol.methods[name]
        return method.signature, method.python_name

    # Being closed

    def _why_closed(self, args: AMQPReader) -> AMQPException:
        """Return the error for a close of the broker, given its arguments."""
        code, text, *signature = self._decode(self._CLOSE, args)
        method_sig = signature[0], signature[1]
        name = self._protocol.name_of(method_sig)
        return error_of_code(self._ERROR, code, printable(text), method_sig, name)

    def _ask_to_close(self, frame: bytes, deadline: Deadline) -> None:
        """Send a close frame, and wait for the end; raise AMQPTimeout."""
        closed = self._closed
        if not closed.shut:  # else it was sent from the middle of another call
            self._send_close(frame, deadline)
        if not self._wait_until(lambda: closed.cause is not None, deadline):
            raise self._no_reply(deadline, self._protocol.methods[self._CLOSE])

    def _send_close(self, frame: bytes, deadline: Deadline) -> None:
        closed, sent = self._closed, self._session.transport.sent
        try:
            self._session.send(frame, closed, deadline, closed.ask)
        except BaseException as error:
            if not self._may_have_sent(sent, error):
                closed.take_back()
            ends = closed.asked or self._session.closed.asked
            if not isinstance(error, AMQPException) or not ends:
                raise
            # Otherwise, a signal handler or another thread has closed it or its connection
            # meanwhile, and that frame is sent.

    def _require_open(self) -> tuple[Any, int]:
        """Return the connection and the channel's number; raise the cause if it is closed."""
        connection, channel_id = self.connection, self.channel_id
        if self._closed.shut or connection is None or channel_id is None:
            self._raise_cause()
        return connection, channel_id

    def _raise_cause(self) -> NoReturn:
        """Raise what closed this channel, and release the connection."""
        closed = self._closed
        if closed.cause is None and not (closed.shut or self._session.closed.shut):
            # A subclass has called _do_close() directly.
            raise AMQPConnectionException(0, 'this channel is closed')
        closed.raise_cause()

    def _give_up(self, cause: AMQPException, reported: bool = False) -> None:
        """Close this channel after a call whose reply may still come."""
        raise NotImplementedError


def copy_of(queue: deque[ArrivedMethod]) -> list[ArrivedMethod]:
    """Return what is on a queue, which another thread may be changing."""
    while True:
        try:
            return list(queue)
        except RuntimeError:
            continue  # another thread has added something


def printable(text: str) -> str:
    """Return a printable reply text, whatever bytes the broker sent."""
    return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')
