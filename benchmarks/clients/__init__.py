"""The clients that are measured, one module each, all with the same interface.

A module has a class `Client`:

    Client(host, port)              connects as guest and opens a channel
    declare(queue)                  declares a queue passively, which the other methods then use;
                                    returns how many messages are ready in it
    publish_many(count, body)       publishes a new message with `PROPERTIES` each time
    consume_many(count)             receives messages without acknowledgements
    consume_ack_many(count)         receives messages with a prefetch of `PREFETCH`, and
                                    acknowledges each
    get_many(count)                 gets messages one at a time, without acknowledgements
    last_body()                     returns the last body received, as bytes
    open_channels(count)            opens more channels
    close()

Each client works as its documentation shows, or in a faster way if there is one.
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
#: The C client: as a Python program uses it, and as a C program does.
BINDING = 'librabbitmq'
LOOPS = 'loops in C'
C_CLIENTS = [BINDING, LOOPS]

ENVIRONMENT = Path(sys.prefix)
ORIGINAL_FOLDER = ENVIRONMENT / 'amqplib-1.0.2'
C_LIBRARY = ENVIRONMENT / 'c_loops.so'
BINDING_FOLDER = ENVIRONMENT / 'librabbitmq'


@dataclass(frozen=True)
class ClientInfo:
    """What is known of a client before it is started.

    module: its module in this package.
    import_statement: the import that a program needs for its connection class.
    folder: a folder to put in front of the module search path.
    needs: a file or folder that the client needs, and why it may be missing.
    pure: whether it is written in Python only.
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
            needs=(ORIGINAL_FOLDER / 'amqplib', 'it needs a Python with lib2to3'),
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
            needs=(BINDING_FOLDER / 'librabbitmq', 'there is no build for this Python or system'),
            pure=False,
        ),
        ClientInfo(
            LOOPS,
            'c_client',
            '',
            needs=(C_LIBRARY, 'they need a C compiler and the package librabbitmq-dev'),
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
