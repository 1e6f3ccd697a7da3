"""Wrong arguments: an error before anything is sent, and the next call works."""

from datetime import datetime
from decimal import Decimal

import pytest

from amqplib.client_0_9_1 import Message
from tests.helpers.checks import sends_nothing
from tests.helpers.queues import await_ready, get


def briefly(value):
    """Return what stands for a value in the name of a test."""
    return getattr(value, '__name__', ascii(value)[:20])


TOO_LONG = 'x' * 256
#: Text that no encoder of UTF-8 takes, and that decoding bytes that are not UTF-8 does not make.
LONE_SURROGATE = '\ud800'
#: Text for bytes that are not UTF-8, which the broker does not take for a name.
NOT_UTF8 = '\udcff'

#: A message with two faults of its own.
BAD_MESSAGE = Message(5, priority=999)

#: Each method with arguments that would be right.
RIGHT = {
    'access_request': {'realm': '/data'},
    'exchange_declare': {'exchange': 'name', 'type': 'direct'},
    'exchange_delete': {'exchange': 'name'},
    'queue_declare': {'queue': 'name'},
    'queue_bind': {'queue': 'name', 'exchange': 'amq.direct'},
    'queue_unbind': {'queue': 'name', 'exchange': 'amq.direct'},
    'queue_purge': {'queue': 'name'},
    'queue_delete': {'queue': 'name'},
    'basic_qos': {'prefetch_size': 0, 'prefetch_count': 1, 'a_global': False},
    'basic_consume': {'queue': 'name'},
    'basic_cancel': {'consumer_tag': 'tag'},
    'basic_get': {'queue': 'name'},
    'basic_publish': {'exchange': '', 'routing_key': 'name'},
    'basic_ack': {'delivery_tag': 1},
    'basic_reject': {'delivery_tag': 1, 'requeue': True},
}

NAMES = [
    (method, name)
    for method, names in {
        'access_request': ['realm'],
        'exchange_declare': ['exchange', 'type'],
        'exchange_delete': ['exchange'],
        'queue_declare': ['queue'],
        'queue_bind': ['queue', 'exchange', 'routing_key'],
        'queue_unbind': ['queue', 'exchange', 'routing_key'],
        'queue_purge': ['queue'],
        'queue_delete': ['queue'],
        'basic_consume': ['queue', 'consumer_tag'],
        'basic_cancel': ['consumer_tag'],
        'basic_get': ['queue'],
        'basic_publish': ['exchange', 'routing_key'],
    }.items()
    for name in names
]
TICKETS = [
    method
    for method in RIGHT
    if method.split('_')[0] in ('exchange', 'queue')
    or method in ('basic_consume', 'basic_get', 'basic_publish')
]
WITH_TABLES = ['exchange_declare', 'queue_declare', 'queue_bind', 'queue_unbind']
NUMBERS = [
    ('basic_qos', 'prefetch_size', 1 << 32),
    ('basic_qos', 'prefetch_count', 1 << 16),
    ('basic_ack', 'delivery_tag', 1 << 64),
    ('basic_reject', 'delivery_tag', 1 << 64),
]
#: What no table can hold.
BAD_TABLES = [
    (5, TypeError),
    (['a', 'list'], TypeError),
    ({5: 'a key'}, TypeError),
    ({TOO_LONG: 'a key'}, ValueError),
    ({LONE_SURROGATE: 'a key'}, ValueError),
    ({'key': object()}, ValueError),
    ({'key': {1, 2}}, ValueError),
    ({'key': 1 << 63}, ValueError),
    ({'key': -(1 << 63) - 1}, ValueError),
    ({'key': float('nan')}, ValueError),
    ({'key': float('inf')}, ValueError),
    ({'key': Decimal('NaN')}, ValueError),
    ({'key': Decimal(1 << 31)}, ValueError),
    ({'key': Decimal('1e-256')}, ValueError),
    ({'key': datetime(1950, 1, 1)}, ValueError),
    ({'key': LONE_SURROGATE}, ValueError),
    ({'key': {'deep': [object()]}}, ValueError),
]


@pytest.fixture
def check(amqp, connection, channel, queue):
    """A function that checks a wrong call, and that the channel works after it."""

    def check_call(method, error, match, **wrong):
        arguments = {**RIGHT.get(method, {}), **wrong}
        if method == 'basic_publish':
            arguments.setdefault('msg', amqp.Message('x'))
        with sends_nothing(connection), pytest.raises(error, match=match) as raised:
            getattr(channel, method)(**arguments)
        assert type(raised.value) is error
        channel.basic_publish(amqp.Message('fine'), '', queue)
        assert get(channel, queue).body == 'fine'

    return check_call


@pytest.mark.parametrize(
    ('value', 'error'),
    [
        (TOO_LONG, ValueError),
        ('ж' * 128, ValueError),
        (LONE_SURROGATE, ValueError),
        (NOT_UTF8, ValueError),
        (b'\xff', ValueError),
        (5, TypeError),
        (None, TypeError),
        (['x'], TypeError),
    ],
    ids=briefly,
)
@pytest.mark.parametrize(('method', 'argument'), NAMES)
def test_names(check, method, argument, value, error):
    check(method, error, argument, **{argument: value})


@pytest.mark.parametrize(
    ('method', 'error', 'argument', 'wrong'),
    [
        ('basic_publish', ValueError, 'exchange', {'exchange': TOO_LONG, 'routing_key': 5}),
        ('basic_publish', ValueError, 'exchange', {'exchange': TOO_LONG, 'msg': BAD_MESSAGE}),
        ('queue_declare', ValueError, 'queue', {'queue': TOO_LONG, 'arguments': {'x': object()}}),
        ('queue_bind', TypeError, 'queue', {'queue': 5, 'exchange': None}),
        ('basic_qos', ValueError, 'size', {'prefetch_size': -1, 'prefetch_count': 1 << 16}),
        ('consume', TypeError, 'queue', {'queue': 5, 'prefetch': -1}),
        ('consume', TypeError, 'stop', {'prefetch': -1, 'stop': 5}),
    ],
)
def test_two_at_once_are_one_error(check, method, error, argument, wrong):
    check(method, error, argument, **wrong)


def test_two_of_a_connection_are_one_error(amqp, address):
    url = f'amqp://{address}?channel_max=x'
    with pytest.raises(ValueError, match=r'^url: channel_max: it is not a number$'):
        amqp.Connection.from_url(url, frame_max=1)
    with pytest.raises(ValueError, match=r'^frame_max: 1 is not'):
        amqp.Connection(address, frame_max=1, heartbeat='x', connect_timeout=60)
    amqp.Connection(address).close()


@pytest.mark.parametrize(
    ('value', 'error'),
    [(-1, ValueError), (1 << 16, ValueError), ('1', TypeError), (1.5, TypeError)],
)
@pytest.mark.parametrize('method', TICKETS)
def test_tickets(check, method, value, error):
    check(method, error, 'ticket', ticket=value)


@pytest.mark.parametrize(('method', 'argument', 'limit'), NUMBERS)
def test_numbers(check, method, argument, limit):
    for value, error in [
        (limit, ValueError),
        (-1, ValueError),
        ('1', TypeError),
        (1.5, TypeError),
        (None, TypeError),
    ]:
        check(method, error, argument, **{argument: value})


@pytest.mark.parametrize(('table', 'error'), BAD_TABLES, ids=briefly)
@pytest.mark.parametrize('method', WITH_TABLES)
def test_tables_of_arguments(check, method, table, error):
    check(method, error, 'arguments', arguments=table)


@pytest.mark.parametrize(('table', 'error'), BAD_TABLES, ids=briefly)
def test_headers_of_messages(amqp, check, table, error):
    message = amqp.Message('x', application_headers=table)
    check('basic_publish', error, 'application_headers', msg=message)


def test_tables_that_contain_themselves(amqp, check):
    table = {}
    table['self'] = [table]
    check('queue_declare', ValueError, 'nested', arguments=table)
    message = amqp.Message('x', application_headers=table)
    check('basic_publish', ValueError, 'nested', msg=message)


@pytest.mark.parametrize(
    ('name', 'value', 'error'),
    [
        *[
            (name, value, error)
            for name in (
                'content_type',
                'correlation_id',
                'reply_to',
                'expiration',
                'message_id',
                'type',
                'user_id',
                'app_id',
                'cluster_id',
            )
            for value, error in [(TOO_LONG, ValueError), (5, TypeError)]
        ],
        ('content_encoding', TOO_LONG, ValueError),
        ('delivery_mode', 256, ValueError),
        ('delivery_mode', 'persistent', TypeError),
        ('priority', -1, ValueError),
        ('priority', 256, ValueError),
        ('priority', '5', TypeError),
        ('timestamp', -1, ValueError),
        ('timestamp', 1 << 64, ValueError),
        ('timestamp', 'now', TypeError),
        ('timestamp', datetime(1950, 1, 1), ValueError),
    ],
    ids=briefly,
)
def test_properties_of_messages(amqp, check, name, value, error):
    message = amqp.Message(b'x', **{name: value})
    check('basic_publish', error, name, msg=message)


@pytest.mark.parametrize(
    ('encoding', 'error', 'match'),
    [
        ('no such encoding', ValueError, 'content_encoding'),
        ('ascii', ValueError, 'body.*ascii'),
        (5, TypeError, 'body|content_encoding'),
    ],
)
def test_text_that_cannot_be_encoded(amqp, check, encoding, error, match):
    message = amqp.Message('größer', content_encoding=encoding)
    check('basic_publish', error, match, msg=message)


@pytest.mark.parametrize('body', [5, None, ['x'], {'x': 1}])
def test_bodies(amqp, check, body):
    check('basic_publish', TypeError, 'body', msg=amqp.Message(body))


@pytest.mark.parametrize('msg', ['text', b'bytes', None])
def test_messages(check, msg):
    check('basic_publish', TypeError, 'msg', msg=msg)


@pytest.mark.parametrize('argument', ['callback', 'on_cancel'])
def test_callbacks(check, argument):
    check('basic_consume', TypeError, argument, **{argument: 'not a function'})


@pytest.mark.parametrize(
    ('argument', 'value', 'error'),
    [
        ('reply_code', -1, ValueError),
        ('reply_code', 1 << 16, ValueError),
        ('reply_text', TOO_LONG, ValueError),
        ('method_sig', (1 << 16, 0), ValueError),
        ('timeout', -1, ValueError),
    ],
)
def test_closing_a_channel(check, argument, value, error):
    name = 'class_id' if argument == 'method_sig' else argument
    check('close', error, name, **{argument: value})


@pytest.mark.parametrize(
    ('argument', 'value', 'error'),
    [('reply_code', 1 << 16, ValueError), ('reply_text', TOO_LONG, ValueError)],
)
def test_closing_a_connection(connection, channel, queue, argument, value, error):
    with sends_nothing(connection), pytest.raises(error, match=argument):
        connection.close(**{argument: value})
    await_ready(channel, queue, 0)


@pytest.mark.parametrize(
    ('number', 'error'),
    [(-1, ValueError), (1 << 16, ValueError), ('1', TypeError), (1.5, TypeError)],
)
def test_numbers_of_channels(connection, channel, queue, number, error):
    before = set(connection.channels)
    with sends_nothing(connection), pytest.raises(error, match='channel_id'):
        connection.channel(number)
    assert set(connection.channels) == before
    await_ready(channel, queue, 0)


def test_the_default_ticket_is_used_by_every_method_with_a_ticket(amqp, connection, channel):
    channel.default_ticket = -1
    for method in TICKETS:
        arguments = dict(RIGHT[method])
        if method == 'basic_publish':
            arguments['msg'] = amqp.Message()
        with sends_nothing(connection), pytest.raises(ValueError, match='ticket'):
            getattr(channel, method)(**arguments)
    assert channel.queue_declare(exclusive=True, ticket=0)
