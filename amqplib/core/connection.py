"""Connection: the handshake, the channels, and the end. `_tune` handles connection.tune, etc."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NamedTuple, Optional, TypeVar, Union

from amqplib import __version__
from amqplib.core import heartbeat as heartbeats
from amqplib.core import log, spec
from amqplib.core.abstract_channel import CLOSE_TIMEOUT, AbstractChannel, Computed, Late
from amqplib.core.addresses import join_address, with_port
from amqplib.core.channel_numbers import ChannelNumbers, NumberTaken
from amqplib.core.checks import check_int, warn_caller
from amqplib.core.closed import Closed
from amqplib.core.deadline import Deadline, deadline_of
from amqplib.core.decoding import Decoder
from amqplib.core.encoding import method_frame
from amqplib.core.legacy import MethodReader, MethodWriter
from amqplib.core.limits import Limits, lower
from amqplib.core.locks import Mutex
from amqplib.core.login import Login, likely_cause
from amqplib.core.message import Message
from amqplib.core.serialization import ENCODERS, with_context
from amqplib.core.session import Session
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import (
    NO_METHOD,
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ConnectionLost,
    LoginRefused,
    ProtocolError,
)

if TYPE_CHECKING:
    from amqplib.core.channel import Channel
    from amqplib.core.fast_decoding import ArrivedMethod, Inbox
    from amqplib.core.reconnecting import Attempt
    from amqplib.core.spec import Protocol, Signature
    from amqplib.core.transport import AbstractTransport

LIBRARY_PROPERTIES: dict[str, Any] = {
    'library': 'Python amqplib',
    'library_version': __version__,
}

#: The most security challenges that a connection answers.
MAX_CHALLENGES = 8

#: What other clients call arguments -> what they are called here.
_OTHER_NAMES = {
    'connection_timeout': 'connect_timeout',
    'hostname': 'host',
    'timeout': 'connect_timeout',
    'user': 'userid',
    'username': 'userid',
    'vhost': 'virtual_host',
}

_consumer_tags = count(1)

Opened = TypeVar('Opened', bound='Connection')


class Connection(AbstractChannel):
    """A connection to a broker. It is open when the constructor returns.

    host: ``name``, ``name:port``, ``1.2.3.4:port``, ``::1``, ``[::1]:port``; '' is the local
        host. The default port is 5672, with ssl 5671.
    userid, password: str; None for both if login_response is given or the mechanism is EXTERNAL.
    login_method: 'AMQPLAIN', 'PLAIN' or 'EXTERNAL'; by default one that the broker offers.
    login_response: bytes to send unchanged instead of userid and password.
    virtual_host: str; the part of the broker to work in.
    locale: str; the language of the broker's messages. RabbitMQ has only this one.
    client_properties: dict of what the program says about itself; it may replace what amqplib says
        of itself.
    ssl: True; an ssl.SSLContext to use unchanged; or a dict of ca_certs, certfile, keyfile,
        password (of the key), ciphers, server_hostname, check_hostname and cert_reqs. Certificate
        and host name are verified unless the context or the last two say otherwise. None means
        False.
    insist: ask the broker not to redirect to another host (AMQP 0-8).
    connect_timeout: seconds until the connection must be open; None for no limit.
    rpc_timeout: seconds to wait for the reply to a method; None for no limit.
    write_timeout: seconds that sending may take; None for no limit. Both can be changed later, by
        assigning to the attributes of these names.
    heartbeat: interval in seconds, 0 to 65535, at which each side sends something; 0 turns
        heartbeats off, None takes the broker's proposal. They are sent in the background. If
        nothing arrives for two intervals, the connection is lost.
    port: int, if host has none.
    channel_max, frame_max: ints, at most how many channels and bytes per frame to agree on with the
        broker; 0 and None take its proposal. The least frame_max is 4096, for RabbitMQ 4 it is
        8192.
    max_message_size: bytes, 1 or more; None for no limit. If the broker announces a larger body,
        the connection ends with MessageTooLarge before the body is collected.
    tcp_user_timeout: seconds that the operating system waits for the broker's system to acknowledge
        what was sent, before the connection is lost (TCP_USER_TIMEOUT of Linux; on other systems
        a ValueError). None leaves it to the system, which may take a quarter of an hour.
    connection_name: str; the name that operators of the broker see.

    An unknown argument is accepted with a warning.

    Raises ConnectionLost (there is no broker, or it hung up), AMQPTimeout, LoginRefused,
    ProtocolVersionRefused, ProtocolError, NotAllowed (a virtual host that does not exist, or that
    the user may not use; too many connections), ConnectionForced, AMQPConnectionException with the
    broker's code and text, ValueError, TypeError.

    Threads may share a connection, each with a channel of its own.

    is_open: bool; as far as the connection has noticed.
    channels: dict of number -> Channel, the connection itself as 0; None once closed.
    transport, connection: None once closed.
    channel_max, frame_max, heartbeat: as negotiated: the most channels, bytes per frame, seconds.
    server_properties, mechanisms, locales, known_hosts, version_major, version_minor: dict, lists
        of str, str, and int, as reported by the broker.
    blocked: str, why the broker takes no messages at the moment; else None, always with 0-8.

    With AMQP 0-9-1 there are also:

    on_blocked: None, or a function(reason) to call when the broker blocks the connection, because
        it is short of memory or disk space and takes no messages. The thread that reads calls it;
        it must not use the connection.
    on_unblocked: None, or a function() to call when the broker takes messages again.
    server_capabilities: dict of str -> bool; what the broker can do.
    """

    _CLOSE = 'connection.close'
    _ERROR = AMQPConnectionException
    _IS_QUEUE = False
    _ONE_CALL = False  # it belongs to no single thread
    _channel_class: ClassVar[type[Channel]]
    _message_class: ClassVar[type[Message]] = Message
    _reader_class: ClassVar[type[MethodReader]]

    # For programs that read methods without wait(), or send them themselves.
    method_reader: MethodReader = Late(  # type: ignore[assignment]
        lambda self: self._reader_class(self._session.transport, self._session.decoder)
    )
    method_writer: MethodWriter = Late(  # type: ignore[assignment]
        lambda self: MethodWriter(self._session.transport, self.frame_max, self._session)
    )

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
        port: Optional[int] = None,
        channel_max: Optional[int] = None,
        frame_max: Optional[int] = None,
        max_message_size: Optional[int] = None,
        tcp_user_timeout: Optional[float] = None,
        **kwargs: Any,
    ) -> None:
        for name in kwargs:
            meant = _OTHER_NAMES.get(name)
            hint = f' (amqplib calls it {meant})' if meant else ''
            warn_caller(f'{type(self).__name__} has no argument {name!r}: it is ignored{hint}')
        if port is not None:
            host = with_port(host, port)
        self.rpc_timeout = Deadline(rpc_timeout, 'rpc_timeout').seconds
        self.write_timeout = write_timeout
        self._opening = _Opening(
            Login(userid, password, login_method, login_response),
            _client_properties(self._protocol, client_properties, connection_name),
            virtual_host,
            locale,
            insist,
            heartbeat,
            Limits(channel_max, frame_max, max_message_size, tcp_user_timeout),
            Deadline(connect_timeout, 'connect_timeout'),
        )
        self._check_arguments()
        self._connect_to(host, ssl)
        # The password is no longer needed.
        del self._opening

    @classmethod
    def from_url(  # noqa: PYI019  (Self is of Python 3.11)
        cls: type[Opened], url: Union[str, Iterable[str]], **arguments: Any
    ) -> Opened:
        """Connect to the broker of a URL, ``amqp://user:password@host:port/vhost?heartbeat=30``.

        url: with ``amqps`` for TLS. What is absent has the constructor's default, a virtual host
            too; in a user, password and virtual host, special characters are percent-encoded. The
            query may have heartbeat, channel_max, frame_max, connection_timeout (milliseconds) and
            auth_mechanism, and with ``amqps`` also cacertfile, certfile, keyfile, password (of the
            key), verify (verify_peer or verify_none) and server_name_indication. An iterable of
            URLs is tried in order, the next one after an error that is recoverable.
        arguments: those of the constructor, which win over the URL.

        Raises what the constructor raises; ValueError for what is wrong in a URL, of which no part
        that may be secret is shown.
        """
        from amqplib.core import urls  # noqa: PLC0415

        return urls.connect(cls, urls.parse_all(url), arguments)

    def _connect_to(self, host: str, ssl: Any) -> None:
        """Connect to a host; overridden for a version in which the broker may redirect."""
        self._connect(host, ssl)

    def _check_arguments(self) -> None:
        """Raise errors for wrong values, before there is a socket."""
        opening = self._opening
        self._encode('connection.open', opening.virtual_host, '', opening.insist)
        self._encode('connection.start_ok', opening.properties, '', b'', opening.locale)
        if opening.heartbeat is not None:
            try:
                ENCODERS['short'](opening.heartbeat)
            except (TypeError, ValueError) as error:
                raise with_context(error, 'heartbeat') from None

    def __repr__(self) -> str:
        if self.transport is None:
            return f'<{type(self).__name__} closed>'
        address = join_address(self.transport.host, self.transport.port)
        return f'<{type(self).__name__} to {address}>'

    @Computed
    def is_open(self) -> bool:
        """Whether it is open; False once it is closed, or found to be lost."""
        opening = '_opening' in vars(self)
        return not opening and '_session' in vars(self) and not self._session.closed.shut

    @property
    def write_timeout(self) -> Optional[float]:
        """Seconds that sending may take; None for no limit. It can be changed at any time."""
        return self._write_timeout

    @write_timeout.setter
    def write_timeout(self, seconds: Optional[float]) -> None:
        self._write_timeout = Deadline(seconds, 'write_timeout').seconds
        if '_session' in vars(self):  # else it is created later
            self._session.outbox.write_timeout = self._write_timeout

    @property
    def transport(self) -> Optional[AbstractTransport]:
        """The transport; None once closed."""
        session = vars(self).get('_session')
        return None if session is None or session.closed.cause is not None else session.transport

    @Computed
    def blocked(self) -> Optional[str]:
        """Why the broker takes no messages at the moment, else None. On 0-8 it does not say so."""
        return self._session.blocked

    # Opening (specification, class 10)

    def _connect(self, host: str, ssl: Any) -> Optional[str]:
        """Connect to one host; return what _x_open() returns."""
        deadline = self._opening.deadline
        transport = self._create_transport(host, deadline.remaining(), ssl)
        self._use(transport)
        try:
            self._opening.limits.apply(transport, self._session.decoder)
            transport.send(self._protocol_header(), deadline)
            return self._handshake(deadline)
        except AMQPTimeout:
            address = join_address(transport.host, transport.port)
            timeout = AMQPTimeout(0, f'no AMQP handshake with {address} within {deadline}')
            self._session.end(timeout, reported=True)
            raise timeout from None
        except BaseException as error:
            if isinstance(error, AMQPException):
                self._session.end(error, reported=True)
            never = AMQPConnectionException(0, 'the connection was never opened')
            self._session.end(never, reported=True)
            raise

    def _use(self, transport: AbstractTransport) -> None:
        """Set up the state of a connection that is not open yet."""
        inboxes: dict[int, Inbox] = {}
        session = self._new_session(transport, inboxes)
        super().__init__(self, session, session.closed)
        self.channel_id = 0
        inboxes[0] = self
        channels: dict[int, Any] = {0: self}
        self.channels: Optional[dict[int, Any]] = channels
        self.channel_max = spec.DEFAULT_CHANNEL_MAX
        self.frame_max = spec.DEFAULT_FRAME_MAX
        self.heartbeat = 0
        self.known_hosts = ''
        self.numbers = ChannelNumbers(session, channels, self._protocol)
        session.on_unknown_channel = self.numbers.arrive_unknown
        session.complaint = self._complaint
        session.close_signature = self._named(self._CLOSE)[0]
        # Subclasses may have a class attribute of this name.
        session.outbox.write_timeout = Deadline(self.write_timeout, 'write_timeout').seconds
        # Held by the thread that closes; other threads have nothing left to do.
        self._closer = Mutex()
        # A channel that the broker closed: if no call has raised the cause, close() does.
        self._unreported: Optional[Closed] = None

    def _new_session(self, transport: AbstractTransport, inboxes: dict[int, Inbox]) -> Session:
        classes = self._protocol, self._message_class, inboxes
        logger = log.frames_logger()
        if logger is None:
            return Session(transport, Decoder(*classes), inboxes)
        from amqplib.core.frames_log import logged_session  # noqa: PLC0415

        return logged_session(logger, transport, self._decoders, *classes)

    def _create_transport(
        self, host: str, connect_timeout: Optional[float], ssl: Any
    ) -> AbstractTransport:
        raise NotImplementedError  # each client has its own, which programs may replace

    def _protocol_header(self) -> bytes:
        return self._protocol.header

    def _handshake(self, deadline: Deadline) -> Optional[str]:
        opening = self._opening
        self._await_method(deadline, 'connection.start')
        mechanism, response = opening.login.choose(self.mechanisms)
        self._x_start_ok(opening.properties, mechanism, response, opening.locale)
        self._log_in(deadline)
        return self._x_open(opening.virtual_host, insist=opening.insist)

    def _log_in(self, deadline: Deadline) -> None:
        """Answer challenges until the broker sends tune, which means that it accepts the login."""
        self._wait_tune_ok = True
        try:
            for _ in range(MAX_CHALLENGES + 1):
                self._await_method(deadline, 'connection.secure', 'connection.tune')
                if not self._wait_tune_ok:
                    return
        except ProtocolError:
            raise
        except ConnectionLost as error:
            if not self._wait_tune_ok:
                raise  # the broker had accepted the login
            raise LoginRefused.by_hanging_up(self._likely_cause()) from error
        except AMQPConnectionException as error:
            if error.amqp_reply_code != spec.ACCESS_REFUSED:
                raise
            raise LoginRefused(*error.args) from None
        raise LoginRefused(0, f'more than {MAX_CHALLENGES} security challenges')

    def _likely_cause(self) -> str:
        """Return why the broker may have hung up silently during the login."""
        opening = self._opening
        mechanism, response = opening.login.choose(self.mechanisms)

        def size(properties: dict[str, Any], response: Union[str, bytes]) -> int:
            values = (properties, mechanism, response, opening.locale)
            return len(self._encode('connection.start_ok', *values)) + spec.FRAME_OVERHEAD

        given = opening.properties
        whole, no_response = size(given, response), size(given, b'')
        name = {key: given[key] for key in given if key == 'connection_name'}
        parts = {
            'password or login_response': whole - no_response,
            'connection_name': size(name, b''),
            'the rest of client_properties': no_response - size(name, b''),
        }
        return likely_cause(whole, parts)

    def _await_method(self, deadline: Deadline, *names: str) -> Any:
        """Wait for one of the named methods; return what its handler returns."""
        replies: list[ArrivedMethod] = []
        self._calls = {0: ([self._protocol.methods[name].signature for name in names], replies)}
        if not self._wait_until(replies.__len__, deadline):
            raise AMQPTimeout(0, f'nothing arrived within {deadline}')
        return self.dispatch_method(*replies.pop())

    def _start(self, args: AMQPReader) -> None:
        *values, mechanisms, locales = self._decode('connection.start', args)
        self.version_major, self.version_minor, self.server_properties = values
        self.mechanisms: list[str] = _words(mechanisms)
        self.locales: list[str] = _words(locales)
        text = 'start from the broker: version %s.%s, properties %s, mechanisms %s, locales %s'
        log.debug(text, *values, self.mechanisms, self.locales)

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
        # No mechanism has a second step, so the response is the same as before.
        self._x_secure_ok(self._opening.login.choose(self.mechanisms)[1])

    def _x_secure_ok(self, response: Union[str, bytes]) -> None:
        self._cast('connection.secure_ok', response)

    def _tune(self, args: AMQPReader) -> None:
        channel_max, frame_max, heartbeat = self._decode('connection.tune', args)
        if 0 < frame_max < spec.FRAME_MIN_SIZE:
            text = f'the broker wants frames of at most {frame_max} bytes'
            text += f'; the minimum is {spec.FRAME_MIN_SIZE}'
            raise ProtocolError(spec.NOT_ALLOWED, text, *self._named('connection.tune'))
        limits = self._opening.limits
        self.channel_max = lower(channel_max, limits.channel_max) or self.channel_max
        self.frame_max = lower(frame_max, limits.frame_max) or self.frame_max
        wanted = self._opening.heartbeat
        self.heartbeat = heartbeat if wanted is None else wanted
        if self.heartbeat and not heartbeats.are_possible():
            log.warning('no thread can be started here, so there are no heartbeats')
            self.heartbeat = 0
        self._x_tune_ok(self.channel_max, self.frame_max, self.heartbeat)
        self._session.encoder.frame_max = self.frame_max
        # RabbitMQ accepts payloads of frame_max, beyond the limit; other brokers may send them.
        self._session.decoder.body_limit = self.frame_max
        if self.heartbeat and self.transport is not None:
            heartbeats.watch(self._session, self.heartbeat)

    def _x_tune_ok(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        self._wait_tune_ok = False
        self._cast('connection.tune_ok', channel_max, frame_max, heartbeat)
        # Set here, because subclasses may send other values.
        self.channel_max = channel_max or spec.DEFAULT_CHANNEL_MAX
        self.frame_max = frame_max or spec.DEFAULT_FRAME_MAX
        self.heartbeat = heartbeat

    def _x_open(
        self, virtual_host: str, capabilities: str = '', insist: bool = False
    ) -> Optional[str]:
        deadline = self._opening.deadline
        redirected: Optional[str] = self._call(
            'connection.open', virtual_host, capabilities, insist, deadline=deadline
        )
        return redirected

    def _open_ok(self, args: AMQPReader) -> None:
        (self.known_hosts,) = self._decode('connection.open_ok', args)
        log.debug('connection open; known hosts: %s', self.known_hosts)

    # Channels

    def channel(self, channel_id: Optional[int] = None) -> Channel:
        """Return the open channel with this number, or open it; None takes a free number.

        channel_id: 1 to 65535; 0 returns the connection itself.

        Raises ValueError or TypeError; AMQPException if channel_max channels are open.
        """
        self._require_open()
        if channel_id is None:
            return self._channel_class(self)
        channel: Any = (self.channels or {}).get(channel_id)
        if channel is None:
            try:
                return self._channel_class(self, channel_id)
            except NumberTaken as taken:  # another thread has just opened it
                channel = taken.channel
        return self._when_open(channel)

    def _when_open(self, channel: Any) -> Channel:
        """Return a channel once it is open: another thread may be opening it."""
        deadline = deadline_of(self.rpc_timeout)
        if not self._wait_until(lambda: channel is self or channel.opening_has_ended(), deadline):
            raise AMQPTimeout(0, f'another thread did not open it within {deadline}')
        opened: Channel = channel
        return opened

    def open_session(self) -> Session:
        """Return the session (for a channel); raise the cause if the connection is closed."""
        self._require_open()
        return self._session

    def register(self, channel: Channel, wanted: Optional[int]) -> None:
        """Assign a number to a channel; raise AMQPException, ValueError or TypeError.

        wanted: the number; None for any free number.
        """
        numbers = self.numbers
        numbers.check_room(self.channel_max)
        if wanted is not None:
            check_int('channel_id', wanted, 1, spec.DEFAULT_CHANNEL_MAX)
        before = None
        while True:
            number = self._get_free_channel_id() if wanted is None else wanted
            # Set before it is taken, so that the channel frees it after an interrupt.
            channel.channel_id = number
            if numbers.take(number, channel):
                return
            holder = numbers.holder(number)
            # Other threads take and free numbers; but an override of _get_free_channel_id() that
            # returns the same taken number again would do so forever.
            if holder is not None and (wanted is not None or holder is before):
                raise numbers.why_taken(number, holder)
            before = holder

    def _get_free_channel_id(self) -> int:
        return self.numbers.choose(self.channel_max)

    def note_closed(self, closed: Closed) -> None:
        """Remember that the broker closed a channel, until a call raises the cause.

        Only the first one is kept; the others are logged.
        """
        if self._unreported is None or self._unreported.reported:
            self._unreported = closed
        else:
            log.warning('the broker closed a channel: %s', closed.cause)

    def new_consumer_tag(self) -> str:
        """Return a consumer tag that no other consumer of this connection has."""
        return f'amqplib-{next(_consumer_tags)}'

    # Receiving

    def wait_for_channel(
        self,
        channel: AbstractChannel,
        channel_id: int,
        allowed_methods: Optional[Sequence[Signature]],
        timeout: Optional[float],
    ) -> Optional[ArrivedMethod]:
        """Wait for a method for a channel, and take it off its queue.

        A program that overrides _wait_method() is asked to do it. Otherwise the channel is not
        looked up by its number, which another one may have got just now.
        """
        if type(self)._wait_method is Connection._wait_method and '_wait_method' not in vars(self):
            return channel.wait_for_method(allowed_methods, timeout)
        # Without a timeout, an override with the signature of amqplib 1.0.2 works.
        limit = () if timeout is None else (timeout,)
        return self._wait_method(channel_id, allowed_methods, *limit)

    def _wait_method(
        self,
        channel_id: int,
        allowed_methods: Optional[Sequence[Signature]],
        timeout: Optional[float] = None,
    ) -> Optional[ArrivedMethod]:
        """Wait for a method for a channel, and take it off its queue.

        Returns None if the method took effect when it arrived.
        """
        channel = (self.channels or {}).get(channel_id)
        if channel is None:
            # Another thread has just closed it.
            self._require_open()
            raise AMQPConnectionException(0, f'channel {channel_id} is closed')
        method: Optional[ArrivedMethod] = channel.wait_for_method(allowed_methods, timeout)
        return method

    def _why_refused(self, method_sig: Signature) -> ProtocolError:
        name = self._protocol.name_of(method_sig)
        if method_sig[0] != spec.CONNECTION_CLASS_ID:
            text = f'a method {method_sig} on channel 0'
            return ProtocolError(spec.CHANNEL_ERROR, text, method_sig, name)
        if method_sig in self._METHOD_MAP:
            text = f'{name} at the wrong time'
            return ProtocolError(spec.COMMAND_INVALID, text, method_sig, name)
        return super()._why_refused(method_sig)

    # The end

    def close(
        self,
        reply_code: int = 0,
        reply_text: str = '',
        method_sig: Signature = NO_METHOD,
        timeout: Optional[float] = CLOSE_TIMEOUT,
    ) -> None:
        """Close the connection and its channels. All messages have then reached the broker.

        reply_code, reply_text, method_sig: what to tell the broker; old programs set them.
        timeout: seconds to wait for the broker; None for no limit.

        Does nothing if the connection is closed. Raises an error of the broker that no call has
        raised: AMQPChannelException (a channel was closed, for instance for publishing to an
        exchange that does not exist), AMQPConnectionException. Raises ConnectionLost or
        AMQPTimeout; then the last messages may not have arrived. The connection is closed in any
        case.

        Called by a finalizer or a signal handler that has interrupted amqplib, it does not wait:
        the connection ends when the broker has confirmed the close, or at the next close().
        """
        closed, deadline = self._closed, Deadline(timeout)
        if closed.cause is not None:
            if not closed.reported:
                self._raise_cause()
            return
        # Wrong values are found before anything is changed.
        frame = method_frame(0, self._encode(self._CLOSE, reply_code, reply_text, *method_sig))
        if self._closer.is_mine():
            return  # within a close(), which goes on
        if not self._session.may_wait():
            self._session.outbox.send_soon(frame, closed, closed.ask)
            return
        self._close_in_time(frame, deadline)
        if not closed.by_program:
            self._raise_cause()
        if self._unreported is not None and not self._unreported.reported:
            self._unreported.raise_cause()

    def _close_in_time(self, frame: bytes, deadline: Deadline) -> None:
        session = self._session

        def close() -> None:
            if self._closed.cause is None:
                # From now on, most of what arrives is dropped.
                session.decoder.fast_paths.clear()
                self._ask_to_close(frame, deadline)

        try:
            # This does not wait for the lock: the thread that waits here may have to read.
            taken = self._closer.try_run(close)
            if not taken and not self._wait_until(lambda: self._closed.cause is not None, deadline):
                text = f'another thread did not end its close() within {deadline}'
                raise AMQPTimeout(0, text)
        except AMQPTimeout as error:
            # It may not even have been sent.
            session.end(error, reported=True)
            raise
        except AMQPException:
            raise
        except BaseException:
            # Even if nothing was sent: other threads may wait for what is dropped from now on.
            interrupted = AMQPConnectionException(0, 'interrupted while closing')
            session.end(interrupted, reported=True)
            raise

    def _on_close_ok(self, args: AMQPReader) -> None:
        """The broker confirms that the connection is closed."""
        self._decode('connection.close_ok', args)
        if not self._closed.asked:
            raise self._why_refused(self._named('connection.close_ok')[0])
        self._close_ok(args)

    def _close_ok(self, args: AMQPReader) -> None:
        self._do_close()

    def _on_close(self, args: AMQPReader) -> None:
        """The broker closes the connection."""
        cause = self._why_closed(args)
        log.debug('connection closed by the broker: %s', cause)
        # Before it is answered, as nothing may follow the answer.
        self._closed.end(cause)
        try:
            self._x_close_ok()
        except AMQPException as error:
            log.debug('the close of the broker could not be answered: %s', error)
        finally:
            self._session.tear_down()

    def _close(self, args: AMQPReader) -> None:
        # For programs that dispatch methods themselves; the read loop calls _on_close.
        self._on_close(args)
        self._raise_cause()

    def _x_close_ok(self) -> None:
        frame = method_frame(0, self._protocol.methods['connection.close_ok'].prefix)
        self._session.outbox.send_urgent(frame)

    def _give_up(self, cause: AMQPException, reported: bool = False) -> None:
        self._session.end(cause, reported)

    def _complaint(self, error: AMQPException) -> bytes:
        """Return the frame that closes the connection because of what the broker sent."""
        text = error.amqp_reply_text[:80]
        values = (error.amqp_reply_code, text, *error.amqp_method_sig)
        return method_frame(0, self._encode(self._CLOSE, *values))

    def session_ended(self) -> None:
        self._do_close()

    def _do_close(self) -> None:
        if self._closed.cause is None:
            self._session.end_as_asked()
        self.connection = self.channels = None
        self.numbers.clear()


class _Opening(NamedTuple):
    """The data that is needed until the connection is open."""

    login: Login
    properties: dict[str, Any]
    virtual_host: str
    locale: str
    insist: bool
    heartbeat: Optional[int]
    limits: Limits
    deadline: Deadline


# Its docstring is that of reconnecting in the clients.
def reconnecting_to(
    connection_class: type[Opened],
    url: Union[str, Iterable[str]],
    pauses: tuple[float, float],
    retry: Union[type[Exception], Iterable[type[Exception]]],
    stop: Optional[Callable[[], object]],
    arguments: dict[str, Any],
) -> Iterator[Attempt[Opened]]:
    """Yield attempts to do some work, each with a fresh connection, until one succeeds.

    ::

        for attempt in amqp.reconnecting(URL):
            with attempt as conn, conn.channel() as ch:
                ...

    A block that ends without an error ends the loop. After an error that is recoverable, of
    connecting or of the block, there is another attempt. Every other error comes through. The
    connection is closed in any case.

    url, arguments: as for Connection.from_url(); several URLs take turns.
    first, most: seconds; an attempt is made after a pause that doubles from `first` to `most`, less
        up to a half by chance. After a minute of work, the next pause is `first` again.
    retry: classes of further errors after which to try again.
    stop: function that says whether to end the loop; asked before each attempt, and ten times a
        second in a pause.
    """
    from amqplib.core.reconnecting import Loop  # noqa: PLC0415

    return Loop(connection_class, url, pauses, retry, stop, arguments).attempts()


def _client_properties(
    protocol: Protocol, own: Optional[dict[str, Any]], name: Optional[str]
) -> dict[str, Any]:
    """Return the client properties: the program's override the library's."""
    if own is not None and not isinstance(own, Mapping):
        raise TypeError(f'client_properties: {type(own).__name__!r} is not a dict')
    properties = {**LIBRARY_PROPERTIES, **(own or {})}
    own_capabilities = properties.get('capabilities')
    if not isinstance(own_capabilities, (Mapping, type(None))):
        text = f"client_properties['capabilities']: {own_capabilities!r} is not a dict"
        raise TypeError(text)
    properties['capabilities'] = {**protocol.capabilities, **(own_capabilities or {})}
    if name is not None:
        if not isinstance(name, str):
            raise TypeError(f'connection_name: {name!r} is not a str')
        properties['connection_name'] = name
    return properties


def _words(listed: Union[str, bytes]) -> list[str]:
    """Return the words in a long string, which may be bytes if it is not UTF-8."""
    text = listed if isinstance(listed, str) else listed.decode('utf-8', 'replace')
    return text.split(' ')
