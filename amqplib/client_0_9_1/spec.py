"""AMQP 0-9-1 as data: the rows that only this version has, or that differ in it.

The other rows are in ``amqplib.core.spec``. RabbitMQ's additions (confirms, bindings between
exchanges, blocked connections, ``basic.nack``, ``connection.update_secret``) are here too.
"""

from __future__ import annotations

from amqplib.core.serialization import FIELD_TYPES as BASE_FIELD_TYPES
from amqplib.core.serialization import encode_void
from amqplib.core.spec import CAPABILITIES, CLOSE_FIELDS, FieldTypes, Method, Protocol, methods_of

_GONE = ('channel.alert', 'access.request', 'access.request_ok')

# fmt: off
_BINDING = ('short ticket, shortstr destination, shortstr source, shortstr routing_key,'
            'bit nowait, table arguments')

_OWN = (
    Method(10, 50, 'connection.close', CLOSE_FIELDS, replies=(51,)),
    Method(10, 51, 'connection.close_ok'),
    Method(10, 60, 'connection.blocked', 'shortstr reason'),
    Method(10, 61, 'connection.unblocked'),
    Method(10, 70, 'connection.update_secret', 'longstr new_secret, shortstr reason',
           replies=(71,)),
    Method(10, 71, 'connection.update_secret_ok'),

    Method(20, 11, 'channel.open_ok', 'longstr channel_id'),

    Method(40, 30, 'exchange.bind', _BINDING, replies=(31,)),
    Method(40, 31, 'exchange.bind_ok'),
    Method(40, 40, 'exchange.unbind', _BINDING, replies=(51,)),
    Method(40, 51, 'exchange.unbind_ok'),

    Method(60, 20, 'basic.consume',
           'short ticket, shortstr queue, shortstr consumer_tag, bit no_local, bit no_ack,'
           'bit exclusive, bit nowait, table arguments', replies=(21,)),
    Method(60, 100, 'basic.recover_async', 'bit requeue'),
    Method(60, 110, 'basic.recover', 'bit requeue', replies=(111,)),
    Method(60, 120, 'basic.nack', 'longlong delivery_tag, bit multiple, bit requeue'),

    Method(85, 10, 'confirm.select', 'bit nowait', replies=(11,)),
    Method(85, 11, 'confirm.select_ok'),
)
# fmt: on

#: name -> Method
METHODS: dict[str, Method] = methods_of(_OWN, _GONE)

#: The encoders of Python types in tables, including None, for which 0-8 has no type.
FIELD_TYPES: FieldTypes = {**BASE_FIELD_TYPES, type(None): encode_void}

PROTOCOL = Protocol(
    '0-9-1',
    header=b'AMQP\x00\x00\x09\x01',
    methods=METHODS,
    field_types=FIELD_TYPES,
    capabilities={
        **CAPABILITIES,
        'basic.nack': True,
        'connection.blocked': True,
        'exchange_exchange_bindings': True,
        'publisher_confirms': True,
    },
)
