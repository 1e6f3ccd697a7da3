"""The broker that a command is for: from its options, a file or the environment."""

from __future__ import annotations

import contextlib
import importlib
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from amqplib.command_line.status import USAGE, Failure
from amqplib.core.abstract_channel import CLOSE_TIMEOUT
from amqplib.core.serialization import with_context
from amqplib.exceptions import AMQPException

DEFAULT_URL = 'amqp://localhost'
PROTOCOLS = {'0-8': 'amqplib.client_0_8', '0-9-1': 'amqplib.client_0_9_1'}
DEFAULT_PROTOCOL = '0-9-1'
TIMEOUT = 30.0


def urls_of(options: Namespace) -> list[str]:
    """Return the URLs of --url, of --url-file, of $AMQP_URL, or that of this machine."""
    if options.url_file is not None:
        return _read(Path(options.url_file)).split()
    text: Optional[str] = options.url
    if text is None:
        text = os.environ.get('AMQP_URL') or DEFAULT_URL
    return text.split()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except ValueError as error:
        raise with_context(error, str(path)) from None


def client_of(options: Namespace) -> Any:
    """Return the client for --protocol."""
    return importlib.import_module(PROTOCOLS[options.protocol])


@contextlib.contextmanager
def open_connection(options: Namespace) -> Iterator[Any]:
    """Yield a connection; closing it makes sure that the broker has got everything."""
    timeout = options.timeout or TIMEOUT
    arguments: dict[str, Any] = {'rpc_timeout': timeout, 'write_timeout': timeout}
    if options.timeout is not None:
        arguments['connect_timeout'] = timeout
    name = f'amqplib {options.command}'
    try:
        conn = client_of(options).Connection.from_url(
            urls_of(options), connection_name=name, **arguments
        )
    except ValueError as error:
        raise Failure(str(error), USAGE) from None
    limit = min(timeout, CLOSE_TIMEOUT)
    try:
        yield conn
    except BaseException:
        with contextlib.suppress(AMQPException):  # the error that ended the block is the one
            conn.close(timeout=limit)
        raise
    conn.close(timeout=limit)


@contextlib.contextmanager
def open_channel(options: Namespace) -> Iterator[Any]:
    """Yield a channel, with bodies as they are, on a connection of its own."""
    with open_connection(options) as conn:
        ch = conn.channel()
        ch.auto_decode = False
        yield ch  # which is closed with the connection
