"""The table of the protocol: against a list made by hand, and against the specification's files.

AMQPLIB_SPEC_DIR may name a folder with `amqp-rabbitmq-0.8.json` and `amqp0-8.stripped.xml`; the
whole table is then compared with both.
"""

import json
import os
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest

from amqplib.client_0_8 import spec
from amqplib.core import spec as core_spec
from amqplib.core.spec import BASIC_PROPERTIES

SPEC_DIR = os.environ.get('AMQPLIB_SPEC_DIR')
CLASSES = {10, 20, 30, 40, 50, 60, 90}

# From the specification, with queue.unbind and the two recovers as RabbitMQ has them.
METHODS = {
    (10, 10): 'connection.start',
    (10, 11): 'connection.start_ok',
    (10, 20): 'connection.secure',
    (10, 21): 'connection.secure_ok',
    (10, 30): 'connection.tune',
    (10, 31): 'connection.tune_ok',
    (10, 40): 'connection.open',
    (10, 41): 'connection.open_ok',
    (10, 50): 'connection.redirect',
    (10, 60): 'connection.close',
    (10, 61): 'connection.close_ok',
    (20, 10): 'channel.open',
    (20, 11): 'channel.open_ok',
    (20, 20): 'channel.flow',
    (20, 21): 'channel.flow_ok',
    (20, 30): 'channel.alert',
    (20, 40): 'channel.close',
    (20, 41): 'channel.close_ok',
    (30, 10): 'access.request',
    (30, 11): 'access.request_ok',
    (40, 10): 'exchange.declare',
    (40, 11): 'exchange.declare_ok',
    (40, 20): 'exchange.delete',
    (40, 21): 'exchange.delete_ok',
    (50, 10): 'queue.declare',
    (50, 11): 'queue.declare_ok',
    (50, 20): 'queue.bind',
    (50, 21): 'queue.bind_ok',
    (50, 30): 'queue.purge',
    (50, 31): 'queue.purge_ok',
    (50, 40): 'queue.delete',
    (50, 41): 'queue.delete_ok',
    (50, 50): 'queue.unbind',
    (50, 51): 'queue.unbind_ok',
    (60, 10): 'basic.qos',
    (60, 11): 'basic.qos_ok',
    (60, 20): 'basic.consume',
    (60, 21): 'basic.consume_ok',
    (60, 30): 'basic.cancel',
    (60, 31): 'basic.cancel_ok',
    (60, 40): 'basic.publish',
    (60, 50): 'basic.return',
    (60, 60): 'basic.deliver',
    (60, 70): 'basic.get',
    (60, 71): 'basic.get_ok',
    (60, 72): 'basic.get_empty',
    (60, 80): 'basic.ack',
    (60, 90): 'basic.reject',
    (60, 100): 'basic.recover_async',
    (60, 110): 'basic.recover',
    (60, 111): 'basic.recover_ok',
    (90, 10): 'tx.select',
    (90, 11): 'tx.select_ok',
    (90, 20): 'tx.commit',
    (90, 21): 'tx.commit_ok',
    (90, 30): 'tx.rollback',
    (90, 31): 'tx.rollback_ok',
}
WITH_CONTENT = {'basic.publish', 'basic.return', 'basic.deliver', 'basic.get_ok'}
# What the client sends and what then answers, where that is not simply its own '_ok'.
OTHER_REPLIES = {
    'connection.open': {'connection.open_ok', 'connection.redirect'},
    'basic.get': {'basic.get_ok', 'basic.get_empty'},
}
WITHOUT_REPLY = {
    'basic.publish',
    'basic.ack',
    'basic.reject',
    'basic.recover_async',
    # These are the broker's, and what answers them is not awaited but sent.
    'connection.start',
    'connection.secure',
    'connection.tune',
    'connection.redirect',
    'channel.alert',
    'basic.return',
    'basic.deliver',
    'basic.get_empty',
}
CONSTANTS = {
    'FRAME_METHOD': 1,
    'FRAME_HEADER': 2,
    'FRAME_BODY': 3,
    'FRAME_HEARTBEAT': 8,
    'FRAME_END': 206,
    'FRAME_MIN_SIZE': 4096,
    'REPLY_SUCCESS': 200,
    'CONTENT_TOO_LARGE': 311,
    'NO_ROUTE': 312,
    'NO_CONSUMERS': 313,
    'CONNECTION_FORCED': 320,
    'INVALID_PATH': 402,
    'ACCESS_REFUSED': 403,
    'NOT_FOUND': 404,
    'RESOURCE_LOCKED': 405,
    'PRECONDITION_FAILED': 406,
    'FRAME_ERROR': 501,
    'SYNTAX_ERROR': 502,
    'COMMAND_INVALID': 503,
    'CHANNEL_ERROR': 504,
    'UNEXPECTED_FRAME': 505,
    'RESOURCE_ERROR': 506,
    'NOT_ALLOWED': 530,
    'NOT_IMPLEMENTED': 540,
    'INTERNAL_ERROR': 541,
}


def signatures(names):
    return {signature for signature, name in METHODS.items() if name in names}


# --- Against the lists made by hand ---


def test_each_method_is_there_once_under_its_id_and_name():
    assert [(row.signature, row.name) for row in spec.ROWS] == sorted(METHODS.items())


def test_methods_are_found_by_name():
    for signature, name in METHODS.items():
        assert spec.METHODS[name].signature == signature
        assert spec.METHODS[name].name == name
    assert len(spec.METHODS) == len(METHODS)


def test_prefix_is_the_signature_on_the_wire():
    assert spec.METHODS['basic.recover'].prefix == b'\x00\x3c\x00\x6e'
    assert spec.METHODS['connection.start'].prefix == b'\x00\x0a\x00\x0a'
    assert all(struct.unpack('>HH', row.prefix) == row.signature for row in spec.ROWS)


def test_content_follows_four_methods():
    assert {row.name for row in spec.ROWS if row.content} == WITH_CONTENT


@pytest.mark.parametrize('name', METHODS.values())
def test_replies(name):
    if name in OTHER_REPLIES:
        expected = OTHER_REPLIES[name]
    elif name in WITHOUT_REPLY or name.endswith('_ok'):
        expected = set()
    else:
        expected = {name + '_ok'}
    assert set(spec.METHODS[name].replies) == signatures(expected)


def test_every_reply_is_a_method():
    assert all(reply in METHODS for row in spec.ROWS for reply in row.replies)


def test_every_field_has_a_known_type_and_a_name_of_its_own():
    types = {'bit', 'octet', 'short', 'long', 'longlong', 'shortstr', 'longstr', 'table'}
    for row in spec.ROWS:
        assert {wire_type for _, wire_type in row.fields} <= types
        names = [name for name, _ in row.fields]
        assert len(set(names)) == len(names)
        assert all(name.isidentifier() for name in names)


def test_fields_of_a_method_with_several_types():
    assert spec.METHODS['basic.deliver'].fields == (
        ('consumer_tag', 'shortstr'),
        ('delivery_tag', 'longlong'),
        ('redelivered', 'bit'),
        ('exchange', 'shortstr'),
        ('routing_key', 'shortstr'),
    )
    assert spec.METHODS['tx.select'].fields == ()


def test_constants():
    assert {name: getattr(core_spec, name) for name in CONSTANTS} == CONSTANTS


def test_every_reply_code_is_among_the_constants_that_are_checked():
    numbers = {name for name, value in vars(core_spec).items() if isinstance(value, int)}
    of_our_own = {
        'FRAME_OVERHEAD', 'DEFAULT_CHANNEL_MAX', 'DEFAULT_FRAME_MAX', 'CONNECTION_CLASS_ID',
    }  # fmt: skip
    assert numbers - of_our_own == set(CONSTANTS)


def test_basic_properties():
    assert [name for name, _ in BASIC_PROPERTIES] == [
        'content_type',
        'content_encoding',
        'application_headers',
        'delivery_mode',
        'priority',
        'correlation_id',
        'reply_to',
        'expiration',
        'message_id',
        'timestamp',
        'type',
        'user_id',
        'app_id',
        'cluster_id',
    ]
    others = {name: type_ for name, type_ in BASIC_PROPERTIES if type_ != 'shortstr'}
    assert others == {
        'application_headers': 'table',
        'delivery_mode': 'octet',
        'priority': 'octet',
        'timestamp': 'timestamp',
    }


def test_a_row_shows_its_name_and_signature():
    assert repr(spec.METHODS['queue.bind']) == '<Method queue.bind (50, 20)>'


# --- Against the files of the specification ---

with_files = pytest.mark.skipif(
    not SPEC_DIR, reason='AMQPLIB_SPEC_DIR does not say where the specification files are'
)


def underscored(name):
    return name.replace('-', '_').replace(' ', '_')


class JsonSpecification:
    """RabbitMQ's form, with its additions."""

    def __init__(self):
        path = Path(SPEC_DIR, 'amqp-rabbitmq-0.8.json')
        self.document = json.loads(path.read_text(encoding='utf-8'))
        self.types = dict(self.document['domains'])

    def fields(self, arguments):
        return tuple(
            (underscored(field['name']), self.types[field.get('type') or field['domain']])
            for field in arguments
        )

    def methods(self):
        """Yield (signature, name, fields, whether content follows)."""
        for class_ in self.document['classes']:
            for method in class_['methods']:
                name = underscored('{}.{}'.format(class_['name'], method['name']))
                yield (
                    (class_['id'], method['id']),
                    name,
                    self.fields(method['arguments']),
                    bool(method.get('content')),
                )

    def properties(self):
        (basic,) = (class_ for class_ in self.document['classes'] if class_['id'] == 60)
        return self.fields(basic['properties'])

    def constants(self):
        return {underscored(one['name']): one['value'] for one in self.document['constants']}


class XmlSpecification:
    """The AMQP Working Group's form."""

    def __init__(self):
        self.root = ElementTree.parse(Path(SPEC_DIR, 'amqp0-8.stripped.xml')).getroot()
        self.types = {one.get('name'): one.get('type') for one in self.root.findall('domain')}

    def fields(self, element):
        return tuple(
            (underscored(field.get('name')), field.get('type') or self.types[field.get('domain')])
            for field in element.findall('field')
        )

    def elements(self):
        """Yield (signature, name, element) of each method."""
        for class_ in self.root.findall('class'):
            for method in class_.findall('method'):
                signature = (int(class_.get('index')), int(method.get('index')))
                name = underscored('{}.{}'.format(class_.get('name'), method.get('name')))
                # RabbitMQ gave this name to a synchronous method of its own.
                name = 'basic.recover_async' if name == 'basic.recover' else name
                yield signature, name, method

    def methods(self):
        """Yield (signature, name, fields, whether content follows)."""
        for signature, name, method in self.elements():
            yield signature, name, self.fields(method), method.get('content') == '1'

    def replies(self):
        """Yield (name, names of the replies) of each method that a client sends."""
        for _, name, method in self.elements():
            if any(chassis.get('name') == 'server' for chassis in method.findall('chassis')):
                class_name = name.partition('.')[0]
                yield (
                    name,
                    {
                        underscored('{}.{}'.format(class_name, response.get('name')))
                        for response in method.findall('response')
                    },
                )

    def properties(self):
        return self.fields(self.root.find("class[@name='basic']"))

    def constants(self):
        return {
            underscored(one.get('name')).upper(): int(one.get('value'))
            for one in self.root.findall('constant')
        }


each_file = pytest.mark.parametrize('specification', [JsonSpecification, XmlSpecification])


@with_files
@each_file
def test_methods_are_those_of_the_file(specification):
    expected = [method for method in specification().methods() if method[0][0] in CLASSES]
    ours = [(row.signature, row.name, row.fields, row.content) for row in spec.ROWS]
    if specification is XmlSpecification:
        # RabbitMQ's additions.
        additions = signatures({'queue.unbind', 'queue.unbind_ok', 'basic.recover_ok'})
        additions |= signatures({'basic.recover'})
        ours = [row for row in ours if row[0] not in additions]
    assert ours == sorted(expected)


@with_files
def test_replies_are_those_of_the_file():
    expected = {name: names for name, names in XmlSpecification().replies() if name in spec.METHODS}
    assert {'queue.bind', 'basic.get', 'basic.publish', 'channel.flow'} <= expected.keys()
    for name, names in expected.items():
        assert set(spec.METHODS[name].replies) == signatures(names), name


@with_files
@each_file
def test_properties_are_those_of_the_file(specification):
    ours = [
        ('headers' if name == 'application_headers' else name, wire_type)
        for name, wire_type in BASIC_PROPERTIES
    ]
    assert tuple(ours) == specification().properties()


@with_files
@each_file
def test_constants_are_those_of_the_file(specification):
    constants = specification().constants()
    if specification is JsonSpecification:
        # RabbitMQ's file says 8192, and the broker goes by 4096, as the specification has it.
        del constants['FRAME_MIN_SIZE']
    shared = constants.keys() & CONSTANTS.keys()
    assert len(shared) >= 18
    assert {name: getattr(spec, name) for name in shared} == {
        name: constants[name] for name in shared
    }
