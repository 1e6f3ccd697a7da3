"""The transports, under the names of amqplib 1.0.2; programs replace some of them here."""

from __future__ import annotations

from typing import Any, Optional

from amqplib.client_0_9_1.spec import PROTOCOL
from amqplib.core.addresses import IPV6_LITERAL
from amqplib.core.legacy import LegacySSLTransport as SSLTransport
from amqplib.core.legacy import LegacyTCPTransport as TCPTransport
from amqplib.core.legacy import LegacyTransport as _AbstractTransport
from amqplib.core.transport import AMQP_PORT

__all__ = [
    'AMQP_PORT',
    'AMQP_PROTOCOL_HEADER',
    'HAVE_PY26_SSL',
    'IPV6_LITERAL',
    'SSLTransport',
    'TCPTransport',
    'create_transport',
]

AMQP_PROTOCOL_HEADER = PROTOCOL.header

#: Kept for programs that read it; every supported Python has TLS.
HAVE_PY26_SSL = True


def create_transport(
    host: str, connect_timeout: Optional[float], ssl: Any = False
) -> _AbstractTransport:
    """Connect a transport: plain TCP if `ssl` is False or None, else TLS."""
    if ssl is None or ssl is False:
        return TCPTransport(host, connect_timeout)
    return SSLTransport(host, connect_timeout, ssl)
