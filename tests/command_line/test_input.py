"""Reading lines: each as soon as it is there, and a word before each wait."""

import os

import pytest

from amqplib.command_line import input
from amqplib.command_line.status import Failure


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with open(reader, 'rb', buffering=0), open(writer, 'wb', buffering=0) as file:
        yield reader, file


def test_a_line_is_there_before_the_next_one(pipe):
    reader, writer = pipe
    waits = []
    lines = input.read_lines(reader, lambda: waits.append(writer.write(b'three\nfo')))
    writer.write(b'one\ntwo\n')
    assert [next(lines), next(lines), waits] == [b'one', b'two', []]
    assert [next(lines), waits] == [b'three', [8]]
    writer.write(b'ur\n\nlast')
    assert [next(lines), next(lines)] == [b'four', b'']
    writer.close()
    assert [*lines, waits] == [b'last', [8]]


def test_a_long_line_is_put_together(pipe, monkeypatch):
    reader, writer = pipe
    monkeypatch.setattr(input, '_READ_SIZE', 3)
    writer.write(b'0123456789\nx\n')
    writer.close()
    assert list(input.read_lines(reader, lambda: None)) == [b'0123456789', b'x']


def test_nothing_is_no_line(pipe):
    reader, writer = pipe
    writer.close()
    assert list(input.read_lines(reader, lambda: None)) == []


def test_standard_input_may_be_closed(monkeypatch):
    monkeypatch.setattr('sys.stdin', None)
    with pytest.raises(Failure, match='standard input is closed'), input.open_input(None):
        pass
