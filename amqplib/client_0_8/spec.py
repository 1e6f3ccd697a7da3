"""AMQP 0-8 as data: the rows that only this version has, or that differ in it.

The other rows are in ``amqplib.core.spec``. Together they are the methods of the AMQP 0-8
specification in the classes connection, channel, access, exchange, queue, basic and tx, and
RabbitMQ's additions (``queue.unbind`` and the synchronous ``basic.recover``).
"""

from __future__ import annotations

from amqplib.core.serialization import FIELD_TYPES
from amqplib.core.spec import CAPABILITIES, CLOSE_FIELDS, Method, Protocol, methods_of

# fmt: off
_OWN = (
    Method(10, 40, 'connection.open',
           'shortstr virtual_host, shortstr capabilities, bit insist', replies=(41, 50)),
    Method(10, 50, 'connection.redirect', 'shortstr host, shortstr known_hosts'),
    Method(10, 60, 'connection.close', CLOSE_FIELDS, replies=(61,)),
    Method(10, 61, 'connection.close_ok'),
)
# fmt: on

#: name -> Method
METHODS: dict[str, Method] = methods_of(_OWN)

ROWS = tuple(METHODS.values())

PROTOCOL = Protocol(
    '0-8',
    # The header that both RabbitMQ and Qpid Broker-J accept.
    header=b'AMQP\x01\x01\x08\x00',
    methods=METHODS,
    field_types=FIELD_TYPES,
    capabilities=CAPABILITIES,  # RabbitMQ heeds them on 0-8 too
    version_advice=(
        '; for 0-9-1, which every RabbitMQ speaks, '
        'import amqplib.client_0_9_1 instead of amqplib.client_0_8'
    ),
)
