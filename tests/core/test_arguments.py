"""Encoders and decoders that are compiled from rows."""

import gc
import re
import weakref
from decimal import Decimal

import pytest

from amqplib.client_0_8.spec import PROTOCOL as PROTOCOL_0_8
from amqplib.client_0_9_1.spec import PROTOCOL as PROTOCOL_0_9_1
from amqplib.core.arguments import (
    Decoders,
    Encoders,
    compile_decoder,
    compile_encoder,
    decode_acknowledgement,
    decode_deliver,
    decode_get_ok,
    encode_get,
    encode_publish,
)
from amqplib.core.spec import Method
from amqplib.core.streams import AMQPReader, AMQPWriter
from amqplib.exceptions import ProtocolError
from tests.helpers.values import same, table_of, unhex

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
def test_compiled_encoders_and_decoders_agree_with_writer_and_reader(protocol, row):
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
        ('basic.qos', (-1, 0, False), ValueError, 'basic.qos prefetch_size: -1'),
        ('basic.ack', ('5', False), TypeError, 'basic.ack delivery_tag: '),
        ('basic.cancel', (None, False), TypeError, 'basic.cancel consumer_tag: '),
        ('queue.bind', (0, '', '', '', 0, {'x': {5: 1}}), TypeError, r"arguments\['x'\]\[5\]: "),
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


def test_decoders_for_frequent_methods_agree_with_the_compiled_ones():
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


def test_cached_encoders_agree_with_the_compiled_ones():
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


# --- Byte by byte ---


def encode(row, *values):
    return compile_encoder(row, PROTOCOL_0_8.field_types)(*values)


def decode(row, args):
    return compile_decoder(row)(args)


ARGUMENTS = [
    (
        'queue.declare',
        (0, 'q', False, True, False, True, False, {'a': 1}),
        '0000 0171 0a 00000007 0161 49 00000001',
    ),
    ('queue.declare_ok', ('amq.gen', 3, 1), '07 616d712e67656e 00000003 00000001'),
    (
        'exchange.declare',
        (7, 'e', 'fanout', True, True, True, True, True, {}),
        '0007 0165 06 66616e6f7574 1f 00000000',
    ),
    ('access.request', ('/data', False, False, True, True, True), '05 2f64617461 1c'),
    ('basic.publish', (0, '', 'é', True, False), '0000 00 02c3a9 01'),
    ('basic.deliver', ('t', 2**64 - 1, True, '', 'k'), '0174 ffffffffffffffff 01 00 016b'),
    ('basic.ack', (5, False), '0000000000000005 00'),
    ('basic.qos', (0, 65535, True), '00000000 ffff 01'),
    ('connection.tune_ok', (2047, 131072, 60), '07ff 00020000 003c'),
    (
        'connection.start_ok',
        ({}, 'PLAIN', '\0a\0b', 'en_US'),
        '00000000 05 504c41494e 00000004 00610062 05 656e5f5553',
    ),
    ('connection.start', (8, 0, {}, 'PLAIN', ''), '08 00 00000000 00000005 504c41494e 00000000'),
    ('channel.close', (404, 'no', 50, 10), '0194 02 6e6f 0032 000a'),
    ('tx.select', (), ''),
]


@pytest.mark.parametrize(('name', 'values', 'expected'), ARGUMENTS)
def test_arguments_both_ways(name, values, expected):
    method = PROTOCOL_0_8.methods[name]
    for _ in range(2):
        assert encode(method, *values) == method.prefix + unhex(expected)
    assert same(decode(method, AMQPReader(unhex(expected))), values)


def test_arguments_with_a_broken_table_are_the_broker_s_fault():
    data = unhex('07d0 00') + table_of(b'U')
    with pytest.raises(ProtocolError, match='Unknown table item type: 85') as caught:
        decode(PROTOCOL_0_8.methods['channel.alert'], AMQPReader(data))
    assert caught.value.amqp_reply_code == 502


def test_equal_arguments_of_other_types_are_each_encoded_as_their_own():
    method = PROTOCOL_0_8.methods['basic.ack']
    assert encode(method, 1, True)[4:] == unhex('0000000000000001 01')
    assert encode(method, 1, 2)[4:] == unhex('0000000000000001 01')
    with pytest.raises(TypeError, match='delivery_tag'):
        encode(method, 1.0, True)
    with pytest.raises(TypeError, match='delivery_tag'):
        encode(method, Decimal(1), True)


def test_a_table_that_has_changed_is_encoded_as_it_is_now():
    method = PROTOCOL_0_8.methods['queue.bind']
    table = {'a': 1}
    before = encode(method, 0, 'q', 'e', 'k', False, table)
    table['a'] = 2
    assert encode(method, 0, 'q', 'e', 'k', False, table) == before[:-1] + b'\x02'


SOURCES = [
    b'\x00\x01e\x01k',
    b'\x01\x00\x00',
    b'\xfe\x02\xc3\xa9\x01\xff',
    b'\x00\x05e\x01k',  # goes beyond its end
    b'\x00\x01e\x01kk',  # ends too late
    b'\x00\x01e',
    b'',
]


@pytest.mark.parametrize('source', SOURCES)
@pytest.mark.parametrize(
    ('decode_fast', 'name', 'around'),
    [
        (decode_get_ok, 'basic.get_ok', (b'\xff' * 8, b'\x00\x00\x00\x05')),
        (decode_get_ok, 'basic.get_ok', (bytes(8), b'')),
        (decode_get_ok, 'basic.get_ok', (b'', b'')),
        (decode_deliver, 'basic.deliver', (b'\x03tag' + b'\xff' * 8, b'')),
        (decode_deliver, 'basic.deliver', (b'\x02\xff\xc3' + bytes(8), b'')),
        (decode_deliver, 'basic.deliver', (b'\x00' + bytes(8), b'x')),
        (decode_deliver, 'basic.deliver', (b'\x03tag' + bytes(7), b'')),
        (decode_deliver, 'basic.deliver', (b'\xfftag' + bytes(8), b'')),
        (decode_deliver, 'basic.deliver', (b'', b'')),
    ],
)
def test_frequent_arguments_are_those_of_the_general_way(decode_fast, name, source, around):
    data = around[0] + source + around[1]
    method = PROTOCOL_0_8.methods[name]
    try:
        expected = decode(method, AMQPReader(data))
    except ProtocolError as error:
        with pytest.raises(ProtocolError, match=re.escape(error.amqp_reply_text)):
            decode_fast(AMQPReader(data))
    else:
        assert decode_fast(AMQPReader(data)) == expected
