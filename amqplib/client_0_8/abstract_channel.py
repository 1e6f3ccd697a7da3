"""What a Connection (which is channel 0) and a Channel have in common.

They send methods, wait for replies, and hand out the methods that arrived for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from struct import Struct
from threading import get_ident
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NoReturn, Optional, TypeVar, Union

from amqplib.client_0_8 import log, spec
from amqplib.client_0_8.basic_message import CONTENT_ENCODING_FLAG, Message
from amqplib.client_0_8.deadline import NEVER, Deadline
from amqplib.client_0_8.exceptions import (
    AMQPChannelException,
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ProtocolError,
    ReentrancyError,
)
from amqplib.client_0_8.serialization import (
    FIELD_TYPES,
    AMQPReader,
    AMQPWriter,
    FieldTypes,
    decode_arguments,
    encode_method,
)
from amqplib.client_0_8.spec import Method, Signature

if TYPE_CHECKING:
    from types import TracebackType

    from amqplib.client_0_8.connection import Connection

__all__ = ['AbstractChannel']

_SIGNATURE = Struct('>HH')

#: Seconds that close() waits for the broker where nothing else is asked for.
CLOSE_TIMEOUT = 10.0

#: Who is interrupted in one of these knows that it is closed.
_CLOSING = tuple(spec.METHODS[name].signature for name in ('connection.close', 'channel.close'))
#: The classes of the methods that open and close connections and channels.
_OPENING_AND_CLOSING = tuple(class_id for class_id, _ in _CLOSING)

_NONE: frozenset[Signature] = frozenset()

#: (signature, arguments, content)
ArrivedMethod = tuple[Signature, AMQPReader, Optional[Message]]
Handlers = dict[Signature, Callable[..., Any]]
Entered = TypeVar('Entered', bound='AbstractChannel')


def handlers_by_signature(
    methods: dict[str, Method], handlers: dict[str, Callable[..., Any]]
) -> Handlers:
    """Return handlers that are named by protocol method, by signature.

    What the table does not have is left out.
    """
    return {
        methods[name].signature: handler for name, handler in handlers.items() if name in methods
    }


def replies_of(methods: dict[str, Method]) -> frozenset[Signature]:
    """Return the signatures of all methods that are replies."""
    return frozenset(reply for method in methods.values() for reply in method.replies)


class AbstractChannel:
    """One of the numbered streams of methods that share a connection.

    channel_id: its number; None once it is closed.
    connection: the connection it belongs to; None once it is closed.
    method_queue: methods that have arrived and wait to be handed out by wait().
    auto_decode: whether bodies with a content_encoding are made text.
    """

    #: The table of the protocol that is spoken.
    _methods: ClassVar[dict[str, Method]] = spec.METHODS
    #: How Python types are written in the tables among arguments.
    _field_types: ClassVar[FieldTypes] = FIELD_TYPES
    #: What handles which method: (class id, method id) -> function(self, args[, content]).
    _METHOD_MAP: ClassVar[Handlers] = {}
    #: Methods that are handled the moment they arrive, whatever is being waited for.
    _IMMEDIATE_METHODS: ClassVar[Collection[Signature]] = ()
    _REPLIES: ClassVar[Collection[Signature]] = replies_of(spec.METHODS)
    #: The class of the errors that end this channel.
    _error_class: ClassVar[type[AMQPException]] = AMQPChannelException

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        # The map of a program's class may lack what has come since it was written. With a table
        # of its own, a class speaks another version, and the signatures of its base mean others.
        if '_METHOD_MAP' in own and '_methods' not in own:
            base: Handlers = super(cls, cls)._METHOD_MAP  # type: ignore[misc]
            cls._METHOD_MAP = {**base, **cls._METHOD_MAP}

    def __init__(self, connection: Connection, channel_id: int) -> None:
        self.connection: Optional[Connection] = connection
        self.channel_id: Optional[int] = channel_id
        self.method_queue: deque[ArrivedMethod] = deque()
        self.auto_decode = False
        # Why it is closed; every later call raises this again.
        self._cause: Optional[AMQPException] = None
        # Whether a call on this channel has raised it, so that close() need not.
        self._told = False
        # What the call in progress waits for, and what has come of it.
        self._expected: Collection[Signature] = ()
        self._replies: list[ArrivedMethod] = []
        # The thread that has a call in progress.
        self._caller = 0
        # Replies to methods that were sent with _send_method, for wait() to hand out.
        self._unclaimed: set[Signature] = set()
        # The methods that were handled at once while a wait() was waiting.
        self._handled: frozenset[Signature] = _NONE
        connection._register(channel_id, self)

    def __enter__(self: Entered) -> Entered:  # noqa: PYI019  (Self is of Python 3.11)
        return self

    def __exit__(
        self,
        type: Optional[type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if value is None:
            self.close()
            return
        try:
            self.close()
        except AMQPException as error:
            # The error that ends the block is the one to be seen.
            log.warning('closing after an error failed: %s', error)

    def close(self) -> None:
        """End this channel."""
        raise NotImplementedError

    def _do_close(self) -> None:
        """Let go of the connection; overridden by subclasses."""
        raise NotImplementedError

    # Receiving

    def wait(
        self,
        allowed_methods: Optional[Sequence[Signature]] = None,
        timeout: Optional[float] = None,
    ) -> Any:
        """Wait for one method for this channel; return what its handler returns.

        allowed_methods: list of (class id, method id), to wait for one of these; others stay
            queued. None takes any.
        timeout: seconds; 0 takes only what has arrived, None waits without limit.

        Raises AMQPTimeout when the time is over, which loses nothing; the error that closed
        the channel or connection; or what the handler (a callback, for instance) raises.
        """
        queue = self.method_queue
        if queue and allowed_methods is None:
            try:
                first = queue.popleft()
            except IndexError:
                pass  # a finalizer has taken it
            else:
                return self.dispatch_method(*first)
        method = self._take(allowed_methods) if queue else None
        if method is None:
            connection, channel_id = self._open()
            # Without a timeout, an override of amqplib 1.0.2's form will do.
            limit = () if timeout is None else (timeout,)
            method = connection._wait_method(channel_id, allowed_methods, *limit)
            if method is None:
                return None
        return self.dispatch_method(*method)

    def _take(self, allowed_methods: Optional[Sequence[Signature]]) -> Optional[ArrivedMethod]:
        """Return the first method that is queued and allowed, if there is one."""
        queue = self.method_queue
        # A call of a finalizer may come in between and take methods too; so each is taken by one
        # operation.
        try:
            if allowed_methods is None:
                return queue.popleft()
            while True:
                method = next(method for method in list(queue) if method[0] in allowed_methods)
                with suppress(ValueError):  # else it is taken
                    queue.remove(method)
                    return method
        except (IndexError, StopIteration):
            return None

    def dispatch_method(
        self, method_sig: Signature, args: AMQPReader, content: Optional[Message] = None
    ) -> Any:
        """Give a method to its handler; return what that returns."""
        handler = self._METHOD_MAP.get(method_sig)
        if handler is None:
            raise AMQPException(
                spec.NOT_IMPLEMENTED, f'Unknown AMQP method {method_sig}', method_sig
            )
        if content is None:
            return handler(self, args)
        if self.auto_decode:
            raw = content._raw_properties
            if raw is None or raw[0] & CONTENT_ENCODING_FLAG:
                content.decode_body()
        return handler(self, args, content)

    def _arrive(self, method: ArrivedMethod) -> None:
        """Take a method from the connection's read loop: straight to who waits for it, or queued.

        Raises ProtocolError if it should not have come.
        """
        method_sig = method[0]
        if method_sig in self._expected:
            self._expected = ()
            self._replies.append(method)
        elif method_sig in self._IMMEDIATE_METHODS:
            self._handle_at_once(method)
            self._handled |= {method_sig}
        elif method_sig in self._REPLIES and method_sig not in self._unclaimed:
            text = f'a reply that nothing was waiting for: {self._name_of(method_sig)}'
            raise ProtocolError(spec.COMMAND_INVALID, text, method_sig, self._name_of(method_sig))
        elif method_sig not in self._METHOD_MAP:
            name = self._name_of(method_sig)
            code = spec.COMMAND_INVALID if name else spec.NOT_IMPLEMENTED
            text = f'a method that brokers do not send here: {name or method_sig}'
            raise ProtocolError(code, text, method_sig, name)
        else:
            self._unclaimed.discard(method_sig)
            self.method_queue.append(method)

    def _handle_at_once(self, method: ArrivedMethod) -> None:
        try:
            # Handlers of programs may send, call and wait.
            if self.connection is not None:
                self.connection._turns.call_at_safe_point(self.dispatch_method, *method)
        except Exception:
            # From what the program does with it. It is handed out, and the others are queued.
            if self.connection is not None:
                self.connection.method_reader.source.torn = False
            raise

    # Sending

    def _send_method(
        self,
        method_sig: Signature,
        args: Union[bytes, AMQPWriter] = b'',
        content: Optional[Message] = None,
    ) -> None:
        """Send a method whose arguments are encoded already."""
        method = self._method_of(method_sig)
        if method is not None:
            self._unclaimed.update(method.replies)
        if isinstance(args, AMQPWriter):
            args = args.getvalue()
        self._transmit(_SIGNATURE.pack(*method_sig) + args, content)

    def _transmit(
        self, payload: bytes, content: Optional[Message] = None, deadline: Deadline = NEVER
    ) -> None:
        connection, channel_id = self._open()
        frames = connection.method_writer.frames(channel_id, payload, content)
        connection._send(self, frames, deadline)

    def _encode(self, name: str, *values: Any) -> bytes:
        """Return the payload of the named method with these values of its fields."""
        return encode_method(self._methods[name], values, self._field_types)

    def _cast(self, name: str, *values: Any) -> None:
        """Send a method that has no reply."""
        self._transmit(self._encode(name, *values))

    def _call(
        self,
        name: str,
        *values: Any,
        nowait: bool = False,
        timeout: Optional[Deadline] = None,
    ) -> Any:
        """Send a method and wait for its reply; return what the reply's handler returns.

        values: those of the fields of the table.
        nowait: return None without waiting; the values tell the broker not to reply.
        timeout: the deadline; the connection's rpc_timeout by default.
        """
        method = self._methods[name]
        payload = encode_method(method, values, self._field_types)
        if nowait:
            return self._transmit(payload)
        return self._request(method, payload, timeout)

    def _request(self, method: Method, payload: bytes, timeout: Optional[Deadline] = None) -> Any:
        """Send a method that is encoded already; otherwise as _call."""
        connection, channel_id = self.connection, self.channel_id
        if self._cause is not None or connection is None or channel_id is None:
            self._raise_cause()
        if timeout is not None:
            deadline = timeout
        else:
            deadline = NEVER if connection.rpc_timeout is None else Deadline(connection.rpc_timeout)
        writer = connection.method_writer
        frame = writer.method_frame(channel_id, payload)
        caller = get_ident()
        if self._caller == caller:
            raise ReentrancyError(0, 'this thread waits for a reply on the same channel')
        # Asked in two steps, as most are never in the middle of anything.
        if writer.lock._is_owned() or connection._turns.lock._is_owned():
            connection._check_may_wait()
        written = writer.dest.sent
        try:
            self._caller = caller
            self._replies.clear()
            self._expected = method.replies
            connection._send(self, frame, deadline)
            return self._wait_for_reply(connection, method, deadline)
        except BaseException as error:
            if writer.dest.sent != written:
                self._break_off(method, error)
            self._expected = ()
            self._caller = 0
            raise

    def _wait_for_reply(self, connection: Connection, method: Method, deadline: Deadline) -> Any:
        try:
            connection._wait_until(self, self._replies.__len__, deadline)
        except AMQPConnectionException:
            raise  # of which a WriteTimeout of another thread is one
        except AMQPTimeout:
            text = f'no reply within {deadline.seconds} s'
            timeout = AMQPTimeout(0, text, method.signature, self._name_of(method.signature))
            self._abandon(timeout, told=True)
            raise timeout from None
        reply = self._replies.pop()
        self._caller = 0
        return self.dispatch_method(*reply)

    def _break_off(self, method: Method, error: BaseException) -> None:
        """After a request ended by an error: give up the channel, if its reply may be lost."""
        if self._cause is not None or isinstance(error, AMQPTimeout):
            return  # it is given up already, or nothing was sent
        answered = not self._expected and not self._replies
        opens_or_closes = method.signature[0] in _OPENING_AND_CLOSING
        if answered and isinstance(error, Exception) and not opens_or_closes:
            return  # it comes from what handles the reply
        # Perhaps the reply will come when nobody waits for it any more.
        text = 'interrupted while waiting for the reply'
        cause = self._error_class(0, text, method.signature, method.python_name)
        self._abandon(cause, told=method.signature in _CLOSING)

    def _has_something(self) -> bool:
        return bool(self.method_queue or self._handled)

    def _take_empty_reply(self, args: AMQPReader) -> None:
        """Take a reply that says nothing but that it was done."""

    def _decode(self, name: str, args: AMQPReader) -> tuple[Any, ...]:
        """Return the values of the fields of the named method.

        Raises ProtocolError if they are wrong, which ends the connection.
        """
        try:
            return decode_arguments(self._methods[name], args)
        except ProtocolError as error:
            self._break(error)

    def _break(self, error: ProtocolError) -> NoReturn:
        """End the connection for an error of the broker, and raise it."""
        if self.connection is not None:
            self.connection._fail(error)
        raise error

    def _method_of(self, method_sig: Signature) -> Optional[Method]:
        """Return the row of the table for a signature."""
        return next((row for row in self._methods.values() if row.signature == method_sig), None)

    def _name_of(self, method_sig: Signature) -> str:
        """Return the name of the Python method for a signature, '' if there is none."""
        method = self._method_of(method_sig)
        return '' if method is None else method.python_name

    # Being closed

    def _open(self) -> tuple[Connection, int]:
        """Return the connection and the channel's number; raise what closed this channel."""
        connection, channel_id = self.connection, self.channel_id
        if self._cause is not None or connection is None or channel_id is None:
            self._raise_cause()
        return connection, channel_id

    def _open_connection(self) -> Connection:
        """Return the connection; raise what closed this channel."""
        return self._open()[0]

    def _lose(self, cause: AMQPException, told: bool = False) -> None:
        """Note that this channel is closed, and why; the first cause counts.

        told: whether the program knows, because the call that it made raises the cause, or
            because it closed the channel itself. If not, what was delivered before is still
            handed out; only the call that raises the cause lets go of the connection and the
            callbacks.
        """
        if self._cause is None:
            self._cause = cause
            self._told = told
        if self._told:
            self._do_close()

    def _raise_cause(self) -> NoReturn:
        """Raise what closed this channel."""
        connection, cause = self.connection, self._cause
        self._do_close()
        if cause is None:
            # Closed by _do_close() alone, as subclasses may do.
            raise AMQPConnectionException(0, 'this channel is closed')
        self._told = True
        if connection is not None and connection._cause is cause:
            connection._told = True
        raise cause.again() from cause.__cause__

    def _abandon(self, cause: AMQPException, told: bool = False) -> None:
        """Give up on this channel after a call whose reply may still come."""
        raise NotImplementedError


def printable(text: str) -> str:
    """Return a reply text that can be printed, whatever octets the broker sent."""
    return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')
