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

    def send(self, octets, *flags):
        count = self.sock.send(octets, *flags)
        self.sent += bytes(octets[:count])
        return count

    def recv(self, size, *flags):
        octets = self.sock.recv(size, *flags)
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


def measure(host, port, queue, sessions, pairs, count):
    """Return the seconds of round trips: {'amqplib': ..., 'bare socket': ..., 'ratios': [...]}.

    Short blocks of amqplib's and of the socket's take turns, each pair of blocks the other way
    round than the one before. The ratio is taken of each pair, as whatever the machine does
    meanwhile meets both; each session has new connections, as brokers do not treat all alike.

    sessions, pairs of blocks in each, count: of round trips in a block.
    """
    measured = []
    for _ in range(sessions):
        measured += measure_session(host, port, queue, pairs, count)
    return {
        **{name: median(pair[name] for pair in measured) for name in measured[0]},
        'ratios': [pair['amqplib'] / pair['bare socket'] for pair in measured],
    }


def measure_session(host, port, queue, pairs, count):
    """Return the medians of each pair of blocks."""
    # Not at the top: other workers import this module and not amqplib.
    import amqplib.client_0_8 as amqp  # noqa: PLC0415

    # Without heartbeats, nothing but the answers arrives.
    ours, other = (amqp.Connection(f'{host}:{port}', heartbeat=0) for _ in range(2))
    channel = ours.channel()
    request, response = record(other, queue)
    bare = BareSocket(other.transport.sock, request, response)
    assert bare.round_trip() == response
    functions = {
        'amqplib': lambda: channel.queue_declare(queue, passive=True),
        'bare socket': bare.round_trip,
    }
    measured = [time_pair(functions, count, number % 2) for number in range(pairs + 1)]
    for connection in (ours, other):
        connection.close()
    return measured[1:]  # the first was to warm up


def record(connection, queue):
    """Return the octets of a round trip: (request, response)."""
    channel = connection.channel()
    transport = connection.transport
    recorder = transport.sock = Recorder(transport.sock)
    channel.queue_declare(queue, passive=True)
    transport.sock = recorder.sock
    return recorder.sent, recorder.received


def time_pair(functions, count, backwards):
    """Call each of the functions so many times: {name: median of the seconds}."""
    names = sorted(functions, reverse=backwards)
    return {name: median(time_each(functions[name], count)) for name in names}


def time_each(function, count):
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return seconds
