"""The address of a broker: host and port from text, and the lookup of names."""

from __future__ import annotations

import re
import socket
from typing import Any

from amqplib.core import threads
from amqplib.core.checks import check_int
from amqplib.core.deadline import Deadline
from amqplib.exceptions import AMQPTimeout, ConnectionLost

#: An address in brackets, with or without a port.
IPV6_LITERAL = re.compile(r'\[([0-9A-Fa-f.:]+(?:%[^\]]+)?)\](?::(.*))?\Z')

#: Brackets belong only around an address; for the operating system, a NUL would end the name.
_NO_NAME = frozenset('[]\0')
#: No DNS name is longer, and the cost of Python's IDNA codec is quadratic.
_MAX_NAME_SIZE = 255
#: Characters that a URL has and a host does not.
_OF_A_URL = frozenset('/@')

#: What getaddrinfo returns: (family, type, protocol, canonical name, address).
AddressInfo = tuple[Any, ...]


def parse_address(host: str, default_port: int) -> tuple[str, int]:
    """Return host and port of ``name``, ``name:port``, ``1.2.3.4:port``, ``::1``, ``[::1]:port``.

    An empty name is the local host. Raises ValueError or TypeError for anything else.
    """
    if not isinstance(host, str):
        raise TypeError(f'host: {host!r} is not a str')
    if not _OF_A_URL.isdisjoint(host):
        # Not shown, because it may contain a password.
        raise ValueError(
            'host: a URL is not a host: use Connection.from_url(), or give host, userid, password'
            ' and virtual_host separately'
        )
    bracketed = IPV6_LITERAL.match(host)
    if bracketed:
        name, port = bracketed.groups()
    elif host.count(':') > 1:
        name, port = host, None  # an IPv6 address without brackets leaves no room for a port
    else:
        name, separator, port = host.partition(':')
        port = port if separator else None
    if len(name) > _MAX_NAME_SIZE or not _NO_NAME.isdisjoint(name):
        raise ValueError(f'host: {host[:_MAX_NAME_SIZE]!r} is not a host name')
    if port is None:
        return name or 'localhost', default_port
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f'host: {host!r} has no port from 1 to 65535')
    return name or 'localhost', int(port)


def join_address(host: str, port: int) -> str:
    """Return ``host:port``, with brackets where the host has colons."""
    return ('[{}]:{}' if ':' in host else '{}:{}').format(host, port)


def with_port(host: str, port: int) -> str:
    """Return ``host:port``; raise ValueError if `host` has a different port."""
    check_int('port', port, 1, 65535)
    name, own_port = parse_address(host, port)
    if own_port != port:
        raise ValueError(f'port: {port} is not the port of the host {host!r}')
    return join_address(name, port)


def look_up(name: str, port: int, deadline: Deadline) -> list[AddressInfo]:
    """Return the socket addresses of a name, in the order in which to try them.

    Raises ConnectionLost if there is none, AMQPTimeout if the answer does not come in time. If no
    thread can be started for the lookup, it has no time limit.
    """
    try:
        return _get_addresses(name, port, socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        pass  # not an address but a name
    # A lookup cannot be interrupted, so it runs in a thread that may be left behind.
    results: list[Any] = []
    thread = threads.start('amqplib name lookup', _collect, results, name, port)
    if thread is None:
        _collect(results, name, port)
    else:
        thread.join(deadline.remaining())
    if not results:
        text = f'the address of {name} was not found within {deadline}'
        raise AMQPTimeout(0, text)
    if isinstance(results[0], UnicodeError):
        raise ValueError(f'host: {name!r} is not a host name') from results[0]
    if isinstance(results[0], OSError):
        raise ConnectionLost.from_error(results[0], f'cannot find the address of {name}')
    addresses: list[AddressInfo] = results[0]
    return addresses


def _get_addresses(name: str, port: int, flags: int) -> list[AddressInfo]:
    return socket.getaddrinfo(
        name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=flags
    )


def _collect(results: list[Any], name: str, port: int) -> None:
    try:
        results.append(_get_addresses(name, port, 0))
    except (OSError, UnicodeError) as error:
        results.append(error)
