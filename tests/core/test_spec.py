"""AMQP as data: rows, and the versions that are made of them."""

import pytest

from amqplib.client_0_8.spec import PROTOCOL as PROTOCOL_0_8
from amqplib.client_0_9_1.spec import PROTOCOL as PROTOCOL_0_9_1
from amqplib.core.spec import SHARED_ROWS, Method, Protocol, methods_of

PROTOCOLS = [PROTOCOL_0_8, PROTOCOL_0_9_1]
ROW = Method(60, 72, 'basic.get_empty', 'shortstr one, bit two', replies=(1, 2), content=True)


def protocol_of(*rows):
    return Protocol('0', b'AMQP', {row.name: row for row in rows}, {}, {})


def test_row():
    assert ROW.signature == (60, 72)
    assert ROW.prefix == b'\0\x3c\0\x48'
    assert ROW.fields == (('one', 'shortstr'), ('two', 'bit'))
    assert ROW.replies == ((60, 1), (60, 2))
    assert ROW.content
    assert repr(ROW) == '<Method basic.get_empty (60, 72)>'


def test_row_without_anything():
    row = Method(90, 10, 'tx.select')
    assert (row.fields, row.replies, row.content) == ((), (), False)


@pytest.mark.parametrize(
    ('name', 'python_name'),
    [
        ('queue.declare', 'Channel.queue_declare'),
        ('channel.flow', 'Channel.flow'),
        ('connection.close', 'Connection.close'),
    ],
)
def test_name_of_the_function(name, python_name):
    assert Method(1, 2, name).python_name == python_name
    assert Method(1, 2, name, python_name='Other.name').python_name == 'Other.name'


def test_methods_of_a_version_are_the_shared_ones_and_its_own():
    own, other_form = Method(99, 1, 'x.own'), Method(60, 60, 'basic.deliver', 'bit other')
    methods = methods_of([own, other_form], without=['tx.select'])
    assert methods['x.own'] is own
    assert methods['basic.deliver'] is other_form
    assert 'tx.select' not in methods
    shared = {row.name for row in SHARED_ROWS}
    assert methods.keys() == shared - {'tx.select'} | {'x.own'}
    assert [row.signature for row in methods.values()] == sorted(
        row.signature for row in methods.values()
    )


def test_protocol_finds_rows_by_what_is_on_the_wire():
    answer = Method(60, 1, 'basic.answer')
    protocol = protocol_of(ROW, answer)
    assert protocol.by_signature == {(60, 72): ROW, (60, 1): answer}
    assert protocol.replies == {(60, 1), (60, 2)}
    assert protocol.content_prefixes == {ROW.prefix}
    assert protocol.name_of((60, 72)) == 'Channel.basic_get_empty'
    assert protocol.name_of((1, 1)) == ''
    assert repr(protocol) == '<Protocol 0>'


@pytest.mark.parametrize('row', SHARED_ROWS, ids=str)
def test_signature_of_a_shared_row_means_the_same_in_every_version(row):
    for protocol in PROTOCOLS:
        own = protocol.by_signature.get(row.signature)
        assert own is None or own.name == row.name


@pytest.mark.parametrize('protocol', PROTOCOLS, ids=repr)
def test_no_two_rows_of_a_version_have_the_same_signature(protocol):
    assert len(protocol.by_signature) == len(protocol.methods)
    assert all(row.name == name for name, row in protocol.methods.items())
