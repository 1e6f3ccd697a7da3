"""The transport over plain TCP, on loopback. (TLS and broken peers are tested with peers.)"""

import errno
import os
import socket
import threading

import pytest

from amqplib.core import transport as module
from amqplib.core.deadline import NO_DEADLINE, NO_WAIT, Deadline
from amqplib.core.transport import RECEIVE_SIZE, TCPTransport, poll_socket
from amqplib.exceptions import AMQPTimeout, ConnectionLost
from tests.helpers.interrupts import interrupt, lines
from tests.helpers.threads import in_thread

LONG = 30
DEADLINES = [NO_DEADLINE, Deadline(1e9), NO_WAIT]


@pytest.fixture
def server():
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(LONG)
        yield server


@pytest.fixture
def address(server):
    return '{}:{}'.format(*server.getsockname())


@pytest.fixture
def transport(address):
    transport = TCPTransport(address, LONG)
    yield transport
    transport.close()


@pytest.fixture
def peer(server, transport):
    peer, _ = server.accept()
    peer.settimeout(LONG)
    with peer:
        yield peer


def received(transport, deadline=NO_DEADLINE):
    """Return what arrives; None if nothing did in time."""
    arrived = []
    if not transport.receive(arrived, deadline):
        assert arrived == []
        return None
    (data,) = arrived
    return data


def has_arrived(transport):
    assert transport.is_ready(LONG, read=True)[0]


@pytest.fixture
def full(transport):
    """The other end of a transport whose socket is full, and the bytes in it."""
    # Not by TCP, where the system goes on moving bytes to the other side while it finds room.
    sock, peer = socket.socketpair()
    sock.settimeout(transport.sock.gettimeout())
    transport.sock.close()
    transport.sock = sock
    peer.settimeout(LONG)
    with peer:
        yield peer, b''.join(fill(transport))


def fill(transport):
    """Send until the socket is full; yield what was sent."""
    for piece in (b'x' * (1 << 16), b'x'):
        while count := transport.send_some(piece):
            yield piece[:count]


def receive_all(peer, size):
    data = b''
    while len(data) < size:
        data += peer.recv(1 << 20)
    return data


# --- Receiving ---


@pytest.mark.parametrize('deadline', DEADLINES, ids=str)
def test_what_has_arrived_is_received(transport, peer, deadline):
    peer.sendall(b'some bytes')
    has_arrived(transport)
    assert received(transport, deadline) == b'some bytes'
    assert transport.received == 10


@pytest.mark.parametrize('deadline', DEADLINES[:2], ids=str)
def test_receive_waits(transport, peer, deadline):
    timer = threading.Timer(0.02, peer.sendall, (b'late',))
    timer.start()
    assert received(transport, deadline) == b'late'
    timer.join()


@pytest.mark.parametrize('deadline', [NO_WAIT, Deadline(0.01)], ids=str)
def test_nothing_arrives_in_time(transport, peer, deadline):
    assert received(transport, deadline) is None
    assert transport.received == 0


def test_more_than_one_call_takes(transport, peer):
    data = os.urandom(3 * RECEIVE_SIZE)
    sender = threading.Thread(target=peer.sendall, args=(data,))
    sender.start()
    arrived = b''
    while len(arrived) < len(data):
        arrived += received(transport, Deadline(LONG))
    sender.join()
    assert arrived == data
    assert transport.received == len(data)
    assert received(transport, NO_WAIT) is None


@pytest.mark.parametrize('deadline', DEADLINES, ids=str)
def test_end_of_the_stream_is_a_lost_connection(transport, peer, deadline):
    peer.close()
    has_arrived(transport)
    with pytest.raises(ConnectionLost):
        received(transport, deadline)


def test_timeout_of_the_socket_itself_counts_too(transport, peer):
    transport.sock.settimeout(0.01)
    assert received(transport) is None
    assert str(transport.limit_of(NO_DEADLINE)) == '0.01 s'
    assert str(transport.limit_of(Deadline(5))) == '5 s'
    assert transport.sock.gettimeout() == 0.01


@pytest.mark.parametrize(
    ('size', 'count', 'after'),
    [(5, 5, b''), (10, 10, b''), (13, 10, b'klm'), (18, 10, b'klmnopqr'), (26, 10, b'klmnopqr')],
)
def test_bytes_are_received_to_where_they_belong(transport, peer, size, count, after):
    if not transport.receives_into:
        pytest.skip('the system cannot do so')
    peer.sendall(bytes(range(97, 97 + size)))
    has_arrived(transport)
    room, arrived = bytearray(10), []
    assert transport.receive_into(memoryview(room), arrived, Deadline(LONG)) is True
    assert transport.split(arrived.pop()) == (count, after)
    assert bytes(room[:count]) == b'abcdefghij'[:count]
    # What there was neither room for nor is kept is still in the socket.
    left = size - count - len(after)
    assert (received(transport, NO_WAIT) or b'') == bytes(range(97, 97 + size))[size - left :]


def test_nothing_arrives_where_it_belongs(transport, peer):
    if not transport.receives_into:
        pytest.skip('the system cannot do so')
    arrived = []
    assert transport.receive_into(memoryview(bytearray(10)), arrived, Deadline(0.01)) is False
    peer.close()
    with pytest.raises(ConnectionLost):
        transport.receive_into(memoryview(bytearray(10)), arrived, Deadline(LONG))


# --- Sending ---


def test_bytes_and_pieces_are_sent(transport, peer):
    transport.send(b'some')
    transport.send_pieces([b' bytes', memoryview(b' and'), bytearray(b' more')], Deadline(LONG))
    assert receive_all(peer, 19) == b'some bytes and more'
    assert transport.sent == 2
    assert not transport.unfinished


@pytest.mark.parametrize('count', [1, 600, 2000])
def test_many_pieces_are_sent_in_their_order(transport, peer, count):
    pieces = [os.urandom(number % 7) for number in range(count)]
    transport.send_pieces(pieces)
    whole = b''.join(pieces)
    assert receive_all(peer, len(whole)) == whole


def test_large_write_goes_on_as_the_peer_reads(transport, peer):
    data = os.urandom(1 << 24)
    results = []
    reader = threading.Thread(target=lambda: results.append(receive_all(peer, len(data))))
    reader.start()
    transport.send(data, Deadline(LONG))
    reader.join(LONG)
    assert results == [data]


def test_timeout_before_the_first_byte(transport, full):
    with pytest.raises(AMQPTimeout, match=r'nothing could be sent within 0\.01 s'):
        transport.send(b'next', Deadline(0.01))
    assert not transport.unfinished


def test_timeout_in_the_middle_says_so(transport, peer):
    with pytest.raises(AMQPTimeout):
        transport.send(bytes(1 << 26), Deadline(0.05))
    assert transport.unfinished
    assert transport.sent == 0


def test_what_the_socket_takes_at_once(transport, peer):
    assert transport.send_some(b'some') == 4
    assert transport.sent == 1
    assert receive_all(peer, 4) == b'some'


def test_a_full_socket_takes_nothing(transport, full):
    peer, sent = full
    count = transport.sent
    assert transport.send_some(b'more') == 0
    assert transport.sent == count
    assert receive_all(peer, len(sent)) == sent


def test_wait_writable_may_be_replaced(transport, full):
    peer, sent = full
    waits = []

    def wait(deadline, needs_input):
        waits.append((deadline, needs_input))
        receive_all(peer, len(sent))

    transport.wait_writable = wait
    limit = Deadline(LONG)
    transport.send(b'next', limit)
    assert waits[0] == (limit, False)
    assert receive_all(peer, 4) == b'next'


def test_send_to_a_peer_that_is_gone(transport, peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
    peer.close()
    has_arrived(transport)
    with pytest.raises(ConnectionLost, match='the connection broke'):
        transport.send(b'some')


# --- Ending ---


def test_shutdown_wakes_a_thread_that_waits(transport, peer):
    def wait():
        with pytest.raises(ConnectionLost):
            received(transport)

    threading.Timer(0.02, transport.shutdown).start()
    in_thread(wait)
    assert transport.sock.fileno() >= 0


def test_close_frees_the_descriptor_and_can_be_repeated(transport, peer):
    transport.close()
    transport.close()
    assert transport.sock.fileno() == -1
    assert peer.recv(10) == b''
    with pytest.raises(ConnectionLost):
        transport.is_ready(0, read=True)


def test_release_ends_no_stream_that_others_have(transport, peer):
    with socket.socket(fileno=os.dup(transport.sock.fileno())) as other:
        transport.release()
        assert transport.sock.fileno() == -1
        other.sendall(b'open')
        assert receive_all(peer, 4) == b'open'


# --- Connecting ---


def test_transport_shows_where_it_is_connected_to(transport, address):
    assert repr(transport) == f'<TCPTransport to {address}>'


def test_nobody_listens(server, address):
    server.close()
    with pytest.raises(ConnectionLost, match=f'cannot connect to {address}') as caught:
        TCPTransport(address, LONG)
    assert caught.value.errno == errno.ECONNREFUSED


def test_socket_of_a_transport_that_could_not_be_set_up_is_closed(address, server, monkeypatch):
    sockets = []

    def fail(transport):
        sockets.append(transport.sock)
        raise KeyboardInterrupt

    monkeypatch.setattr(TCPTransport, '_setup_transport', fail)
    with pytest.raises(KeyboardInterrupt):
        TCPTransport(address, LONG)
    assert sockets[0].fileno() == -1


def test_an_interrupt_at_any_line_of_connecting_leaves_no_socket_open(address):
    """A socket that is left to the collector warns, and warnings are errors here."""
    for line in lines():
        if not interrupt(line, TCPTransport, address, LONG):
            break
    assert line.number > 50


# --- Waiting for any socket ---


@pytest.mark.parametrize('system_calls', ['poll', 'select'])
def test_what_a_socket_is_ready_for(monkeypatch, system_calls):
    if system_calls == 'select':
        monkeypatch.delattr(module.select, 'poll', raising=False)
    one, other = socket.socketpair()
    with one, other:
        assert poll_socket(one, 0, read=True) == (False, False)
        assert poll_socket(one, 0.001, read=True) == (False, False)
        assert poll_socket(one, None, read=True, write=True) == (False, True)
        other.send(b'x')
        assert poll_socket(one, LONG, read=True) == (True, False)
        assert poll_socket(one, 0, read=True, write=True) == (True, True)
        one.recv(1)
        other.close()
        assert poll_socket(one, LONG, read=True)[0]
    with pytest.raises(OSError, match='Bad file descriptor'):
        poll_socket(one, 0, read=True)
