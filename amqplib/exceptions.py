"""The errors, as one tree of classes that all clients share.

::

    AMQPException
    +-- AMQPConnectionException         the connection is closed
    |   +-- ConnectionLost              the socket broke or went silent (also a ConnectionError)
    |   +-- ConnectionForced            320: the broker shuts down, or an operator closed it
    |   +-- NotAllowed                  530: no such virtual host, a consumer tag used twice, ...
    |   +-- NotSupported                540: the broker does not implement this
    |   +-- MessageTooLarge             311: a received message exceeds max_message_size
    |   +-- LoginRefused                user, password or mechanism was not accepted
    |   +-- ProtocolVersionRefused      the broker speaks another version of AMQP
    |   +-- ProtocolError               the broker violated the protocol
    +-- AMQPChannelException            this channel is closed, the connection goes on
    |   +-- AccessRefused               403
    |   +-- NotFound                    404
    |   +-- ResourceLocked              405
    |   +-- PreconditionFailed          406
    |   +-- ConsumerCancelled           the broker cancelled a consumer; the channel stays open
    +-- MessageNacked                   the broker refused published messages
    +-- MessageReturned                 no queue took a message of a Publisher
    +-- ReentrancyError                 a call that interrupted amqplib would have to wait
    +-- AMQPTimeout                     a deadline passed (also TimeoutError, socket.timeout)
        +-- WriteTimeout                in the middle of a write (also a ConnectionLost)

A wrong argument is a ValueError or TypeError, raised before anything is sent.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Optional

from amqplib.core import spec
from amqplib.core.spec import Signature

__all__ = [
    'AMQPChannelException',
    'AMQPConnectionException',
    'AMQPException',
    'AMQPTimeout',
    'AccessRefused',
    'ConnectionForced',
    'ConnectionLost',
    'ConsumerCancelled',
    'LoginRefused',
    'MessageNacked',
    'MessageReturned',
    'MessageTooLarge',
    'NotAllowed',
    'NotFound',
    'NotSupported',
    'PreconditionFailed',
    'ProtocolError',
    'ProtocolVersionRefused',
    'ReentrancyError',
    'ResourceLocked',
    'WriteTimeout',
]

#: The signature in errors that no method caused.
NO_METHOD: Signature = (0, 0)

#: The reply codes after which the same call may work later.
_RECOVERABLE_CODES = frozenset(
    (spec.CONNECTION_FORCED, spec.RESOURCE_LOCKED, spec.RESOURCE_ERROR, spec.INTERNAL_ERROR)
)

#: For errors that programs create without the name of the method: the ids that mean the same in
#: every version. Errors of this library get the name from the table of their version.
_METHOD_NAMES: dict[Signature, str] = {row.signature: row.python_name for row in spec.SHARED_ROWS}


class AMQPException(Exception):
    """The base of all errors caused by the broker or the connection.

    amqp_reply_code: the reply code of the specification, an int; 0 if there is none.
    amqp_reply_text: what happened, in the words of the broker or of this library.
    amqp_method_sig: (class id, method id) of the method that failed; (0, 0) if unknown.
    args: (code, text, signature, name of the method, as in 'Channel.queue_declare').
    """

    #: None if the reply code decides.
    _recoverable: Optional[bool] = None

    def __init__(
        self,
        reply_code: int,
        reply_text: str,
        method_sig: Signature = NO_METHOD,
        method_name: Optional[str] = None,
    ) -> None:
        super().__init__()
        if method_name is None:
            method_name = _METHOD_NAMES.get((method_sig[0], method_sig[1]), '')
        self.amqp_reply_code = reply_code
        self.amqp_reply_text = reply_text
        self.amqp_method_sig = method_sig
        self.args = (reply_code, reply_text, method_sig, method_name)

    def __str__(self) -> str:
        code, text, _, name = self.args
        words = [str(code)] if code else []
        words.append(text)
        if name:
            words.append(f'({name})')
        return ' '.join(words)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, self.__dict__.copy()

    @property
    def recoverable(self) -> bool:
        """Whether the same call may work later, perhaps on a new connection."""
        if self._recoverable is not None:
            return self._recoverable
        return self.amqp_reply_code in _RECOVERABLE_CODES

    def copy(self) -> AMQPException:
        """Return a copy of this error, for a later call on a closed channel or connection."""
        repeated: AMQPException = _copy(self)
        reason = self.__cause__
        # A copy too, because the original keeps alive everything that its traceback refers to.
        if isinstance(reason, AMQPException):
            repeated.__cause__ = reason.copy()
        elif reason is not None:
            repeated.__cause__ = _copy(reason)
        return repeated


def _copy(error: BaseException) -> Any:
    """Do what copy.copy does: it cannot be imported while the interpreter exits."""
    reduced: Any = error.__reduce__()
    make, args, *state = reduced
    duplicate = make(*args)
    if state:
        duplicate.__setstate__(state[0])
    return duplicate


class ReentrancyError(AMQPException):
    """A call would have to wait, in a thread that is in the middle of another call of amqplib.

    The call comes from a finalizer, a callback of a weak reference or a signal handler that has
    interrupted amqplib; or from a second thread, on a channel where another call waits for its
    reply. Nothing was sent or changed, and the other call goes on.
    """

    @classmethod
    def of_call(
        cls, method_sig: Signature = NO_METHOD, method_name: Optional[str] = ''
    ) -> ReentrancyError:
        """Return the error for a call, with the method that it would have sent."""
        text = 'this thread is in the middle of another call of amqplib, and may not wait here'
        return cls(0, text, method_sig, method_name)


class AMQPConnectionException(AMQPException):
    """The connection is closed, and with it all of its channels."""


class AMQPChannelException(AMQPException):
    """The channel is closed; its connection and the other channels go on."""


class ConnectionLost(AMQPConnectionException, ConnectionError):
    """The socket could not be opened, broke, was closed by the peer, or went silent.

    errno, strerror: those of the operating system's error, or None.
    """

    _recoverable = True

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError keeps these outside of __dict__.
        of_the_system = {'errno': self.errno, 'strerror': self.strerror}
        return type(self), self.args, {**self.__dict__, **of_the_system}

    def __setstate__(self, state: dict[str, Any]) -> None:  # type: ignore[override]
        # PyPy would put all of it into __dict__.
        for name, value in state.items():
            setattr(self, name, value)

    @classmethod
    def from_error(cls, error: OSError, what: str) -> ConnectionLost:
        """Return the error for an operating system's error; `what` says what was being done."""
        lost = cls(0, f'{what}: {error.strerror or error}', NO_METHOD)
        lost.errno, lost.strerror = error.errno, error.strerror
        lost.__cause__ = error
        return lost


class ConnectionForced(AMQPConnectionException):
    """320: the broker is shutting down, or an operator closed the connection."""


class NotAllowed(AMQPConnectionException):
    """530: the broker forbids this: a virtual host that the user may not use, for instance."""


class NotSupported(AMQPConnectionException):
    """540 ("not implemented"): the broker cannot do this."""


class MessageTooLarge(AMQPConnectionException):
    """311: the broker announced a message larger than the connection's max_message_size.

    Nothing of its body was kept. The broker will deliver it again, unless with no_ack.
    """


class LoginRefused(AMQPConnectionException):
    """The broker did not accept the user, the password or the mechanism."""

    @classmethod
    def by_hanging_up(cls, why: str) -> LoginRefused:
        """Return the error for a broker that hung up without a word; it may just be stopping."""
        text = f'the broker hung up during the login: {why}'
        error = cls(spec.ACCESS_REFUSED, text)
        error._recoverable = True
        return error


class ProtocolVersionRefused(AMQPConnectionException):
    """The peer does not speak this version of AMQP, or not AMQP at all."""


class ProtocolError(AMQPConnectionException):
    """The broker violated the protocol."""


class AccessRefused(AMQPChannelException):
    """403: the user may not do this, or the name is reserved."""


class NotFound(AMQPChannelException):
    """404: there is no such exchange or queue."""


class ResourceLocked(AMQPChannelException):
    """405: the queue is exclusive to another connection."""


class PreconditionFailed(AMQPChannelException):
    """406: a queue or exchange with different arguments, an unknown delivery tag, and the like."""


class ConsumerCancelled(AMQPChannelException):
    """The broker cancelled a consumer, for instance because its queue was deleted.

    consumer_tag: the consumer's tag. The channel stays open.
    """

    _recoverable = True

    def __init__(
        self,
        reply_code: int,
        reply_text: str,
        method_sig: Signature = NO_METHOD,
        method_name: Optional[str] = None,
        consumer_tag: str = '',
    ) -> None:
        super().__init__(reply_code, reply_text, method_sig, method_name)
        self.consumer_tag = consumer_tag


class MessageNacked(AMQPException):
    """The broker refused messages that it should have confirmed.

    sequence_numbers: the numbers that basic_publish returned for them, ascending. The channel stays
        open.
    """

    def __init__(
        self,
        reply_code: int,
        reply_text: str,
        method_sig: Signature = NO_METHOD,
        method_name: Optional[str] = None,
        sequence_numbers: tuple[int, ...] = (),
    ) -> None:
        super().__init__(reply_code, reply_text, method_sig, method_name)
        self.sequence_numbers = sequence_numbers


class MessageReturned(AMQPException):
    """No queue took a message that was published with `mandatory`.

    exchange, routing_key: where it was published to.
    message: the Message, as the program gave it.
    """

    def __init__(
        self,
        reply_code: int,
        reply_text: str,
        method_sig: Signature = NO_METHOD,
        method_name: Optional[str] = None,
        exchange: str = '',
        routing_key: str = '',
        message: Any = None,
    ) -> None:
        super().__init__(reply_code, reply_text, method_sig, method_name)
        self.exchange = exchange
        self.routing_key = routing_key
        self.message = message

    def __str__(self) -> str:
        text = super().__str__()
        if self.exchange or self.routing_key:
            text += f': exchange {self.exchange!r}, routing key {self.routing_key!r}'
        return text


if sys.version_info >= (3, 10):
    _TimeoutError = TimeoutError  # socket.timeout is another name for it
else:

    class _TimeoutError(socket.timeout, TimeoutError):
        """Both classes by which programs catch a timeout."""


class AMQPTimeout(AMQPException, _TimeoutError):
    """A deadline passed before the call was done."""

    _recoverable = True


class WriteTimeout(ConnectionLost, AMQPTimeout):
    """A deadline passed in the middle of a write, which ends the connection.

    It is unknown whether the broker will act on what was sent.
    """


_BY_CODE: dict[int, type[AMQPException]] = {
    spec.CONNECTION_FORCED: ConnectionForced,
    spec.NOT_ALLOWED: NotAllowed,
    spec.NOT_IMPLEMENTED: NotSupported,
    spec.ACCESS_REFUSED: AccessRefused,
    spec.NOT_FOUND: NotFound,
    spec.RESOURCE_LOCKED: ResourceLocked,
    spec.PRECONDITION_FAILED: PreconditionFailed,
}


def error_of_code(base: type[AMQPException], reply_code: int, *args: Any) -> AMQPException:
    """Return the error for a close of the broker: of the base class, or its class by reply code.

    args: the other arguments of an AMQPException.
    """
    cls = _BY_CODE.get(reply_code, base)
    return (cls if issubclass(cls, base) else base)(reply_code, *args)
