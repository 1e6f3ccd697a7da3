"""Heartbeats: agreed on, sent while the program is busy, and what silence leads to."""

import contextlib
import gc
import socket
import threading
import time
import weakref

import pytest

from amqplib.core.transport import TCPTransport
from tests.helpers.packages import only_0_8
from tests.helpers.scripted_broker import keep_alive
from tests.helpers.threads import Worker, compute, heartbeat_threads
from tests.helpers.waiting import BUSY, PATIENCE, lasting, poll
from tests.helpers.wire import FRAME_HEARTBEAT, content, delivery, method, split_frames

HEARTBEAT = bytes([FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, 0xCE])
EVERY_SECOND = (2047, 131072, 1)

#: For tests of the heartbeat thread and of the transport, which know nothing of versions, where
#: they take seconds.
said_by_one = only_0_8


def heartbeats_in(data):
    """Return how many heartbeats there are, after checking that all is whole frames."""
    frames, left = split_frames(data)
    assert left == b''
    return sum(kind == FRAME_HEARTBEAT for kind, _, _ in frames)


def fill(sock, data):
    """Send bytes until no more are taken; return how often that was, not counting the last."""
    times = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(data, getattr(socket, 'MSG_DONTWAIT', 0))
            times += 1
    return times


def descriptor_of(connection):
    return connection.transport.sock.fileno()


def is_open(descriptor):
    """Return whether a descriptor refers to a connected socket."""
    try:
        with socket.socket(fileno=descriptor) as sock:
            try:
                sock.getpeername()
            finally:
                sock.detach()
    except OSError:
        return False
    return True


# --- What is agreed on --------------------------------------------------------------------------


@pytest.mark.parametrize('client', [None, 0, 1, 600])
@pytest.mark.parametrize('proposed', [0, 1, 60, 65535])
def test_client_decides_and_none_takes_what_the_broker_proposes(
    no_heartbeat_thread, play, connect, proposed, client
):
    def script(peer):
        peer.handshake(tune=(2047, 131072, proposed))
        peer.mark()
        peer.expect_close()
        assert peer.tuned.heartbeat == agreed

    agreed = proposed if client is None else client
    connection = connect(play(script), heartbeat=client)
    assert connection.heartbeat == agreed
    assert len(heartbeat_threads()) == (1 if agreed else 0)
    connection.close()


# --- Sending them -------------------------------------------------------------------------------


def test_heartbeats_are_sent_while_the_program_computes(session):
    """The program computes in a callback, and while no call of the connection is in progress."""

    def deliver_first(peer):
        peer.send_raw(delivery(1, 'tag'))
        count(peer)

    def count(peer):
        keep_alive(peer, lambda data: data.count(HEARTBEAT) >= 5)
        seconds.append(time.monotonic() - begun)
        all_there.release()
        peer.mark()
        peer.rest()

    def compute_meanwhile(message):
        while not all_there.acquire(blocking=False):
            compute(0.1)

    seconds, all_there = [], threading.Semaphore(0)
    begun = time.monotonic()
    idle = session(count, heartbeat=1)
    idle.broker.await_mark()
    assert all_there.acquire(blocking=False)
    begun = time.monotonic()
    busy = session(deliver_first, heartbeat=1)
    busy.channel.callbacks['tag'] = compute_meanwhile
    busy.channel.wait(timeout=PATIENCE)
    for ours in (idle, busy):
        assert ours.connection.transport is not None
    # Two a second are due, and no more are sent, however late they are.
    assert min(seconds) >= 2


def test_real_broker_keeps_connections_that_are_busy_or_idle(amqp, dial):
    """Without heartbeats, it resets them after three seconds."""
    idle, busy = dial(heartbeat=1).channel(), dial(heartbeat=1).channel()
    queue = busy.queue_declare(exclusive=True, auto_delete=False)[0]
    busy.basic_publish(amqp.Message('x'), routing_key=queue)
    busy.basic_consume(queue, callback=lambda message: compute(5))
    with lasting(least=5, most=60):
        busy.wait(timeout=10)
    assert busy.queue_declare(queue, passive=True)[1] == 0
    assert idle.queue_declare(exclusive=True)[1] == 0


def test_no_heartbeats_are_sent_while_other_writes_flow(amqp, session):
    def script(peer):
        sent.append(heartbeats_in(keep_alive(peer, lambda data: b'the last' in data)))
        peer.mark()
        peer.rest()

    sent, pauses = [], [0.0]
    ours = session(script, heartbeat=1)
    begun = before = time.monotonic()
    while before < begun + 2.4:
        ours.channel.basic_publish(amqp.Message('x'), routing_key='q')
        time.sleep(0.02)
        now = time.monotonic()
        pauses.append(now - before)
        before = now
    ours.channel.basic_publish(amqp.Message('the last'), routing_key='q')
    ours.broker.await_mark()
    # It looks four times a second, and twice in vain before it sends one. If it did not look at the
    # other writes, it would send four.
    assert sent[0] <= sum(pause // 0.25 for pause in pauses)


def test_heartbeats_never_come_in_the_middle_of_another_write(amqp, play, connect):
    size = 12_000_000

    def script(peer):
        peer.handshake(tune=EVERY_SECOND)
        peer.open_channel()
        data = bytearray(peer._buffer)
        peer._buffer = b''
        begun = time.monotonic()
        while len(data) < size or heartbeats_behind(data) < 2:
            # Two seconds for most of it, which is four times as long as a heartbeat may wait.
            wanted = 400_000 if time.monotonic() - begun < 2 else 4_000_000
            before = len(data)
            while len(data) < before + wanted:
                peer.sock.settimeout(0.1)
                try:
                    data += peer.sock.recv(65536)
                except socket.timeout:
                    break
            peer.send_heartbeat()
            time.sleep(0.1)
        seen.append(bytes(data))
        peer.mark()
        peer.rest()

    def heartbeats_behind(data):
        return data[-64:].count(HEARTBEAT)

    seen = []
    broker = play(script, receive_buffer=65536)
    connection = connect(broker)
    channel = connection.channel()
    body = bytes(range(256)) * (size // 256)
    with lasting(least=1, most=15):
        channel.basic_publish(amqp.Message(body), routing_key='q')
    broker.await_mark()
    data = seen[0]
    assert heartbeats_in(data) >= 2
    published = method(1, 'basic.publish', 0, '', 'q', False, False)
    written = published + content(1, body)
    assert data.count(written) == 1


@said_by_one
def test_heartbeats_never_come_into_the_pauses_of_another_write(amqp, session, monkeypatch):
    """The socket is writable all the time: only the library knows that a write is not complete."""

    def script(peer):
        seen.append(keep_alive(peer, lambda data: written in data and HEARTBEAT in data))
        peer.mark()
        peer.rest()

    def send_slowly(transport, pieces):
        time.sleep(0.3)
        return transport.sock.send(pieces[0][:50_000])

    seen = []
    body = bytes(range(256)) * 500
    written = method(1, 'basic.publish', 0, '', 'q', False, False) + content(1, body)
    ours = session(script, heartbeat=1)
    monkeypatch.setattr(TCPTransport, '_send_some', send_slowly)
    ours.channel.basic_publish(amqp.Message(body), routing_key='q')
    monkeypatch.undo()
    ours.broker.await_mark()
    assert heartbeats_in(seen[0]) >= 1
    assert seen[0].count(written) == 1


@said_by_one
def test_heartbeat_that_cannot_be_written_waits_and_the_peer_decides(play, connect):
    """A full socket is no reason to give up: a broker that is alive may just not read."""

    def script(peer):
        peer.handshake(tune=EVERY_SECOND)
        while not peer.broker._cues.acquire(timeout=0.2):
            peer.send_heartbeat()
        for _ in range(12):
            peer.send_heartbeat()
            time.sleep(0.2)
        peer.mark()

    broker = play(script, receive_buffer=4096)
    connection = connect(broker)
    # Behind the library's back, which would not send a heartbeat soon after writing this.
    connection.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    while fill(connection.transport.sock, bytes(1000)):
        time.sleep(0.1)  # until the peer's side is full too
    broker.cue()
    broker.await_mark()
    assert connection.transport is not None


# --- Hearing them -------------------------------------------------------------------------------


def wait_for_a_message(channel):
    channel.wait()


def wait_with_a_later_deadline(channel):
    channel.wait(timeout=30)


def call(channel):
    channel.queue_declare('q')


def publish_more_than_fits(amqp, channel):
    channel.basic_publish(amqp.Message(bytes(30_000_000)), routing_key='q')


def check_given_up(amqp, ours, error):
    """Check that the connection is closed for having been silent, and says so."""
    assert type(error) is amqp.ConnectionLost
    assert 'nothing was heard from the broker' in str(error)
    assert ours.connection.transport is None
    poll(lambda: ours.sock.fileno() == -1)
    with lasting(most=1), pytest.raises(amqp.ConnectionLost, match='nothing was heard'):
        ours.connection.channel()
    # No close is sent to a silent peer.
    with lasting(most=1):
        ours.connection.close()


def test_silence_for_two_intervals_ends_the_call_that_waits_or_comes_next(amqp, session):
    waiting = [
        wait_for_a_message,
        wait_with_a_later_deadline,
        call,
        lambda channel: publish_more_than_fits(amqp, channel),
    ]
    all_of_ours = [session(lambda peer: peer.stall(), heartbeat=1) for _ in waiting]
    idle = session(lambda peer: peer.stall(), heartbeat=1)
    with lasting(least=1, most=2 + BUSY):
        workers = [Worker(wait, ours.channel) for wait, ours in zip(waiting, all_of_ours)]
        errors = [worker.ended() for worker in workers]
    for ours, error in zip(all_of_ours, errors):
        check_given_up(amqp, ours, error)
    poll(lambda: idle.connection.transport is None)
    with lasting(most=1), pytest.raises(amqp.ConnectionLost) as caught:
        idle.channel.queue_declare('q')
    check_given_up(amqp, idle, caught.value)


@said_by_one
def test_any_byte_is_a_sign_of_life(session):
    whole = delivery(1, 'tag')

    def script(peer):
        for position in range(6):
            peer.send_raw(whole[position : position + 1])
            time.sleep(0.5)
        peer.send_raw(whole[6:])
        peer.rest()

    ours = session(script, heartbeat=1)
    got = []
    ours.channel.callbacks['tag'] = got.append
    with lasting(least=2.5, most=20):
        ours.channel.wait()
    assert len(got) == 1


@said_by_one
def test_unread_bytes_are_a_sign_of_life(session):
    whole = delivery(1, 'tag')

    def script(peer):
        peer.send_raw(whole[:9])
        peer.mark()
        peer.await_cue()
        peer.send_raw(whole[9:])
        peer.rest()

    ours = session(script, heartbeat=1)
    ours.broker.await_mark()
    compute(2.8)
    assert ours.connection.transport is not None
    ours.broker.cue()
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.channel.wait(timeout=10)
    assert len(got) == 1


@said_by_one
def test_jumps_of_the_wall_clock_change_nothing(amqp, session, monkeypatch):
    def script(peer):
        keep_alive(peer, lambda data: timed_out.is_set())
        peer.send_raw(delivery(1, 'tag'))
        peer.rest()

    real, timed_out = time.time, threading.Event()
    jumps = iter([86400, -86400, 3600, -1e9, 1e9] * 1_000_000)
    monkeypatch.setattr(time, 'time', lambda: real() + next(jumps))
    ours = session(script, heartbeat=1)
    with lasting(least=0.9, most=1 + BUSY), pytest.raises(amqp.AMQPTimeout):
        ours.channel.wait(timeout=1)
    timed_out.set()
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.channel.wait(timeout=15)
    assert len(got) == 1


def test_no_module_of_the_library_looks_at_the_wall_clock(amqp):
    import pkgutil
    from importlib import import_module

    for module in pkgutil.iter_modules(amqp.__path__):
        names = vars(import_module(f'{amqp.__name__}.{module.name}'))
        assert time.time not in [value for value in names.values() if callable(value)]
        assert time not in list(names.values())


# --- The thread ---------------------------------------------------------------------------------


def test_one_daemon_thread_serves_all_connections_and_ends_with_the_last(no_heartbeat_thread, dial):
    before = set(threading.enumerate())
    connections = [dial(heartbeat=60) for _ in range(5)]
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    for connection in connections[:-1]:
        connection.close()
    assert heartbeat_threads() == [thread]
    connections[-1].close()
    poll(lambda: not thread.is_alive(), 'the end of the thread')
    dial(heartbeat=60)
    (second,) = heartbeat_threads()
    assert second is not thread


def test_heartbeat_of_zero_starts_no_thread(no_heartbeat_thread, dial):
    before = set(threading.enumerate())
    connection = dial(heartbeat=0)
    connection.channel().queue_declare(exclusive=True)
    assert set(threading.enumerate()) == before


def test_dropped_connection_is_collected_and_its_thread_ends(amqp, no_heartbeat_thread, address):
    connection = amqp.Connection(host=address, heartbeat=1)
    connection.channel()
    (thread,) = heartbeat_threads()
    descriptor = descriptor_of(connection)
    assert is_open(descriptor)
    gone = weakref.ref(connection)
    del connection

    def collected():
        gc.collect()
        return gone() is None  # the thread may just look at it

    poll(collected, 'the end of the connection')
    assert not is_open(descriptor)
    poll(lambda: not thread.is_alive(), 'the end of the thread')


def test_lost_connection_ends_the_thread(amqp, no_heartbeat_thread, session):
    ours = session(lambda peer: peer.reset(), heartbeat=600)
    (thread,) = heartbeat_threads()
    with pytest.raises(amqp.ConnectionLost):
        ours.channel.wait(timeout=10)
    poll(lambda: not thread.is_alive(), 'the end of the thread')


@pytest.mark.parametrize('heartbeat', [0, 60])
def test_tcp_keepalive_is_on_whatever_the_heartbeat(dial, heartbeat):
    sock = dial(heartbeat=heartbeat).transport.sock
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
