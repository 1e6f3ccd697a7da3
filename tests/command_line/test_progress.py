"""Progress: shown to a person who waits for more than a second, and to nobody else."""

import io

import pytest

from amqplib.command_line import progress
from amqplib.command_line.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A list whose last item is the time."""
    times = [0.0]
    monkeypatch.setattr(progress, 'monotonic', lambda: times[-1])
    return times


def work(stream, clock, seconds):
    """Do 1000 messages a second."""
    with Progress(stream) as shown:
        for second in range(1, seconds + 1):
            clock.append(second)
            shown.add(1000)
        clock.append(seconds + 0.5)


def test_a_terminal_gets_the_rate_each_second_and_at_the_end(clock):
    terminal = Terminal()
    work(terminal, clock, 3)
    assert [line.rstrip(' ') for line in terminal.getvalue().split('\r')] == [
        '',
        '1,000 messages in 1 s, 1,000 a second',
        '2,000 messages in 2 s, 1,000 a second',
        '3,000 messages in 3 s, 1,000 a second',
        '3,000 messages in 4 s, 857 a second' + ' ' * 25 + '\n',
    ]


def test_short_work_shows_nothing(clock):
    terminal = Terminal()
    work(terminal, clock, 0)
    assert terminal.getvalue() == ''


class ClosedTerminal(Terminal):
    def write(self, text):
        raise OSError('Input/output error')


def test_a_terminal_that_is_gone_does_not_end_the_work(clock):
    work(ClosedTerminal(), clock, 3)


@pytest.mark.parametrize('stream', [io.StringIO(), None])
def test_a_pipe_gets_nothing(clock, stream):
    work(stream, clock, 3)
    assert not (stream and stream.getvalue())


def test_a_command_that_writes_to_a_terminal_shows_no_progress(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr('sys.stderr', terminal)
    for stdout, shown in ((Terminal(), False), (io.StringIO(), True), (None, True)):
        monkeypatch.setattr('sys.stdout', stdout)
        clock.append(0)
        ours = progress.for_output()
        clock.append(1)
        ours.add()
        assert bool(terminal.getvalue()) is shown
        terminal.truncate(0)
