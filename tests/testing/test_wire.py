"""The answers to clients that break the protocol are those of RabbitMQ."""

import socket
import struct

import pytest

import amqplib.client_0_9_1 as amqp
from amqplib.client_0_9_1 import spec
from amqplib.core.arguments import Encoders
from amqplib.testing import Broker
from tests.testing.test_hostile import frame, opening

ENCODERS = Encoders(spec.METHODS, spec.FIELD_TYPES)


@pytest.fixture(params=['process', 'rabbitmq'])
def sock(request):
    """A socket on which a connection and channel 1 are open."""
    if request.param == 'rabbitmq':
        broker = request.getfixturevalue('broker')
        with login(broker.host, broker.port) as sock:
            yield sock
        return
    with Broker() as broker, login('127.0.0.1', broker.port) as sock:
        yield sock


def login(host, port):
    sock = socket.create_connection((host, port), timeout=20)
    sock.sendall(opening(spec))
    receive(sock, 'channel.open_ok')
    return sock


def receive(sock, name):
    """Return what was received, once a method has come."""
    received, prefix = b'', spec.METHODS[name].prefix
    while prefix not in received:
        received += sock.recv(65536) or pytest.fail(f'only {received!r}')
    return received


def method(channel, name, *values):
    return frame(1, channel, ENCODERS[name](*values))


PUBLISH = method(1, 'basic.publish', 0, '', 'nowhere', False, False)
HEADER = struct.pack('>HHQ', 60, 0, 5) + b'\0\0'


@pytest.mark.parametrize(
    ('data', 'code'),
    [
        (frame(1, 1, ENCODERS['tx.select'](), b'x'), 501),
        (frame(9, 1, b''), 501),
        (frame(8, 0, b'x'), 501),
        (frame(8, 1, b''), 505),
        (frame(1, 1, spec.METHODS['queue.purge'].prefix + b'\0\0'), 501),
        (frame(1, 1, ENCODERS['tx.select']() + b'x'), 501),
        (frame(3, 1, bytes(140_000)), 501),
        (method(1, 'queue.purge', 0, 'x', False).replace(b'\1x', b'\1\xff'), 501),
        (frame(2, 1, HEADER), 505),
        (frame(3, 1, b'hello'), 505),
        (PUBLISH + method(1, 'tx.select'), 505),
        (method(1, 'channel.open', ''), 504),
        (method(2, 'tx.select'), 504),
        (method(2, 'channel.close', 200, '', 0, 0), 504),
        (method(0, 'tx.select'), 504),
        (method(0, 'connection.open', '/', '', False), 504),
        (method(1, 'connection.close', 200, '', 0, 0), 503),
        (PUBLISH + frame(2, 1, HEADER[:-2] + b'\x20\0\0\0\0\4\1aU?') + frame(3, 1, b'hello'), 541),
    ],
    ids=range(18),
)
def test_the_connection_is_closed(sock, data, code):
    sock.sendall(data)
    received = receive(sock, 'connection.close')
    start = received.index(spec.METHODS['connection.close'].prefix)
    assert struct.unpack_from('>H', received, start + 4)[0] == code


def is_hung_up(sock):
    try:
        return sock.recv(1) == b''
    except ConnectionResetError:
        return True


def test_a_method_that_does_not_exist_has_no_answer(sock):
    sock.sendall(frame(1, 1, b'\x00\x55\x00\x63'))
    assert is_hung_up(sock)


def test_a_confirmed_close_ends_the_connection(sock):
    sock.sendall(method(1, 'channel.open', ''))
    receive(sock, 'connection.close')
    sock.sendall(method(0, 'connection.close_ok'))
    assert is_hung_up(sock)


@pytest.mark.parametrize('header', [b'GET / HT', b'AMQP\1\1\0\12', b'AMQP\0\0\x09\0'])
def test_another_protocol_is_answered_by_this_one(header):
    with Broker() as broker, socket.create_connection(('127.0.0.1', broker.port)) as sock:
        sock.settimeout(20)
        sock.sendall(header)
        assert sock.recv(100) == b'AMQP\0\0\x09\1'
        assert is_hung_up(sock)


def test_a_silent_client_is_taken_to_be_gone():
    with Broker() as broker, login('127.0.0.1', broker.port) as sock:
        (session,) = broker._shared.sessions
        broker._shared.loop.call(session.tuned, 2047, 131072, 60)
        assert sock.recv(100) == frame(8, 0, b'')  # the first heartbeat comes at once
        session.pulse.heard -= 200
        broker._shared.loop.call(session.tuned, 2047, 131072, 60)
        assert is_hung_up(sock)


@pytest.fixture
def small_broker():
    """A broker with little memory."""
    with Broker(memory_limit=10_000) as broker:
        yield broker


def test_a_blocked_connection_is_notified_and_goes_on(small_broker):
    heard, host = [], small_broker.host
    with amqp.Connection(host) as connection, amqp.Connection(host) as other:
        connection.on_blocked = heard.append
        connection.on_unblocked = lambda: heard.append('unblocked')
        channel, taking = connection.channel(), other.channel()
        name = channel.queue_declare(auto_delete=False)[0]
        for _ in range(2):  # the second one finds too little memory
            channel.basic_publish(amqp.Message(bytes(20_000)), '', name)
        connection.wait([(10, 60)], timeout=20)
        assert len(small_broker.messages(name)) == 1
        assert taking.queue_purge(name) == 1
        channel.queue_declare(name, passive=True)
        assert heard == ['low on memory', 'unblocked']
        assert len(small_broker.messages(name)) == 1
