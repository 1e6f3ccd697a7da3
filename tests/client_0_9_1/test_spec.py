"""The table of 0-9-1: against a list made by hand, and against the specification's file.

AMQPLIB_SPEC_DIR may name a folder with `amqp-rabbitmq-0.9.1.json`; the whole table is then
compared with it.
"""

import json
import os
from pathlib import Path

import pytest

from amqplib.client_0_8 import spec as spec_0_8
from amqplib.client_0_9_1 import spec
from amqplib.client_0_9_1.channel import Channel
from amqplib.client_0_9_1.connection import Connection

SPEC_DIR = os.environ.get('AMQPLIB_SPEC_DIR')

# From the specification and RabbitMQ's additions to it: what 0-8 has otherwise or not at all.
DIFFERENT = {
    (10, 50): ('connection.close', 'reply_code reply_text class_id method_id', {51}),
    (10, 51): ('connection.close_ok', '', set()),
    (10, 60): ('connection.blocked', 'reason', set()),
    (10, 61): ('connection.unblocked', '', set()),
    (10, 70): ('connection.update_secret', 'new_secret reason', {71}),
    (10, 71): ('connection.update_secret_ok', '', set()),
    (20, 11): ('channel.open_ok', 'channel_id', set()),
    (40, 30): (
        'exchange.bind',
        'ticket destination source routing_key nowait arguments',
        {31},
    ),
    (40, 31): ('exchange.bind_ok', '', set()),
    (40, 40): (
        'exchange.unbind',
        'ticket destination source routing_key nowait arguments',
        {51},
    ),
    (40, 51): ('exchange.unbind_ok', '', set()),
    (60, 20): (
        'basic.consume',
        'ticket queue consumer_tag no_local no_ack exclusive nowait arguments',
        {21},
    ),
    (60, 120): ('basic.nack', 'delivery_tag multiple requeue', set()),
    (85, 10): ('confirm.select', 'nowait', {11}),
    (85, 11): ('confirm.select_ok', '', set()),
}
# Where the signature is another one's by now, the name is in DIFFERENT too.
GONE = {'connection.redirect', 'channel.alert', 'access.request', 'access.request_ok'}

BY_SIGNATURE = {row.signature: row for row in spec.METHODS.values()}


@pytest.mark.parametrize('signature', DIFFERENT, ids=str)
def test_what_differs_from_0_8(signature):
    name, fields, replies = DIFFERENT[signature]
    row = spec.METHODS[name]
    assert row.signature == signature
    assert [field for field, _ in row.fields] == fields.split()
    assert set(row.replies) == {(signature[0], reply) for reply in replies}
    assert not row.content


def test_what_is_gone():
    assert spec_0_8.METHODS.keys() >= GONE
    assert not GONE & spec.METHODS.keys()


def test_everything_else_is_as_in_0_8():
    changed = {name for name, _, _ in DIFFERENT.values()}
    also_changed = {'connection.open', 'basic.recover', 'basic.recover_async'}
    rest = spec_0_8.METHODS.keys() - GONE - changed - also_changed
    assert len(rest) == 46
    for name in rest:
        assert spec.METHODS[name] is spec_0_8.METHODS[name]
    assert spec.METHODS.keys() == rest | changed | also_changed


def test_opening_is_not_answered_by_a_redirect():
    assert spec.METHODS['connection.open'].replies == ((10, 41),)
    assert spec.METHODS['connection.open'].fields == spec_0_8.METHODS['connection.open'].fields


def test_each_signature_and_each_prefix_is_there_once():
    assert len(BY_SIGNATURE) == len(spec.METHODS)
    assert len({row.prefix for row in spec.METHODS.values()}) == len(spec.METHODS)


def test_methods_are_found_under_their_names():
    assert all(row.name == name for name, row in spec.METHODS.items())


def test_every_reply_is_a_method():
    assert all(reply in BY_SIGNATURE for row in spec.METHODS.values() for reply in row.replies)


def test_what_the_broker_sends_has_a_handler():
    """The replies, and what it says by itself; not what only a client sends."""
    by_itself = {
        'connection.start', 'connection.secure', 'connection.tune', 'connection.close',
        'connection.blocked', 'connection.unblocked', 'channel.flow', 'channel.close',
        'basic.cancel', 'basic.return', 'basic.deliver', 'basic.ack', 'basic.nack',
    }  # fmt: skip
    replies = {BY_SIGNATURE[reply].name for row in spec.METHODS.values() for reply in row.replies}
    expected = {spec.METHODS[name].signature for name in by_itself | replies}
    assert set(Connection._METHOD_MAP) == {one for one in expected if one[0] == 10}
    assert set(Channel._METHOD_MAP) == {one for one in expected if one[0] != 10}


def test_every_method_that_a_client_sends_has_its_function():
    """By which errors name it too. (The old form of basic.recover has no use any more.)"""
    not_sent = {'basic.return', 'basic.deliver', 'basic.get_empty', 'basic.recover_async'}
    names = {
        row.python_name
        for row in spec.METHODS.values()
        if row.signature[0] not in {10, 20}
        and not row.name.endswith('_ok')
        and row.name not in not_sent
    }
    assert len(names) == 22
    names |= {'Channel.flow', 'Channel.close', 'Connection.close', 'Connection.update_secret'}
    for name in names:
        cls, _, function = name.partition('.')
        assert callable(getattr({'Channel': Channel, 'Connection': Connection}[cls], function))


# --- Against the file of the specification ---

with_file = pytest.mark.skipif(
    not SPEC_DIR, reason='AMQPLIB_SPEC_DIR does not say where the specification files are'
)


def underscored(name):
    return name.replace('-', '_').replace(' ', '_')


def rows_of_the_file():
    """Return (signature, name, types of the fields, whether content follows) of each method."""
    path = Path(SPEC_DIR, 'amqp-rabbitmq-0.9.1.json')
    document = json.loads(path.read_text(encoding='utf-8'))
    types = dict(document['domains'])
    return [
        (
            (class_['id'], method['id']),
            underscored('{}.{}'.format(class_['name'], method['name'])),
            [
                (underscored(field['name']), types[field['domain']])
                if 'domain' in field
                else (underscored(field['name']), field['type'])
                for field in method['arguments']
            ],
            bool(method.get('content')),
        )
        for class_ in document['classes']
        for method in class_['methods']
    ]


@with_file
def test_methods_are_those_of_the_file():
    expected = [row for row in rows_of_the_file() if row[0][0] != 30]
    assert len(expected) == len(spec.METHODS)
    for signature, name, fields, content in expected:
        row = spec.METHODS[name]
        assert (row.signature, row.content) == (signature, content)
        assert [kind for _, kind in row.fields] == [kind for _, kind in fields], name
        # The file has other names for what 0-9-1 does not use any more.
        for (ours, _), (theirs, _) in zip(row.fields, fields):
            assert theirs in {ours, 'deprecated_known_hosts'}, name


@with_file
def test_properties_are_those_of_the_file():
    path = Path(SPEC_DIR, 'amqp-rabbitmq-0.9.1.json')
    classes = json.loads(path.read_text(encoding='utf-8'))['classes']
    (basic,) = (class_ for class_ in classes if class_['id'] == 60)
    names = [underscored(one['name']) for one in basic['properties']]
    ours = [name for name, _ in spec_0_8.BASIC_PROPERTIES]
    assert names == ['headers' if name == 'application_headers' else name for name in ours]


@pytest.mark.parametrize('cls', [Connection, Channel])
def test_classes_know_only_numbers_of_their_own_table(cls):
    known = {row.signature for row in spec.METHODS.values()}
    for numbers in (
        cls._METHOD_MAP,
        cls._IMMEDIATE_METHODS,
        cls._EFFECTS,
        cls._WANTED_TO_THE_END,
    ):
        assert known.issuperset(numbers)
    assert spec.METHODS['connection.close_ok'].signature in Connection._EFFECTS
