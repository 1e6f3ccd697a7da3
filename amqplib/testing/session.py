"""One connection of a client: its socket, its channels, what becomes of a method, and the end."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections.abc import Callable
from typing import Any, Optional

from amqplib.core import log
from amqplib.core.encoding import HEARTBEAT_FRAME
from amqplib.core.message import Message
from amqplib.core.spec import FRAME_ERROR, INTERNAL_ERROR, Signature
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import NO_METHOD, AMQPConnectionException
from amqplib.testing.arrivals import Arrivals
from amqplib.testing.channel import Channel
from amqplib.testing.client import Client
from amqplib.testing.dispatch import check_texts, ignores, target_of
from amqplib.testing.errors import CHANNEL_CODES, Hangup, Refusal, shortened
from amqplib.testing.faults import Hold
from amqplib.testing.loop import Timer
from amqplib.testing.output import Output
from amqplib.testing.pulse import Pulse
from amqplib.testing.shared import Shared
from amqplib.testing.stages import (
    CLOSED,
    CLOSING,
    HEADER,
    RUNNING,
    SILENCE,
    START_OK,
    TUNE_OK,
)
from amqplib.testing.versions import Version
from amqplib.testing.virtual_host import VirtualHost

RECEIVE_SIZE = 262144
HANDSHAKE_TIMEOUT = 10.0
#: How long a client may take to answer a close.
CLOSE_TIMEOUT = 30.0

_RESET = struct.pack('ii', 1, 0)
#: What a client is answered that speaks another protocol.
_OUR_HEADER = b'AMQP\0\0\x09\x01'


class Session:
    """The broker's side of a connection.

    stage: how far it is.
    client: what the client said of itself.
    channels: number -> channel.
    """

    version: Version
    vhost: VirtualHost

    def __init__(
        self, shared: Shared, sock: socket.socket, version_of: Callable[[bytes], Optional[Version]]
    ) -> None:
        self.shared = shared
        self.loop = shared.loop
        self.stage = HEADER
        self.client = Client()
        self.channels: dict[int, Channel] = {}
        self.pulse = Pulse(self.loop)
        self._sock = sock
        self._arrivals = Arrivals(self.channels, version_of, shared.memory.limit)
        self._hold = Hold()
        self._output = Output(sock, shared.memory)
        self._flushing = False
        self._confirming: dict[Channel, None] = {}
        self._blocked = self._deaf = False
        self._timer: Optional[Timer] = self.loop.call_later(HANDSHAKE_TIMEOUT, self.reset)
        shared.sessions[self] = None
        self._watch()

    @property
    def is_open(self) -> bool:
        """Whether the client works."""
        return self.stage == RUNNING

    # The socket

    @property
    def _listens(self) -> bool:
        """Whether the client is read from."""
        held_up = self._blocked or self._deaf or self._hold.data
        return not held_up and self.has_room

    def _watch(self) -> None:
        if self.stage == CLOSED:
            return
        reading = selectors.EVENT_READ if self._listens else 0
        writing = selectors.EVENT_WRITE if self._output.size and not self._flushing else 0
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
        self.pulse.heard = self.loop.now
        delay = self.shared.faults.delay
        if delay:
            self._hold.put(data, self.loop.call_later(delay, self.end_delay))
            self._watch()
        else:
            self._take(data)

    def end_delay(self) -> None:
        """Handle what is held up."""
        data = self._hold.take()
        if data:
            self._watch()
            self._take(data)

    @property
    def has_room(self) -> bool:
        """Whether the client takes what it is sent."""
        return self._output.has_room

    def flush_soon(self, channel: Channel) -> None:
        """Have the confirms of a channel sent at the end of this turn."""
        self._confirming[channel] = None
        self._flush_later()

    def _flush_later(self) -> None:
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
            self._output.flush()
        except OSError:
            self.end()
            return
        self._watch()
        if self.has_room and not had_room:
            for channel in self.channels.values():
                channel.wake_queues()
            self._serve()
            self._process()

    def _serve(self) -> None:
        if self.stage == RUNNING:
            self.vhost.surroundings.serve()

    # What arrives

    def _take(self, data: bytes) -> None:
        try:
            self._arrivals.take(data)
        except Hangup as hangup:
            self._output.write(_OUR_HEADER)
            self._flush()
            self._hang_up(hangup)
            return
        version = self._arrivals.version
        if self.stage == HEADER and version is not None:
            self.version = version
            self.stage = START_OK
            self.reply('connection.start', *version.start())
        self._process()

    def _process(self) -> None:
        """Handle what has arrived, unless publishers are blocked."""
        arrivals = self._arrivals
        while arrivals.methods and self.has_room and self.stage != CLOSED:
            if arrivals.has_content and self._must_block():
                return
            number, (signature, args, content) = arrivals.methods.popleft()
            self._handle(number, signature, args, content)
        if arrivals.methods or (arrivals.has_content and self._must_block()):
            return
        for number in arrivals.too_large():
            if number in self.channels:
                self.channels[number].keeps_content = False
        problem = arrivals.take_problem()
        if problem is not None:
            code = problem.amqp_reply_code or FRAME_ERROR
            self._close(Refusal(code, problem.amqp_reply_text), problem.amqp_method_sig)

    def _handle(
        self, number: int, signature: Signature, args: AMQPReader, content: Optional[Message]
    ) -> None:
        handling = self.version.handlings.get(signature)
        try:
            if handling is None:
                raise Hangup
            if ignores(self, number, handling):
                return
            target = target_of(self, number, handling)
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

    # What is sent

    def send(self, number: Any, name: str, *values: Any, content: Optional[Message] = None) -> None:
        """Send a method."""
        payload = self.version.encoders[name](*values)
        self._output.write_method(number, payload, content)
        self._flush_later()

    def reply(self, name: str, *values: Any) -> None:
        """Send a method on channel 0."""
        self.send(0, name, *values)

    # Tuning and heartbeats

    def tuned(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        """Use what was negotiated."""
        self.client.channel_max = channel_max
        self._output.limit_frames(frame_max)
        self._arrivals.limit_frames(frame_max)
        if heartbeat:
            self.pulse.start(heartbeat, self._beat, self.reset)

    def opened(self, vhost: VirtualHost) -> None:
        """Let the client work."""
        self.vhost = vhost
        self.stage = RUNNING
        self._set_timer(None)

    def _beat(self) -> None:
        if not self._listens:
            self.pulse.heard = self.loop.now  # it may have said something
        if not self._output.size:
            self._output.write(HEARTBEAT_FRAME)
            self._flush_later()

    # Blocking

    def _must_block(self) -> bool:
        if self.shared.memory.alarm and not self._blocked and self.stage == RUNNING:
            self._blocked = True
            self._watch()
            if 'connection.blocked' in self.version.protocol.methods and self.client.wants(
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
            self.client.wants('connection.blocked')
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

    def abandon(self) -> None:
        """Close the descriptor, in the child of a fork."""
        self._sock.close()

    def end(self) -> None:
        """End the connection."""
        if self.stage == CLOSED:
            return
        self.loop.watch(self._sock, 0, self._on_ready)
        self._sock.close()
        self._set_timer(None)
        self.pulse.stop()
        del self.shared.sessions[self]
        try:
            self.end_channels()
        finally:
            self.stage = CLOSED
            self._hold.take()
            self._arrivals.discard()
            self._output.discard()
            self.channels.clear()  # they refer to it
