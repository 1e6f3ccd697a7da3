"""The clients that are measured, one module each, all with the same interface.

A module has a class `Client`:

    Client(host, port)              connects, as guest, and opens a channel
    declare(queue)                  declares a queue passively, to be used by all that follows;
                                    returns how many messages are ready in it
    publish_many(count, body)       publishes, each time a new message with `PROPERTIES`
    consume_many(count)             receives without acknowledgements
    consume_ack_many(count)         receives and acknowledges each, at most `PREFETCH` ahead
    get_many(count)                 gets one at a time without acknowledgements
    last_body()                     returns the body that came last, as bytes
    open_channels(count)            opens more channels
    close()

Each does its work in the way that its documentation shows, or in a faster one if there is.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

PROPERTIES = {'content_type': 'text/plain', 'delivery_mode': 2}
PREFETCH = 1000

OURS = 'amqplib'
ORIGINAL = 'amqplib 1.0.2'
#: The client in C: as a Python program uses it, and as one in C does.
BINDING = 'librabbitmq'
LOOPS = 'loops in C'
C_CLIENTS = [BINDING, LOOPS]

ENVIRONMENT = Path(sys.prefix)
ORIGINAL_FOLDER = ENVIRONMENT / 'amqplib-1.0.2'
C_LIBRARY = ENVIRONMENT / 'c_loops.so'
BINDING_FOLDER = ENVIRONMENT / 'librabbitmq'


@dataclass(frozen=True)
class ClientInfo:
    """What there is to know about a client before it is started.

    module: of this package.
    import_statement: what a program writes to have its connection class.
    folder: to be searched for modules before all others.
    needs: a file or folder without which it is left out, and why it may be missing.
    pure: whether it is written in Python alone.
    """

    name: str
    module: str
    import_statement: str
    folder: Path | None = None
    needs: tuple[Path, str] | None = None
    pure: bool = True


CLIENTS = {
    info.name: info
    for info in (
        ClientInfo(OURS, 'amqplib_client', 'import amqplib.client_0_8'),
        ClientInfo(
            ORIGINAL,
            'amqplib_client',
            'import amqplib.client_0_8',
            folder=ORIGINAL_FOLDER,
            needs=(ORIGINAL_FOLDER / 'amqplib', 'it takes a Python that has lib2to3'),
        ),
        ClientInfo('py-amqp', 'py_amqp_client', 'from amqp import Connection'),
        ClientInfo('pika', 'pika_client', 'from pika import BlockingConnection'),
        ClientInfo('amqpstorm', 'amqpstorm_client', 'from amqpstorm import Connection'),
        ClientInfo('rabbitpy', 'rabbitpy_client', 'from rabbitpy import Connection'),
        ClientInfo(
            BINDING,
            'librabbitmq_client',
            'from librabbitmq import Connection',
            folder=BINDING_FOLDER,
            needs=(BINDING_FOLDER / 'librabbitmq', 'there is none for this Python or system'),
            pure=False,
        ),
        ClientInfo(
            LOOPS,
            'c_client',
            '',
            needs=(C_LIBRARY, 'they take a C compiler and the package librabbitmq-dev'),
            pure=False,
        ),
    )
}

PEERS = [name for name, info in CLIENTS.items() if info.pure and name != OURS]


def client_class(name):
    return importlib.import_module(f'clients.{CLIENTS[name].module}').Client


def as_bytes(body):
    """Return a body as bytes, whatever its client made of it."""
    return body.encode() if isinstance(body, str) else bytes(body)
