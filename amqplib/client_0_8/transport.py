"""Octets in and out of a socket, with deadlines; nothing above a frame is known here.

Each wait is a poll with what remains of the caller's deadline, and then a call that does not
block; only where there is no deadline, and the system can do so, is one call made to wait and to
receive. Received octets are kept in a buffer until whole frames are taken from it, so that a
deadline that passes in the middle of a frame loses nothing. One thread at a time may receive and
one may send; who may is decided by those who use a transport.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from itertools import islice
from math import ceil
from struct import Struct
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from amqplib.client_0_8.addresses import IPV6_LITERAL, AddressInfo, look_up, parse_address
from amqplib.client_0_8.deadline import NEVER, Deadline
from amqplib.client_0_8.exceptions import AMQPTimeout, ConnectionLost, ProtocolError
from amqplib.client_0_8.spec import FRAME_END, FRAME_ERROR

if TYPE_CHECKING:
    from amqplib.client_0_8 import tls

__all__ = [
    'AMQP_PORT',
    'AMQP_PROTOCOL_HEADER',
    'HAVE_PY26_SSL',
    'IPV6_LITERAL',
    'SSLTransport',
    'TCPTransport',
    'create_transport',
]

AMQP_PORT = 5672
AMQPS_PORT = 5671

#: AMQP 0-8, in the one way of saying it that RabbitMQ and Qpid both know.
AMQP_PROTOCOL_HEADER = b'AMQP\x01\x01\x08\x00'

#: Kept for programs that ask; every supported Python has TLS.
HAVE_PY26_SSL = True

#: The most octets that one system call asks for.
RECEIVE_SIZE = 131072
#: Whether single calls can be kept from blocking on a socket that blocks, by MSG_DONTWAIT.
#: Other systems do not have it, or heed it for receiving only.
_CAN_CHOOSE_TO_BLOCK = sys.platform == 'linux'
_DONTWAIT: int = socket.MSG_DONTWAIT if _CAN_CHOOSE_TO_BLOCK else 0
#: Whether memory is used where it is. PyPy has the calls for it, but copies all pieces each time
#: that some are sent, and what was received octet by octet.
_SAVES_COPIES = sys.implementation.name != 'pypy'
#: The most pieces that one system call is given (a limit of the operating systems).
_MOST_PIECES = 512
#: Where there is no gathered write, as for TLS, smaller pieces than this are joined with those
#: that follow.
_LEAST_PIECE = 16384

#: What a socket says for which the program has set a timeout; all other errors have a number.
_TIMED_OUT = ('timed out',)

# Arguments of recv() for map().
_RECEIVE_SIZES = (RECEIVE_SIZE,)
_NO_ANCILLARY_DATA = (0,)
_BLOCKING, _NOT_BLOCKING = (0,), (_DONTWAIT,)

_FRAME_HEADER = Struct('>BHI')

Octets = Union[bytes, bytearray, memoryview]


class _AbstractTransport:
    """A connected socket with a read buffer.

    host: see addresses.parse_address.
    connect_timeout: seconds for everything until the transport can be used; None for no limit.

    Raises ConnectionLost if no address could be connected, AMQPTimeout if that took too long.
    """

    default_port = AMQP_PORT
    _would_block: tuple[type[OSError], ...] = (BlockingIOError,)
    # Whether octets of a write that would block are kept, and may be sent all the same.
    _keeps_octets = False
    #: Whether there is receive_into(), which saves copying large bodies.
    receives_into = False
    # Whether the socket blocks, except in calls that are told not to.
    _blocks = False

    sock: Any = None

    def __init__(self, host: str, connect_timeout: Optional[float]) -> None:
        self.deadline = Deadline(connect_timeout)
        self.host, self.port = parse_address(host, self.default_port)
        self._read_buffer = b''
        # What a receive has brought, on its way to the read buffer.
        self._arrived: list[bytes] = []
        # Whether the last receive may have left something in the socket.
        self._more = False
        #: Octets received and writes done so far, by which silence is noticed.
        self.received = 0
        self.sent = 0
        #: Whether a write was begun and not finished: nothing may follow it.
        self.cut = False
        #: Whether octets were taken from the socket and not yet put where they belong.
        self.torn = False
        #: What waits until the socket can be written, instead of wait_until_writable().
        self.wait_writable: Optional[Callable[[Deadline], None]] = None
        self._prepare()
        self.sock = _connect(self.host, self.port, self.deadline)
        try:
            self._setup_transport()
            self.sock.setblocking(self._blocks)
            # The collector may come to the socket first, which then warns that nobody closed it;
            # but what is called by weak references comes before that.
            weakref.finalize(self, self.sock.close).atexit = False
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Find wrong settings before there is a socket."""

    def _setup_transport(self) -> None:
        """Do what the kind of transport needs once the socket is connected."""

    def __del__(self) -> None:
        # At the end of the interpreter, nothing is called by weak references any more.
        if self.sock is not None:
            self.sock.close()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} to {join_address(self.host, self.port)}>'

    def _has_own_timeout(self) -> bool:
        """Return whether the program has given the socket a timeout, as old ones did."""
        usual = None if self._blocks else 0
        return bool(self.sock.gettimeout() != usual)

    def _now(self, operation: Callable[..., Any], *args: Any) -> Any:
        """Do it without waiting, whatever timeout the program has given the socket."""
        if not self._has_own_timeout():
            return operation(*args)
        own = self.sock.gettimeout()
        self.sock.setblocking(False)
        try:
            return operation(*args)
        finally:
            self.sock.settimeout(own)

    def _check_would_block(self, error: OSError) -> None:
        """Return if an error says that a call would have had to wait; else raise ConnectionLost."""
        check_origin(error, self.sock.gettimeout())
        if not isinstance(error, self._would_block) and error.errno is not None:
            raise ConnectionLost.from_error(error, 'the connection broke') from error

    # Receiving

    def wait_until_readable(self, deadline: Deadline) -> None:
        """Wait for input; raise AMQPTimeout if none came before the deadline."""
        self._wait(deadline, read=True)

    def wait_until_writable(self, deadline: Deadline) -> None:
        """Wait until the socket takes octets; raise AMQPTimeout if it did not in time."""
        self._wait(deadline, write=True)

    def _wait(self, deadline: Deadline, read: bool = False, write: bool = False) -> None:
        limit = deadline.remaining()
        own = self.sock.gettimeout()
        if own and (limit is None or own < limit):
            limit = own  # set by the program itself, which is how old ones limited a wait
        if not any(self.is_ready(limit, read, write)):
            what = 'nothing arrived' if read else 'nothing could be sent'
            raise AMQPTimeout(0, f'{what} within {deadline.seconds or own or 0} s')

    def is_ready(
        self, seconds: Optional[float], read: bool = False, write: bool = False
    ) -> tuple[bool, bool]:
        """Do what wait_for() does with the socket; raise ConnectionLost if it is closed."""
        try:
            return wait_for(self.sock, seconds, read, write)
        except OSError as error:
            check_origin(error)
            raise ConnectionLost.from_error(error, 'the connection broke') from error

    def receive(self, deadline: Deadline = NEVER) -> None:
        """Wait for octets and put them behind those in the read buffer.

        Raises ConnectionLost at the end of the stream or on an error, AMQPTimeout. `torn` stays
        set until the caller has dealt with the octets: interrupted before, they may be lost.
        """
        arrived = self._arrived
        if not arrived:  # else an interrupt came right behind them
            self._fetch(arrived, deadline, self.sock.recv, _RECEIVE_SIZES)
        self.torn = True
        octets = arrived.pop()
        count = len(octets)
        if not count:
            raise _end_of_stream()
        self.received += count
        self._more = count == RECEIVE_SIZE
        self._read_buffer = self._read_buffer + octets if self._read_buffer else octets

    def _fetch(
        self, results: list[Any], deadline: Deadline, call: Callable[..., Any], *args: tuple[Any]
    ) -> None:
        """Do a call that receives, and append its result to the list; waits until there is one.

        args: a tuple of one value each, as for map(). Where calls can be told by flags not to
            block, these come behind them.
        """
        raise NotImplementedError

    def receive_into(self, room: memoryview, deadline: Deadline) -> int:
        """Wait for octets and put them where they belong; return how many that were.

        The read buffer has to be empty. Where there is more than room for, the octets up to the
        next payload are put there. Otherwise as receive().
        """
        raise NotImplementedError

    def _read(self, n: int) -> bytes:
        """Take n octets, as soon as they are there."""
        while len(self._read_buffer) < n:
            self.receive()
        octets, self._read_buffer = self._read_buffer[:n], self._read_buffer[n:]
        return octets

    def read_frame(self) -> tuple[int, int, bytes]:
        """Take one frame: (frame type, channel, payload)."""
        frame_type, channel, size = _FRAME_HEADER.unpack(self._read(_FRAME_HEADER.size))
        payload = self._read(size)
        end = self._read(1)[0]
        if end != FRAME_END:
            raise ProtocolError(FRAME_ERROR, f'a frame ends in 0x{end:02x}')
        return frame_type, channel, payload

    # Sending

    def send(self, octets: Octets, deadline: Deadline = NEVER) -> None:
        """Send all of it.

        Raises ConnectionLost or AMQPTimeout; `cut` then says whether a part was sent.
        """
        self.send_pieces((octets,), deadline)

    def send_pieces(self, pieces: Iterable[Octets], deadline: Deadline = NEVER) -> None:
        """Send pieces one after the other without joining them; otherwise as send()."""
        self.cut = True
        self._send_rest(deque(memoryview(piece) for piece in pieces), False, deadline)
        self.sent += 1  # first: who finds it unchanged and no cut may send the same again
        self.cut = False

    def _send_rest(self, pieces: deque[memoryview], begun: bool, deadline: Deadline) -> None:
        while pieces:
            try:
                sent = self._send_some(pieces)
            except OSError as error:
                self._check_would_block(error)
                begun = begun or self._keeps_octets
                own = self.sock.gettimeout()
                if own:  # set by the program itself, which is how old ones limited a write
                    deadline = deadline.earlier(Deadline(own))
                try:
                    (self.wait_writable or self.wait_until_writable)(deadline)
                except AMQPTimeout:
                    self.cut = begun
                    raise
                continue
            begun = True
            _drop(pieces, sent)

    def send_at_once(self, octets: Octets) -> int:
        """Send what the socket takes of it without waiting; return how many octets that was.

        The others have to be sent next, in one piece if it was none. `cut` stays set until the
        caller has noted what is left.

        Raises ConnectionLost.
        """
        self.cut = True
        try:
            sent = self._send_some(deque((memoryview(octets),)))
        except OSError as error:
            self._check_would_block(error)
            return 0
        self.sent += 1
        return sent

    def _send_some(self, pieces: deque[memoryview]) -> int:
        """Send what the socket takes of the pieces; return how many octets that was."""
        raise NotImplementedError

    def _write(self, octets: Octets) -> None:
        self.send(octets)

    def write_frame(self, frame_type: int, channel: int, payload: bytes) -> None:
        """Send one frame."""
        header = _FRAME_HEADER.pack(frame_type, channel, len(payload))
        self.send(b''.join((header, payload, bytes((FRAME_END,)))))

    # Ending

    def shutdown(self) -> None:
        """End both directions, which wakes every thread that waits for the socket."""
        if self.sock is not None:
            try:
                # Not SSLSocket.shutdown, which would drop the TLS layer under other threads.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError as error:
                check_origin(error)  # else the peer was faster

    def close(self) -> None:
        """End both directions and free the descriptor; once closed, it does nothing."""
        self.shutdown()
        self.release()

    def release(self) -> None:
        """Free the descriptor and nothing else; what is done with the transport then fails."""
        # It refers to the connection, which refers to this: nothing should wait for the collector.
        self.wait_writable = None
        if self.sock is not None:
            self.sock.close()


class TCPTransport(_AbstractTransport):
    """A transport over plain TCP."""

    receives_into = _SAVES_COPIES and hasattr(socket.socket, 'recvmsg_into')
    _gathers = _SAVES_COPIES and hasattr(socket.socket, 'sendmsg')
    _blocks = _CAN_CHOOSE_TO_BLOCK

    def __init__(self, host: str, connect_timeout: Optional[float]) -> None:
        # The results of recvmsg_into(), and what is between the payloads of two frames.
        self._counts: list[tuple[Any, ...]] = []
        self._overflow = bytearray(1 + _FRAME_HEADER.size)
        super().__init__(host, connect_timeout)

    def receive_into(self, room: memoryview, deadline: Deadline) -> int:
        counts = self._counts
        if not counts:
            buffers = ((room, self._overflow),)
            self._fetch(counts, deadline, self.sock.recvmsg_into, buffers, _NO_ANCILLARY_DATA)
        self.torn = True
        count: int = counts.pop()[0]
        if not count:
            raise _end_of_stream()
        self.received += count
        beyond = count - len(room)
        self._more = beyond == len(self._overflow)
        if beyond <= 0:
            return count
        self._read_buffer = bytes(self._overflow[:beyond])
        return len(room)

    def _fetch(
        self, results: list[Any], deadline: Deadline, call: Callable[..., Any], *args: tuple[Any]
    ) -> None:
        waits = self._blocks and (deadline is NEVER or deadline.remaining() is None)
        flags = _BLOCKING if waits else _NOT_BLOCKING
        while not results:
            if not waits and (not self._more or self._has_own_timeout()):
                self.wait_until_readable(deadline)
            try:
                # One call, and none that a signal handler could interrupt in the middle: either
                # nothing was taken from the socket, or the result is in the list.
                results.extend(map(call, *args, flags))
            except OSError as error:
                if results:
                    raise  # of a signal handler, as the call is done
                self._check_would_block(error)
                self._more = False
                if waits:
                    text = f'nothing arrived within {self.sock.gettimeout()} s'
                    raise AMQPTimeout(0, text) from None

    def send(self, octets: Octets, deadline: Deadline = NEVER) -> None:
        """Send all of it; otherwise as the general send(), with less work."""
        if deadline is not NEVER and self._has_own_timeout():
            # The socket itself would wait, for longer perhaps.
            super().send(octets, deadline)
            return
        self.cut = True
        try:
            sent = self.sock.send(octets, _DONTWAIT)
        except OSError as error:
            self._check_would_block(error)
            sent = 0
        if sent < len(octets):
            self._send_rest(deque([memoryview(octets)[sent:]]), sent > 0, deadline)
        self.sent += 1  # first: who finds it unchanged and no cut may send the same again
        self.cut = False

    def _send_some(self, pieces: deque[memoryview]) -> int:
        sent: int
        if self._gathers:
            sent = self._now(self.sock.sendmsg, islice(pieces, _MOST_PIECES), (), _DONTWAIT)
        else:
            sent = self._now(self.sock.send, _join_small(pieces), _DONTWAIT)
        return sent


class SSLTransport(_AbstractTransport):
    """A transport over TLS.

    ssl: see tls.make_context.
    """

    default_port = AMQPS_PORT
    # OpenSSL has encrypted a record before it finds that it cannot be sent.
    _keeps_octets = True

    # Subclasses of amqplib 1.0.2's time set them only now and then.
    sslopts: Any = True
    sslobj: Any = None

    def __init__(
        self, host: str, connect_timeout: Optional[float], ssl: tls.Options = True
    ) -> None:
        self.sslopts = ssl
        super().__init__(host, connect_timeout)

    def _prepare(self) -> None:
        # Imported only where it is used: it costs more than all the rest.
        from amqplib.client_0_8 import tls  # noqa: PLC0415

        self._context, self._server_name = tls.make_context(self.sslopts)
        self._would_block = (tls.WANT_READ, tls.WANT_WRITE)
        self._want_write = tls.WANT_WRITE
        # OpenSSL does not allow a read and a write of one connection at the same time. It is
        # held for single calls that do not block, never while waiting.
        self._tls_lock = threading.Lock()

    def _setup_transport(self) -> None:
        try:
            self.sock = self.sslobj = self._context.wrap_socket(
                self.sock,
                server_hostname=self._server_name or self.host,
                do_handshake_on_connect=False,
            )
            self.sock.setblocking(False)
            self._repeat(self.sock.do_handshake, self.deadline)
        except AMQPTimeout:
            text = 'no TLS handshake with {} within {} s'
            address = join_address(self.host, self.port)
            raise AMQPTimeout(0, text.format(address, self.deadline.seconds)) from None
        except OSError as error:
            check_origin(error)
            address = join_address(self.host, self.port)
            what = f'no TLS connection to {address}'
            raise ConnectionLost.from_error(error, what) from error

    def _repeat(self, operation: Callable[..., Any], deadline: Deadline, *args: Any) -> Any:
        """Do it again whenever the socket can go on, until it succeeds."""
        while True:
            try:
                with self._tls_lock:
                    self.torn = True
                    return self._now(operation, *args)
            except self._would_block as error:
                self.torn = False
                write = isinstance(error, self._want_write)
                self._wait(deadline, read=not write, write=write)

    def _fetch(
        self, results: list[Any], deadline: Deadline, call: Callable[..., Any], *args: tuple[Any]
    ) -> None:
        # TLS keeps decrypted octets of its own: try before waiting for the socket.
        try:
            results.append(self._repeat(call, deadline, *(value for (value,) in args)))
        except AMQPTimeout:
            raise
        except OSError as error:
            check_origin(error)
            raise ConnectionLost.from_error(error, 'the connection broke') from error

    def _send_some(self, pieces: deque[memoryview]) -> int:
        octets = _join_small(pieces)
        with self._tls_lock:
            sent: int = self._now(self.sock.send, octets)
        return sent


def check_origin(error: OSError, may_time_out: Any = False) -> None:
    """Raise an error that is not the system's, but of a signal handler that ran behind the call.

    may_time_out: whether the socket has a timeout. Handlers like to raise TimeoutError too.
    """
    if error.errno is None and not (may_time_out and error.args == _TIMED_OUT):
        raise error


def create_transport(
    host: str, connect_timeout: Optional[float], ssl: Union[bool, Any] = False
) -> _AbstractTransport:
    """Connect a transport: TLS if `ssl` is true, else plain TCP."""
    if ssl:
        return SSLTransport(host, connect_timeout, ssl)
    return TCPTransport(host, connect_timeout)


def join_address(host: str, port: int) -> str:
    """Return ``host:port``, with brackets where the host has colons."""
    return ('[{}]:{}' if ':' in host else '{}:{}').format(host, port)


def wait_for(
    sock: socket.socket, seconds: Optional[float], read: bool = False, write: bool = False
) -> tuple[bool, bool]:
    """Wait until the socket can be read or written, or failed; return which of the two.

    seconds: how long at most; None for no limit. (False, False) says that nothing happened.

    Raises OSError if the socket is closed.
    """
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    if not hasattr(select, 'poll'):
        readable, writable, failed = select.select(
            [sock] if read else [], [sock] if write else [], [sock], seconds
        )
        return bool(readable or failed), bool(writable or failed)
    poller = select.poll()
    try:
        poller.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
    except ValueError:
        if sock.fileno() >= 0:
            raise  # it is of a signal handler
        # Closed just now, by another thread.
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
            # Not all that replace sockets number their errors.
            if isinstance(error, TimeoutError):
                check_origin(error, may_time_out=True)
            failure = error
    if isinstance(failure, socket.timeout) and failure.errno is None:
        raise AMQPTimeout(0, f'{what} within {deadline.seconds} s') from failure
    raise ConnectionLost.from_error(failure, what) from failure


def _share(deadline: Deadline, addresses: int) -> Optional[float]:
    """Return how long to try one address, so that time is left for the others."""
    remaining = deadline.remaining()
    return None if remaining is None else max(remaining / addresses, 0.001)


def _connect_to(address: AddressInfo, seconds: Optional[float]) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(seconds)
        sock.connect(where)
        if sock.getsockname() == sock.getpeername():
            # TCP lets a socket connect to itself where nobody listens on a local port.
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock
    except BaseException:
        sock.close()
        raise


def _end_of_stream() -> ConnectionLost:
    return ConnectionLost(0, 'the broker closed the socket')


def _drop(pieces: deque[memoryview], count: int) -> None:
    """Take the first `count` octets off the pieces."""
    while pieces and count >= len(pieces[0]):
        count -= len(pieces.popleft())
    if count:
        pieces[0] = pieces[0][count:]


def _join_small(pieces: deque[memoryview]) -> Octets:
    """Return the first piece, or the first small ones joined."""
    if len(pieces) == 1 or len(pieces[0]) >= _LEAST_PIECE:
        return pieces[0]
    joined = b''
    for piece in pieces:
        if len(joined) + len(piece) > 2 * _LEAST_PIECE:
            return joined + piece[: 2 * _LEAST_PIECE - len(joined)]
        joined += piece
    return joined
