"""What the methods for exchanges and queues send, wait for and return."""

import struct

import pytest

from tests.helpers.frames import method
from tests.helpers.session_like import arrived

GRANTED = 7


def short(text):
    return bytes((len(text),)) + text.encode()


@pytest.fixture
def session(connection):
    return connection.session


@pytest.mark.parametrize(
    ('call', 'name', 'reply', 'result'),
    [
        (('exchange_declare', 'x', 'topic'), 'exchange.declare_ok', (), None),
        (('exchange_delete', 'x'), 'exchange.delete_ok', (), None),
        (('queue_declare', 'q'), 'queue.declare_ok', ('q', 5, 2), ('q', 5, 2)),
        (('queue_bind', 'q', 'x'), 'queue.bind_ok', (), None),
        (('queue_unbind', 'q', 'x'), 'queue.unbind_ok', (), None),
        (('queue_purge', 'q'), 'queue.purge_ok', (5,), 5),
        (('queue_delete', 'q'), 'queue.delete_ok', (5,), 5),
    ],
)
def test_a_call_returns_what_the_reply_says(channel, session, call, name, reply, result):
    session.to_come.append((1, arrived(name, *reply)))
    function, *arguments = call
    assert getattr(channel, function)(*arguments) == result
    assert len(session.sent) == 1


@pytest.mark.parametrize(
    'call',
    [
        ('exchange_declare', 'x', 'topic'),
        ('exchange_delete', 'x'),
        ('queue_declare', 'q'),
        ('queue_bind', 'q', 'x'),
        ('queue_purge', 'q'),
        ('queue_delete', 'q'),
    ],
)
def test_without_waiting_there_is_no_result(channel, session, call):
    function, *arguments = call
    assert getattr(channel, function)(*arguments, nowait=True) is None
    assert len(session.sent) == 1


def test_unbinding_waits_in_any_case(channel, session):
    session.to_come.append((1, arrived('queue.unbind_ok')))
    channel.queue_unbind('q', 'x', nowait=True)
    assert session.to_come == []


def test_the_ticket_that_was_granted_is_the_default(channel, session):
    session.to_come.append((1, arrived('access.request_ok', GRANTED)))
    assert channel.access_request('/data') == GRANTED
    session.sent.clear()
    channel.queue_purge('q', nowait=True)
    channel.queue_purge('q', nowait=True, ticket=3)
    assert session.sent == [
        method(1, (50, 30), struct.pack('>H', ticket) + short('q') + b'\1')
        for ticket in (GRANTED, 3)
    ]
