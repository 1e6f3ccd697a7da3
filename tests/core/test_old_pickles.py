"""What version 2.0 pickled can be loaded: it names modules that other things live in today."""

import pickle

import pytest

import amqplib.client_0_8 as amqp_0_8
import amqplib.client_0_9_1 as amqp_0_9_1

RECEIVED = (
    b'\x80\x02camqplib.client_0_8.basic_message\nMessage\nq\x00)\x81q\x01}q\x02(X\x0f\x00\x00\x00'
    b'_raw_propertiesq\x03c_codecs\nencode\nq\x04X\x06\x00\x00\x00\xc2\x88\x00\x01c\x05q\x05X\x06'
    b'\x00\x00\x00latin1q\x06\x86q\x07Rq\x08X\x04\x00\x00\x00bodyq\th\x04X\x04\x00\x00\x00bodyq\n'
    b'h\x06\x86q\x0bRq\x0cub.'
)
DAMAGED = (
    b'\x80\x02camqplib.client_0_8.basic_message\nMessage\nq\x00)\x81q\x01}q\x02(X\x0f\x00\x00\x00'
    b'_raw_propertiesq\x03NX\x04\x00\x00\x00bodyq\x04c_codecs\nencode\nq\x05X\x04\x00\x00\x00bodyq'
    b'\x06X\x06\x00\x00\x00latin1q\x07\x86q\x08Rq\tX\x07\x00\x00\x00_damageq\n}q\x0bX\x13\x00\x00'
    b'\x00application_headersq\x0cX8\x00\x00\x00application_headers: 5 octets announced where 2 '
    b'are leftq\rsX\x0b\x00\x00\x00_propertiesq\x0e}q\x0fub.'
)
OF_0_9_1 = (
    b'\x80\x02camqplib.client_0_9_1.basic_message\nMessage\nq\x00)\x81q\x01}q\x02(X\x0f\x00\x00\x00'
    b'_raw_propertiesq\x03c_codecs\nencode\nq\x04X\x03\x00\x00\x00\x08\x00\x03q\x05X\x06\x00\x00\x00'
    b'latin1q\x06\x86q\x07Rq\x08X\x0b\x00\x00\x00_propertiesq\t}q\nX\x08\x00\x00\x00priorityq\x0bK'
    b'\x03sX\x04\x00\x00\x00bodyq\x0ch\x04X\x01\x00\x00\x00xq\rh\x06\x86q\x0eRq\x0fub.'
)
NOT_FOUND = (
    b'\x80\x02camqplib.client_0_8.exceptions\nNotFound\nq\x00(M\x94\x01X\x02\x00\x00\x00noq\x01K2K'
    b'\n\x86q\x02X\x15\x00\x00\x00Channel.queue_declareq\x03tq\x04Rq\x05}q\x06(X\x0f\x00\x00\x00'
    b'amqp_reply_codeq\x07M\x94\x01X\x0f\x00\x00\x00amqp_reply_textq\x08h\x01X\x0f\x00\x00\x00'
    b'amqp_method_sigq\th\x02ub.'
)
NACKED = (
    b'\x80\x02camqplib.client_0_9_1.exceptions\nMessageNacked\nq\x00(K\x00X\x02\x00\x00\x00noq\x01'
    b'K<K(\x86q\x02X\x15\x00\x00\x00Channel.basic_publishq\x03tq\x04Rq\x05}q\x06(X\x0f\x00\x00\x00'
    b'amqp_reply_codeq\x07K\x00X\x0f\x00\x00\x00amqp_reply_textq\x08h\x01X\x0f\x00\x00\x00'
    b'amqp_method_sigq\th\x02X\x10\x00\x00\x00sequence_numbersq\nK\x01K\x02\x86q\x0bub.'
)


def test_messages():
    received = pickle.loads(RECEIVED)
    assert type(received) is amqp_0_8.Message
    assert received._serialize_properties() == bytes.fromhex('8800 0163 05')
    assert received == amqp_0_8.Message(b'body', content_type='c', priority=5)
    other = pickle.loads(OF_0_9_1)
    assert type(other) is amqp_0_9_1.Message
    assert other == amqp_0_9_1.Message(b'x', priority=3)


def test_properties_that_could_not_be_decoded():
    damaged = pickle.loads(DAMAGED)
    assert damaged.properties == {}
    with pytest.raises(ValueError, match='application_headers: 5 octets announced'):
        damaged.application_headers  # noqa: B018
    with pytest.raises(ValueError, match='received so'):
        damaged._serialize_properties()


def test_errors():
    error = pickle.loads(NOT_FOUND)
    assert type(error) is amqp_0_8.NotFound
    assert error.args == (404, 'no', (50, 10), 'Channel.queue_declare')
    nacked = pickle.loads(NACKED)
    assert type(nacked) is amqp_0_9_1.MessageNacked
    assert nacked.sequence_numbers == (1, 2)
