"""One connection of a client: bytes in and out, channels, heartbeats, and the end."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections.abc import Callable
from typing import Any, Optional

from amqplib.core import log
from amqplib.core.decoding import Decoder
from amqplib.core.encoding import HEARTBEAT_FRAME, Encoder
from amqplib.core.message import Message
from amqplib.core.spec import (
    CHANNEL_ERROR,
    COMMAND_INVALID,
    CONNECTION_CLASS_ID,
    FRAME_ERROR,
    FRAME_MIN_SIZE,
    INTERNAL_ERROR,
    RESOURCE_ERROR,
    UNEXPECTED_FRAME,
    Signature,
)
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import NO_METHOD, AMQPConnectionException
from amqplib.testing.channel import Channel
from amqplib.testing.errors import CHANNEL_CODES, Hangup, Refusal, shortened
from amqplib.testing.inboxes import Inboxes
from amqplib.testing.loop import Timer
from amqplib.testing.messages import MAX_MESSAGE
from amqplib.testing.shared import Shared
from amqplib.testing.versions import Handling, Version
from amqplib.testing.virtual_host import VirtualHost

RECEIVE_SIZE = 262144
#: With so many bytes that the client does not take, nothing more is delivered to it.
MAX_BACKLOG = 1024 * 1024
HANDSHAKE_TIMEOUT = 10.0
#: How long a client may take to answer a close.
CLOSE_TIMEOUT = 30.0
#: How long RabbitMQ is silent before it hangs up on a client that it does not let in.
SILENCE = 3.0
#: After so many heartbeats that did not come, the client is taken to be gone.
MISSED_HEARTBEATS = 3

_HEADER_SIZE = 8
_RESET = struct.pack('ii', 1, 0)

# The stages of a connection, in their order; each but the last three is named by what comes next.
HEADER, START_OK, TUNE_OK, OPEN, RUNNING, CLOSING, CLOSED = range(7)


class BrokerEncoder(Encoder):
    """Makes frames as RabbitMQ does: a header may be larger than frame_max."""

    def check_size(self, size: int, what: str) -> None:
        """Allow every size."""


class Session:
    """The broker's side of a connection.

    stage: how far it is.
    channels: number -> channel.
    client_properties: what the client said of itself.
    heartbeat: seconds, 0 for none.
    """

    version: Version
    vhost: VirtualHost

    def __init__(
        self, shared: Shared, sock: socket.socket, version_of: Callable[[bytes], Optional[Version]]
    ) -> None:
        self.shared = shared
        self.loop = shared.loop
        self.stage = HEADER
        self.channels: dict[int, Channel] = {}
        self.client_properties: dict[str, Any] = {}
        self.user = ''
        self.channel_max = self.heartbeat = 0
        self._sock = sock
        self._version_of = version_of
        self._encoder = BrokerEncoder(FRAME_MIN_SIZE)
        self._decoder: Optional[Decoder] = None
        self._input = b''
        self._problem: Optional[Exception] = None
        self._out: list[Any] = []
        self._out_size = 0
        self._flushing = False
        self._confirming: dict[Channel, None] = {}
        self._blocked = self._deaf = False
        # How many bytes have come since some content is not complete.
        self._unfinished = 0
        # What has arrived and is held up on request.
        self._delayed = b''
        self._heard = self.loop.now
        self._timer: Optional[Timer] = self.loop.call_later(HANDSHAKE_TIMEOUT, self.reset)
        self._beat: Optional[Timer] = None
        shared.sessions[self] = None
        self._watch()

    @property
    def is_open(self) -> bool:
        """Whether the client works."""
        return self.stage == RUNNING

    def wants(self, capability: str) -> bool:
        """Return whether the client has announced a capability."""
        capabilities = self.client_properties.get('capabilities')
        return isinstance(capabilities, dict) and capabilities.get(capability) is True

    # The socket

    def _watch(self) -> None:
        if self.stage == CLOSED:
            return
        held_up = self._blocked or self._deaf or self._delayed or not self.has_room
        reading = 0 if held_up else selectors.EVENT_READ
        writing = selectors.EVENT_WRITE if self._out and not self._flushing else 0
        self.loop.watch(self._sock, reading | writing, self._on_ready)

    def _on_ready(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush()
            if events & selectors.EVENT_READ and self.stage != CLOSED:
                self._receive()
        except BaseException:
            self.end()  # the loop reports it and goes on with the others
            raise

    def _receive(self) -> None:
        try:
            data = self._sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b''
        if not data:
            self.end()
            return
        self._heard = self.loop.now
        delay = self.shared.faults.delay
        if delay:
            self._delayed = data
            self._watch()
            self.loop.call_later(delay, self.end_delay)
        else:
            self._take(data)

    def end_delay(self) -> None:
        """Handle what was held up."""
        data, self._delayed = self._delayed, b''
        if data and self.stage != CLOSED:
            self._watch()
            self._take(data)

    @property
    def has_room(self) -> bool:
        """Whether the client takes what it is sent."""
        return self._out_size < MAX_BACKLOG

    def _write(self, data: Any) -> None:
        self._out.append(data)
        self._out_size += len(data)
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def flush_soon(self, channel: Channel) -> None:
        """Have the confirms of a channel sent at the end of this turn."""
        self._confirming[channel] = None
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self.stage == CLOSED:
            return
        for channel in self._confirming:
            channel.send_confirms()
        self._confirming.clear()
        self._flushing = False
        had_room = self.has_room
        try:
            self._send_all()
        except BlockingIOError:
            pass
        except OSError:
            self.end()
            return
        self._watch()
        if self.has_room and not had_room:
            for channel in self.channels.values():
                channel.wake_queues()
            self._serve()
            self._process()

    def _send_all(self) -> None:
        while self._out:
            data = self._out[0] if len(self._out) == 1 else b''.join(self._out)
            self._out = [data]
            sent = self._sock.send(data)
            self._out_size -= sent
            self._out = [memoryview(data)[sent:]] if sent < len(data) else []

    def _serve(self) -> None:
        if self.stage == RUNNING:
            self.vhost.surroundings.serve()

    # Bytes to methods

    def _take(self, data: bytes) -> None:
        try:
            if self._decoder is None:
                data = self._take_header(data)
            if data and self._decoder is not None:
                self._decoder.take(data)
                self._check_unfinished(len(data))
        except AMQPConnectionException as error:
            self._problem = error
        except Hangup as hangup:
            self._hang_up(hangup)
            return
        self._process()

    def _check_unfinished(self, size: int) -> None:
        """Refuse more contents that are not complete than there is memory for."""
        assert self._decoder is not None
        if not self._decoder.partial_messages or self.stage != RUNNING:
            self._unfinished = 0
            return
        self._unfinished += size
        if self._unfinished > self.shared.memory.limit:
            raise AMQPConnectionException(RESOURCE_ERROR, 'too much content is not complete')

    def _take_header(self, data: bytes) -> bytes:
        """Take the protocol header; return what comes after it."""
        self._input += data
        header, rest = self._input[:_HEADER_SIZE], self._input[_HEADER_SIZE:]
        if len(header) < _HEADER_SIZE and header == b'AMQP'[: len(header)] + header[4:]:
            return b''
        version = self._version_of(header)
        if version is None:
            self._write(b'AMQP\0\0\x09\x01')
            self._flush()
            raise Hangup
        self.version = version
        self._decoder = Decoder(version.protocol, Message, Inboxes(self.channels))
        self._decoder.header_limit = FRAME_MIN_SIZE
        self.stage = START_OK
        self.send(0, 'connection.start', *version.start())
        return rest

    def _process(self) -> None:
        """Handle what has arrived, unless publishers are blocked."""
        decoder = self._decoder
        if decoder is None:
            return
        queue = decoder.queue
        while queue and self.has_room and self.stage != CLOSED:
            if queue[0][1][2] is not None and self._must_block():
                return
            number, (signature, args, content) = queue.popleft()
            self._handle(number, signature, args, content)
        if queue or (decoder.partial_messages and self._must_block()):
            return
        for number, partial in decoder.partial_messages.items():
            if partial.missing > MAX_MESSAGE and number in self.channels:
                self.channels[number].keeps_content = False
        problem, self._problem = self._problem, None
        if isinstance(problem, AMQPConnectionException):
            code = problem.amqp_reply_code or FRAME_ERROR
            self._close(Refusal(code, problem.amqp_reply_text), problem.amqp_method_sig)

    def _handle(
        self, number: int, signature: Signature, args: AMQPReader, content: Optional[Message]
    ) -> None:
        handling = self.version.handlings.get(signature)
        try:
            if handling is None:
                raise Hangup
            if self._ignores(number, handling):
                return
            target = self._target(number, handling)
            values = handling.decode(args)
            check_texts(values)
            self.shared.faults.check(handling.row.name)
            answer = handling.handle(target, values, content)
            if answer is not None:
                target.reply(handling.reply, *answer)
            self._serve()
        except Refusal as refusal:
            self._refuse(number, signature, refusal)
        except AMQPConnectionException as error:  # malformed arguments: RabbitMQ says 501
            self._close(Refusal(FRAME_ERROR, error.amqp_reply_text), signature)
        except Hangup as hangup:
            self._hang_up(hangup)
        except Exception as error:  # noqa: BLE001 - one client must not end it for the others
            log.warning('the broker for tests failed in method %s: %r', signature, error)
            self._close(
                Refusal(INTERNAL_ERROR, f'the broker for tests failed: {error!r}'), signature
            )

    def _ignores(self, number: int, handling: Handling) -> bool:
        """Return whether a method comes after a close and means nothing any more."""
        name = handling.row.name
        if self.stage == CLOSING:
            return name not in ('connection.close', 'connection.close_ok')
        channel = self.channels.get(number)
        return (
            channel is not None
            and channel.closing
            and name not in ('channel.close', 'channel.close_ok')
        )

    def _target(self, number: int, handling: Handling) -> Any:
        """Return the channel or connection that a method is for, or refuse the method."""
        row = handling.row
        if row.signature[0] == CONNECTION_CLASS_ID:
            if number:
                raise Refusal(COMMAND_INVALID, f'{row.name} on channel {number}')
            return self
        if self.stage != RUNNING:
            raise Refusal(UNEXPECTED_FRAME, f'{row.name} before connection.open')
        if not number:
            raise Refusal(CHANNEL_ERROR, f'{row.name} on channel 0')
        channel = self.channels.get(number)
        if row.name == 'channel.open':
            if channel is not None:
                raise Refusal(CHANNEL_ERROR, "second 'channel.open' seen")
            return Channel(self, number)
        if channel is None:
            raise Refusal(CHANNEL_ERROR, "expected 'channel.open'")
        return channel

    # Methods to bytes

    def send(self, number: Any, name: str, *values: Any, content: Optional[Message] = None) -> None:
        """Send a method."""
        payload = self.version.encoders[name](*values)
        frames = self._encoder.frames(number, payload, content)
        for piece in frames if isinstance(frames, list) else (frames,):
            self._write(piece)

    def reply(self, name: str, *values: Any) -> None:
        """Send a method on channel 0."""
        self.send(0, name, *values)

    # Tuning and heartbeats

    def tuned(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        """Use what was negotiated."""
        assert self._decoder is not None
        self.channel_max = channel_max
        self.heartbeat = heartbeat
        self._encoder.frame_max = frame_max
        self._decoder.body_limit = self._decoder.header_limit = frame_max
        if heartbeat:
            self._on_beat()

    def opened(self, vhost: VirtualHost) -> None:
        """Let the client work."""
        self.vhost = vhost
        self.stage = RUNNING
        self._set_timer(None)

    def _on_beat(self) -> None:
        silent = self.loop.now - self._heard
        if silent > MISSED_HEARTBEATS * self.heartbeat and not self._blocked:
            self.reset()
            return
        self._write(HEARTBEAT_FRAME)
        self._beat = self.loop.call_later(self.heartbeat / 2, self._on_beat)

    # Blocking

    def _must_block(self) -> bool:
        if self.shared.memory.alarm and not self._blocked and self.stage == RUNNING:
            self._blocked = True
            self._watch()
            if 'connection.blocked' in self.version.protocol.methods and self.wants(
                'connection.blocked'
            ):
                self.send(0, 'connection.blocked', 'low on memory')
        return self._blocked

    def on_memory(self) -> None:
        """Go on with a publisher that was blocked, if there is memory again."""
        if not self._blocked or self.shared.memory.alarm:
            return
        self._blocked = False
        if (
            self.wants('connection.blocked')
            and 'connection.unblocked' in self.version.protocol.methods
        ):
            self.send(0, 'connection.unblocked')
        self._watch()
        self._process()

    # The end

    def _refuse(self, number: int, signature: Signature, refusal: Refusal) -> None:
        channel = self.channels.get(number)
        if refusal.code not in CHANNEL_CODES or channel is None:
            self._close(refusal, signature)
            return
        channel.end()
        channel.send('channel.close', refusal.code, refusal.reply_text, *signature)
        self._serve()

    def _close(self, refusal: Refusal, signature: Signature) -> None:
        """Close the connection, and wait for the answer."""
        if self.stage in (TUNE_OK, START_OK, CLOSING):
            self._hang_up(Hangup(SILENCE))
        elif self.stage != CLOSED:
            self.refuse_connection(refusal, signature)

    def refuse_connection(self, refusal: Refusal, signature: Signature = NO_METHOD) -> None:
        """Close the connection, and wait for the answer."""
        self.end_channels()
        self.stage = CLOSING
        text = shortened(refusal.reply_text)
        self.send(0, 'connection.close', refusal.code, text, *signature)
        self._set_timer(self.loop.call_later(CLOSE_TIMEOUT, self.reset))

    def end_channels(self) -> None:
        """Give back all that the client has."""
        for channel in self.channels.values():
            if not channel.closing:
                channel.end()
        self._confirming.clear()
        if self.stage == RUNNING:
            self.vhost.delete_queues_of(self)
            self._serve()

    def closed_by_client(self) -> None:
        """Wait for the client to hang up, after its close is confirmed."""
        self.end_channels()
        self.stage = CLOSING
        self._set_timer(self.loop.call_later(CLOSE_TIMEOUT, self.reset))

    def _hang_up(self, hangup: Hangup) -> None:
        if self.stage == CLOSED:
            return
        self.end_channels()
        self.stage = CLOSING
        self._deaf = True
        self._watch()
        if hangup.delay:
            self._set_timer(self.loop.call_later(hangup.delay, self.reset))
        else:
            self.end()

    def _set_timer(self, timer: Optional[Timer]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def reset(self) -> None:
        """End the connection by a TCP reset."""
        if self.stage != CLOSED:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.end()

    def end(self) -> None:
        """End the connection."""
        if self.stage == CLOSED:
            return
        self.loop.watch(self._sock, 0, self._on_ready)
        self._sock.close()
        self._set_timer(None)
        if self._beat is not None:
            self._beat.cancel()
        del self.shared.sessions[self]
        try:
            self.end_channels()
        finally:
            self.stage = CLOSED
            self._out, self._decoder = [], None


def check_texts(values: tuple[Any, ...]) -> None:
    """Refuse names that are not UTF-8."""
    for value in values:
        if type(value) is str and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise Refusal(FRAME_ERROR, 'a name that is not UTF-8') from None
