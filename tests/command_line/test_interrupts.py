"""Signals: at once, or held back until the work can end."""

import signal
import subprocess
import sys

import pytest

from amqplib.command_line.interrupts import Interrupts

#: Windows has no SIGHUP.
SIGNALS = [
    getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)
]


@pytest.fixture(autouse=True)
def _default_handlers():
    before = [(signum, signal.getsignal(signum)) for signum in SIGNALS]
    for signum in SIGNALS:
        signal.signal(signum, signal.default_int_handler)
    yield
    for signum, handler in before:
        signal.signal(signum, handler)


@pytest.mark.parametrize('signum', SIGNALS)
def test_a_signal_interrupts(signum):
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signum)
        assert interrupts.signum == signum
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_is_held_back_until_the_end_of_the_block():
    with Interrupts() as interrupts:
        seen = []
        with pytest.raises(KeyboardInterrupt):
            work_and_be_interrupted(interrupts, signal.SIGTERM, seen)
        assert seen == [False, True]
        assert interrupts.signum == signal.SIGTERM


def work_and_be_interrupted(interrupts, signum, seen):
    with interrupts.held():
        seen.append(interrupts.came())
        signal.raise_signal(signum)
        seen.append(interrupts.came())


def test_the_second_signal_is_not_held_back():
    with Interrupts() as interrupts:
        seen = []
        with pytest.raises(KeyboardInterrupt), interrupts.held():
            work_and_be_interrupted_twice(seen)
        assert seen == [1]
        assert interrupts.signum == signal.SIGTERM


def work_and_be_interrupted_twice(seen):
    signal.raise_signal(signal.SIGTERM)
    seen.append(1)
    signal.raise_signal(signal.SIGINT)
    seen.append(2)


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert not interrupts.signum


class CtrlCFor:
    """An importer that finds nothing; the search for a module of a name sends Ctrl-C."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path, target=None):
        if name == self.name:
            signal.raise_signal(signal.SIGINT)


def start_interrupted():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.meta_path.insert(0, CtrlCFor('amqplib.command_line.parser'))
    from amqplib.__main__ import run

    run()


@pytest.mark.skipif(sys.platform == 'win32', reason='Ctrl-C ends a program without its number')
def test_ctrl_c_while_a_command_starts_shows_no_traceback():
    ended = subprocess.run(
        [sys.executable, '-c', f'import {__name__} as test; test.start_interrupted()'],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b'', b'')
