"""What can go wrong, as classes.

::

    AMQPException
    +-- AMQPConnectionException         the connection is closed
    |   +-- ConnectionLost              the socket broke or went silent (also a ConnectionError)
    |   +-- ConnectionForced            320: the broker stops, or an operator closed it
    |   +-- LoginRefused                user, password or mechanism was not accepted
    |   +-- ProtocolVersionRefused      the broker speaks another version of AMQP
    |   +-- ProtocolError               the broker sent what the protocol does not allow
    +-- AMQPChannelException            this channel is closed, the connection goes on
    |   +-- AccessRefused               403
    |   +-- NotFound                    404
    |   +-- ResourceLocked              405
    |   +-- PreconditionFailed          406
    |   +-- ConsumerCancelled           the broker ended a consumer; the channel stays open
    +-- ReentrancyError                 a call that would have to wait, in the middle of another
    +-- AMQPTimeout                     a deadline passed (also TimeoutError, socket.timeout)
        +-- WriteTimeout                in the middle of a write (also a ConnectionLost)

A wrong argument is a ValueError or TypeError, raised before anything is sent.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Optional

from amqplib.client_0_8 import spec
from amqplib.client_0_8.spec import Signature

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
    'NotFound',
    'PreconditionFailed',
    'ProtocolError',
    'ProtocolVersionRefused',
    'ReentrancyError',
    'ResourceLocked',
    'WriteTimeout',
]

#: For errors that no method caused.
NO_METHOD: Signature = (0, 0)


METHOD_NAME_MAP: dict[Signature, str] = {row.signature: row.python_name for row in spec.ROWS}


class AMQPException(Exception):
    """The base of all errors that the broker or the connection causes.

    amqp_reply_code: the reply code of the specification, an int; 0 if there is none.
    amqp_reply_text: what happened, as the broker or this library words it.
    amqp_method_sig: (class id, method id) of the method that failed; (0, 0) if unknown.
    args: (code, text, signature, name of the method, as in 'Channel.queue_declare').
    """

    def __init__(
        self,
        reply_code: int,
        reply_text: str,
        method_sig: Signature = NO_METHOD,
        method_name: Optional[str] = None,
    ) -> None:
        super().__init__()
        if method_name is None:
            method_name = METHOD_NAME_MAP.get((method_sig[0], method_sig[1]), '')
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

    def again(self) -> AMQPException:
        """Return this error as a new object, to be raised by a later call on what is closed."""
        import copy  # noqa: PLC0415 - most programs never need it

        repeated = copy.copy(self)
        reason = self.__cause__
        # Copies, as what was raised refers to everything that its traceback does.
        if isinstance(reason, AMQPException):
            repeated.__cause__ = reason.again()
        else:
            repeated.__cause__ = copy.copy(reason)
        return repeated


class AMQPConnectionException(AMQPException):
    """The connection is closed, and with it all of its channels."""


class AMQPChannelException(AMQPException):
    """The channel is closed; its connection and the other channels go on."""


class ConnectionLost(AMQPConnectionException, ConnectionError):
    """The socket could not be opened, broke, was closed by the peer, or went silent.

    errno, strerror: those of the operating system's error, or None.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # These live in OSError, outside of __dict__.
        of_the_system = {'errno': self.errno, 'strerror': self.strerror}
        return type(self), self.args, {**self.__dict__, **of_the_system}

    def __setstate__(self, state: dict[str, Any]) -> None:  # type: ignore[override]
        # PyPy would put all of it into __dict__.
        for name, value in state.items():
            setattr(self, name, value)

    @classmethod
    def from_error(cls, error: OSError, what: str) -> ConnectionLost:
        """Make one of an operating system's error; what says what was being done."""
        lost = cls(0, f'{what}: {error.strerror or error}', NO_METHOD)
        lost.errno, lost.strerror = error.errno, error.strerror
        lost.__cause__ = error
        return lost


class ConnectionForced(AMQPConnectionException):
    """320: the broker is being stopped, or an operator closed the connection."""


class LoginRefused(AMQPConnectionException):
    """The broker did not accept the user, the password or the mechanism."""


class ProtocolVersionRefused(AMQPConnectionException):
    """The peer does not speak this version of AMQP, or not AMQP at all."""


class ProtocolError(AMQPConnectionException):
    """The broker sent something that the protocol does not allow."""


class AccessRefused(AMQPChannelException):
    """403: the user may not do this, or the name is reserved."""


class NotFound(AMQPChannelException):
    """404: there is no such exchange or queue."""


class ResourceLocked(AMQPChannelException):
    """405: the queue is exclusive to another connection."""


class PreconditionFailed(AMQPChannelException):
    """406: other arguments than the existing one's, an unknown delivery tag, and the like."""


class ConsumerCancelled(AMQPChannelException):
    """The broker ended a consumer, for instance because its queue was deleted.

    consumer_tag: the consumer's tag. The channel stays open.
    """

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


class ReentrancyError(AMQPException):
    """A finalizer or a signal handler called what has to wait, in the middle of another call.

    The thread is just reading or writing on the connection, or waiting for a reply on the channel.
    Nothing was changed or sent; connection, channel and the other call go on. What needs no reply
    of the broker can be called there: publishing, acknowledging, closing.
    """


if sys.version_info >= (3, 10):
    _TimeoutError = TimeoutError  # which socket.timeout is another name of
else:

    class _TimeoutError(socket.timeout, TimeoutError):
        """Both of the classes by which a timeout may be caught."""


class AMQPTimeout(AMQPException, _TimeoutError):
    """A deadline passed before the call was done."""


class WriteTimeout(ConnectionLost, AMQPTimeout):
    """A deadline passed in the middle of a write, which ends the connection.

    Whether the broker will act on what was sent is not known.
    """


_CHANNEL_EXCEPTIONS: dict[int, type[AMQPChannelException]] = {
    spec.ACCESS_REFUSED: AccessRefused,
    spec.NOT_FOUND: NotFound,
    spec.RESOURCE_LOCKED: ResourceLocked,
    spec.PRECONDITION_FAILED: PreconditionFailed,
}


def connection_exception(
    reply_code: int, reply_text: str, method_sig: Signature, method_name: str
) -> AMQPConnectionException:
    """Return the error for a connection.close of the broker, by its reply code."""
    cls = ConnectionForced if reply_code == spec.CONNECTION_FORCED else AMQPConnectionException
    return cls(reply_code, reply_text, method_sig, method_name)


def channel_exception(
    reply_code: int, reply_text: str, method_sig: Signature, method_name: str
) -> AMQPChannelException:
    """Return the error for a channel.close of the broker, by its reply code."""
    cls = _CHANNEL_EXCEPTIONS.get(reply_code, AMQPChannelException)
    return cls(reply_code, reply_text, method_sig, method_name)
