"""The commands as programs: signals, pipes and full disks.

Of what is not flushed nothing is acknowledged, so what a command has written and what is left in
the queue are together all that there was.
"""

import os
import select
import signal
import subprocess
import sys

import pytest

from amqplib.command_line.main import main
from tests.helpers.queues import await_ready, get_bodies
from tests.helpers.waiting import poll

SECONDS = 60
BODIES = [f'{number:05}'.encode() * 20 for number in range(1200)]

pytestmark = pytest.mark.any_version


@pytest.fixture
def protocol():
    """One is enough here: what differs is tested with the commands."""
    return '0-9-1'


@pytest.fixture
def start(environment, protocol, ctrl_c):
    """A function (*arguments, **options of Popen) that starts a command; all end with the test."""
    programs = []

    def start_program(*arguments, **options):
        command = [sys.executable, '-m', 'amqplib', *arguments, '--protocol', protocol]
        options = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'bufsize': 0, **options}
        programs.append(subprocess.Popen(command, **options))
        return programs[-1]

    yield start_program
    for program in programs:
        program.kill()
        program.communicate()


def ended(program):
    """Return (exit status, standard output, standard error) of a program that ends by itself."""
    out, err = program.communicate(timeout=SECONDS)
    return program.returncode, out, err.decode()


@pytest.fixture
def full_queue(channel, queue, message_class):
    """The name of a queue with all the BODIES."""
    for body in BODIES:
        channel.basic_publish(message_class(body), routing_key=queue)
    await_ready(channel, queue, len(BODIES))
    return queue


def check_nothing_is_lost(channel, queue, written, left):
    """Check that what was written and what is left in the queue are all of the BODIES."""
    await_ready(channel, queue, left)
    rest = get_bodies(channel, queue, left)
    assert rest == BODIES[len(BODIES) - left :]
    assert written.splitlines()[: len(BODIES) - left] == BODIES[: len(BODIES) - left]


def one_line(err, *parts):
    assert err.count('\n') == 1
    assert err.startswith('amqplib: ')
    for part in parts:
        assert part in err
    return err


def number_before(what, err):
    """Return the number in '..., 1,234 messages WHAT'."""
    words = err.replace(',', '').split()
    return int(words[words.index(what) - 2])


# --- Signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('signum', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=['INT', 'TERM']
)
def test_a_signal_ends_consume_when_what_it_has_is_written(
    start, channel, full_queue, tmp_path, signum, status
):
    with open(tmp_path / 'out', 'w+b') as out:
        program = start('consume', full_queue, stdout=out)
        poll(lambda: os.fstat(out.fileno()).st_size, 'the first messages')
        program.send_signal(signum)
        ended_with, _, err = ended(program)
        out.seek(0)
        written = out.read().splitlines(keepends=True)
    assert ended_with == status
    assert number_before('written', one_line(err, 'interrupted')) == len(written)
    check_nothing_is_lost(channel, full_queue, b''.join(written), len(BODIES) - len(written))


def test_a_signal_ends_consume_while_nobody_reads_its_output(start, channel, full_queue):
    reader, writer = os.pipe()
    with open(reader, 'rb') as output:
        with open(writer, 'wb') as its_stdout:
            program = start('consume', full_queue, stdout=its_stdout)
            poll(lambda: not select.select([], [its_stdout], [], 0)[1], 'a full pipe')
            program.send_signal(signal.SIGTERM)
            status, _, err = ended(program)
        out = output.read()
    assert status == 143
    left = len(BODIES) - number_before('written', one_line(err, 'interrupted'))
    assert left
    check_nothing_is_lost(channel, full_queue, out, left)


def test_consume_writes_a_message_at_once_and_a_signal_ends_its_wait(
    start, channel, queue, message_class
):
    program = start('consume', queue)
    channel.basic_publish(message_class(b'x'), routing_key=queue)
    assert program.stdout.read(2) == b'x\n'
    program.send_signal(signal.SIGINT)
    status, out, err = ended(program)
    assert (status, out) == (130, b'')
    one_line(err, 'interrupted; 1 message written')


def test_a_signal_ends_publish_while_it_waits_for_input(start, channel, queue):
    """What it has got by then is published, and not only sent."""
    program = start('publish', queue, '--lines', stdin=subprocess.PIPE)
    program.stdin.write(b'one\ntwo\nthr')
    program.stdin.flush()
    await_ready(channel, queue, 2)
    program.send_signal(signal.SIGINT)
    assert program.wait(SECONDS) == 130
    _, out, err = ended(program)
    assert out == b''
    assert number_before('confirmed', one_line(err, 'interrupted')) <= 2


# --- Input and output -----------------------------------------------------------------------------


def test_a_reader_that_goes_away_ends_consume(start, channel, full_queue):
    program = start('consume', full_queue)
    begin = program.stdout.read(10_000)
    program.stdout.close()
    program.stdout = None
    status, _, err = ended(program)
    assert status == 1
    left = len(BODIES) - number_before('written', one_line(err, 'Broken pipe'))
    await_ready(channel, full_queue, left)
    assert get_bodies(channel, full_queue, left) == BODIES[-left:]
    assert begin.split(b'\n')[:-1] == BODIES[: begin.count(b'\n')]


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='there is no /dev/full')
@pytest.mark.parametrize('command', [['get'], ['consume'], ['consume', '--json'], ['purge']])
def test_a_full_disk_is_an_error(
    environment, channel, queue, message_class, command, monkeypatch, capsys
):
    channel.basic_publish(message_class(b'x'), routing_key=queue)
    await_ready(channel, queue, 1)
    name, *options = command
    with open('/dev/full', 'wb') as full, monkeypatch.context() as patch:
        patch.setattr('sys.stdout', full)
        assert main([name, queue, *options]) == 1
    one_line(capsys.readouterr().err, 'cannot write to standard output: No space left on device')
    if name != 'purge':
        await_ready(channel, queue, 1)


def close_0_and_1():
    os.close(0)
    os.close(1)


@pytest.mark.parametrize(
    ('command', 'error'),
    [('publish', 'standard input is closed'), ('get', 'standard output is closed'),
     ('consume', 'standard output is closed')],
)  # fmt: skip
def test_closed_input_and_output_are_errors(start, channel, queue, message_class, command, error):
    channel.basic_publish(message_class(b'x'), routing_key=queue)
    await_ready(channel, queue, 1)
    status, _, err = ended(start(command, queue, preexec_fn=close_0_and_1))
    assert status == 1
    one_line(err, error)
    await_ready(channel, queue, 1)


def test_a_body_needs_no_input_and_no_output(start, channel, queue):
    assert ended(start('publish', queue, 'x', preexec_fn=close_0_and_1)) == (0, b'', '')
    await_ready(channel, queue, 1)
