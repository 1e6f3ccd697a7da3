"""Bytes in and out of a socket, with deadlines.

Each wait is a poll with the remaining time of the caller's deadline, followed by a call that does
not block. If there is no deadline, and the system allows it, a single call waits and receives. One
thread at a time may receive, and one may send; the users of a transport see to that.

The result of a system call is put in a list by the same step of C code. So an exception that a
signal handler raises right after the call loses nothing: the next receive finds the result there.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import socket
import sys
import weakref
from collections import deque
from collections.abc import Iterable
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, Callable, Optional

from amqplib.core.addresses import AddressInfo, join_address, look_up, parse_address
from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.core.locks import Mutex
from amqplib.core.serialization import BytesLike
from amqplib.core.spec import FRAME_OVERHEAD
from amqplib.exceptions import AMQPTimeout, ConnectionLost

if TYPE_CHECKING:
    from amqplib.core import tls

AMQP_PORT = 5672
AMQPS_PORT = 5671

#: The most bytes that one system call receives.
RECEIVE_SIZE = 131072
#: Whether MSG_DONTWAIT keeps single calls on a blocking socket from blocking.
#: Other systems do not have it, or apply it only to receiving.
_CAN_CHOOSE_TO_BLOCK = sys.platform == 'linux'
_DONTWAIT: int = socket.MSG_DONTWAIT if _CAN_CHOOSE_TO_BLOCK else 0
#: The system's own socket calls, even if socket.socket has been replaced.
_SYSTEM_CALLS = {
    name: getattr(_socket.socket, name)
    for name in ('recv', 'recvmsg_into', 'send', 'sendmsg')
    if hasattr(_socket.socket, name)
}
#: Whether gathered sends and receives into memory save copies. PyPy has the calls, but copies all
#: pieces each time that some are sent, and copies received data byte by byte.
_SAVES_COPIES = sys.implementation.name != 'pypy'
#: The most pieces for one system call (a limit of operating systems).
_MAX_PIECES = 512
#: Where there is no gathered write, as with TLS, pieces smaller than this are joined with the
#: following ones.
_MIN_PIECE = 16384

#: The args of the error of a socket with a timeout; all other socket errors have an errno.
_TIMED_OUT = ('timed out',)

#: What versions of OpenSSL say of an answer that is no TLS.
_NO_TLS = frozenset(('RECORD_LAYER_FAILURE', 'WRONG_VERSION_NUMBER'))

# Arguments of recv() for map().
_RECEIVE_SIZES = (RECEIVE_SIZE,)
_NO_ANCILLARY_DATA = (0,)
_BLOCKING, _NOT_BLOCKING = (0,), (_DONTWAIT,)


class AbstractTransport:
    """A connected socket.

    host: see addresses.parse_address.
    connect_timeout: seconds until the transport can be used; None for no limit.

    Raises ConnectionLost if no address could be connected, AMQPTimeout if that took too long.
    """

    default_port = AMQP_PORT
    _would_block: tuple[type[OSError], ...] = (BlockingIOError,)
    #: Whether there is receive_into(), which saves a copy of large bodies.
    receives_into = False
    #: Whether the last receive ended before its deadline, as something is to be sent first.
    gave_way = False
    # Whether the socket blocks, except in calls with MSG_DONTWAIT.
    _blocks = False
    # Whether it may block.
    _may_block = False

    sock: Any = None

    def __init__(self, host: str, connect_timeout: Optional[float]) -> None:
        self.deadline = Deadline(connect_timeout)
        self.host, self.port = parse_address(host, self.default_port)
        # Whether the last receive may have left data in the socket.
        self._more = False
        # For what follows the room of receive_into(): the bytes between two payloads.
        self._overflow = bytearray(FRAME_OVERHEAD)
        self._room_size = 0
        #: Bytes received and writes done so far, for the heartbeat thread.
        self.received = 0
        self.sent = 0
        #: Whether a write was begun but not finished: nothing may follow it.
        self.unfinished = False
        #: Whether send_some() has sent nothing because it needs bytes from the peer first.
        self.needs_input = False
        #: A function that waits until a write can go on, in place of wait_for_write().
        self.wait_writable: Optional[Callable[[Deadline, bool], None]] = None
        self._prepare()
        self.sock = _connect(self.host, self.port, self.deadline)
        try:
            self._setup_transport()
            self._blocks = self._may_block and _heeds_flags(self.sock)
            self.sock.setblocking(self._blocks)
            # The collector may finalize the socket first, which then warns that it was not closed.
            # Callbacks of weak references run before that.
            weakref.finalize(self, self.sock.close).atexit = False
        except BaseException:
            self.close()
            raise

    def set_user_timeout(self, milliseconds: int) -> None:
        """Limit how long the system waits until the peer has acknowledged sent bytes."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def _prepare(self) -> None:
        """Raise errors for wrong settings, before there is a socket."""

    def _setup_transport(self) -> None:
        """Set up the kind of transport once the socket is connected."""

    def __del__(self) -> None:
        # At interpreter exit, weak references no longer call anything.
        if self.sock is not None:
            self.sock.close()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} to {join_address(self.host, self.port)}>'

    def _has_own_timeout(self) -> bool:
        """Return whether the program has set a timeout on the socket, as old programs did."""
        usual = None if self._blocks else 0
        return bool(self.sock.gettimeout() != usual)

    def _now(self, operation: Callable[..., Any], *args: Any) -> Any:
        """Call without waiting, whatever timeout the program has set on the socket."""
        if not self._has_own_timeout():
            return operation(*args)
        own = self.sock.gettimeout()
        self.sock.setblocking(False)
        try:
            return operation(*args)
        finally:
            self.sock.settimeout(own)

    def _check_would_block(self, error: OSError) -> None:
        """Return if an error says that a call would have blocked; else raise ConnectionLost."""
        reraise_handler_error(error, self.sock.gettimeout())
        if not isinstance(error, self._would_block) and error.errno is not None:
            raise ConnectionLost.from_error(error, 'the connection broke') from error

    # Receiving

    def wait_for_write(self, deadline: Deadline, needs_input: bool) -> None:
        """Wait until a write can go on; raise AMQPTimeout at the deadline.

        needs_input: whether the write needs bytes from the peer rather than room to send.
        """
        if not self._wait(deadline, read=needs_input, write=not needs_input):
            raise AMQPTimeout(0, f'nothing could be sent within {self.limit_of(deadline)}')

    def wait_to_send(self, deadline: Deadline, needs_input: bool = False) -> None:
        """Wait as wait_for_write() does, by `wait_writable` if there is one."""
        own = self.sock.gettimeout()
        if own:  # set by the program, which is how old programs limited a write
            deadline = deadline.earlier(Deadline(own))
        (self.wait_writable or self.wait_for_write)(deadline, needs_input)

    def _wait(self, deadline: Deadline, read: bool = False, write: bool = False) -> bool:
        """Wait for the socket; return False if nothing happened before the deadline."""
        limit = deadline.remaining()
        own = self.sock.gettimeout()
        if own and (limit is None or own < limit):
            limit = own  # set by the program, which is how old programs limited a wait
        return any(self.is_ready(limit, read, write))

    def limit_of(self, deadline: Deadline) -> Deadline:
        """Return the deadline, or if it has no limit, the timeout of the socket."""
        if deadline.seconds is not None:
            return deadline
        return Deadline(self.sock.gettimeout() or 0)

    def is_ready(
        self, seconds: Optional[float], read: bool = False, write: bool = False
    ) -> tuple[bool, bool]:
        """Do what poll_socket() does with the socket; raise ConnectionLost if it is closed."""
        try:
            return poll_socket(self.sock, seconds, read, write)
        except OSError as error:
            reraise_handler_error(error)
            raise ConnectionLost.from_error(error, 'the connection broke') from error

    def receive(self, arrived: list[Any], deadline: Deadline = NO_DEADLINE) -> bool:
        """Wait for bytes, and append them to the list; return False if none came in time.

        Raises ConnectionLost at the end of the stream or on an error.
        """
        if not self._fetch(arrived, deadline, self.sock.recv, _RECEIVE_SIZES):
            return False
        count = len(arrived[-1])
        if not count:
            raise _end_of_stream()
        self.received += count
        self._more = count == RECEIVE_SIZE
        return True

    def _fetch(
        self, results: list[Any], deadline: Deadline, call: Callable[..., Any], *args: tuple[Any]
    ) -> bool:
        """Call a function that receives, and append its result to the list; wait for data.

        args: one tuple of one value for each argument, as for map(). Flags follow them if calls can
            be kept from blocking by flags.

        Returns False if there was no data before the deadline.
        """
        raise NotImplementedError

    def receive_into(self, room: memoryview, arrived: list[Any], deadline: Deadline) -> bool:
        """Wait for bytes, and receive them into the room; return False if none came in time.

        A few bytes beyond the room, up to the next payload, are received too. The result that is
        appended to the list is for split().
        """
        raise NotImplementedError

    def split(self, result: Any) -> tuple[int, bytes]:
        """Return how many bytes receive_into() put into the room, and the bytes after them."""
        count: int = result[0]
        beyond = count - self._room_size
        if beyond <= 0:
            return count, b''
        return self._room_size, bytes(self._overflow[:beyond])

    # Sending

    def send(self, data: BytesLike, deadline: Deadline = NO_DEADLINE) -> None:
        """Send all of the data.

        Raises ConnectionLost or AMQPTimeout; `unfinished` then says whether a part was sent.
        """
        self.send_pieces((data,), deadline)

    def send_pieces(self, pieces: Iterable[BytesLike], deadline: Deadline = NO_DEADLINE) -> None:
        """Send pieces one after the other without joining them; otherwise like send()."""
        self.unfinished = True
        self._send_rest(deque(memoryview(piece) for piece in pieces), False, deadline)
        # In this order: if `sent` is unchanged and nothing is unfinished, it may be sent again.
        self.sent += 1
        self.unfinished = False

    def _send_rest(self, pieces: deque[memoryview], begun: bool, deadline: Deadline) -> None:
        while pieces:
            try:
                sent = self._send_some(pieces)
            except OSError as error:
                self._check_would_block(error)
                begun = begun or self._keeps_bytes(error)
                try:
                    self.wait_to_send(deadline, self._needs_input(error))
                except AMQPTimeout:
                    self.unfinished = begun
                    raise
                continue
            begun = True
            _drop(pieces, sent)

    def send_some(self, data: BytesLike) -> int:
        """Send as many of the bytes as the socket takes at once; return how many.

        The rest must be sent before anything else, from the same bytes object.
        """
        try:
            sent = self._send_some(deque((memoryview(data),)))
        except OSError as error:
            self._check_would_block(error)
            self.needs_input = self._needs_input(error)
            return 0
        self.sent += 1
        return sent

    def _send_some(self, pieces: deque[memoryview]) -> int:
        """Send as many bytes of the pieces as the socket takes; return how many."""
        raise NotImplementedError

    def _needs_input(self, error: OSError) -> bool:
        """Return whether a write that would block needs bytes from the peer."""
        return False

    def _keeps_bytes(self, error: OSError) -> bool:
        """Return whether bytes of a write that would block may still be sent later."""
        return False

    # Ending

    def shutdown(self) -> None:
        """End both directions, which wakes every thread that waits for the socket."""
        if self.sock is not None:
            try:
                _shut_down(self.sock)
            except OSError as error:
                reraise_handler_error(error)  # else the peer has closed first

    def close(self) -> None:
        """End both directions and free the descriptor; does nothing if it is closed."""
        self.shutdown()
        self.release()

    def release(self) -> None:
        """Free the descriptor and nothing else; after that, every use of the transport fails."""
        # Breaks the reference cycle with the session, so that no collector is needed.
        self.wait_writable = None
        if self.sock is not None:
            self.sock.close()


class TCPTransport(AbstractTransport):
    """A transport over plain TCP."""

    _may_block = _CAN_CHOOSE_TO_BLOCK

    def _setup_transport(self) -> None:
        self.receives_into = _SAVES_COPIES and hasattr(self.sock, 'recvmsg_into')
        self._gathers = _SAVES_COPIES and hasattr(self.sock, 'sendmsg')

    def receive_into(self, room: memoryview, arrived: list[Any], deadline: Deadline) -> bool:
        self._room_size = len(room)
        buffers = ((room, self._overflow),)
        if not self._fetch(arrived, deadline, self.sock.recvmsg_into, buffers, _NO_ANCILLARY_DATA):
            return False
        count = arrived[-1][0]
        if not count:
            raise _end_of_stream()
        self.received += count
        self._more = count == self._room_size + len(self._overflow)
        return True

    def _fetch(
        self, results: list[Any], deadline: Deadline, call: Callable[..., Any], *args: tuple[Any]
    ) -> bool:
        waits = self._blocks and (deadline is NO_DEADLINE or deadline.remaining() is None)
        flags = _BLOCKING if waits else _NOT_BLOCKING
        while not results:
            ready = waits or (self._more and not self._has_own_timeout())
            if not ready and not self._wait(deadline, read=True):
                return False
            try:
                # No signal handler can run in the middle of this call: either nothing was taken
                # from the socket, or the result is in the list.
                results.extend(map(call, *args, flags))
            except OSError as error:
                if results:
                    raise  # from a signal handler, as the call has succeeded
                self._check_would_block(error)
                self._more = False
                if waits:
                    return False  # the program has set a timeout for the socket
        return True

    def send(self, data: BytesLike, deadline: Deadline = NO_DEADLINE) -> None:
        """Send all of the data, like the general send(), but with less work."""
        if deadline is not NO_DEADLINE and self._has_own_timeout():
            # The socket itself would wait, perhaps for longer.
            super().send(data, deadline)
            return
        self.unfinished = True
        try:
            sent = self.sock.send(data, _DONTWAIT)
        except OSError as error:
            self._check_would_block(error)
            sent = 0
        if sent < len(data):
            self._send_rest(deque([memoryview(data)[sent:]]), sent > 0, deadline)
        self.sent += 1  # in this order, as there
        self.unfinished = False

    def _send_some(self, pieces: deque[memoryview]) -> int:
        sent: int
        if self._gathers:
            sent = self._now(self.sock.sendmsg, islice(pieces, _MAX_PIECES), (), _DONTWAIT)
        else:
            sent = self._now(self.sock.send, _join_small(pieces), _DONTWAIT)
        return sent


class SSLTransport(AbstractTransport):
    """A transport over TLS.

    ssl: see tls.make_context.
    """

    default_port = AMQPS_PORT

    # Subclasses written for amqplib 1.0.2 do not always set them.
    sslopts: Any = True
    sslobj: Any = None

    def __init__(
        self, host: str, connect_timeout: Optional[float], ssl: tls.Options = True
    ) -> None:
        self.sslopts = ssl
        super().__init__(host, connect_timeout)

    def _prepare(self) -> None:
        # Imported on demand: it takes longer than everything else.
        from amqplib.core import tls  # noqa: PLC0415

        self._context, self._server_name = tls.make_context(self.sslopts, self.host)
        self._would_block = (tls.WANT_READ, tls.WANT_WRITE)
        self._want_read = tls.WANT_READ
        # OpenSSL does not allow a read and a write on one connection at the same time. The lock is
        # held for single calls that do not block, never while waiting.
        self._tls_lock = Mutex()

    def _setup_transport(self) -> None:
        try:
            self.sock = self.sslobj = self._context.wrap_socket(
                self.sock,
                server_hostname=self._server_name,
                do_handshake_on_connect=False,
            )
            self.sock.setblocking(False)
            shake_hands = self.sock.do_handshake
            if not self._repeat([], self.deadline, lambda _: shake_hands(), (None,)):
                address = join_address(self.host, self.port)
                raise AMQPTimeout(0, f'no TLS handshake with {address} within {self.deadline}')
        except AMQPTimeout:
            raise
        except OSError as error:
            reraise_handler_error(error)
            address = join_address(self.host, self.port)
            reason = getattr(error, 'reason', None)
            hint = ', perhaps a port without TLS' if reason in _NO_TLS else ''
            what = f'no TLS connection to {address}{hint}'
            raise ConnectionLost.from_error(error, what) from error

    def _fetch(
        self, results: list[Any], deadline: Deadline, call: Callable[..., Any], *args: tuple[Any]
    ) -> bool:
        try:
            return self._repeat(results, deadline, call, *args)
        except OSError as error:
            reraise_handler_error(error)
            raise ConnectionLost.from_error(error, 'the connection broke') from error

    def _repeat(
        self, results: list[Any], deadline: Deadline, call: Callable[..., Any], *args: tuple[Any]
    ) -> bool:
        """Repeat a call whenever the socket is ready, until its result is in the list.

        Returns False at the deadline, or before it if something is to be sent first.
        """
        # TLS buffers decrypted bytes: try before waiting for the socket.
        while not results:
            try:
                self.gave_way = False
                self._tls_lock.run(self._now, results.extend, map(call, *args))
            except self._would_block as error:
                if self.gave_way:
                    return False
                read = self._needs_input(error)
                if not self._wait(deadline, read=read, write=not read):
                    return False
        return True

    def send_some(self, data: BytesLike) -> int:
        # A finalizer may call this in the middle of a read of the same thread.
        if self._tls_lock.is_mine():
            self.gave_way = True
            return 0
        return super().send_some(data)

    def _send_some(self, pieces: deque[memoryview]) -> int:
        sent: int = self._tls_lock.run(self._now, self.sock.send, _join_small(pieces))
        return sent

    def _needs_input(self, error: OSError) -> bool:
        # In a handshake that the peer has begun, or in a TLS message that has arrived in part.
        return isinstance(error, self._want_read)

    def _keeps_bytes(self, error: OSError) -> bool:
        # OpenSSL encrypts a record before it finds that it cannot send it.
        return not self._needs_input(error)


def reraise_handler_error(error: OSError, may_time_out: Any = False) -> None:
    """Raise an error again if it comes from a signal handler that ran right after a system call.

    may_time_out: whether the socket has a timeout, and so may raise an error without an errno.
    """
    if error.errno is None and not (may_time_out and error.args == _TIMED_OUT):
        raise error


def poll_socket(
    sock: socket.socket, seconds: Optional[float], read: bool = False, write: bool = False
) -> tuple[bool, bool]:
    """Wait until the socket can be read or written, or has failed; return (read, write).

    seconds: the limit; None for no limit. (False, False) means that nothing happened.

    Raises OSError if the socket is closed.
    """
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    if not hasattr(select, 'poll'):
        try:
            readable, writable, failed = select.select(
                [sock] if read else [], [sock] if write else [], [sock], seconds
            )
        except RuntimeError as error:
            if seconds == 0 and 'simultaneous' in str(error):
                # eventlet lets only one thread wait for a socket; if it still waits, nothing has
                # happened.
                return False, False
            raise
        return bool(readable or failed), bool(writable or failed)
    poller = select.poll()
    try:
        poller.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
    except ValueError:
        if sock.fileno() >= 0:
            raise  # from a signal handler
        # Another thread has just closed it.
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    events = poller.poll(None if seconds is None else ceil(seconds * 1000))
    if not events:
        return False, False
    happened = events[0][1]
    failed_bits = select.POLLERR | select.POLLHUP | select.POLLNVAL
    return bool(happened & (select.POLLIN | failed_bits)), bool(
        happened & (select.POLLOUT | failed_bits)
    )


def _connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Return a socket that is connected to the first address that answers."""
    what = f'cannot connect to {join_address(host, port)}'
    addresses = look_up(host, port, deadline)
    for tried, address in enumerate(addresses):
        try:
            return _connect_to(address, _share(deadline, len(addresses) - tried))
        except OSError as error:
            # Not all replacements of sockets set an errno.
            if isinstance(error, TimeoutError):
                reraise_handler_error(error, may_time_out=True)
            failure = error
    if isinstance(failure, socket.timeout) and failure.errno is None:
        raise AMQPTimeout(0, f'{what} within {deadline}') from failure
    raise ConnectionLost.from_error(failure, what) from failure


def _share(deadline: Deadline, addresses: int) -> Optional[float]:
    """Return the seconds to try one address, so that time is left for the others."""
    remaining = deadline.remaining()
    return None if remaining is None else max(remaining / addresses, 0.001)


def _connect_to(address: AddressInfo, seconds: Optional[float]) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = None
    try:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(seconds)
        sock.connect(where)
        if sock.getsockname() == sock.getpeername():
            # TCP lets a socket connect to itself if nobody listens on a local port.
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock
    except BaseException:
        if sock is not None:
            sock.close()
        raise


def _heeds_flags(sock: Any) -> bool:
    """Return whether a socket passes flags on to the system.

    Sockets that wait in a way of their own, like those of gevent and eventlet, wait in spite of
    MSG_DONTWAIT.
    """
    return all(getattr(type(sock), name, None) is call for name, call in _SYSTEM_CALLS.items())


def _shut_down(sock: Any) -> None:
    """End both directions of a socket of any kind.

    The shutdown of a TLS socket would drop its TLS layer while other threads use it, so the base
    class's is called.
    """
    classes: list[Any] = [kind for kind in type(sock).__mro__ if 'shutdown' in vars(kind)]
    if classes:
        classes[-1].shutdown(sock, socket.SHUT_RDWR)
    else:  # as with eventlet
        sock.shutdown(socket.SHUT_RDWR)


def _end_of_stream() -> ConnectionLost:
    return ConnectionLost(0, 'the broker closed the socket')


def _drop(pieces: deque[memoryview], count: int) -> None:
    """Remove the first `count` bytes from the pieces."""
    while pieces and count >= len(pieces[0]):
        count -= len(pieces.popleft())
    if count:
        pieces[0] = pieces[0][count:]


def _join_small(pieces: deque[memoryview]) -> BytesLike:
    """Return the first piece, or the first small ones joined."""
    if len(pieces) == 1 or len(pieces[0]) >= _MIN_PIECE:
        return pieces[0]
    joined = b''
    for piece in pieces:
        if len(joined) + len(piece) > 2 * _MIN_PIECE:
            return joined + piece[: 2 * _MIN_PIECE - len(joined)]
        joined += piece
    return joined
