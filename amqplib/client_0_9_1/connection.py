"""Connection: what 0-9-1 and RabbitMQ add to that of 0-8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional

from amqplib.client_0_8 import channel as channel_0_8
from amqplib.client_0_8 import connection as connection_0_8
from amqplib.client_0_8.abstract_channel import (
    empty_reply,
    handlers_by_signature,
    printable,
    signatures_of,
)
from amqplib.client_0_8.serialization import AMQPReader, encode_once
from amqplib.client_0_8.transport import _AbstractTransport
from amqplib.client_0_9_1.basic_message import FIELD_TYPES, Message
from amqplib.client_0_9_1.channel import Channel
from amqplib.client_0_9_1.confirms import ConfirmFrames
from amqplib.client_0_9_1.spec import METHODS

__all__ = ['Connection']

PROTOCOL_HEADER = b'AMQP\x00\x00\x09\x01'

CAPABILITIES = {
    **connection_0_8.CAPABILITIES,
    'basic.nack': True,
    'connection.blocked': True,
    'exchange_exchange_bindings': True,
    'publisher_confirms': True,
}


class Connection(connection_0_8.Connection):
    """A connection as that of client_0_8, to brokers that speak AMQP 0-9-1.

    on_blocked: None, or a function(reason) to be called when the broker blocks the connection:
        it is short of memory or disk, and takes no messages. Whichever thread reads calls it;
        it must not use the connection.
    on_unblocked: None, or a function() to be called when the broker takes messages again.

    blocked: str, the reason while the connection is blocked; else None.
    server_capabilities: dict of str -> bool; what the broker can do.
    """

    _methods = METHODS
    _field_types = FIELD_TYPES
    _capabilities = CAPABILITIES
    _channel_class = Channel
    _message_class = Message
    _version_advice = ''

    on_blocked: Optional[Callable[[str], Any]] = None
    on_unblocked: Optional[Callable[[], Any]] = None

    if TYPE_CHECKING:

        def channel(self, channel_id: Optional[int] = None) -> Channel: ...

    def _use(self, transport: _AbstractTransport) -> None:
        super()._use(transport)
        self._confirm_frames = ConfirmFrames()
        self.method_reader.short_ways[METHODS['basic.ack'].prefix] = self._confirm_frames.take

    def _open_short_way(self, channel_id: int, channel: channel_0_8.Channel) -> None:
        super()._open_short_way(channel_id, channel)
        if isinstance(channel, Channel) and channel._confirms is not None:
            self._confirm_frames.set_target(channel_id, channel._settle)

    def _close_short_way(self, channel_id: int) -> None:
        super()._close_short_way(channel_id)
        self._confirm_frames.set_target(channel_id, None)

    def _protocol_header(self) -> bytes:
        return PROTOCOL_HEADER

    @property
    def server_capabilities(self) -> dict[str, bool]:
        """What the broker can do, by name."""
        capabilities = self.server_properties.get('capabilities')
        return capabilities if isinstance(capabilities, dict) else {}

    def update_secret(self, new_secret: str, reason: str = '') -> None:
        """Give the broker a new password or token, before the old one expires.

        reason: for the broker's log.
        """
        method = self._methods['connection.update_secret']
        # It is not to be remembered.
        payload = encode_once(method, new_secret, reason)
        self._request(method, payload)

    def _blocked(self, args: AMQPReader) -> None:
        (reason,) = self._decode('connection.blocked', args)
        self.blocked = printable(reason)
        if self.on_blocked is not None:
            self.on_blocked(self.blocked)

    def _unblocked(self, args: AMQPReader) -> None:
        self._decode('connection.unblocked', args)
        self.blocked = None
        if self.on_unblocked is not None:
            self.on_unblocked()

    _HANDLERS: ClassVar[dict[str, Callable[..., Any]]] = {
        **connection_0_8.Connection._HANDLERS,
        'connection.blocked': _blocked,
        'connection.unblocked': _unblocked,
        'connection.update_secret_ok': empty_reply('connection.update_secret_ok'),
    }
    _METHOD_MAP = handlers_by_signature(METHODS, _HANDLERS)
    _IMMEDIATE_METHODS = signatures_of(METHODS, 'connection.blocked', 'connection.unblocked')
