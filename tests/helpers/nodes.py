"""What tests do to a node besides starting and stopping it."""

import contextlib
import re
from pathlib import Path

from tests.helpers.waiting import poll


def write_down(node):
    """Have declarations written to disk: with Mnesia, RabbitMQ does so only after its reply."""
    node.evaluate('catch mnesia:sync_log()')


#: Of Erlang: all connections of a node, and those with a name. RabbitMQ asks the nodes that it
#: knows to run, and may not know of one that has just started: then the list is empty.
_ALL = '[{what} || Pid <- rabbit_networking:connections()]'
_NAMED = """[{what} ||
    [{{pid, Pid}}, {{client_properties, Properties}}] <-
        rabbit_networking:connection_info_all([pid, client_properties]),
    lists:member({{<<"connection_name">>, longstr, <<"{name}">>}}, Properties)]"""


def _until_some(node, what, of, **names):
    """Evaluate something for connections of a node, until there are some."""
    expression = f'length({of.format(what=what, **names)})'
    poll(lambda: int(re.search(r'\d+', node.evaluate(expression))[0]), 'the connections')


def _close(reason):
    return f'rabbit_reader:shutdown(Pid, "{reason}")'


def close_connections(node, reason):
    """Close all connections to a node, of which there is one at least."""
    _until_some(node, _close(reason), _ALL)


def await_connection(node, name):
    """Return when a node lists a connection with this name."""
    _until_some(node, 'Pid', _NAMED, name=name)


def close_connection(node, name, reason):
    """Close the connection with this name."""
    _until_some(node, _close(reason), _NAMED, name=name)


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
