"""What programs written against amqplib 1.0.2 find: names, signatures, and what came since."""

import importlib
import inspect
import logging
import re

import pytest

import amqplib
import amqplib.client_0_8 as amqp
from amqplib.client_0_8 import connection, exceptions, method_framing, serialization, transport
from amqplib.client_0_8.abstract_channel import AbstractChannel
from amqplib.client_0_8.serialization import AMQPReader, AMQPWriter, GenericContent

# --- Names ---

PUBLIC = [
    'AMQPChannelException',
    'AMQPConnectionException',
    'AMQPException',
    'AMQPTimeout',
    'AccessRefused',
    'Channel',
    'Connection',
    'ConnectionForced',
    'ConnectionLost',
    'ConsumerCancelled',
    'LoginRefused',
    'Message',
    'MessageNacked',
    'MessageReturned',
    'MessageTooLarge',
    'NotAllowed',
    'NotFound',
    'NotSupported',
    'PreconditionFailed',
    'ProtocolError',
    'ProtocolVersionRefused',
    'Publisher',
    'ReentrancyError',
    'ResourceLocked',
    'WriteTimeout',
    'reconnecting',
]

OF_OLD = {
    '': [
        'Connection',
        'Channel',
        'Message',
        'AMQPException',
        'AMQPConnectionException',
        'AMQPChannelException',
        'abstract_channel',
        'basic_message',
        'channel',
        'connection',
        'exceptions',
        'method_framing',
        'serialization',
        'transport',
    ],
    '.abstract_channel': ['AbstractChannel'],
    '.basic_message': ['Message'],
    '.channel': ['Channel', 'AMQP_LOGGER', 'Queue'],
    '.connection': [
        'Connection',
        'LIBRARY_PROPERTIES',
        'AMQP_LOGGER',
        'Channel',
        'MethodReader',
        'MethodWriter',
        'AMQPReader',
        'AMQPWriter',
        'create_transport',
        'AMQPException',
        'AMQPConnectionException',
        'AMQPChannelException',
    ],
    '.exceptions': [
        'AMQPException',
        'AMQPConnectionException',
        'AMQPChannelException',
        'METHOD_NAME_MAP',
    ],
    '.serialization': ['AMQPReader', 'AMQPWriter', 'GenericContent', 'IS_PY3K', 'byte'],
    '.method_framing': ['MethodReader', 'MethodWriter', '_PartialMessage', '_CONTENT_METHODS'],
    '.transport': [
        'AMQP_PORT',
        'AMQP_PROTOCOL_HEADER',
        'IPV6_LITERAL',
        'HAVE_PY26_SSL',
        '_AbstractTransport',
        'SSLTransport',
        'TCPTransport',
        'create_transport',
    ],
}


def test_public_names():
    assert sorted(amqp.__all__) == sorted(PUBLIC)
    assert all(hasattr(amqp, name) for name in PUBLIC)


def test_star_import_gives_the_public_names():
    namespace = {}
    exec('from amqplib.client_0_8 import *', namespace)
    assert sorted(set(namespace) - {'__builtins__'}) == sorted(PUBLIC)


@pytest.mark.parametrize(('module', 'name'), [(m, n) for m, names in OF_OLD.items() for n in names])
def test_name_of_old_is_where_it_was(module, name):
    assert hasattr(importlib.import_module(f'amqplib.client_0_8{module}'), name)


def test_every_listed_name_exists():
    for module in ('abstract_channel', 'basic_message', 'channel', 'connection', 'exceptions'):
        loaded = importlib.import_module(f'amqplib.client_0_8.{module}')
        assert all(hasattr(loaded, name) for name in loaded.__all__)
    for loaded in (method_framing, transport):
        assert all(hasattr(loaded, name) for name in loaded.__all__)


def test_constants_of_old():
    assert transport.AMQP_PORT == 5672
    assert transport.AMQP_PROTOCOL_HEADER == b'AMQP\x01\x01\x08\x00'
    assert transport.HAVE_PY26_SSL is True
    assert transport.IPV6_LITERAL.match('[::1]:5672')
    assert serialization.IS_PY3K is True
    assert {(60, 50), (60, 60), (60, 71)} <= set(method_framing._CONTENT_METHODS)
    assert connection.LIBRARY_PROPERTIES['library'] == 'Python amqplib'
    assert connection.LIBRARY_PROPERTIES['library_version'] == amqplib.__version__


def test_create_transport_can_be_replaced_where_a_connection_looks_it_up(monkeypatch):
    asked = []

    def replaced(host, connect_timeout, ssl=False):
        asked.append(host)
        raise ConnectionRefusedError(host)

    monkeypatch.setattr(connection, 'create_transport', replaced)
    with pytest.raises(ConnectionRefusedError):
        amqp.Connection('elsewhere')
    assert asked == ['elsewhere']


def test_version_is_a_number_and_newer_than_1_0_2():
    assert re.match(r'\d+\.\d+', amqplib.__version__)
    assert tuple(map(int, re.findall(r'\d+', amqplib.__version__)[:2])) > (1, 0)


def test_logger_is_amqplib_and_silent_by_default():
    assert connection.AMQP_LOGGER is logging.getLogger('amqplib')
    kinds = [type(handler) for handler in logging.getLogger('amqplib').handlers]
    assert logging.NullHandler in kinds


def test_classes_belong_together_as_before():
    assert issubclass(amqp.Connection, AbstractChannel)
    assert issubclass(amqp.Channel, AbstractChannel)
    assert issubclass(amqp.Message, GenericContent)
    assert GenericContent.PROPERTIES[0] == ('dummy', 'shortstr')
    assert exceptions.METHOD_NAME_MAP[50, 10] == 'Channel.queue_declare'


def test_handlers_are_found_by_signature_as_before():
    assert set(amqp.Connection._METHOD_MAP) == {
        (10, 10), (10, 20), (10, 30), (10, 41), (10, 50), (10, 60), (10, 61),
    }  # fmt: skip
    of_old = {
        (20, 11), (20, 20), (20, 21), (20, 30), (20, 40), (20, 41), (30, 11), (40, 11), (40, 21),
        (50, 11), (50, 21), (50, 31), (50, 41), (50, 51), (60, 11), (60, 21), (60, 31), (60, 50),
        (60, 60), (60, 71), (60, 72), (90, 11), (90, 21), (90, 31),
    }  # fmt: skip
    assert set(amqp.Channel._METHOD_MAP) - of_old == {(60, 30), (60, 111)}
    assert of_old <= set(amqp.Channel._METHOD_MAP)


# --- Signatures ---

REQUIRED = object()

# Name -> parameters of 1.0.2 with their defaults, in their order.
CONNECTION = {
    '__init__': {
        'host': 'localhost',
        'userid': 'guest',
        'password': 'guest',
        'login_method': None,  # was 'AMQPLAIN'
        'login_response': None,
        'virtual_host': '/',
        'locale': 'en_US',
        'client_properties': None,
        'ssl': False,
        'insist': False,
        'connect_timeout': 30.0,  # was None
    },
    'channel': {'channel_id': None},
    'close': {'reply_code': 0, 'reply_text': '', 'method_sig': (0, 0)},
    'wait': {'allowed_methods': None},
    'dispatch_method': {'method_sig': REQUIRED, 'args': REQUIRED, 'content': REQUIRED},
    '_send_method': {'method_sig': REQUIRED, 'args': b'', 'content': None},
    '_wait_method': {'channel_id': REQUIRED, 'allowed_methods': REQUIRED},
    '_do_close': {},
    '_get_free_channel_id': {},
    '__enter__': {},
    '__exit__': {'type': REQUIRED, 'value': REQUIRED, 'traceback': REQUIRED},
}

CHANNEL = {
    '__init__': {'connection': REQUIRED, 'channel_id': None, 'auto_decode': True},
    'wait': {'allowed_methods': None},
    'close': {'reply_code': 0, 'reply_text': '', 'method_sig': (0, 0)},
    'dispatch_method': {'method_sig': REQUIRED, 'args': REQUIRED, 'content': REQUIRED},
    '_send_method': {'method_sig': REQUIRED, 'args': b'', 'content': None},
    '_do_close': {},
    '__enter__': {},
    '__exit__': {'type': REQUIRED, 'value': REQUIRED, 'traceback': REQUIRED},
    'flow': {'active': REQUIRED},
    'access_request': {
        'realm': REQUIRED,
        'exclusive': False,
        'passive': False,
        'active': False,
        'write': False,
        'read': False,
    },
    'exchange_declare': {
        'exchange': REQUIRED,
        'type': REQUIRED,
        'passive': False,
        'durable': False,
        'auto_delete': True,
        'internal': False,
        'nowait': False,
        'arguments': None,
        'ticket': None,
    },
    'exchange_delete': {'exchange': REQUIRED, 'if_unused': False, 'nowait': False, 'ticket': None},
    'queue_declare': {
        'queue': '',
        'passive': False,
        'durable': False,
        'exclusive': False,
        'auto_delete': True,
        'nowait': False,
        'arguments': None,
        'ticket': None,
    },
    'queue_bind': {
        'queue': REQUIRED,
        'exchange': REQUIRED,
        'routing_key': '',
        'nowait': False,
        'arguments': None,
        'ticket': None,
    },
    'queue_unbind': {
        'queue': REQUIRED,
        'exchange': REQUIRED,
        'routing_key': '',
        'nowait': False,
        'arguments': None,
        'ticket': None,
    },
    'queue_purge': {'queue': '', 'nowait': False, 'ticket': None},
    'queue_delete': {
        'queue': '',
        'if_unused': False,
        'if_empty': False,
        'nowait': False,
        'ticket': None,
    },
    'basic_qos': {'prefetch_size': REQUIRED, 'prefetch_count': REQUIRED, 'a_global': REQUIRED},
    'basic_consume': {
        'queue': '',
        'consumer_tag': '',
        'no_local': False,
        'no_ack': False,
        'exclusive': False,
        'nowait': False,
        'callback': None,
        'ticket': None,
    },
    'basic_cancel': {'consumer_tag': REQUIRED, 'nowait': False},
    'basic_get': {'queue': '', 'no_ack': False, 'ticket': None},
    'basic_publish': {
        'msg': REQUIRED,
        'exchange': '',
        'routing_key': '',
        'mandatory': False,
        'immediate': False,
        'ticket': None,
    },
    'basic_ack': {'delivery_tag': REQUIRED, 'multiple': False},
    'basic_reject': {'delivery_tag': REQUIRED, 'requeue': REQUIRED},
    'basic_recover': {'requeue': False},
    'tx_select': {},
    'tx_commit': {},
    'tx_rollback': {},
}

MESSAGE = {
    '__init__': {'body': '', 'children': None},
    '_load_properties': {'raw_bytes': REQUIRED},
    '_serialize_properties': {},
}

EXCEPTION = {
    '__init__': {'reply_code': REQUIRED, 'reply_text': REQUIRED, 'method_sig': REQUIRED},
}

READER = {
    '__init__': {'source': REQUIRED},
    'read': {'n': REQUIRED},
    'read_bit': {},
    'read_octet': {},
    'read_short': {},
    'read_long': {},
    'read_longlong': {},
    'read_shortstr': {},
    'read_longstr': {},
    'read_table': {},
    'read_timestamp': {},
    'close': {},
}

WRITER = {
    '__init__': {'dest': None},
    'close': {},
    'flush': {},
    'getvalue': {},
}

METHOD_READER = {'__init__': {'source': REQUIRED}, 'read_method': {}}
METHOD_WRITER = {
    '__init__': {'dest': REQUIRED, 'frame_max': REQUIRED},
    'write_method': {
        'channel': REQUIRED,
        'method_sig': REQUIRED,
        'args': REQUIRED,
        'content': None,
    },
}

TCP_TRANSPORT = {
    '__init__': {'host': REQUIRED, 'connect_timeout': REQUIRED},
    'read_frame': {},
    'write_frame': {'frame_type': REQUIRED, 'channel': REQUIRED, 'payload': REQUIRED},
    '_read': {'n': REQUIRED},
    'close': {},
}
SSL_TRANSPORT = {'__init__': {'host': REQUIRED, 'connect_timeout': REQUIRED, 'ssl': REQUIRED}}

SIGNATURES = [
    (amqp.Connection, CONNECTION),
    (amqp.Channel, CHANNEL),
    (amqp.Message, MESSAGE),
    (amqp.AMQPException, EXCEPTION),
    (amqp.AMQPConnectionException, EXCEPTION),
    (amqp.AMQPChannelException, EXCEPTION),
    (AMQPReader, READER),
    (AMQPWriter, WRITER),
    (method_framing.MethodReader, METHOD_READER),
    (method_framing.MethodWriter, METHOD_WRITER),
    (transport.TCPTransport, TCP_TRANSPORT),
    (transport.SSLTransport, SSL_TRANSPORT),
]

POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def parameters_of(function):
    """Return the parameters that can be given by position or name, but for self."""
    signature = inspect.signature(function)
    return [one for one in list(signature.parameters.values())[1:] if one.kind is POSITIONAL]


def is_default(parameter, default):
    """Return whether a parameter can be left out wherever it could, for the same effect."""
    if default is REQUIRED:
        return True  # it may have become optional
    return parameter.default == default and type(parameter.default) is type(default)


@pytest.mark.parametrize(
    ('cls', 'name', 'parameters'),
    [(cls, name, known) for cls, methods in SIGNATURES for name, known in methods.items()],
    ids=lambda value: value if isinstance(value, str) else getattr(value, '__name__', ''),
)
def test_signature_is_that_of_1_0_2_with_additions_at_the_end(cls, name, parameters):
    ours = parameters_of(getattr(cls, name))
    assert [one.name for one in ours[: len(parameters)]] == list(parameters)
    for one, default in zip(ours, parameters.values()):
        assert is_default(one, default), one
    for added in ours[len(parameters) :]:
        assert added.default is not inspect.Parameter.empty, added


@pytest.mark.parametrize(
    ('cls', 'name'),
    [
        (amqp.Channel, name)
        for name in ('basic_ack', 'basic_reject', 'basic_cancel', 'flow', 'queue_bind')
    ],
)
def test_what_was_required_is_required(cls, name):
    required = {parameter for parameter, default in CHANNEL[name].items() if default is REQUIRED}
    ours = parameters_of(getattr(cls, name))
    assert {one.name for one in ours if one.default is inspect.Parameter.empty} == required


@pytest.mark.parametrize(
    ('cls', 'name', 'added'),
    [
        (amqp.Connection, '__init__', {'rpc_timeout': None, 'write_timeout': None, 'port': None}),
        (amqp.Connection, 'close', {'timeout': 10.0}),
        (amqp.Connection, 'wait', {'timeout': None}),
        (amqp.Channel, 'close', {'timeout': 10.0}),
        (amqp.Channel, 'wait', {'timeout': None}),
        (amqp.Channel, 'basic_consume', {'on_cancel': None}),
        (amqp.Channel, 'basic_recover_sync', {'requeue': False}),
    ],
)
def test_parameters_that_came_since(cls, name, added):
    ours = {one.name: one.default for one in parameters_of(getattr(cls, name))}
    assert {one: ours.get(one, REQUIRED) for one in added} == added


def test_what_need_not_be_given_any_more():
    ours = {one.name: one.default for one in parameters_of(amqp.Channel.basic_qos)}
    assert ours == {'prefetch_size': 0, 'prefetch_count': 0, 'a_global': False}


def test_what_is_newer_comes_last_for_calls_by_position():
    names = [one.name for one in parameters_of(amqp.Connection.__init__)]
    assert names[-5:] == [
        'port', 'channel_max', 'frame_max', 'max_message_size', 'tcp_user_timeout',
    ]  # fmt: skip


@pytest.mark.parametrize('cls', [amqp.Connection, amqp.Message])
def test_unknown_keywords_are_accepted(cls):
    kinds = [one.kind for one in inspect.signature(cls.__init__).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD in kinds


@pytest.mark.parametrize(
    'name',
    ['bit', 'octet', 'short', 'long', 'longlong', 'shortstr', 'longstr', 'table', 'timestamp'],
)
def test_writer_writes_each_type_by_position(name):
    assert len(parameters_of(getattr(AMQPWriter, f'write_{name}'))) == 1


def test_public_methods_are_documented():
    for cls in (amqp.Connection, amqp.Channel, amqp.Message):
        assert cls.__doc__
        for name, value in vars(cls).items():
            if not name.startswith('_') and inspect.isfunction(value):
                assert value.__doc__, f'{cls.__name__}.{name}'
