"""Connection: the handshake, the channels, the one read loop, and the end."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from time import monotonic
from typing import Any, Callable, ClassVar, Optional, Union

from amqplib import __version__
from amqplib.client_0_8 import heartbeat as heartbeats
from amqplib.client_0_8 import log, spec
from amqplib.client_0_8 import transport as transport_module
from amqplib.client_0_8.abstract_channel import (
    CLOSE_TIMEOUT,
    AbstractChannel,
    ArrivedMethod,
    handlers_by_signature,
    printable,
)
from amqplib.client_0_8.basic_message import Message
from amqplib.client_0_8.channel import Channel
from amqplib.client_0_8.channel_numbers import ChannelNumbers
from amqplib.client_0_8.deadline import AT_ONCE, NEVER, Deadline
from amqplib.client_0_8.exceptions import (
    NO_METHOD,
    AMQPChannelException,  # noqa: F401  (old programs import it from here)
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ConnectionLost,
    LoginRefused,
    ProtocolError,
    WriteTimeout,
    connection_exception,
)
from amqplib.client_0_8.login import Login, likely_cause
from amqplib.client_0_8.method_framing import HEARTBEAT_FRAME, MethodReader, MethodWriter
from amqplib.client_0_8.serialization import (
    AMQPReader,
    AMQPWriter,  # noqa: F401  (old programs import it from here)
    encode_once,
)
from amqplib.client_0_8.spec import METHODS, Signature
from amqplib.client_0_8.transport import Octets, create_transport, join_address
from amqplib.client_0_8.turns import Turns, attempt

__all__ = ['Connection']

LIBRARY_PROPERTIES: dict[str, Any] = {
    'library': 'Python amqplib',
    'library_version': __version__,
}

#: What the client can do, which RabbitMQ heeds on 0-8 too.
CAPABILITIES = {
    # Refuse a login by connection.close instead of silence and a reset.
    'authentication_failure_close': True,
    # Say so when a consumer is ended, for instance because its queue is deleted.
    'consumer_cancel_notify': True,
}

#: How many security challenges, and how many redirects, one connection puts up with.
MOST_CHALLENGES = 8
MOST_REDIRECTS = 8

#: Seconds between two looks for input by a channel that only publishes.
LOOK_INTERVAL = 0.05

#: Octets that are read ahead while a write waits for the broker.
MOST_READ_AHEAD = 64 * 1024 * 1024

#: Receives after the deadline of a wait that may complete what has arrived before.
MOST_LATE_RECEIVES = 64

#: Seconds and octets that are spent, after a write failed, to read why.
LAST_WORDS = 0.2
MOST_LAST_WORDS = 16 * 1024 * 1024

#: Seconds after which a write that waits looks again who may read the socket.
_BLOCKED_WRITE_STEP = 0.1

#: Seconds for which a write lets another thread receive what it needs before it goes on.
_OTHERS_READ = 0.01


class Connection(AbstractChannel):
    """A connection to a broker; opening it is done when the constructor returns.

    host: ``name``, ``name:port``, ``1.2.3.4:port``, ``::1``, ``[::1]:port``; '' is the local
        host. The port is 5672 by default, with ssl 5671.
    userid, password: str; None for both if login_response is given or the mechanism is EXTERNAL.
    login_method: 'AMQPLAIN', 'PLAIN' or 'EXTERNAL'; by default what the broker offers of these.
    login_response: bytes to be sent as they are instead of userid and password.
    virtual_host, locale: str.
    client_properties: dict that is laid over LIBRARY_PROPERTIES.
    ssl: True; an ssl.SSLContext; or a dict of options, see tls.make_context. Certificate and
        host name are verified unless the context or the options say otherwise. None is as False.
    insist: ask the broker not to redirect to another host.
    connect_timeout: seconds for everything until the connection is open; None for no limit.
    rpc_timeout: seconds to wait for the reply to a method; None for no limit.
    write_timeout: seconds that sending may take; None for no limit. Both can be changed later, by
        assigning to the attributes of these names.
    heartbeat: seconds, 0 to 65535, after which each side wants to have heard of the other; 0 turns
        heartbeats off, None takes what the broker proposes. They are sent in the background. A
        connection on which nothing arrives for twice as long is lost.
    connection_name: str by which the broker shows the connection to its operators.

    An unknown argument is accepted with a warning.

    Raises ConnectionLost (there is no broker, or it hung up), AMQPTimeout, LoginRefused,
    ProtocolVersionRefused, ProtocolError, AMQPConnectionException with the broker's code and
    text (530 for a virtual host that does not exist or is not allowed), ValueError, TypeError.

    Threads may share a connection, each with a channel of its own.

    channels: dict of number -> Channel, the connection itself as 0; None once closed.
    transport, connection: None once closed.
    channel_max, frame_max, heartbeat: as tuned; the most channels, octets a frame, seconds.
    server_properties: dict; mechanisms, locales: lists of str; known_hosts: str;
    version_major, version_minor: int; as the broker said.
    """

    _error_class = AMQPConnectionException
    _capabilities: ClassVar[dict[str, bool]] = CAPABILITIES
    _channel_class: ClassVar[type[Channel]] = Channel
    _message_class: ClassVar[type[Message]] = Message
    #: What to do with a broker that does not speak this version.
    _version_advice = ': import amqplib.client_0_9_1 instead of amqplib.client_0_8'

    def __init__(
        self,
        host: str = 'localhost',
        userid: Optional[str] = 'guest',
        password: Optional[str] = 'guest',
        login_method: Optional[str] = None,
        login_response: Optional[Union[str, bytes]] = None,
        virtual_host: str = '/',
        locale: str = 'en_US',
        client_properties: Optional[dict[str, Any]] = None,
        ssl: Any = False,
        insist: bool = False,
        connect_timeout: Optional[float] = 30.0,
        rpc_timeout: Optional[float] = None,
        write_timeout: Optional[float] = None,
        heartbeat: Optional[int] = None,
        connection_name: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        for name in kwargs:
            text = f'{type(self).__name__} has no argument {name!r}: it is ignored'
            warnings.warn(text, stacklevel=2)
        deadline = Deadline(connect_timeout, 'connect_timeout')
        self.rpc_timeout = Deadline(rpc_timeout, 'rpc_timeout').seconds
        self.write_timeout = write_timeout
        self._login = Login(userid, password, login_method, login_response)
        self._properties = _client_properties(
            self._capabilities, client_properties, connection_name
        )
        self._heartbeat = heartbeat
        arguments = (virtual_host, locale, insist)
        # Find wrong values before there is a socket.
        self._encode('connection.open', virtual_host, '', insist)
        self._encode('connection.start_ok', self._properties, '', b'', locale)
        if heartbeat is not None:
            self._encode('connection.tune_ok', 0, 0, heartbeat)
        for hops in range(MOST_REDIRECTS + 1):
            try:
                redirected = self._connect(host, ssl, deadline, *arguments)
            except ValueError as error:
                if not hops:
                    raise
                text = f'redirected to what is no address: {printable(host)!r}'
                raise ProtocolError(spec.SYNTAX_ERROR, text, _REDIRECT) from error
            if redirected is None:
                # The password is not needed any more.
                del self._login
                return
            log.debug('redirected to %s', redirected)
            host = redirected
        raise AMQPConnectionException(0, f'redirected more than {MOST_REDIRECTS} times')

    def __repr__(self) -> str:
        if self.transport is None:
            return f'<{type(self).__name__} closed>'
        address = join_address(self.transport.host, self.transport.port)
        return f'<{type(self).__name__} to {address}>'

    @property
    def write_timeout(self) -> Optional[float]:
        """Seconds that sending may take; None for no limit. It can be changed at any time."""
        return self._write_timeout

    @write_timeout.setter
    def write_timeout(self, seconds: Optional[float]) -> None:
        self._write_timeout = Deadline(seconds, 'write_timeout').seconds
        if 'method_writer' in vars(self):  # else it is made later
            self.method_writer.write_timeout = self._write_timeout

    # Opening (specification, class 10)

    def _connect(
        self,
        host: str,
        ssl: Any,
        deadline: Deadline,
        virtual_host: str,
        locale: str,
        insist: bool,
    ) -> Optional[str]:
        """Connect to one host; return None, or the other host that it redirects to."""
        self._reset()
        self._open_deadline = deadline
        transport = create_transport(host, deadline.remaining(), ssl)
        self._use(transport)
        address = join_address(transport.host, transport.port)
        self._locale = locale
        try:
            transport.send(self._protocol_header(), deadline)
            return self._handshake(virtual_host, insist, deadline)
        except AMQPTimeout:
            text = f'no AMQP handshake with {address} within {deadline.seconds} s'
            timeout = AMQPTimeout(0, text)
            self._fail(timeout)
            raise timeout from None
        except BaseException as error:
            if isinstance(error, AMQPException):
                self._fail(error)
            self._fail(AMQPConnectionException(0, 'the connection was never opened'))
            raise

    def _reset(self) -> None:
        """Begin as a connection that is not open."""
        self.channels: Optional[dict[int, AbstractChannel]] = {}
        self.channel_max = spec.DEFAULT_CHANNEL_MAX
        self.frame_max = spec.DEFAULT_FRAME_MAX
        self.heartbeat = 0
        self.known_hosts = ''
        #: Why the broker takes no messages at the moment; it does not say so on 0-8.
        self.blocked: Optional[str] = None
        self._numbers = ChannelNumbers()
        # Who reads the socket.
        self._turns = Turns()
        # The transport of a closed connection, until no thread uses it any more.
        self._ending: Optional[transport_module._AbstractTransport] = None
        # Whether the program is closing it, or has done so.
        self._closing = False
        # Held by the thread that closes the connection; the others have nothing left to do.
        self._closer = threading.RLock()
        # A channel that the broker closed: if no call has raised why, close() does.
        self._unheard: Optional[AbstractChannel] = None
        self._next_look = 0.0
        self._consumer_tags = count(1)
        super().__init__(self, 0)

    def _use(self, transport: transport_module._AbstractTransport) -> None:
        self.transport: Optional[transport_module._AbstractTransport] = transport
        self.method_reader = MethodReader(transport, self._message_class)
        self.method_reader.version_advice = self._version_advice
        self.method_writer = MethodWriter(transport, self.frame_max)
        # Subclasses may have a class attribute of that name.
        self.method_writer.write_timeout = Deadline(self.write_timeout, 'write_timeout').seconds
        transport.wait_writable = self._wait_until_writable
        _connections.add(self)

    def _protocol_header(self) -> bytes:
        # Looked up there and now, as programs have replaced it.
        return transport_module.AMQP_PROTOCOL_HEADER

    def _handshake(self, virtual_host: str, insist: bool, deadline: Deadline) -> Optional[str]:
        self._await_method('connection.start', deadline=deadline)
        mechanism, response = self._login.choose(self.mechanisms)
        self._x_start_ok(self._properties, mechanism, response, self._locale)
        self._log_in(deadline)
        return self._x_open(virtual_host, insist=insist)

    def _log_in(self, deadline: Deadline) -> None:
        """Go through challenges until the broker tunes, which says that the login is accepted."""
        self._wait_tune_ok = True
        try:
            for _ in range(MOST_CHALLENGES + 1):
                self._await_method('connection.secure', 'connection.tune', deadline=deadline)
                if not self._wait_tune_ok:
                    return
        except ProtocolError:
            raise
        except ConnectionLost as error:
            if not self._wait_tune_ok:
                raise  # after it had accepted the login
            text = f'the broker hung up during the login: {self._likely_cause()}'
            raise LoginRefused(spec.ACCESS_REFUSED, text) from error
        except AMQPConnectionException as error:
            if error.amqp_reply_code != spec.ACCESS_REFUSED:
                raise
            raise LoginRefused(*error.args) from None
        raise LoginRefused(0, f'more than {MOST_CHALLENGES} security challenges')

    def _likely_cause(self) -> str:
        """Return why the broker may have hung up during the login, without a word."""
        mechanism, response = self._login.choose(self.mechanisms)
        method, types = self._methods['connection.start_ok'], self._field_types

        def size(properties: dict[str, Any], response: Union[str, bytes]) -> int:
            values = (properties, mechanism, response, self._locale)
            return len(encode_once(method, *values, types=types)) + spec.FRAME_OVERHEAD

        whole, no_response = size(self._properties, response), size(self._properties, b'')
        name = {key: self._properties[key] for key in self._properties if key == 'connection_name'}
        parts = {
            'password or login_response': whole - no_response,
            'connection_name': size(name, b''),
            'the rest of client_properties': no_response - size(name, b''),
        }
        return likely_cause(whole, parts)

    def _await_method(self, *names: str, deadline: Deadline) -> Any:
        """Wait for one of the named methods; return what its handler returns."""
        self._expected = [self._methods[name].signature for name in names]
        self._wait_until(self, self._replies.__len__, deadline)
        return self.dispatch_method(*self._replies.pop())

    def _start(self, args: AMQPReader) -> None:
        (
            self.version_major,
            self.version_minor,
            self.server_properties,
            mechanisms,
            locales,
        ) = self._decode('connection.start', args)
        self.mechanisms: list[str] = _words(mechanisms)
        self.locales: list[str] = _words(locales)
        log.debug(
            'start from the broker: version %s.%s, properties %s, mechanisms %s, locales %s',
            self.version_major,
            self.version_minor,
            self.server_properties,
            self.mechanisms,
            self.locales,
        )

    def _x_start_ok(
        self,
        client_properties: dict[str, Any],
        mechanism: str,
        response: Union[str, bytes],
        locale: str,
    ) -> None:
        self._cast('connection.start_ok', client_properties, mechanism, response, locale)

    def _secure(self, args: AMQPReader) -> None:
        self._decode('connection.secure', args)
        # None of the mechanisms has a second step: the answer is the same as before.
        self._x_secure_ok(self._login.choose(self.mechanisms)[1])

    def _x_secure_ok(self, response: Union[str, bytes]) -> None:
        # The password is in it, which is not to be remembered.
        self._transmit(encode_once(self._methods['connection.secure_ok'], response))

    def _tune(self, args: AMQPReader) -> None:
        channel_max, frame_max, heartbeat = self._decode('connection.tune', args)
        if 0 < frame_max < spec.FRAME_MIN_SIZE:
            text = 'the broker wants frames of at most {} octets; the least is {}'
            raise ProtocolError(
                spec.NOT_ALLOWED, text.format(frame_max, spec.FRAME_MIN_SIZE), _TUNE
            )
        # 0 says that there is no limit.
        self.channel_max = channel_max or self.channel_max
        self.frame_max = frame_max or self.frame_max
        self.heartbeat = heartbeat if self._heartbeat is None else self._heartbeat
        if self.heartbeat and not heartbeats.are_possible():
            log.warning('no thread can be started here, so there are no heartbeats')
            self.heartbeat = 0
        self._x_tune_ok(self.channel_max, self.frame_max, self.heartbeat)
        self.method_writer.frame_max = self.frame_max
        # RabbitMQ takes payloads of frame_max, beside its own limit; so may others send them.
        self.method_reader.body_limit = self.frame_max
        if self.heartbeat and self.transport is not None:
            heartbeats.watch(self, self.transport, self.heartbeat)

    def _x_tune_ok(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        self._wait_tune_ok = False
        self._cast('connection.tune_ok', channel_max, frame_max, heartbeat)
        # Here, as subclasses may send other values.
        self.channel_max = channel_max or spec.DEFAULT_CHANNEL_MAX
        self.frame_max = frame_max or spec.DEFAULT_FRAME_MAX
        self.heartbeat = heartbeat

    def _x_open(
        self,
        virtual_host: str,
        capabilities: str = '',
        insist: bool = False,
    ) -> Optional[str]:
        redirected: Optional[str] = self._call(
            'connection.open', virtual_host, capabilities, insist, timeout=self._open_deadline
        )
        return redirected

    def _open_ok(self, args: AMQPReader) -> None:
        (self.known_hosts,) = self._decode('connection.open_ok', args)
        log.debug('connection open; known hosts: %s', self.known_hosts)

    def _redirect(self, args: AMQPReader) -> Any:
        host, self.known_hosts = self._decode('connection.redirect', args)
        self._fail(AMQPConnectionException(0, f'redirected to {printable(host)}'))
        return host

    # Channels

    def channel(self, channel_id: Optional[int] = None) -> Channel:
        """Return the open channel with this number, or open it; None takes a free number.

        channel_id: 1 to 65535; 0 returns the connection itself.

        Raises ValueError or TypeError, AMQPException if channel_max channels are open.
        """
        self._open_connection()
        assert self.channels is not None
        if channel_id is not None and channel_id in self.channels:
            return self.channels[channel_id]  # type: ignore[return-value]
        return self._channel_class(self, channel_id)

    def _choose_channel_id(self, channel_id: Optional[int]) -> int:
        """Return the number for a new channel, after checking that there may be one."""
        self._open_connection()
        assert self.channels is not None
        self._numbers.check_room(self.channels, self.channel_max)
        if channel_id is None:
            return self._get_free_channel_id()
        self._numbers.check(channel_id)
        return channel_id

    def _get_free_channel_id(self) -> int:
        assert self.channels is not None
        return self._numbers.choose(self.channels, self.channel_max)

    def _register(self, channel_id: int, channel: AbstractChannel) -> None:
        if self.channels is None:
            self._open_connection()
        assert self.channels is not None
        self.channels[channel_id] = channel

    def _unregister(self, channel_id: int, channel: AbstractChannel) -> None:
        """Let go of a channel, unless another one has its number by now.

        The number is free then, unless it is retired.
        """
        with self._numbers.lock:
            if self.channels is not None and self.channels.get(channel_id) is channel:
                self._close_short_way(channel_id)
                del self.channels[channel_id]
                self._numbers.note_free(channel_id)

    def _use_short_way(self, channel_id: int, channel: Channel) -> None:
        """Have what can go the short way to a channel go it, unless the channel is closed."""
        with self._numbers.lock:
            if self.channels is not None and self.channels.get(channel_id) is channel:
                self._open_short_way(channel_id, channel)

    def _open_short_way(self, channel_id: int, channel: Channel) -> None:
        self.method_reader.deliveries.targets[channel_id] = channel.method_queue

    def _close_short_way(self, channel_id: int) -> None:
        self.method_reader.deliveries.targets.pop(channel_id, None)

    def _retire(self, channel_id: int, channel: AbstractChannel, unsure: bool) -> None:
        """Give up a channel whose last reply may still come; its number stays taken till then.

        unsure: it may not be open; it is closed if the broker says that it is.
        """
        self._numbers.retire(channel_id, unsure)
        self._unregister(channel_id, channel)

    def _close_retired(self, channel_id: int) -> None:
        """Tell the broker that a channel was given up."""
        if self.channels is not None:
            values = (spec.REPLY_SUCCESS, 'gave up', *NO_METHOD)
            self._send_soon(channel_id, self._encode('channel.close', *values))

    def _note_closed(self, channel: AbstractChannel) -> None:
        """Remember that the broker closed a channel, until a call raises why.

        Of several, the first one; the others are in the log.
        """
        if self._unheard is None or self._unheard._told:
            self._unheard = channel
        else:
            log.warning('the broker closed a channel: %s', channel._cause)

    def _new_consumer_tag(self) -> str:
        return f'amqplib-{next(self._consumer_tags)}'

    # Reading

    def _wait_method(
        self,
        channel_id: int,
        allowed_methods: Optional[Sequence[Signature]],
        timeout: Optional[float] = None,
    ) -> Optional[ArrivedMethod]:
        """Wait for a method for a channel, and take it off its queue.

        Returns None if it was handled at once.
        """
        channel = (self.channels or {}).get(channel_id)
        if channel is None:
            # Closed by another thread just now.
            self._open_connection()
            raise AMQPConnectionException(0, f'channel {channel_id} is closed')
        channel._handled = frozenset()
        if allowed_methods is None:
            ready = channel._has_something
        else:
            ready = _any_of(allowed_methods, channel)
        self._wait_until(channel, ready, NEVER if timeout is None else Deadline(timeout))
        return channel._take(allowed_methods)

    def _wait_until(
        self, channel: AbstractChannel, ready: Callable[[], object], deadline: Deadline
    ) -> None:
        """Read, or let another thread read, until what this channel waits for is there.

        ready: says whether it is; it is called by whichever thread reads.

        Of the threads that wait, one holds the role of the reader and hands the others what is
        theirs; when it has its own, it passes the role on.
        """
        try:
            while not self._turns.lead(self._read_until, channel, ready, deadline):
                self._turns.follow(lambda: ready() or channel._cause is not None, deadline)
                if ready():
                    return
                if channel._cause is not None:
                    channel._raise_cause()
        finally:
            if self._ending is not None:
                self._free_descriptor()

    def _lead(self, work: Callable[..., Any], *args: Any) -> bool:
        """Do work that reads, if no other thread does; return whether it was done."""
        try:
            return self._turns.lead(work, *args)
        finally:
            if self._ending is not None:
                self._free_descriptor()

    def _read_until(
        self, channel: AbstractChannel, ready: Callable[[], object], deadline: Deadline
    ) -> None:
        late = 0
        while not ready():
            if channel._cause is not None:
                channel._raise_cause()
            self._receive(deadline)
            # What has arrived is taken, in however many portions; but what goes on arriving for
            # others does not prolong the wait.
            if (
                deadline is not NEVER
                and deadline.expired()
                and not ready()
                and channel._cause is None
            ):
                late += 1
                if late > MOST_LATE_RECEIVES or not self.method_reader.incomplete:
                    raise _nothing_arrived(deadline)

    def _receive(self, deadline: Deadline) -> None:
        """Receive once, and hand out the methods that became complete (as the reader)."""
        reader, failure = self.method_reader, None
        transport = reader.source
        try:
            if not reader.queue:
                try:
                    if self.method_writer.pending:
                        self._flush_and_receive(deadline)
                    else:
                        reader.receive(deadline)
                except AMQPConnectionException as error:
                    failure = error  # behind the methods that came before it
            transport.torn = True
            self._hand_out()
            transport.torn = False
        except AMQPTimeout:
            raise
        except AMQPConnectionException as error:
            self._fail(error)
        except BaseException:
            if transport.torn:
                self._fail(ConnectionLost(0, 'reading was interrupted'))
            raise
        finally:
            if failure is not None:
                self._fail(failure)
                # Its traceback refers to this frame, and so to all that waits for the collector.
                failure = None
            if self._turns.followers:
                self._turns.wake_ready()

    def _flush_and_receive(self, deadline: Deadline) -> None:
        """Send what is to be sent soon; receive, but come back soon if not all could be sent."""
        self.method_writer.flush()
        if not self.method_writer.pending:
            self.method_reader.receive(deadline)
            return
        try:
            self.method_reader.receive(deadline.earlier(Deadline(_BLOCKED_WRITE_STEP)))
        except AMQPConnectionException:
            raise
        except AMQPTimeout:
            if deadline.expired():
                raise

    def _hand_out(self) -> None:
        """Give the methods that were read to their channels."""
        queue = self.method_reader.queue
        while queue:
            channel_id, method_sig, args, content = queue.popleft()
            channels = self.channels
            if channels is None:
                queue.clear()
                return
            channel = channels.get(channel_id)
            if channel is None:
                self._stray(channel_id, method_sig)
            elif not self._closing or channel_id == 0 or method_sig in _WORTH_KNOWING:
                channel._arrive((method_sig, args, content))

    def _arrive(self, method: ArrivedMethod) -> None:
        method_sig, args, _ = method
        if method_sig == self._methods['connection.close'].signature:
            self._closed_by_broker(args)
        elif method_sig in self._IMMEDIATE_METHODS:
            super()._arrive(method)
        elif (
            method_sig in self._METHOD_MAP
            and method_sig not in self._expected
            and method_sig not in self._unclaimed
        ):
            name = self._name_of(method_sig)
            text = f'{name} at the wrong time'
            raise ProtocolError(spec.COMMAND_INVALID, text, method_sig, name)
        elif method_sig[0] != _CONNECTION_CLASS:
            text = f'a method {method_sig} on channel 0'
            raise ProtocolError(spec.CHANNEL_ERROR, text, method_sig)
        else:
            super()._arrive(method)

    def _stray(self, channel_id: int, method_sig: Signature) -> None:
        """Deal with a method for a channel that is not open."""
        numbers = self._numbers
        if channel_id in numbers.retired:
            if method_sig == _CHANNEL_CLOSE_OK:
                numbers.free(channel_id)
            elif method_sig == _CHANNEL_CLOSE:
                self._send_soon(channel_id, METHODS['channel.close_ok'].prefix)
                if channel_id in numbers.unsure:
                    numbers.free(channel_id)  # no close of ours will be confirmed
            elif method_sig == _CHANNEL_OPEN_OK and channel_id in numbers.unsure:
                numbers.unsure.discard(channel_id)
                self._close_retired(channel_id)
            return
        if method_sig == _CHANNEL_CLOSE:
            # Sent again before our close-ok to the first one had arrived.
            self._send_soon(channel_id, METHODS['channel.close_ok'].prefix)
        elif method_sig != _CHANNEL_CLOSE_OK:
            text = f'a method {method_sig} on channel {channel_id}, which is not open'
            raise ProtocolError(spec.CHANNEL_ERROR, text, method_sig)

    def _look_for_input(self, channel: AbstractChannel) -> None:
        """Read what has arrived, for one who only sends; raise what closed the channel.

        Called by who sends when the moment `_next_look` has come: that is not at each message,
        yet often enough to learn of a close soon.
        """
        self._next_look = monotonic() + LOOK_INTERVAL
        self._lead(self._receive_if_any)
        if channel._cause is not None:
            channel._raise_cause()

    def _receive_if_any(self) -> None:
        try:
            if self.transport is not None:
                self._receive(AT_ONCE)
        except AMQPConnectionException:
            raise
        except AMQPTimeout:
            pass  # there was nothing

    def _wait_for_flow(self, channel: Channel) -> None:
        """Wait until the broker takes messages on the channel again."""
        try:
            self._wait_until(channel, lambda: channel.active, Deadline(self.write_timeout))
        except AMQPConnectionException:
            raise
        except AMQPTimeout:
            text = 'the broker has paused the channel for more than {} s'
            raise AMQPTimeout(0, text.format(self.write_timeout), _BASIC_PUBLISH) from None

    # Writing

    def _send(
        self,
        channel: AbstractChannel,
        frames: Union[bytes, list[Octets]],
        deadline: Deadline = NEVER,
    ) -> None:
        """Send frames for a channel; raise what closed it."""
        try:
            self.method_writer.send(frames, deadline)
        except AMQPException as error:
            self._write_failed(error)
            # Another thread may be closing the channels just now, and not have come to this one.
            assert self._cause is not None
            channel._lose(self._cause)
            channel._raise_cause()
        except BaseException:
            if self.method_writer.interrupted:
                self._fail(ConnectionLost(0, 'a write was interrupted'))
            raise
        if self._ending is not None:
            self._free_descriptor()

    def _send_soon(self, channel_id: int, payload: bytes) -> None:
        if self._closing:
            return  # the broker does not listen any more
        try:
            self.method_writer.write_soon(channel_id, payload)
        except AMQPException as error:
            # Not raised: it is for the program, and here may be any thread, or an interrupt.
            self._write_failed(error)

    def _write_failed(self, error: AMQPException) -> None:
        """Close the connection after a write failed; raise the error if it need not be closed."""
        if isinstance(error, AMQPTimeout) and not isinstance(error, WriteTimeout):
            raise error  # nothing was sent
        try:
            self._read_last_words()
        finally:
            if self.blocked is not None:
                text = f'{error.amqp_reply_text}; the broker takes no messages: {self.blocked}'
                error = type(error)(error.amqp_reply_code, text, *error.args[2:])
            self._fail(error)

    def _send_heartbeat(self) -> None:
        """Send a heartbeat, unless a write is in progress (called by the heartbeat thread)."""
        try:
            attempt(self.method_writer.lock, AT_ONCE, self._send_heartbeat_alone)
            # What a reading thread has left to this one meanwhile.
            self.method_writer.flush()
        except AMQPException as error:
            self._write_failed(error)
        finally:
            self._free_descriptor()

    def _send_heartbeat_alone(self) -> None:
        transport = self.method_writer.dest
        if not transport.cut:
            # If the socket is full, the peer has more to read than a heartbeat.
            transport.send_at_once(HEARTBEAT_FRAME)

    def _went_silent(self, seconds: float) -> None:
        """Give up, as nothing was heard for so long (called by the heartbeat thread)."""
        text = f'nothing was heard from the broker for {seconds:.1f} s'
        self._fail(ConnectionLost(0, text))

    def _read_last_words(self) -> None:
        """After a failed write, read what the broker sent before: it may say why."""
        self._lead(self._receive_last_words)

    def _receive_last_words(self) -> None:
        transport, deadline = self.method_writer.dest, Deadline(LAST_WORDS)
        most_received = transport.received + MOST_LAST_WORDS
        try:
            while (
                self.transport is not None
                and transport.received < most_received
                and not deadline.expired()
            ):
                self._receive(AT_ONCE)
        except AMQPException:
            pass  # there is nothing more to be read

    def _wait_until_writable(self, deadline: Deadline, needs_input: bool) -> None:
        """Wait until a write can go on, and go on receiving meanwhile.

        A broker that cannot get rid of what it sends may stop reading what we send.

        needs_input: whether it may also be something of the peer's that is waited for.
        """
        transport = self.method_writer.dest
        if needs_input:
            self._wait_for_input(deadline)
            return
        most_received = transport.received + MOST_READ_AHEAD
        may_read = True
        while not transport.is_ready(0, write=True)[1]:
            if deadline.expired():
                raise AMQPTimeout(0, f'nothing could be sent within {deadline.seconds} s')
            step = deadline.earlier(Deadline(_BLOCKED_WRITE_STEP)).remaining()
            may_read = may_read and transport.received < most_received
            if may_read and self._lead(self._read_ahead, step):
                # A thread that was woken to read instead may need a moment to come.
                may_read = not self._turns.handed_over
            else:
                transport.is_ready(step, write=True)
                may_read = True

    def _wait_for_input(self, deadline: Deadline) -> None:
        """Receive, or let another thread do so, before a write is tried again.

        It must be a receive: what the peer has sent besides does not get through a write.
        """
        if deadline.expired():
            raise AMQPTimeout(0, f'nothing could be sent within {deadline.seconds} s')
        step = deadline.earlier(Deadline(_BLOCKED_WRITE_STEP)).remaining()
        if not self._lead(self._read_ahead, step, False):
            threading.Event().wait(_OTHERS_READ)

    def _read_ahead(self, seconds: float, or_writable: bool = True) -> None:
        """Wait for a step until there is something to be received, and receive it.

        or_writable: whether to wait no longer than until the socket can be written.
        """
        transport = self.method_writer.dest
        if not transport.is_ready(seconds, read=True, write=or_writable)[0]:
            return
        try:
            # Methods are queued only, as handing out may need to write; but what goes a short way
            # may be what somebody waits for.
            self.method_reader.receive(AT_ONCE)
        except AMQPConnectionException:
            raise
        except AMQPTimeout:
            return  # a part of a TLS record
        transport.torn = False
        if self._turns.followers:
            self._turns.wake_ready()
        arrived = self.method_reader.queue
        close = self._methods['connection.close'].signature
        if arrived and arrived[-1][:2] == (0, close):
            # It need not read any more; the caller looks up why.
            raise ConnectionLost(0, 'the broker closed the connection during a write')

    # The end

    def close(
        self,
        reply_code: int = 0,
        reply_text: str = '',
        method_sig: Signature = NO_METHOD,
        timeout: Optional[float] = CLOSE_TIMEOUT,
    ) -> None:
        """Close the connection and its channels. What was published has then reached the broker.

        timeout: seconds to wait for the broker; None for no limit.

        Once it is closed, this does nothing. Raises an error of the broker that no call has raised
        before: AMQPChannelException (a channel was closed, such as for publishing to an exchange
        that does not exist), AMQPConnectionException; ConnectionLost or AMQPTimeout, and then
        what was published last may not have arrived. The connection is closed in any case.
        """
        if self.transport is None:
            if self._cause is not None and not self._told:
                self._raise_cause()
            return
        deadline = Deadline(timeout)
        values = (reply_code, reply_text, *method_sig)
        self._encode('connection.close', *values)  # before anything is changed
        try:
            alone = attempt(self._closer, deadline, self._ask_to_close, values, deadline)
        except AMQPConnectionException:
            raise  # of which a WriteTimeout is one
        except AMQPTimeout as error:
            # Perhaps it could not even be sent.
            self._fail(error, told=True)
            raise
        if not alone:
            text = f'another thread did not end its close() within {timeout} s'
            self._fail(AMQPTimeout(0, text))
            self._raise_cause()
        if self._unheard is not None and not self._unheard._told:
            self._unheard._raise_cause()

    def _ask_to_close(self, values: tuple[Any, ...], deadline: Deadline) -> None:
        if self.transport is not None:  # else another thread has closed it meanwhile
            try:
                self._closing = True
                # From here on, most of what arrives is dropped.
                self.method_reader.short_ways.clear()
                self._call('connection.close', *values, timeout=deadline)
            except AMQPException:
                raise
            except BaseException:
                # Also if nothing was sent: the others would wait for what is dropped now.
                self._fail(AMQPConnectionException(0, 'interrupted while closing'), told=True)
                raise

    def _close_ok(self, args: AMQPReader) -> None:
        self._do_close()

    def _close(self, args: AMQPReader) -> None:
        # For those who dispatch methods themselves; the read loop calls _closed_by_broker.
        self._closed_by_broker(args)
        self._raise_cause()

    def _closed_by_broker(self, args: AMQPReader) -> None:
        code, text, class_id, method_id = self._decode('connection.close', args)
        signature = (class_id, method_id)
        cause = connection_exception(code, printable(text), signature, self._name_of(signature))
        log.debug('connection closed by the broker: %s', cause)
        try:
            self._x_close_ok()
        except AMQPException as error:
            log.debug('the close of the broker could not be answered: %s', error)
        self._fail(cause)

    def _x_close_ok(self) -> None:
        self.method_writer.write_soon(0, self._methods['connection.close_ok'].prefix)

    def _abandon(self, cause: AMQPException, told: bool = False) -> None:
        self._fail(cause, told)

    def _fail(self, cause: AMQPException, told: bool = False) -> None:
        """Close the connection on this side; the first cause is kept.

        told: as for _lose.
        """
        if self._cause is None:
            # A copy, as the raised one refers to everything that its traceback does.
            self._told = told
            self._cause = cause.again()
            if isinstance(cause, ProtocolError):
                self._report_to_broker(cause)
        self._do_close()

    def _report_to_broker(self, cause: ProtocolError) -> None:
        """Tell the broker what it did wrong, if that is possible at once."""
        values = (cause.amqp_reply_code, cause.amqp_reply_text[:80], *cause.amqp_method_sig)
        try:
            self.method_writer.write_soon(0, self._encode('connection.close', *values))
        except (AMQPException, ValueError) as error:
            log.debug('the broker could not be told: %s', error)

    def _do_close(self) -> None:
        transport, channels = self.transport, self.channels
        if transport is None or channels is None:
            self._free_descriptor()
            return
        if self._cause is None:
            self._told = self._closing = True
            self._cause = AMQPConnectionException(0, 'the connection was closed by this program')
        # An interrupt in between leaves a transport, so that whoever comes next does all of it.
        self._ending = transport
        # This wakes the threads that wait for the socket.
        transport.shutdown()
        heartbeats.unwatch(self)
        for channel_id, channel in list(channels.items()):
            if channel_id:
                self._close_short_way(channel_id)
                channel._lose(self._cause, told=self._closing)
        self.connection = self.channels = self.transport = None
        self._turns.wake_ready()
        self._free_descriptor()

    def _free_descriptor(self) -> None:
        """Close the socket of a closed connection, unless another thread uses it: that one will.

        Its number could be given to another file while a thread still waits for it.
        """
        if self._ending is not None:
            lock = self.method_writer.lock
            self._turns.lead(attempt, lock, AT_ONCE, self._release_transport)

    def _release_transport(self) -> None:
        transport = self._ending
        if transport is not None:
            transport.release()
            # Not before, so that an interrupt in between leaves it to be done again.
            self._ending = None

    def _forked(self) -> None:
        """In a forked child: close the descriptor and nothing else."""
        # The locks may be held by threads that the child does not have.
        self._turns = Turns()
        self._numbers.lock = threading.RLock()
        self.method_writer.lock = threading.RLock()
        transport = self.transport or self._ending
        if transport is not None:
            # Closed now, it cannot be shut down under the parent.
            transport.release()
        text = 'the connection belongs to the process that forked: connect after the fork'
        self._fail(AMQPConnectionException(0, text))

    _HANDLERS: ClassVar[dict[str, Callable[..., Any]]] = {
        'connection.start': _start,
        'connection.secure': _secure,
        'connection.tune': _tune,
        'connection.open_ok': _open_ok,
        'connection.redirect': _redirect,
        'connection.close': _close,
        'connection.close_ok': _close_ok,
    }
    _METHOD_MAP = handlers_by_signature(METHODS, _HANDLERS)


_CONNECTION_CLASS = METHODS['connection.close'].signature[0]
_CHANNEL_OPEN_OK = METHODS['channel.open_ok'].signature
_CHANNEL_CLOSE = METHODS['channel.close'].signature
_CHANNEL_CLOSE_OK = METHODS['channel.close_ok'].signature
_BASIC_RETURN = METHODS['basic.return'].signature
#: What is not dropped while the connection is being closed.
_WORTH_KNOWING = (_CHANNEL_CLOSE, _BASIC_RETURN)
_TUNE = METHODS['connection.tune'].signature
_REDIRECT = METHODS['connection.redirect'].signature
_BASIC_PUBLISH = METHODS['basic.publish'].signature

#: The connections of this process that may be open, for a forked child to let go of them.
_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forget_connections() -> None:
    heartbeats.forget_all()
    for connection in list(_connections):
        connection._forked()
    _connections.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_connections)


def __getattr__(name: str) -> Any:
    if name == 'AMQP_LOGGER':  # which old programs import from here
        return log.logger()
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def _any_of(allowed_methods: Collection[Signature], channel: AbstractChannel) -> Callable[[], bool]:
    """Return a function that says whether an allowed method has arrived for a channel."""
    queue = channel.method_queue
    # Those of the queue, which only grows meanwhile, that were looked at.
    scanned = 0

    def found() -> bool:
        nonlocal scanned
        # Its own copy: the thread that reads and the one that waits may both be here.
        position = scanned
        try:
            while queue[position][0] not in allowed_methods:
                position += 1
        except IndexError:
            return not channel._handled.isdisjoint(allowed_methods)
        finally:
            scanned = position
        return True

    return found


def _nothing_arrived(deadline: Deadline) -> AMQPTimeout:
    return AMQPTimeout(0, f'nothing arrived within {deadline.seconds} s')


def _client_properties(
    capabilities: dict[str, bool], own: Optional[dict[str, Any]], name: Optional[str]
) -> dict[str, Any]:
    """Return what the client says of itself: the program's properties over the library's."""
    if own is not None and not isinstance(own, Mapping):
        raise TypeError(f'client_properties: {type(own).__name__!r} is not a dict')
    properties = {**LIBRARY_PROPERTIES, **(own or {})}
    properties['capabilities'] = {**capabilities, **properties.get('capabilities', {})}
    if name is not None:
        if not isinstance(name, str):
            raise TypeError(f'connection_name: {name!r} is not a str')
        properties['connection_name'] = name
    return properties


def _words(listed: Union[str, bytes]) -> list[str]:
    """Return the words of a list in a long string, which comes as bytes if it is not UTF-8."""
    text = listed if isinstance(listed, str) else listed.decode('utf-8', 'replace')
    return text.split(' ')
