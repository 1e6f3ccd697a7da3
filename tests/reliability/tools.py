"""What the reliability tests share: threads, children, bounded waiting, peers that keep alive."""

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
from scripted.checks import poll  # noqa: F401  (for those who import it from here)

from amqplib.client_0_8 import AMQPException

#: Seconds after which something that should happen is taken not to happen.
PATIENCE = 20.0
#: Seconds that a call may go beyond its deadline on a busy machine.
SLACK = 4.0

TESTS = Path(__file__).parent.parent

posix_only = pytest.mark.skipif(os.name != 'posix', reason='there are no such signals and forks')


def heartbeat_threads():
    """Return the threads that send heartbeats."""
    return [thread for thread in threading.enumerate() if 'heartbeats' in thread.name]


def compute(seconds):
    """Keep the interpreter busy for so long, without a call into the library."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def closed_port():
    """Return a port of 127.0.0.1 where nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class Worker(threading.Thread):
    """A thread that makes one call and keeps what came of it."""

    def __init__(self, call, *args):
        super().__init__(daemon=True)
        self.call, self.args = call, args
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.call(*self.args)
        # What fails in a thread is for the test to judge.
        except BaseException as error:  # noqa: BLE001
            self.error = error

    def ended(self, seconds=PATIENCE):
        """Wait for the end of the call; return the error that ended it, or None."""
        self.join(seconds)
        assert not self.is_alive(), 'the call did not end'
        return self.error

    def result(self, seconds=PATIENCE):
        """Wait for the end of the call; return its value or raise its error."""
        if self.ended(seconds) is not None:
            raise self.error
        return self.value


# --- Peers --------------------------------------------------------------------------------------


def keep_alive(peer, until, interval=0.3):
    """As the script of a peer: send heartbeats until a condition holds for what the client sends.

    until: a function of these octets; they are returned.
    """
    end = time.monotonic() + PATIENCE
    octets, next_beat = b'', 0.0
    while not until(octets):
        assert time.monotonic() < end, 'what the client should send did not come'
        if time.monotonic() >= next_beat:
            peer.send_heartbeat()
            next_beat = time.monotonic() + interval
        if select.select([peer.sock], [], [], interval / 4)[0]:
            arrived = peer.sock.recv(65536)
            if not arrived:
                break
            octets += arrived
    return octets


# --- Children -----------------------------------------------------------------------------------


class Child:
    """A new Python that calls a function of a test module; use it as a context manager.

    function: of a module of this package; its print()s are read by `line`.
    args: what it is called with; packages, and anything that repr() can write.
    seconds: how long it may take.
    """

    def __init__(self, function, *args, seconds=60):
        written = ', '.join(map(as_source, args))
        call = f'{function.__name__}({written})'
        # Where Ctrl-C is ignored (in the background of a shell), children would inherit that.
        source = (
            'import importlib, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n'
            f'from {function.__module__} import {function.__name__}\n{call}'
        )
        # Newer Pythons warn of a fork in a process with threads, which is what is tested.
        command = [
            sys.executable, '-u', '-W', 'error', '-W', 'ignore::DeprecationWarning', '-c', source,
        ]  # fmt: skip
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        environ = {**os.environ, 'PYTHONPATH': path}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
        )
        # It is killed if it hangs, so that nothing waits for it for ever.
        self._timer = threading.Timer(seconds, self.process.kill)
        self._timer.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self.process.kill()
        output, errors = self.process.communicate()
        self._timer.cancel()
        self._timer.join()
        if kind is None or issubclass(kind, AssertionError):
            assert self.process.returncode == 0, f'status {self.process.returncode}:\n{errors}'
            assert errors == ''
        self.output = output

    def line(self):
        """Return the next line that it prints."""
        return self.process.stdout.readline().strip()

    def expect(self, text):
        """Check what it prints next."""
        line = self.line()
        assert line == text, f'{line!r} instead of {text!r}'

    def signal(self, number):
        """Send it a signal."""
        self.process.send_signal(number)


def as_source(value):
    """Return an expression for a value, which may be a package."""
    if isinstance(value, ModuleType):
        return f'importlib.import_module({value.__name__!r})'
    return repr(value)


def run_in_child(function, *args, seconds=60):
    """Call a function of a test module in a new Python, which has to end well."""
    with Child(function, *args, seconds=seconds):
        pass


@contextlib.contextmanager
def interrupted(within=SLACK):
    """Check, in a child, that the block ends by Ctrl-C, and soon after it."""
    begun = time.monotonic()
    try:
        yield
    except KeyboardInterrupt:
        # The block says that it is ready just before its call; the test interrupts soon after.
        assert time.monotonic() - begun < within
    else:
        raise AssertionError('there was no KeyboardInterrupt')


def refused(call, kind=AMQPException):
    """Make a call that raises an error of this kind; return the error."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError('the call did not fail')
