"""Connection: what differs in AMQP 0-8, and the names of amqplib 1.0.2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from amqplib.client_0_8 import transport as transport_module
from amqplib.client_0_8.channel import Channel
from amqplib.client_0_8.method_framing import (
    MethodReader,
    MethodWriter,  # noqa: F401
)
from amqplib.client_0_8.spec import PROTOCOL
from amqplib.client_0_8.transport import create_transport
from amqplib.core import connection, log, spec
from amqplib.core.abstract_channel import printable
from amqplib.core.connection import LIBRARY_PROPERTIES  # noqa: F401
from amqplib.core.streams import AMQPReader, AMQPWriter  # noqa: F401
from amqplib.exceptions import (
    AMQPChannelException,  # noqa: F401
    AMQPConnectionException,
    AMQPException,  # noqa: F401
    ProtocolError,
)

if TYPE_CHECKING:
    from amqplib.core.reconnecting import Attempt
    from amqplib.core.transport import AbstractTransport

__all__ = ['Connection', 'reconnecting']

#: The most redirects that a connection follows.
MAX_REDIRECTS = 8


class Connection(connection.Connection):
    __doc__ = connection.Connection.__doc__

    _protocol = PROTOCOL
    _channel_class = Channel
    _reader_class = MethodReader

    if TYPE_CHECKING:

        def channel(self, channel_id: Optional[int] = None) -> Channel: ...

    def _connect_to(self, host: str, ssl: Any) -> None:
        for hops in range(MAX_REDIRECTS + 1):
            try:
                redirected = self._connect(host, ssl)
            except ValueError as error:
                if not hops:
                    raise
                text = f'redirected to what is no address: {printable(host)!r}'
                named = self._named('connection.redirect')
                raise ProtocolError(spec.SYNTAX_ERROR, text, *named) from error
            if redirected is None:
                return
            log.debug('redirected to %s', redirected)
            host = redirected
        raise AMQPConnectionException(0, f'redirected more than {MAX_REDIRECTS} times')

    def _redirect(self, args: AMQPReader) -> Any:
        host, self.known_hosts = self._decode('connection.redirect', args)
        cause = AMQPConnectionException(0, f'redirected to {printable(host)}')
        self._session.end(cause, reported=True)
        return host

    # Looked up at each call, because programs replace them.

    def _create_transport(
        self, host: str, connect_timeout: Optional[float], ssl: Any
    ) -> AbstractTransport:
        return create_transport(host, connect_timeout, ssl)

    def _protocol_header(self) -> bytes:
        return transport_module.AMQP_PROTOCOL_HEADER


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


def __getattr__(name: str) -> Any:
    if name == 'AMQP_LOGGER':  # old programs import it from here
        return log.logger()
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
