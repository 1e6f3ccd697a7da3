"""Encoders and decoders that are compiled from rows."""

import gc
import weakref

import pytest

from amqplib.client_0_8.spec import PROTOCOL as PROTOCOL_0_8
from amqplib.client_0_9_1.spec import PROTOCOL as PROTOCOL_0_9_1
from amqplib.core.arguments import (
    Decoders,
    Encoders,
    compile_decoder,
    compile_encoder,
    decode_acknowledgement,
    decode_get_ok,
    encode_get,
    encode_publish,
)
from amqplib.core.spec import Method
from amqplib.core.streams import AMQPReader, AMQPWriter
from amqplib.exceptions import ProtocolError

PROTOCOLS = [PROTOCOL_0_8, PROTOCOL_0_9_1]
ROWS = [(protocol, row) for protocol in PROTOCOLS for row in protocol.methods.values()]

VALUES = {
    'octet': 200,
    'short': 60_000,
    'long': 4_000_000_000,
    'longlong': 1 << 63,
    'shortstr': 'größer',
    'longstr': 'länger',
    'table': {'a': 1},
}


def values_of(row):
    """Return values for the fields of a row, where the bits are set by turns."""
    return [
        position % 2 == 0 if wire_type == 'bit' else VALUES[wire_type]
        for position, (_, wire_type) in enumerate(row.fields)
    ]


def written(row, values):
    """Return what AMQPWriter makes of the values."""
    writer = AMQPWriter()
    for (_, wire_type), value in zip(row.fields, values):
        getattr(writer, f'write_{wire_type}')(value)
    return row.prefix + writer.getvalue()


@pytest.mark.parametrize(('protocol', 'row'), ROWS, ids=str)
def test_what_is_compiled_does_what_reader_and_writer_do(protocol, row):
    values = values_of(row)
    payload = Encoders(protocol.methods, protocol.field_types)[row.name](*values)
    assert payload == written(row, values)
    args = AMQPReader(payload[4:])
    assert Decoders(protocol.methods)[row.name](args) == tuple(values)
    assert args.offset == len(payload) - 4


def test_arguments_are_decoded_from_where_the_reader_is():
    args = AMQPReader(b'\0\x07' + b'\x05tasks' + bytes(8))
    assert args.read_short() == 7
    assert Decoders(PROTOCOL_0_8.methods)['queue.declare_ok'](args) == ('tasks', 0, 0)


@pytest.mark.parametrize('count', range(20))
def test_bits_are_packed_by_eight(count):
    row = Method(1, 2, 'a.b', ', '.join(f'bit b{place}' for place in range(count)))
    for values in ([True] * count, [place % 3 == 0 for place in range(count)]):
        payload = compile_encoder(row, {})(*values)
        assert payload == written(row, values)
        assert len(payload) == 4 + (count + 7) // 8
        assert compile_decoder(row)(AMQPReader(payload[4:])) == tuple(values)


@pytest.mark.parametrize('types', [bytes, bytearray, lambda data: str(data, 'utf-8')])
def test_strings_may_be_bytes(types):
    row = Method(1, 2, 'a.b', 'shortstr short, longstr long')
    payload = compile_encoder(row, {})(types(b'x'), types(b'y'))
    assert payload == row.prefix + b'\x01x\0\0\0\x01y'


@pytest.mark.parametrize(
    ('name', 'values', 'error', 'text'),
    [
        ('queue.purge', (-1, 'q', False), ValueError, 'queue.purge ticket: -1 is not a number'),
        ('queue.purge', (1 << 16, 'q', False), ValueError, 'queue.purge ticket: 65536 is not'),
        ('queue.purge', (1.0, 'q', False), TypeError, "queue.purge ticket: 'float'"),
        ('queue.purge', (0, 5, False), TypeError, "queue.purge queue: 'int' is not a str or bytes"),
        ('queue.purge', (0, 'q' * 256, False), ValueError, 'queue.purge queue: String too long'),
        ('queue.purge', (0, 'ä' * 128, False), ValueError, 'queue.purge queue: String too long'),
        ('queue.purge', (0, '\udcff', False), ValueError, "queue.purge queue: 'utf-8' codec can't"),
        ('queue.purge', (0, b'\xff', False), ValueError, "queue.purge queue: 'utf-8' codec can't"),
        ('basic.qos', (0, 70_000, False), ValueError, 'basic.qos prefetch_count: 70000 is not'),
        (
            'queue.bind',
            (0, 'q', 'e', 'k', False, {'a': {'b': object()}}),
            ValueError,
            r"queue.bind arguments\['a'\]\['b'\]: 'object' is not serializable",
        ),
        ('queue.bind', (0, 'q', 'e', 'k', False, []), TypeError, "queue.bind arguments: 'list' is"),
    ],
)
def test_wrong_value_is_named(name, values, error, text):
    encoders = Encoders(PROTOCOL_0_8.methods, PROTOCOL_0_8.field_types)
    with pytest.raises(error, match=text) as caught:
        encoders[name](*values)
    assert type(caught.value) is error


@pytest.mark.parametrize('count', [0, 2, 4])
def test_wrong_number_of_values_is_an_error(count):
    encoders = Encoders(PROTOCOL_0_8.methods, PROTOCOL_0_8.field_types)
    with pytest.raises(TypeError, match=f'queue.purge has 3 fields, not {count}'):
        encoders['queue.purge'](*[0] * count)


def test_an_unknown_method_is_an_error():
    with pytest.raises(KeyError, match='steal'):
        Encoders(PROTOCOL_0_8.methods, {})['queue.steal']
    with pytest.raises(KeyError, match='steal'):
        Decoders(PROTOCOL_0_8.methods)['queue.steal']


def test_each_version_has_its_own_tables():
    values = (0, 'q', 'e', 'k', False, {'a': None})
    with pytest.raises(ValueError, match="'NoneType' is not serializable"):
        Encoders(PROTOCOL_0_8.methods, PROTOCOL_0_8.field_types)['queue.bind'](*values)
    encoders = Encoders(PROTOCOL_0_9_1.methods, PROTOCOL_0_9_1.field_types)
    assert encoders['queue.bind'](*values).endswith(b'\x01aV')


@pytest.mark.parametrize('table', [None, {}])
def test_no_table_is_an_empty_one(table):
    row = Method(1, 2, 'a.b', 'table arguments')
    assert compile_encoder(row, {})(table) == row.prefix + bytes(4)


@pytest.mark.parametrize(('protocol', 'row'), ROWS, ids=str)
def test_arguments_of_another_length_are_refused(protocol, row):
    payload = written(row, values_of(row))[4:]
    decode = Decoders(protocol.methods)[row.name]
    for data in [payload[:size] for size in range(len(payload))] + [payload + b'\0']:
        args = AMQPReader(data)
        with pytest.raises(ProtocolError, match=f'the arguments of {row.name} cannot') as caught:
            decode(args)
        assert caught.value.args[0] == 502
        assert caught.value.args[2:] == (row.signature, row.python_name)
        assert args.offset == 0


def test_what_comes_often_is_decoded_like_the_rest():
    decoders = Decoders(PROTOCOL_0_9_1.methods)
    data = b'\0\0\0\0\0\0\0\7' + b'\x01' + b'\x02ex' + b'\x03key' + b'\0\0\0\x09'
    assert decode_get_ok(AMQPReader(data)) == decoders['basic.get_ok'](AMQPReader(data))
    for size in range(len(data)):
        with pytest.raises(ProtocolError, match=r'basic\.get_ok'):
            decode_get_ok(AMQPReader(data[:size]))
    row = PROTOCOL_0_9_1.methods['basic.ack']
    for bit in range(2):
        args = AMQPReader(bytes(7) + bytes((5, bit)))
        assert decode_acknowledgement(row, args) == decoders['basic.ack'](args)
    with pytest.raises(ProtocolError, match=r'basic\.ack'):
        decode_acknowledgement(row, AMQPReader(bytes(10)))


def test_what_is_remembered_is_encoded_like_the_rest():
    encoders = Encoders(PROTOCOL_0_8.methods, {})
    publish, get = (1, 'e', 'k', True, False), (1, 'q', True)
    for _ in range(2):
        assert encode_publish(*publish) == encoders['basic.publish'](*publish)
        assert encode_get(*get) == encoders['basic.get'](*get)


class Secret(str):
    """One that can be watched."""

    __slots__ = ('__weakref__',)


@pytest.mark.parametrize(
    ('name', 'values'),
    [
        ('connection.start_ok', ({}, 'PLAIN', None, 'en_US')),
        ('connection.secure_ok', (None,)),
        ('connection.update_secret', (None, 'reason')),
    ],
)
def test_secrets_are_not_kept(name, values):
    encode = Encoders(PROTOCOL_0_9_1.methods, {})[name]
    secret = Secret('the password')
    kept = weakref.ref(secret)
    assert b'the password' in encode(*[secret if value is None else value for value in values])
    del secret
    gc.collect()
    assert kept() is None
