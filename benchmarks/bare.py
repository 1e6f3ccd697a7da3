"""A round trip of amqplib, and one of the same octets on a bare socket."""

from __future__ import annotations

import time
from itertools import chain
from statistics import median, quantiles


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


def measure(host, port, queue, blocks, count):
    """Return the seconds of round trips: {'amqplib': ..., 'bare socket': ...}; and more.

    Short blocks of amqplib's and of the socket's take turns, each pair the other way round than
    the one before. So whatever the machine does meanwhile, it does to both. 'ratios' are the
    quartiles of the ratio of the medians of a pair, which says how sure the result is.
    """
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
    pairs = [time_pair(functions, count, number % 2) for number in range(blocks + 1)]
    del pairs[0]  # to warm up
    for connection in (ours, other):
        connection.close()
    ratios = [median(pair['amqplib']) / median(pair['bare socket']) for pair in pairs]
    return {
        **{name: median(chain(*(pair[name] for pair in pairs))) for name in functions},
        'ratios': quantiles(ratios),
        'octets': [len(request), len(response)],
    }


def record(connection, queue):
    """Return the octets of a round trip: (request, response)."""
    channel = connection.channel()
    transport = connection.transport
    recorder = transport.sock = Recorder(transport.sock)
    channel.queue_declare(queue, passive=True)
    transport.sock = recorder.sock
    return recorder.sent, recorder.received


def time_pair(functions, count, backwards):
    """Time each of the functions so many times: {name: seconds of each call}."""
    names = sorted(functions, reverse=backwards)
    return {name: time_each(functions[name], count) for name in names}


def time_each(function, count):
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return seconds
