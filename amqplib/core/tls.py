"""TLS settings: the `ssl` argument of a connection as an SSLContext."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Union

#: Raised by a non-blocking socket that would have to wait.
WANT_READ = ssl.SSLWantReadError
WANT_WRITE = ssl.SSLWantWriteError

#: The base of all context classes: gevent and eventlet replace ssl.SSLContext.
_AnyContext: type[ssl.SSLContext] = ssl.SSLContext.__mro__[-2]  # the last one is object

#: Options of the old ssl.wrap_socket that no longer mean anything.
_IGNORED = frozenset(
    ('do_handshake_on_connect', 'server_side', 'suppress_ragged_eofs', 'ssl_version')
)
_KNOWN = frozenset(
    (
        'ca_certs',
        'cert_reqs',
        'certfile',
        'check_hostname',
        'ciphers',
        'keyfile',
        'password',
        'server_hostname',
    )
)

_EXAMPLE = "{'ca_certs': 'ca.pem'}"

Options = Union[bool, ssl.SSLContext, Mapping[str, Any]]


def make_context(options: Options, host: str) -> tuple[ssl.SSLContext, str]:
    """Return the context, and the server name to send and to verify.

    options: the `ssl` argument of a Connection, which describes it; None for an option is as if it
        were missing.
    host: the server name, unless the options name another.

    Raises TypeError or ValueError for an unknown or wrong option, OSError or ssl.SSLError for an
    unusable file; each names the option, and the file.
    """
    # The zone of an IPv6 address is not part of the name.
    name = host.partition('%')[0] if ':' in host else host
    if isinstance(options, _AnyContext):
        context = options
        if context.protocol == ssl.PROTOCOL_TLS_SERVER:  # Python 3.9 would not notice
            raise ValueError('ssl: this SSLContext is for servers')
    elif isinstance(options, Mapping):
        given = _given(options)
        context = _context_of(given)
        name = _text(given, 'server_hostname') if 'server_hostname' in given else name
    elif isinstance(options, int) and options:  # True, or the 1 of old programs
        context = ssl.create_default_context()
    else:
        what = repr(options) if isinstance(options, (str, int)) else type(options).__name__
        raise TypeError(
            f'ssl: {what} is not True, False, an SSLContext or a dict, such as {_EXAMPLE}'
        )
    try:
        # What the connection will do, but without a socket.
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except (ValueError, ssl.SSLError) as error:
        raise ValueError(f'ssl: no TLS to the server_hostname {name!r}: {error}') from error
    return context, name


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not None, after checking that they are consistent."""
    unknown = set(options) - _KNOWN - _IGNORED
    if unknown:
        raise TypeError('ssl: unknown option {}'.format(', '.join(sorted(map(repr, unknown)))))
    given = {name: value for name, value in options.items() if value is not None}
    if given.get('server_side'):
        raise ValueError('ssl: server_side: a client cannot be the server')
    for name in ('keyfile', 'password'):
        if name in given and 'certfile' not in given:
            raise ValueError(f'ssl: {name}: it needs a certfile')
    return given


def _context_of(given: dict[str, Any]) -> ssl.SSLContext:
    ca_certs = _file(given, 'ca_certs')
    with _naming('ca_certs', ca_certs):
        context = ssl.create_default_context(cafile=ca_certs)
    verify_mode = _verify_mode(given.get('cert_reqs', ssl.CERT_REQUIRED))
    check_hostname = given.get('check_hostname', True)
    if check_hostname not in (True, False):
        raise TypeError(f'ssl: check_hostname: {check_hostname!r} is not a bool')
    # In this order: a context that checks the name refuses to turn verification off.
    context.check_hostname = bool(check_hostname) and verify_mode != ssl.CERT_NONE
    context.verify_mode = verify_mode
    if 'ciphers' in given:
        ciphers = _text(given, 'ciphers')
        with _naming('ciphers', ciphers):
            context.set_ciphers(ciphers)
    if 'certfile' in given:
        files = _file(given, 'certfile'), _file(given, 'keyfile')
        with _naming('certfile', files[0], *(('keyfile', files[1]) if files[1] else ())):
            context.load_cert_chain(*files, given.get('password'))
    return context


def _verify_mode(cert_reqs: Any) -> ssl.VerifyMode:
    try:
        if isinstance(cert_reqs, int) and not isinstance(cert_reqs, bool):
            return ssl.VerifyMode(cert_reqs)
    except ValueError:
        pass
    text = 'ssl: cert_reqs: {!r} is not CERT_NONE, CERT_OPTIONAL or CERT_REQUIRED of ssl'
    raise ValueError(text.format(cert_reqs))


def _text(given: dict[str, Any], name: str) -> str:
    value = given[name]
    if not isinstance(value, str):
        raise TypeError(f'ssl: {name}: {value!r} is not a str')
    if not value:
        raise ValueError(f'ssl: {name}: it is empty')
    return value


def _file(given: dict[str, Any], name: str) -> Any:
    """Return the path of a file, after checking that it can be read."""
    if name not in given:
        return None
    path = given[name]
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f'ssl: {name}: {path!r} is not the name of a file')
    with _naming(name, path), open(path, 'rb'):
        return path


@contextmanager
def _naming(*options_and_values: Any) -> Iterator[None]:
    """Make errors in the block name the options and their values."""
    names = '{}: {!r}'
    try:
        yield
    except OSError as error:
        pairs = zip(options_and_values[::2], options_and_values[1::2])
        what = ', '.join(names.format(*pair) for pair in pairs)
        raise type(error)(error.errno, f'ssl: {what}: {error.strerror or error}') from error
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f'ssl: {names.format(*options_and_values[:2])}: {error}') from error
