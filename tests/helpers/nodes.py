"""What tests do to a node besides starting and stopping it."""

import contextlib
from pathlib import Path

from tests.helpers.waiting import poll


def write_down(node):
    """Have declarations written to disk: with Mnesia, RabbitMQ does so only after its reply."""
    node.evaluate('catch mnesia:sync_log()')


def close_connections(node, reason):
    """Close all connections to a node, as `rabbitmqctl close_all_connections` does."""
    close = f'rabbit_networking:close_connection(Pid, "{reason}")'
    node.evaluate(f'[{close} || Pid <- rabbit_networking:connections()]')


@contextlib.contextmanager
def suspended(node):
    """Freeze a node for the duration of the block."""
    node.suspend()
    try:
        poll(lambda: is_frozen(node.pid), 'a frozen node')
        yield
    finally:
        node.resume()


def is_frozen(pid):
    """Return whether each thread of a process has stopped, as far as the system tells.

    The signal takes effect some time after it was sent.
    """
    threads = Path(f'/proc/{pid}/task')
    return not threads.exists() or all(map(is_stopped, threads.iterdir()))


def is_stopped(thread):
    try:
        status = (thread / 'stat').read_text()
    except OSError:  # it has just ended
        return True
    return status.rpartition(') ')[2][0] in 'Tt'
