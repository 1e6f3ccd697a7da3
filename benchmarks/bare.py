"""A round trip of amqplib, and one of the same octets on a bare socket."""

from __future__ import annotations

import time
from statistics import median


class Recorder:
    """Stands in for a socket, and keeps what goes through it."""

    def __init__(self, sock):
        self.sock = sock
        self.sent = b''
        self.received = b''

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def send(self, octets):
        count = self.sock.send(octets)
        self.sent += bytes(octets[:count])
        return count

    def recv(self, size):
        octets = self.sock.recv(size)
        self.received += octets
        return octets


class BareSocket:
    """Sends one request again and again, on a connection where somebody has logged in."""

    def __init__(self, sock, request, response):
        sock.setblocking(True)
        self.sock = sock
        self.request = request
        self.response = response

    def round_trip(self):
        self.sock.sendall(self.request)
        missing = len(self.response)
        octets = b''
        while missing:
            octets = self.sock.recv(4096)
            missing -= len(octets)
        return octets


def measure(host, port, queue, blocks, count):
    """Return the seconds of round trips: {'amqplib': ..., 'bare socket': ...}.

    Blocks of amqplib's and of the socket's take turns.
    """
    # Not at the top: other workers import this module and not amqplib.
    from clients.amqplib_client import Client  # noqa: PLC0415

    ours, other = Client(host, port), Client(host, port)
    request, response = record(other, queue)
    bare = BareSocket(other.connection.transport.sock, request, response)
    assert bare.round_trip() == response
    times = {'amqplib': [], 'bare socket': []}
    for block in range(blocks + 1):
        own = time_each(lambda: ours.declare(queue), count)
        plain = time_each(bare.round_trip, count)
        if block:  # the first is to warm up
            times['amqplib'].extend(own)
            times['bare socket'].extend(plain)
    for client in (ours, other):
        client.close()
    result = {name: median(seconds) for name, seconds in times.items()}
    return {**result, 'octets': [len(request), len(response)]}


def record(client, queue):
    """Return the octets of a round trip: (request, response)."""
    transport = client.connection.transport
    recorder = transport.sock = Recorder(transport.sock)
    client.declare(queue)
    transport.sock = recorder.sock
    return recorder.sent, recorder.received


def time_each(function, count):
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return seconds
