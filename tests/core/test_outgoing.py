"""Messages encoded for a Publisher: as basic_publish would send them, and with a message_id."""

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib.client_0_9_1 import Message
from amqplib.core.arguments import encode_publish
from amqplib.core.encoding import Encoder
from amqplib.core.outgoing import MessageIds, encode, frames_of, given_key, small_frames
from tests.helpers import memory

PLACE = ('exchange', 'key', True)
ENCODER = Encoder(4096)

PROPERTIES = {
    'content_type': 'text/plain',
    'application_headers': {'n': 1, 'deep': {'list': [1, 'two']}},
    'delivery_mode': 2,
    'expiration': '1000',
    'timestamp': datetime(2020, 1, 2, tzinfo=timezone.utc),
    'app_id': 'app',
    'cluster_id': 'last',
}


def joined(frames):
    return frames if isinstance(frames, bytes) else b''.join(frames)


def sent_by_basic_publish(msg, channel, message_id):
    msg = Message(msg.body, **{**msg.properties, 'message_id': message_id})
    return joined(ENCODER.frames(channel, encode_publish(0, *PLACE, False), msg))


def id_of(outgoing):
    return (outgoing[4] + outgoing[5])[1:].decode()


@given(
    names=st.sets(st.sampled_from(sorted(PROPERTIES))),
    body=st.sampled_from(['', 'text', b'', b'x', b'y' * 4000, b'z' * 9000, bytearray(b'array')]),
    channel=st.sampled_from([1, 65535]),
)
def test_only_the_message_id_is_added(names, body, channel):
    msg = Message(body, **{name: PROPERTIES[name] for name in names})
    outgoing = encode(msg, PLACE, MessageIds())
    assert len(id_of(outgoing)) == 27
    expected = sent_by_basic_publish(msg, channel, id_of(outgoing))
    assert joined(frames_of(outgoing, channel, ENCODER)) == expected
    assert small_frames(outgoing, channel) in (None, expected)
    assert 'message_id' not in msg.properties


@pytest.mark.parametrize('message_id', ['mine', 'ü', 'x' * 255, 'bytes \udcff'])
def test_a_message_id_of_the_program_is_kept(message_id):
    msg = Message(b'body', message_id=message_id, app_id='app')
    outgoing = encode(msg, PLACE, MessageIds())
    assert given_key(outgoing) is not None
    expected = sent_by_basic_publish(msg, 7, message_id)
    assert joined(frames_of(outgoing, 7, ENCODER)) == expected


def test_an_empty_message_id_counts_as_none():
    outgoing = encode(Message(b'body', message_id=''), PLACE, MessageIds())
    assert given_key(outgoing) is None
    assert id_of(outgoing)


def test_message_ids_differ():
    one, other = MessageIds(), MessageIds()
    ids = {id_of(encode(Message(b'x'), PLACE, ids)) for ids in (one, other) for _ in range(600)}
    assert len(ids) == 1200


@memory.is_measured
def test_large_properties_are_not_remembered():
    ids, encoder = MessageIds(), Encoder(131072)
    with memory.traced() as traced_memory:
        for number in range(50):
            msg = Message(b'x', app_id=str(number), application_headers={'a': 'x' * 100_000})
            outgoing = encode(msg, PLACE, ids)
            frames_of(outgoing, 1, encoder)
        del msg, outgoing
        assert traced_memory()[0] < 500_000


def test_messages_with_one_message_id_have_a_key_for_each_place():
    ids, msg = MessageIds(), Message(b'x', message_id='mine')
    keys = [given_key(encode(msg, place, ids)) for place in (PLACE, PLACE, ('', 'key', True))]
    assert keys[0] == keys[1] != keys[2]
    assert given_key(encode(Message(b'x'), PLACE, ids)) is None


def test_what_is_sent_does_not_change_with_the_message():
    body = bytearray(b'before')
    msg = Message(body, app_id='before')
    outgoing = encode(msg, PLACE, MessageIds())
    expected = sent_by_basic_publish(Message(b'before', app_id='before'), 1, id_of(outgoing))
    body[:] = b'after!'
    msg.app_id = 'after'
    assert joined(frames_of(outgoing, 1, ENCODER)) == expected


@pytest.mark.parametrize(
    ('msg', 'place', 'error', 'text'),
    [
        ('no message', PLACE, TypeError, "msg: 'str' is not a Message"),
        (Message(5), PLACE, TypeError, 'body'),
        (Message(b'x', priority=256), PLACE, ValueError, 'priority'),
        (
            Message(b'x', application_headers={'a': object()}),
            PLACE,
            ValueError,
            'application_headers',
        ),
        (Message(b'x'), ('x' * 256, '', True), ValueError, 'basic.publish exchange'),
        (Message(b'x'), ('', [], True), TypeError, 'basic.publish routing_key'),
        (Message.received(b'\0\2', b'x'), PLACE, ValueError, 'properties'),
    ],
)
def test_wrong_values(msg, place, error, text):
    with pytest.raises(error, match=text):
        encode(msg, place, MessageIds())


def test_properties_that_do_not_fit_into_a_frame():
    msg = Message(b'x', application_headers={'a': 'b' * 5000})
    with pytest.raises(ValueError, match='properties'):
        frames_of(encode(msg, PLACE, MessageIds()), 1, ENCODER)
