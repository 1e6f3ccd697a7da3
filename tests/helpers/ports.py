"""Ports where nobody listens."""

import socket


def closed_port():
    """Return a port of 127.0.0.1 where nobody listens."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
