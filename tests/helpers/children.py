"""Children: new Pythons that run a function of a test module."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.waiting import BUSY

#: The folder from which tests are imported.
ROOT = Path(__file__).parents[2]

posix_only = pytest.mark.skipif(os.name != 'posix', reason='there are no such signals and forks')


class Child:
    """A new Python that calls a function of a test module; use it as a context manager.

    function: of a module of the tests; its print()s are read by `line`.
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
        environ = {**os.environ, 'PYTHONPATH': str(ROOT)}
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
def interrupted(within=BUSY):
    """Check, in a child, that the block ends by Ctrl-C, and soon after it."""
    begun = time.monotonic()
    try:
        yield
    except KeyboardInterrupt:
        # The block says that it is ready just before its call; the test interrupts soon after.
        assert time.monotonic() - begun < within
    else:
        raise AssertionError('there was no KeyboardInterrupt')
