"""What tests do to a node besides starting and stopping it."""

import contextlib
import re
from pathlib import Path

from tests.helpers.waiting import poll


def write_down(node):
    """Have declarations written to disk: with Mnesia, RabbitMQ does so only after its reply."""
    node.evaluate('catch mnesia:sync_log()')


def close_connections(node, reason):
    """Close all connections to a node, as `rabbitmqctl close_all_connections` does."""
    close = f'rabbit_networking:close_connection(Pid, "{reason}")'
    node.evaluate(f'[{close} || Pid <- rabbit_networking:connections()]')


#: Of Erlang: the connections with a name.
_NAMED = """[{what} ||
    [{{pid, Pid}}, {{client_properties, Properties}}] <-
        rabbit_networking:connection_info_all([pid, client_properties]),
    lists:member({{<<"connection_name">>, longstr, <<"{name}">>}}, Properties)]"""


def await_connection(node, name):
    """Return when a node lists a connection with this name."""

    def count():
        result = node.evaluate(f'length({_NAMED.format(what="Pid", name=name)})')
        return int(re.search(r'\d+', result)[0])

    poll(count, f'the connection {name}')


def close_connection(node, name, reason):
    """Close the connection with this name, as `rabbitmqctl close_connection` does."""
    await_connection(node, name)
    close = f'rabbit_networking:close_connection(Pid, "{reason}")'
    node.evaluate(_NAMED.format(what=close, name=name))


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
