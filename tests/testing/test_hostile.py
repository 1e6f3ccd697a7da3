"""Clients that break the protocol: the broker ends their connections and no others."""

import contextlib
import logging
import random
import socket
import struct

import pytest

import amqplib.client_0_9_1 as amqp
from amqplib.client_0_8 import spec as spec_0_8
from amqplib.client_0_9_1 import spec as spec_0_9_1
from amqplib.core.arguments import Encoders
from amqplib.testing import Broker, basic, modes, topology
from amqplib.testing.channel import Channel

SPECS = [pytest.param(spec_0_8, id='0-8'), pytest.param(spec_0_9_1, id='0-9-1')]
END = b'\xce'
LOGIN = ({}, 'PLAIN', '\0guest\0guest', 'en_US')

#: How many clients of each kind there are; each has its own seed.
CLIENTS = 300


@pytest.fixture(scope='module')
def target():
    with Broker(memory_limit=1024 * 1024) as broker:
        yield broker


@pytest.fixture(scope='module')
def good_channel(target):
    """A channel of a client that does no wrong."""
    with amqp.Connection(target.host) as connection:
        yield connection.channel()


@pytest.fixture
def is_unharmed(good_channel, caplog):
    """A function (what) that checks that the broker serves others, and met no error of its own."""

    def check(what):
        for _ in range(2):  # the first answer may come before the last bytes of another client
            assert good_channel.queue_declare(exclusive=True), what
        assert not [one for one in caplog.records if one.levelno >= logging.WARNING], what

    return check


def connect(broker):
    return socket.create_connection(('127.0.0.1', broker.port), timeout=10)


def send(broker, *pieces):
    """Send pieces to the broker over a connection of their own, and hang up."""
    with connect(broker) as sock, contextlib.suppress(OSError):
        for piece in pieces:
            sock.sendall(piece)


def frame(kind, channel, payload, end=END):
    return struct.pack('>BHI', kind, channel, len(payload)) + payload + end


def encoders(spec):
    return Encoders(spec.METHODS, spec.FIELD_TYPES)


def opening(spec):
    """Return what opens a connection, and channel 1."""
    methods = [
        (0, 'connection.start_ok', *LOGIN),
        (0, 'connection.tune_ok', 2047, 131072, 0),
        (0, 'connection.open', '/', '', False),
        (1, 'channel.open', ''),
    ]
    return spec.PROTOCOL.header + b''.join(
        frame(1, channel, encoders(spec)[name](*values)) for channel, name, *values in methods
    )


# Frames by chance

NAMES = ['', 'a', 'a', 'b', 'amq.topic', 'amq.headers', 'amq.rabbitmq.reply-to', 'a.b', '#', '*.b']
KINDS = ['direct', 'fanout', 'topic', 'headers']
ARGUMENTS = [
    'x-max-length', 'x-expires', 'x-message-ttl', 'x-overflow', 'x-priority', 'x-match', 'a',
    'x-dead-letter-exchange', 'alternate-exchange', 'x-max-priority', 'x-single-active-consumer',
]  # fmt: skip
PROPERTIES = [
    b'\0\0',
    b'\x01\x00\x015',  # an expiration
    b'\x01\x00\x03bad',
    b'\0\1',  # more flags, which do not come
    b'\x20\0\0\0\0\x0d\2CCA\0\0\0\6S\0\0\0\1b',  # a header CC
    b'\x20\0\0\0\0\2\1a',  # a header that is cut
]

VALUES = {
    'bit': lambda chance: chance.random() < 0.3,
    'octet': lambda chance: chance.randrange(256),
    'short': lambda chance: chance.choice([0, 1, 2, 65535]),
    'long': lambda chance: chance.choice([0, 0, 1, 2**32 - 1]),
    'longlong': lambda chance: chance.choice([0, 1, 2, 3, 2**64 - 1]),
    'shortstr': lambda chance: chance.choice(NAMES + KINDS),
    'longstr': lambda chance: chance.randbytes(5),
    'table': lambda chance: {
        chance.choice(ARGUMENTS): chance.choice([-1, 0, 1, 2, 'a', 'b', True, 'any', 'drop-head'])
        for _ in range(chance.choice([0, 0, 1, 2]))
    },
}


def a_method(chance, spec, names):
    """Return the frames of any method of these names, with any values."""
    row = spec.METHODS[chance.choice(names)]
    values = [VALUES[wire_type](chance) for _, wire_type in row.fields]
    channel = chance.choice([1] * 20 + [0, 2])
    frames = frame(1, channel, encoders(spec)[row.name](*values))
    return frames + a_content(chance, channel) if row.content else frames


def a_content(chance, channel):
    body = chance.randbytes(chance.randrange(8))
    size = chance.choice([len(body)] * 20 + [5, 2**63])
    properties = PROPERTIES[0] if chance.random() < 0.5 else chance.choice(PROPERTIES)
    header = frame(2, channel, struct.pack('>HHQ', 60, 0, size) + properties)
    return header + (frame(3, channel, body) if body else b'')


def junk(chance):
    end = chance.choice([END, b'x'])
    return frame(chance.randrange(10), chance.randrange(3), chance.randbytes(12), end)


@pytest.mark.parametrize('spec', SPECS)
@pytest.mark.parametrize('seed', range(0, CLIENTS, 100))
def test_any_methods_in_any_order(target, is_unharmed, spec, seed):
    handled = {**basic.HANDLERS, **modes.HANDLERS, **topology.HANDLERS}
    usual = [name for name in handled if name in spec.METHODS]
    for number in range(seed, seed + 100):
        chance = random.Random(number)
        frames = [a_method(chance, spec, usual) for _ in range(chance.randrange(1, 12))]
        frames.append(chance.choice([junk(chance), a_method(chance, spec, list(spec.METHODS))]))
        send(target, opening(spec) + b''.join(frames))
    is_unharmed(f'seeds from {seed}')


@pytest.mark.parametrize('spec', SPECS)
def test_any_bytes_at_any_stage(target, is_unharmed, spec):
    start = opening(spec)
    for seed in range(CLIENTS):
        chance = random.Random(seed)
        send(target, start[: chance.randrange(len(start))], chance.randbytes(chance.randrange(60)))
    is_unharmed('seeds')


@pytest.mark.parametrize('spec', SPECS)
def test_frames_that_are_cut_anywhere(target, is_unharmed, spec):
    publish = frame(1, 1, encoders(spec)['basic.publish'](0, '', 'a', False, False))
    header = frame(2, 1, struct.pack('>HHQ', 60, 0, 5) + b'\x80\0\4text')
    whole = opening(spec) + publish + header + frame(3, 1, b'hello')
    for cut in range(len(whole)):
        send(target, whole[:cut])
    is_unharmed('cuts')


@pytest.mark.parametrize('spec', SPECS)
def test_a_client_that_takes_nothing_gets_little(target, is_unharmed, good_channel, spec):
    """It sends requests without reading the replies."""
    queue = f'amqplib-test-{spec.PROTOCOL.name}'
    good_channel.queue_declare(queue, auto_delete=False)
    good_channel.basic_publish(amqp.Message(bytes(100_000)), '', queue)
    asking = frame(1, 1, encoders(spec)['basic.get'](0, queue, False))
    giving_back = frame(1, 1, encoders(spec)['basic.recover'](True))
    with connect(target) as sock:
        sock.settimeout(0.5)
        sock.sendall(opening(spec))
        with pytest.raises(socket.timeout):  # noqa: PT012 - not the same before Python 3.10
            while True:
                sock.sendall((asking + giving_back) * 1000)
        is_unharmed('many answers')
    good_channel.queue_delete(queue)


def test_contents_that_never_end_are_limited(target, is_unharmed):
    """Each on a channel of its own, none of them complete."""
    spec = spec_0_9_1
    publish = encoders(spec)['basic.publish'](0, '', 'a', False, False)
    with connect(target) as sock:
        sock.sendall(opening(spec))
        received = b''
        while spec.METHODS['channel.open_ok'].prefix not in received:
            received += sock.recv(65536)
        for number in range(2, 30):
            sock.sendall(
                frame(1, number, encoders(spec)['channel.open'](''))
                + frame(1, number, publish)
                + frame(2, number, struct.pack('>HHQ', 60, 0, 200_000) + b'\0\0')
                + frame(3, number, bytes(100_000))
            )
        while b'RESOURCE_ERROR - too much content' not in received:
            received += sock.recv(65536) or pytest.fail(f'only {received!r}')
    is_unharmed('contents')


def test_an_error_of_the_broker_itself_ends_one_connection(target, good_channel, monkeypatch):
    """Should there be one: it is 541, and is logged."""
    with amqp.Connection(target.host) as connection:
        channel = connection.channel()
        monkeypatch.setattr(Channel, 'reply', lambda channel: 1 / 0)
        with pytest.raises(amqp.AMQPConnectionException, match='INTERNAL_ERROR'):
            channel.queue_declare(exclusive=True)
        monkeypatch.undo()
    assert good_channel.queue_declare(exclusive=True)
