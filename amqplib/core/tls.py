"""TLS settings: what the `ssl` argument of a connection may be, as an SSLContext."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Optional, Union

#: Raised by a socket that does not block, when it has to wait.
WANT_READ = ssl.SSLWantReadError
WANT_WRITE = ssl.SSLWantWriteError

#: Options of the old ssl.wrap_socket that have no meaning any more.
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

Options = Union[bool, ssl.SSLContext, Mapping[str, Any]]


def make_context(options: Options) -> tuple[ssl.SSLContext, Optional[str]]:
    """Return the context, and the server name to ask for and to check; None for the host's.

    options: True for the system's authorities, an SSLContext to be used as it is, or a dict of
        ca_certs, certfile, keyfile, password, ciphers, server_hostname, check_hostname (bool)
        and cert_reqs. The certificate's chain and host name are verified unless
        check_hostname=False or cert_reqs=ssl.CERT_NONE say otherwise.

    Raises TypeError for an unknown option, ValueError for server_side=True, OSError or
    ssl.SSLError for an unusable file.
    """
    if isinstance(options, ssl.SSLContext):
        return options, None
    if not isinstance(options, Mapping):
        return ssl.create_default_context(), None
    if options.get('server_side'):
        raise ValueError('ssl: server_side: a client cannot be the server')
    unknown = set(options) - _KNOWN - _IGNORED
    if unknown:
        raise TypeError('ssl: unknown option {}'.format(', '.join(sorted(map(repr, unknown)))))
    return _context_of(options), options.get('server_hostname')


def _context_of(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get('ca_certs'))
    cert_reqs = options.get('cert_reqs')
    verify_mode = ssl.CERT_REQUIRED if cert_reqs is None else ssl.VerifyMode(cert_reqs)
    # The context refuses to drop verification while it still checks the name.
    context.check_hostname = (
        bool(options.get('check_hostname', True)) and verify_mode != ssl.CERT_NONE
    )
    context.verify_mode = verify_mode
    if options.get('ciphers'):
        context.set_ciphers(options['ciphers'])
    if options.get('certfile'):
        context.load_cert_chain(
            options['certfile'], options.get('keyfile'), options.get('password')
        )
    return context
