"""Hundreds of connections and channels leave no descriptors, threads or memory behind."""

import contextlib
import gc
import itertools
import socket
import sys
import threading
import warnings
import weakref

import pytest

from amqplib.core import transport
from amqplib.core.arguments import encode_get, encode_publish
from tests.helpers import memory
from tests.helpers.broker import free_port
from tests.helpers.leaks import open_descriptors
from tests.helpers.relay import serving
from tests.helpers.threads import heartbeat_threads
from tests.helpers.waiting import poll
from tests.helpers.wire import method, version_of

#: Bytes of memory for each time something is done that are taken for noise.
NOISE = 64
#: Bytes that may stay in any case. With 200 times, 114 bytes each time are noticed.
BASE = 10_000
#: Rounds in each of which memory has to grow.
ROUNDS = 4


def caches():
    """Yield the functions of the clients that remember results; they are bounded."""
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith('amqplib.') and not name.startswith('amqplib.testing')
    ]
    for value in [value for module in modules for value in vars(module).values()]:
        members = vars(value).values() if isinstance(value, type) else ()
        for function in (value, *(getattr(member, '__func__', member) for member in members)):
            if hasattr(function, 'cache_clear'):
                yield function


def forget_what_is_remembered():
    """Empty the caches: how full they are does not matter."""
    for function in caches():
        function.cache_clear()


def test_caches_are_known_and_bounded():
    assert {encode_get, encode_publish} < set(caches())
    sizes = {function.__qualname__: function.cache_info().maxsize for function in caches()}
    assert 'GenericContent._encode_unchangeable' in sizes
    assert max(sizes.values()) <= 1024


def repeat(times, do, warm_up=20):
    """Do something a few times, and then many times, which have to leave nothing behind.

    Memory is measured round by round: a leak grows in each. A table that the interpreter happens to
    enlarge counts once.
    """
    for _ in range(warm_up):
        do()
    forget_what_is_remembered()
    gc.collect()
    descriptors, threads = open_descriptors(), set(threading.enumerate())
    grown = []
    with memory.traced() as traced_memory:
        while len(grown) < ROUNDS and not any(one < BASE + times * NOISE for one in grown):
            before = traced_memory()[0]
            for _ in range(times):
                do()
            forget_what_is_remembered()
            gc.collect()
            grown.append(traced_memory()[0] - before)
    assert min(grown) < BASE + times * NOISE, f'{grown} bytes more'
    assert open_descriptors() <= descriptors
    assert set(threading.enumerate()) - threads - set(heartbeat_threads()) == set()


@pytest.fixture(scope='module')
def address(broker):
    """The broker's address, as a number.

    A name is looked up in a thread, and coverage keeps something of each thread.
    """
    with socket.create_connection((broker.host, broker.port), timeout=10) as sock:
        host, port = sock.getpeername()[:2]
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


# --- Connections that fail ----------------------------------------------------------------------


def test_refused_connections_leave_nothing(amqp):
    address = f'127.0.0.1:{free_port()}'

    def fail():
        with pytest.raises(amqp.ConnectionLost):
            amqp.Connection(host=address)

    repeat(200, fail)


def parts_of_handshake(version):
    """Return what a peer may send before it hangs up."""
    start = method(
        0, 'connection.start', *version.numbers, {}, 'PLAIN AMQPLAIN', 'en_US', version=version
    )
    tune = method(0, 'connection.tune', 2047, 131072, 60)
    opened = method(0, 'connection.open_ok', '')
    return [b'', start[:5], start, start + tune, start + tune + opened[:-1]]


def test_half_handshakes_leave_nothing(amqp):
    version = version_of(amqp)
    parts = itertools.cycle(parts_of_handshake(version))

    def hang_up(client):
        with contextlib.suppress(OSError):
            client.recv(len(version.header))
            client.sendall(next(parts))

    listener = socket.create_server(('127.0.0.1', 0))
    host = f'127.0.0.1:{listener.getsockname()[1]}'
    with serving(listener, hang_up):

        def fail():
            with pytest.raises(amqp.AMQPConnectionException):
                amqp.Connection(host=host, connect_timeout=10)

        repeat(200, fail)


def test_refused_logins_leave_nothing(amqp, address):
    def fail():
        with pytest.raises(amqp.LoginRefused):
            amqp.Connection(host=address, password='wrong')

    repeat(50, fail, warm_up=5)


# --- Channels -----------------------------------------------------------------------------------


def test_opened_and_closed_channels_leave_nothing(dial):
    connection = dial()

    def open_and_close():
        channel = connection.channel()
        assert channel.channel_id == 1
        channel.close()

    repeat(400, open_and_close)
    assert list(connection.channels) == [0]


@memory.is_freed_at_once
def test_opened_and_closed_channels_need_no_collector(dial):
    connection = dial()
    gc.collect()
    gc.disable()
    try:
        gone = []
        for _ in range(100):
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True)[0]
            channel.basic_consume(queue, callback=print)
            channel.close()
            gone.append(weakref.ref(channel))
            del channel
        assert [ref() for ref in gone] == [None] * 100
    finally:
        gc.enable()


def fail_and_open_again(amqp, connection, times):
    def fail():
        channel = connection.channel()
        assert channel.channel_id == 1
        with pytest.raises(amqp.NotFound):
            channel.queue_declare('amqplib-test-no-such-queue', passive=True)
        channel.close()

    repeat(times, fail)
    assert list(connection.channels) == [0]
    assert connection.channel().queue_declare(exclusive=True)[1] == 0


def test_channel_errors_leave_nothing_and_free_the_number(amqp, dial):
    fail_and_open_again(amqp, dial(), 200)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_five_thousand_channel_errors(amqp, dial):
    fail_and_open_again(amqp, dial(), 5000)


def test_channel_errors_that_nobody_waits_for_leave_nothing(amqp, dial):
    """Publishing to an exchange that does not exist is such an error."""
    connection = dial()

    def fail():
        channel = connection.channel()
        channel.basic_publish(amqp.Message('x'), exchange='amqplib-test-no-such-exchange')
        with pytest.raises(amqp.NotFound):
            channel.close()

    repeat(200, fail)
    assert list(connection.channels) == [0]


# --- Connections --------------------------------------------------------------------------------


@pytest.mark.parametrize('heartbeat', [0, 60])
def test_opened_and_closed_connections_leave_nothing(amqp, address, heartbeat):
    def open_and_close():
        with amqp.Connection(host=address, heartbeat=heartbeat) as connection:
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True)[0]
            channel.basic_publish(amqp.Message('x'), routing_key=queue)
            channel.basic_consume(queue, callback=lambda message: None)
            channel.wait(timeout=10)

    # Beside one that stays, so that the heartbeat thread does too.
    with amqp.Connection(host=address, heartbeat=heartbeat):
        repeat(100, open_and_close)


def test_dropped_connections_leave_nothing_once_they_are_collected(amqp, address):
    def drop():
        connection = amqp.Connection(host=address, heartbeat=0)
        connection.channel().queue_declare(exclusive=True)
        del connection
        gc.collect()

    repeat(40, drop, warm_up=5)


@pytest.mark.parametrize('tls', [False, True])
def test_dropped_connections_are_silent_whatever_was_collected_before(
    amqp, play, authority, monkeypatch, tls
):
    """The collector may finalize the socket before the transport that closes it."""

    def collect_and_connect(*args):
        gc.collect(0)  # so the transport is of another generation than the socket
        return really_connect(*args)

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.expect_end()

    really_connect = transport._connect
    monkeypatch.setattr(transport, '_connect', collect_and_connect)
    broker = play(script, tls=authority.server() if tls else None)
    ssl = {'ca_certs': authority.file} if tls else False
    gc.collect()
    connection = amqp.Connection(host=broker.address, heartbeat=0, ssl=ssl)
    connection.channel()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        del connection
        gc.collect()
    assert caught == []


def test_dropped_connections_with_heartbeats_leave_nothing(amqp, address):
    descriptors = open_descriptors()
    for _ in range(20):
        amqp.Connection(host=address, heartbeat=1).channel()

    def all_gone():
        gc.collect()  # the thread may just have looked at one
        return open_descriptors() <= descriptors and not heartbeat_threads()

    poll(all_gone, 'the end of the connections')


def test_lost_connections_leave_nothing(amqp, address):
    def lose():
        connection = amqp.Connection(host=address)
        channel = connection.channel()
        connection.transport.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(amqp.ConnectionLost):
            channel.queue_declare(exclusive=True)
        with pytest.raises(amqp.ConnectionLost):
            channel.queue_declare(exclusive=True)
        connection.close()

    # Beside one that stays, so that the heartbeat thread does too: coverage keeps something of
    # each thread.
    with amqp.Connection(host=address):
        repeat(50, lose, warm_up=5)


@memory.is_freed_at_once
@pytest.mark.parametrize('call', ['declare', 'wait', 'publish'])
def test_lost_connections_need_no_collector(amqp, address, call):
    def use(channel):
        while True:
            if call == 'declare':
                channel.queue_declare(exclusive=True)
            elif call == 'wait':
                channel.wait()
            else:
                channel.basic_publish(amqp.Message('x'), routing_key='amqplib-test-nowhere')

    def lose():
        connection = amqp.Connection(host=address, heartbeat=0)
        channel = connection.channel()
        connection.transport.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(amqp.ConnectionLost):
            use(channel)
        return [weakref.ref(connection), weakref.ref(channel)]

    gc.collect()
    gc.disable()
    try:
        gone = [ref for _ in range(10) for ref in lose()]
        assert [ref() for ref in gone] == [None] * 20
    finally:
        gc.enable()


def connect_without_a_collector(amqp, address, times):
    """Once closed, a connection and what belongs to it goes without the garbage collector."""
    gc.collect()
    descriptors = open_descriptors()
    gc.disable()
    try:
        gone = []
        for number in range(times):
            connection = amqp.Connection(host=address, heartbeat=number % 2 * 60)
            channel = connection.channel()
            queue = channel.queue_declare(exclusive=True)[0]
            channel.basic_consume(queue, callback=lambda message: None)
            connection.close()
            gone += [weakref.ref(connection), weakref.ref(channel)]
            del connection, channel
        # The heartbeat thread may hold the last ones for a moment.
        poll(lambda: not any(ref() for ref in gone), 'the end of the connections')
        # The broker in the process closes its own a moment after the client.
        poll(lambda: open_descriptors() <= descriptors, 'the end of all descriptors')
        assert gc.collect() < times
    finally:
        gc.enable()


@memory.is_freed_at_once
def test_closed_connections_need_no_collector(amqp, address):
    connect_without_a_collector(amqp, address, 150)


@memory.is_freed_at_once
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_thousand_closed_connections_need_no_collector(amqp, address):
    connect_without_a_collector(amqp, address, 1000)
