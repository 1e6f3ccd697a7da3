"""Connecting by URLs: ``amqp://user:password@host:port/vhost?heartbeat=30``, or ``amqps``.

No error shows what may be a password, or a part of one that was not percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, TypeVar, Union
from urllib.parse import unquote

from amqplib.core import log
from amqplib.core.addresses import join_address, parse_address
from amqplib.core.transport import AMQP_PORT, AMQPS_PORT
from amqplib.exceptions import AMQPException

Opened = TypeVar('Opened')

_URL = re.compile(
    r'(?P<scheme>amqps?)://'
    r'(?:(?P<userid>[^:/?]*)(?::(?P<password>[^/?]*))?@)?'
    r'(?P<host>\[[^]/?@]*\]|[^]:/?@[]*)(?::(?P<port>[^:/?@]*))?'
    r'(?:/(?P<virtual_host>[^?@]*))?'
    r'(?:\?(?P<query>[^@]*))?',
    re.IGNORECASE | re.ASCII,
)
_FORM = 'amqp://user:password@host:port/vhost, or amqps'
_NOT_ENCODED = re.compile(r'%(?![0-9A-Fa-f]{2})')


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError('it is not a number')
    return int(text)


def _seconds(text: str) -> float:
    return _number(text) / 1000


def _cert_reqs(text: str) -> int:
    if text not in _CERT_REQS:
        raise ValueError('it is not one of ' + ', '.join(_CERT_REQS))
    return _CERT_REQS[text]


def _server_hostname(text: str) -> str:
    if text == 'disable':
        raise ValueError('it cannot be disabled; verify=verify_none turns verification off')
    return text


#: The values of ssl.CERT_NONE and ssl.CERT_REQUIRED, without the import.
_CERT_REQS = {'verify_none': 0, 'verify_peer': 2}

#: Parameter of a query -> (argument of Connection, function that makes its value of the text).
QUERY: dict[str, tuple[str, Callable[[str], Any]]] = {
    'auth_mechanism': ('login_method', str.upper),
    'channel_max': ('channel_max', _number),
    'connection_timeout': ('connect_timeout', _seconds),  # in milliseconds
    'frame_max': ('frame_max', _number),
    'heartbeat': ('heartbeat', _number),
}
#: The same for options of the argument `ssl`, only with amqps.
TLS_QUERY: dict[str, tuple[str, Callable[[str], Any]]] = {
    'cacertfile': ('ca_certs', str),
    'certfile': ('certfile', str),
    'keyfile': ('keyfile', str),
    'password': ('password', str),  # of the key
    'server_name_indication': ('server_hostname', _server_hostname),
    'verify': ('cert_reqs', _cert_reqs),
}


def parse(url: str) -> dict[str, Any]:
    """Return the arguments of Connection that a URL stands for; raise ValueError or TypeError."""
    if not isinstance(url, str):
        raise TypeError(f'url: {type(url).__name__!r} is not a str')
    if '#' in url or ' ' in url or not url.isprintable():
        raise ValueError("url: '#', spaces and unprintable characters must be percent-encoded")
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(
            f'url: it is not of the form {_FORM}, with special characters in user, password and '
            'virtual host percent-encoded'
        )
    parts = {name: text for name, text in match.groupdict().items() if text is not None}
    secure = parts.pop('scheme').lower() == 'amqps'
    query = parts.pop('query', '')
    arguments: dict[str, Any] = {name: _decoded(name, text) for name, text in parts.items()}
    if 'userid' in arguments:
        arguments.setdefault('password', None)  # not the default one, which belongs to `guest`
    if 'port' in arguments:
        arguments['port'] = _port(arguments['port'])
    arguments['virtual_host'] = arguments.get('virtual_host') or '/'
    return {**arguments, **_parse_query(query, secure)}


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
        raise ValueError('url: port: it is not a number from 1 to 65535')
    return int(text)


def _parse_query(query: str, secure: bool) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, text in _pairs(query):
        if name in TLS_QUERY and not secure:
            raise ValueError(f'url: {name}: it needs amqps')
        known, found = (TLS_QUERY, options) if name in TLS_QUERY else (QUERY, arguments)
        if name not in known:
            raise ValueError(_unknown(name, query))
        argument, convert = known[name]
        if argument in found:
            raise ValueError(f'url: {name}: it is there twice')
        try:
            found[argument] = convert(text)
        except ValueError as error:
            raise ValueError(f'url: {name}: {error}') from None
    if secure:
        arguments['ssl'] = options or True
    return arguments


def _unknown(name: str, query: str) -> str:
    names = ', '.join(sorted({**QUERY, **TLS_QUERY}))
    # What comes after an `&` may belong to a password.
    what = 'a parameter' if 'password=' in query else f'the parameter {name[:40]!r}'
    return f'url: {what} is unknown; known are {names}'


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    # A `+` is a space, as in the URLs of forms and as other clients read it.
    for pair in filter(None, query.replace('+', ' ').split('&')):
        name, _, text = pair.partition('=')
        name = _decoded('query', name)
        yield name, _decoded(name, text)


def _decoded(name: str, text: str) -> str:
    if _NOT_ENCODED.search(text):
        raise ValueError(f'url: {name}: a % that is not followed by two hexadecimal digits')
    # Bytes that are not UTF-8 are left to the connection, which knows where they are possible.
    return unquote(text, errors='surrogateescape')


def parse_all(url: Union[str, Iterable[str]]) -> list[dict[str, Any]]:
    """Return what parse() returns for a URL, or for each one of an iterable."""
    urls = [url] if isinstance(url, (str, bytes)) or not isinstance(url, Iterable) else list(url)
    if not urls:
        raise ValueError('url: there is none')
    return [parse(one) for one in urls]


def merge(parsed: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a URL, and others that win over them."""
    own = dict(parsed)
    if 'host' in arguments:
        own.pop('port', None)
    return {**own, **arguments}


def address(arguments: Mapping[str, Any]) -> str:
    """Return where arguments connect to, for log lines."""
    default_port = AMQPS_PORT if arguments.get('ssl') else AMQP_PORT
    return join_address(*parse_address(arguments['host'], arguments.get('port') or default_port))


def connect(
    make: Callable[..., Opened], places: list[dict[str, Any]], arguments: Mapping[str, Any]
) -> Opened:
    """Connect to the first one of several places; the next one after a recoverable error.

    make: the class Connection.
    places: what parse() returns.
    arguments: others that win over them.
    """
    *others, last = [merge(place, arguments) for place in places]
    for place in others:
        try:
            return make(**place)
        except AMQPException as error:
            if not error.recoverable:
                raise
            log.warning('%s: %s; trying the next URL', address(place), error)
    return make(**last)
