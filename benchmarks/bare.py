"""A round trip of amqplib, compared with the same bytes on a bare socket."""

from __future__ import annotations

import time
from statistics import median


class Recorder:
    """Stands in for a socket, and records what goes through it."""

    def __init__(self, sock):
        self.sock = sock
        self.sent = b''
        self.received = b''

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def send(self, data, *flags):
        count = self.sock.send(data, *flags)
        self.sent += bytes(data[:count])
        return count

    def recv(self, size, *flags):
        data = self.sock.recv(size, *flags)
        self.received += data
        return data


class BareSocket:
    """Sends one request again and again, on a connection that is already logged in."""

    def __init__(self, sock, request, response):
        sock.setblocking(True)
        self.sock = sock
        self.request = request
        self.response = response

    def round_trip(self):
        self.sock.sendall(self.request)
        missing = len(self.response)
        data = b''
        while missing:
            data = self.sock.recv(4096)
            missing -= len(data)
        return data


def measure(host, port, queue, sessions, pairs, count):
    """Return the seconds of round trips: {'amqplib': ..., 'bare socket': ..., 'ratios': [...]}.

    Short blocks of amqplib and of the socket alternate, in the opposite order in each pair. Each
    pair has a ratio of its own, because other load on the machine affects both of its blocks. Each
    session has new connections, because brokers do not treat all connections alike.

    sessions: how many; pairs: of blocks in a session; count: of round trips in a block.
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
    """Return the bytes of a round trip: (request, response)."""
    channel = connection.channel()
    transport = connection.transport
    recorder = transport.sock = Recorder(transport.sock)
    channel.queue_declare(queue, passive=True)
    transport.sock = recorder.sock
    return recorder.sent, recorder.received


def time_pair(functions, count, backwards):
    """Call each function `count` times; return {name: median of the seconds}."""
    names = sorted(functions, reverse=backwards)
    return {name: median(time_each(functions[name], count)) for name in names}


def time_each(function, count):
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return seconds
