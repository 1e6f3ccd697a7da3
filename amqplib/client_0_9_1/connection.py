"""Connection: what AMQP 0-9-1 and RabbitMQ add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from amqplib.client_0_9_1.basic_message import Message
from amqplib.client_0_9_1.channel import Channel
from amqplib.client_0_9_1.method_framing import MethodReader
from amqplib.client_0_9_1.spec import PROTOCOL
from amqplib.client_0_9_1.transport import create_transport
from amqplib.core import connection
from amqplib.core.abstract_channel import printable
from amqplib.core.fast_decoding import ConfirmFrames
from amqplib.core.streams import AMQPReader

if TYPE_CHECKING:
    from amqplib.core.reconnecting import Attempt
    from amqplib.core.transport import AbstractTransport

__all__ = ['Connection', 'reconnecting']


class Connection(connection.Connection):
    __doc__ = connection.Connection.__doc__

    _protocol = PROTOCOL
    _channel_class = Channel
    _message_class = Message
    _reader_class = MethodReader

    on_blocked: Optional[Callable[[str], Any]] = None
    on_unblocked: Optional[Callable[[], Any]] = None

    if TYPE_CHECKING:

        def channel(self, channel_id: Optional[int] = None) -> Channel: ...

    def _use(self, transport: AbstractTransport) -> None:
        super()._use(transport)
        decoder = self._session.decoder
        decoder.add_fast_path(ConfirmFrames(self._session.inboxes))

    def _create_transport(
        self, host: str, connect_timeout: Optional[float], ssl: Any
    ) -> AbstractTransport:
        # Looked up at each call, because programs may replace it.
        return create_transport(host, connect_timeout, ssl)

    @property
    def server_capabilities(self) -> dict[str, bool]:
        """The capabilities of the broker, by name."""
        capabilities = self.server_properties.get('capabilities')
        return capabilities if isinstance(capabilities, dict) else {}

    def update_secret(self, new_secret: str, reason: str = '') -> None:
        """Send the broker a new password or token, before the old one expires.

        new_secret: str.
        reason: for the broker's log.
        """
        self._call('connection.update_secret', new_secret, reason)

    def _blocked(self, args: AMQPReader) -> None:
        (reason,) = self._decode('connection.blocked', args)
        self._session.blocked = printable(reason)
        if self.on_blocked is not None:
            self.on_blocked(self._session.blocked)

    def _unblocked(self, args: AMQPReader) -> None:
        self._decode('connection.unblocked', args)
        self._session.blocked = None
        if self.on_unblocked is not None:
            self.on_unblocked()

    _IMMEDIATE = ('connection.blocked', 'connection.unblocked')


def reconnecting(
    url: Union[str, Iterable[str]],
    first: float = 1.0,
    most: float = 30.0,
    retry: Union[type[Exception], Iterable[type[Exception]]] = (),
    stop: Optional[Callable[[], object]] = None,
    **arguments: Any,
) -> Iterator[Attempt[Connection]]:
    return connection.reconnecting_to(Connection, url, (first, most), retry, stop, arguments)


reconnecting.__doc__ = connection.reconnecting_to.__doc__
