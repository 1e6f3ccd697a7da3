"""Filling a socket: the system accepts no more bytes, because the broker does not read."""

import contextlib
import select
import socket
import time

from tests.helpers.waiting import PATIENCE

#: More than the systems on both sides keep of a stream that nobody reads, and as much as RabbitMQ 4
#: takes in one message.
HUGE = 16 << 20
HEARTBEAT = b'\x08\0\0\0\0\0\0\xce'
#: For a call on the client's socket, which blocks on some systems.
DO_NOT_WAIT = getattr(socket, 'MSG_DONTWAIT', 0)


def fill(connection):
    """Send heartbeats until the system does not accept a single byte more.

    Returns what is still to be sent of the last one, after which anything else may follow.
    """
    sent = 0
    taken = 1
    while taken:
        time.sleep(0.1)  # the systems move what they have to where there is room
        taken = send_heartbeats(connection.transport.sock, sent % len(HEARTBEAT))
        sent += taken
    return HEARTBEAT[sent % len(HEARTBEAT) :] if sent % len(HEARTBEAT) else b''


def send_heartbeats(sock, offset):
    """Send heartbeats, the first from this offset on, while there is room; return the bytes."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            data = (HEARTBEAT * 8192)[(offset + sent) % len(HEARTBEAT) :]
            sent += sock.send(data, DO_NOT_WAIT)
    return sent


def send_rest(connection, rest):
    """Send what `fill` has left to be sent, once there is room again."""
    sock = connection.transport.sock
    while rest:
        select.select([], [sock], [], PATIENCE)
        rest = rest[sock.send(rest) :]


def small_send_buffer(connection):
    """Give the client's socket a small send buffer."""
    connection.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
