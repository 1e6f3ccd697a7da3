"""Writing: all of it or an error, and never stuck for good."""

import os
import threading

import pytest

from amqplib.command_line.output import Output
from amqplib.command_line.status import Failure


@pytest.fixture
def pipe():
    """The two ends of a pipe, as files."""
    reader, writer = os.pipe()
    with open(reader, 'rb', buffering=0) as file, open(writer, 'wb') as stdout:
        yield file, stdout


@pytest.fixture
def reader(pipe):
    return pipe[0]


@pytest.fixture
def new_output(pipe, monkeypatch):
    """A function that returns an `Output` for the pipe."""

    def make(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr('sys.stdout', pipe[1])
            return Output(*arguments)

    return make


def test_nothing_is_written_before_it_is_flushed(reader, new_output):
    output = new_output()
    output.write(b'one ')
    output.write(b'two')
    os.set_blocking(reader.fileno(), False)
    assert reader.read(100) is None
    output.flush()
    assert reader.read(100) == b'one two'
    output.flush()
    assert reader.read(100) is None


def test_a_slow_reader_gets_everything(reader, new_output):
    data = os.urandom(1 << 20)
    received = []
    thread = threading.Thread(target=lambda: received.append(read_exactly(reader, len(data))))
    thread.start()
    output = new_output()
    output.write(data)
    output.flush()
    thread.join()
    assert received == [data]


def read_exactly(file, size):
    parts = []
    while size:
        parts.append(file.read(size))
        size -= len(parts[-1])
    return b''.join(parts)


def test_a_reader_that_does_not_read_does_not_hold_up_the_end(reader, new_output):
    asked = []
    output = new_output(lambda: asked.append(1) or len(asked) > 1)
    output.write(bytes(1 << 20))
    with pytest.raises(KeyboardInterrupt):
        output.flush()
    assert len(asked) == 2


def test_a_reader_that_is_gone_is_an_error(reader, new_output):
    reader.close()
    output = new_output()
    output.write(b'x')
    with pytest.raises(OSError, match='cannot write to standard output: Broken pipe'):
        output.flush()
    output.flush()  # what could not be written is forgotten


def test_standard_output_may_be_closed(monkeypatch):
    monkeypatch.setattr('sys.stdout', None)
    with pytest.raises(Failure, match='standard output is closed'):
        Output()
