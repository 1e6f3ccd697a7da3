"""Fixtures of the tests of the command line: running a command, and queues for it."""

import contextlib
import signal
import sys
import uuid
from dataclasses import dataclass

import pytest

from amqplib import client_0_8, client_0_9_1
from amqplib.command_line.main import main

CLIENTS = {'0-8': client_0_8, '0-9-1': client_0_9_1}
PROTOCOLS = ['0-8', pytest.param('0-9-1', marks=pytest.mark.any_version)]


@dataclass
class Result:
    """How a command ended: its exit status, and what it wrote."""

    status: int
    out: bytes
    err: str


@pytest.fixture(params=PROTOCOLS)
def protocol(request):
    return request.param


@pytest.fixture
def ctrl_c():
    """Ctrl-C is not ignored, as it is in the background of a shell; programs inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def environment(address, monkeypatch):
    """The variables of this process lead commands to the broker of the run."""
    monkeypatch.setenv('AMQP_URL', f'amqp://{address}')


@pytest.fixture
def run(environment, protocol, tmp_path, monkeypatch):
    """A function (*arguments, given=b'') that runs a command in this process.

    given: what it reads from standard input, or the file that is its standard input.
    """

    def run_command(*arguments, given=b''):
        with contextlib.ExitStack() as stack, monkeypatch.context() as patch:
            if isinstance(given, bytes):
                (tmp_path / 'given').write_bytes(given)
                given = stack.enter_context(open(tmp_path / 'given', 'rb'))
            patch.setattr(sys, 'stdin', given)
            for name in ('stdout', 'stderr'):
                file = stack.enter_context(open(tmp_path / name, 'w', encoding='utf-8'))
                patch.setattr(sys, name, file)
            at = arguments.index('--') if '--' in arguments else len(arguments)
            status = status_of(*arguments[:at], '--protocol', protocol, *arguments[at:])
        out, err = ((tmp_path / name).read_bytes() for name in ('stdout', 'stderr'))
        return Result(status, out, err.decode())

    return run_command


def status_of(*arguments):
    try:
        return main(arguments)
    except SystemExit as wrong_usage:
        return wrong_usage.code


@pytest.fixture
def channel(address, protocol):
    """An open channel, with bodies as they are."""
    with CLIENTS[protocol].Connection(address) as conn, conn.channel() as ch:
        ch.auto_decode = False
        yield ch


@pytest.fixture
def new_queue(channel):
    """A function (**arguments of queue_declare) that returns the name of a new queue."""
    names = []

    def declare(**options):
        names.append(f'amqplib-test-{uuid.uuid4()}')
        channel.queue_declare(names[-1], durable=True, auto_delete=False, **options)
        return names[-1]

    yield declare
    for name in names:
        channel.queue_delete(name)


@pytest.fixture
def queue(new_queue):
    """The name of an empty queue."""
    return new_queue()


@pytest.fixture
def message_class(protocol):
    return CLIENTS[protocol].Message
