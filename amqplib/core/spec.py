"""AMQP as data: the one place where ids, names, fields and reply codes are written.

Encoders, decoders, dispatch and the names in exceptions are derived from it. SHARED_ROWS has the
methods whose ids mean the same in every version of the protocol. ``spec.py`` of each client has the
methods that its version adds or changes, and combines all of them into a Protocol. To add a
protocol method, add its row there or here, and its function in ``channel.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Any, Callable, Optional

Signature = tuple[int, int]

# Frame types and framing (specification 4.2).
FRAME_METHOD = 1
FRAME_HEADER = 2
FRAME_BODY = 3
FRAME_HEARTBEAT = 8
FRAME_END = 0xCE
#: Bytes of a frame that are not payload: type, channel, size and end.
FRAME_OVERHEAD = 8
#: No peer may ask for less, and no frame may be larger before the tuning.
FRAME_MIN_SIZE = 4096

#: The limits until the broker sends its own, or if it sends 0 for "no limit".
DEFAULT_CHANNEL_MAX = 65535
DEFAULT_FRAME_MAX = 131072

# Reply codes (specification 1.1, "constants").
REPLY_SUCCESS = 200
CONTENT_TOO_LARGE = 311
NO_ROUTE = 312
NO_CONSUMERS = 313
CONNECTION_FORCED = 320
INVALID_PATH = 402
ACCESS_REFUSED = 403
NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406
FRAME_ERROR = 501
SYNTAX_ERROR = 502
COMMAND_INVALID = 503
CHANNEL_ERROR = 504
UNEXPECTED_FRAME = 505
RESOURCE_ERROR = 506
NOT_ALLOWED = 530
NOT_IMPLEMENTED = 540
INTERNAL_ERROR = 541

#: Class id and method id.
SIGNATURE = Struct('>HH')
#: What a frame begins with: type, channel, size of the payload.
FRAME_START = Struct('>BHI')
#: What the payload of a header frame begins with: class id, weight (always 0), size of the body.
CONTENT_START = Struct('>HHQ')
#: Both of these.
HEADER_START = Struct('>BHI2sHQ')


class Method:
    """One row of the table.

    signature: (class id, method id).
    name: ``class.method`` with underscores for dashes, as in ``queue.declare_ok``.
    fields: ((name, wire type), ...) in the order of the wire.
    python_name: its name in errors, as in ``Channel.queue_declare``.
    content: whether a content header and body follow.
    replies: the signatures of its possible replies; () if it has none.
    prefix: the first four bytes of its payload.
    """

    __slots__ = ('content', 'fields', 'name', 'prefix', 'python_name', 'replies', 'signature')

    def __init__(
        self,
        class_id: int,
        method_id: int,
        name: str,
        fields: str = '',
        replies: tuple[int, ...] = (),
        content: bool = False,
        python_name: Optional[str] = None,
    ) -> None:
        self.signature: Signature = (class_id, method_id)
        self.name = name
        self.python_name = python_name or _python_name(name)
        self.fields: tuple[tuple[str, str], ...] = tuple(
            (field.split()[1], field.split()[0]) for field in fields.split(',') if field
        )
        self.content = content
        self.replies: tuple[Signature, ...] = tuple((class_id, reply) for reply in replies)
        self.prefix = SIGNATURE.pack(class_id, method_id)

    def __repr__(self) -> str:
        return f'<Method {self.name} {self.signature}>'


def _python_name(name: str) -> str:
    class_name, _, method_name = name.partition('.')
    if class_name in ('connection', 'channel'):
        return f'{class_name.capitalize()}.{method_name}'
    return f'Channel.{class_name}_{method_name}'


CLOSE_FIELDS = 'short reply_code, shortstr reply_text, short class_id, short method_id'
_TUNE = 'short channel_max, long frame_max, short heartbeat'

# fmt: off
#: The methods whose ids mean the same in every version that has them. A version may lack one, or
#: have it with other fields, so look up the row of a method in a Protocol.
SHARED_ROWS = (
    Method(10, 10, 'connection.start',
           'octet version_major, octet version_minor, table server_properties,'
           'longstr mechanisms, longstr locales'),
    Method(10, 11, 'connection.start_ok',
           'table client_properties, shortstr mechanism, longstr response, shortstr locale'),
    Method(10, 20, 'connection.secure', 'longstr challenge'),
    Method(10, 21, 'connection.secure_ok', 'longstr response'),
    Method(10, 30, 'connection.tune', _TUNE),
    Method(10, 31, 'connection.tune_ok', _TUNE),
    Method(10, 40, 'connection.open',
           'shortstr virtual_host, shortstr capabilities, bit insist', replies=(41,)),
    Method(10, 41, 'connection.open_ok', 'shortstr known_hosts'),

    Method(20, 10, 'channel.open', 'shortstr out_of_band', replies=(11,)),
    Method(20, 11, 'channel.open_ok'),
    Method(20, 20, 'channel.flow', 'bit active', replies=(21,)),
    Method(20, 21, 'channel.flow_ok', 'bit active'),
    Method(20, 30, 'channel.alert', 'short reply_code, shortstr reply_text, table details'),
    Method(20, 40, 'channel.close', CLOSE_FIELDS, replies=(41,)),
    Method(20, 41, 'channel.close_ok'),

    Method(30, 10, 'access.request',
           'shortstr realm, bit exclusive, bit passive, bit active, bit write, bit read',
           replies=(11,)),
    Method(30, 11, 'access.request_ok', 'short ticket'),

    Method(40, 10, 'exchange.declare',
           'short ticket, shortstr exchange, shortstr type, bit passive, bit durable,'
           'bit auto_delete, bit internal, bit nowait, table arguments', replies=(11,)),
    Method(40, 11, 'exchange.declare_ok'),
    Method(40, 20, 'exchange.delete',
           'short ticket, shortstr exchange, bit if_unused, bit nowait', replies=(21,)),
    Method(40, 21, 'exchange.delete_ok'),

    Method(50, 10, 'queue.declare',
           'short ticket, shortstr queue, bit passive, bit durable, bit exclusive,'
           'bit auto_delete, bit nowait, table arguments', replies=(11,)),
    Method(50, 11, 'queue.declare_ok',
           'shortstr queue, long message_count, long consumer_count'),
    Method(50, 20, 'queue.bind',
           'short ticket, shortstr queue, shortstr exchange, shortstr routing_key,'
           'bit nowait, table arguments', replies=(21,)),
    Method(50, 21, 'queue.bind_ok'),
    Method(50, 30, 'queue.purge', 'short ticket, shortstr queue, bit nowait', replies=(31,)),
    Method(50, 31, 'queue.purge_ok', 'long message_count'),
    Method(50, 40, 'queue.delete',
           'short ticket, shortstr queue, bit if_unused, bit if_empty, bit nowait',
           replies=(41,)),
    Method(50, 41, 'queue.delete_ok', 'long message_count'),
    Method(50, 50, 'queue.unbind',
           'short ticket, shortstr queue, shortstr exchange, shortstr routing_key,'
           'table arguments', replies=(51,)),
    Method(50, 51, 'queue.unbind_ok'),

    Method(60, 10, 'basic.qos',
           'long prefetch_size, short prefetch_count, bit global', replies=(11,)),
    Method(60, 11, 'basic.qos_ok'),
    Method(60, 20, 'basic.consume',
           'short ticket, shortstr queue, shortstr consumer_tag, bit no_local, bit no_ack,'
           'bit exclusive, bit nowait', replies=(21,)),
    Method(60, 21, 'basic.consume_ok', 'shortstr consumer_tag'),
    Method(60, 30, 'basic.cancel', 'shortstr consumer_tag, bit nowait', replies=(31,)),
    Method(60, 31, 'basic.cancel_ok', 'shortstr consumer_tag'),
    Method(60, 40, 'basic.publish',
           'short ticket, shortstr exchange, shortstr routing_key, bit mandatory, bit immediate',
           content=True),
    Method(60, 50, 'basic.return',
           'short reply_code, shortstr reply_text, shortstr exchange, shortstr routing_key',
           content=True),
    Method(60, 60, 'basic.deliver',
           'shortstr consumer_tag, longlong delivery_tag, bit redelivered, shortstr exchange,'
           'shortstr routing_key', content=True),
    Method(60, 70, 'basic.get', 'short ticket, shortstr queue, bit no_ack', replies=(71, 72)),
    Method(60, 71, 'basic.get_ok',
           'longlong delivery_tag, bit redelivered, shortstr exchange, shortstr routing_key,'
           'long message_count', content=True),
    Method(60, 72, 'basic.get_empty', 'shortstr cluster_id'),
    Method(60, 80, 'basic.ack', 'longlong delivery_tag, bit multiple'),
    Method(60, 90, 'basic.reject', 'longlong delivery_tag, bit requeue'),
    # AMQP 0-8 calls the asynchronous form basic.recover, and so does the client.
    Method(60, 100, 'basic.recover_async', 'bit requeue', python_name='Channel.basic_recover'),
    Method(60, 110, 'basic.recover', 'bit requeue', replies=(111,),
           python_name='Channel.basic_recover_sync'),
    Method(60, 111, 'basic.recover_ok'),

    Method(90, 10, 'tx.select', replies=(11,)),
    Method(90, 11, 'tx.select_ok'),
    Method(90, 20, 'tx.commit', replies=(21,)),
    Method(90, 21, 'tx.commit_ok'),
    Method(90, 30, 'tx.rollback', replies=(31,)),
    Method(90, 31, 'tx.rollback_ok'),
)
# fmt: on

#: The properties of the basic class (specification 1.6), in the order of their flags.
BASIC_PROPERTIES: tuple[tuple[str, str], ...] = (
    ('content_type', 'shortstr'),
    ('content_encoding', 'shortstr'),
    ('application_headers', 'table'),
    ('delivery_mode', 'octet'),
    ('priority', 'octet'),
    ('correlation_id', 'shortstr'),
    ('reply_to', 'shortstr'),
    ('expiration', 'shortstr'),
    ('message_id', 'shortstr'),
    ('timestamp', 'timestamp'),
    ('type', 'shortstr'),
    ('user_id', 'shortstr'),
    ('app_id', 'shortstr'),
    ('cluster_id', 'shortstr'),
)

_BY_NAME = {row.name: row for row in SHARED_ROWS}

ACCESS_REQUEST = _BY_NAME['access.request']
#: Only its fields differ between versions.
CHANNEL_OPEN_OK = _BY_NAME['channel.open_ok'].signature
# These are the same in every version, including their fields.
ACK = _BY_NAME['basic.ack']
CANCEL = _BY_NAME['basic.cancel']
CHANNEL_CLOSE = _BY_NAME['channel.close']
CHANNEL_CLOSE_OK = _BY_NAME['channel.close_ok']
DELIVER = _BY_NAME['basic.deliver']
GET = _BY_NAME['basic.get']
GET_OK = _BY_NAME['basic.get_ok']
PUBLISH = _BY_NAME['basic.publish']
RETURN = _BY_NAME['basic.return']
TX_COMMIT = _BY_NAME['tx.commit']

#: The class of the methods on channel 0.
CONNECTION_CLASS_ID = 10


#: The capabilities that every client announces to the broker.
CAPABILITIES = {
    # The broker refuses a login with connection.close, rather than with silence and a reset.
    'authentication_failure_close': True,
    # The broker reports cancelled consumers, for instance when their queue is deleted.
    'consumer_cancel_notify': True,
}


def methods_of(own: Iterable[Method], without: Iterable[str] = ()) -> dict[str, Method]:
    """Return the methods of a version by name, in the order of their ids.

    own: the rows that the version adds to SHARED_ROWS, or that replace some of them.
    without: names of methods in SHARED_ROWS that the version does not have.
    """
    methods = {**_BY_NAME, **{row.name: row for row in own}}
    for name in without:
        del methods[name]
    return dict(sorted(methods.items(), key=lambda item: item[1].signature))


#: Python type -> function(value, field types, depth) that returns the bytes of a table field.
FieldTypes = Mapping[type, Callable[[Any, Any, int], bytes]]


class Protocol:
    """A version of AMQP, as a value that a connection holds.

    name: as in '0-8'.
    header: the eight bytes that a client sends first.
    methods: name -> Method.
    by_signature: (class id, method id) -> Method.
    replies: the signatures of the methods that are replies.
    content_prefixes: the prefixes of the methods with content.
    field_types: the encoders of Python types in tables.
    capabilities: what the client announces to the broker.
    version_advice: the end of an error about a broker of another version.
    """

    __slots__ = (
        'by_signature', 'capabilities', 'content_prefixes', 'field_types', 'header', 'methods',
        'name', 'replies', 'version_advice',
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        header: bytes,
        methods: Mapping[str, Method],
        field_types: FieldTypes,
        capabilities: Mapping[str, bool],
        version_advice: str = '',
    ) -> None:
        self.name = name
        self.header = header
        self.methods = methods
        self.by_signature = {row.signature: row for row in methods.values()}
        self.replies = frozenset(reply for row in methods.values() for reply in row.replies)
        self.content_prefixes = frozenset(row.prefix for row in methods.values() if row.content)
        self.field_types = field_types
        self.capabilities = capabilities
        self.version_advice = version_advice

    def name_of(self, signature: Signature) -> str:
        """Return the name of a method in errors; '' if there is no such method."""
        row = self.by_signature.get(signature)
        return '' if row is None else row.python_name

    def __repr__(self) -> str:
        return f'<Protocol {self.name}>'
