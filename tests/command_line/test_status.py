"""What is said on standard error."""

import pytest

from amqplib.command_line.status import Failure, count, errors_say, report
from amqplib.exceptions import ConnectionLost


@pytest.mark.parametrize(
    ('url', 'shown'),
    [
        ('amqp://user:secret@host/x', 'amqp://user:***@host/x'),
        ('amqp://user:sec/r@et@host', 'amqp://user:***@host'),
        ('amqps://:secret@host', 'amqps://:***@host'),
        ('amqp://user@host:5672', 'amqp://user@host:5672'),
    ],
)
def test_a_report_has_one_line_and_no_password(capsys, url, shown):
    report(f'wrong:\n {url}')
    assert capsys.readouterr() == ('', f'amqplib: wrong: {shown}\n')


def test_a_report_sends_no_commands_to_a_terminal(capsys):
    report("no queue '\x1b[31m\udcff'")
    assert capsys.readouterr().err == "amqplib: no queue '\\x1b[31m\\udcff'\n"


def test_a_report_that_cannot_be_written_does_no_harm(monkeypatch, tmp_path):
    monkeypatch.setattr('sys.stderr', None)
    report('wrong')
    (tmp_path / 'file').touch()
    with open(tmp_path / 'file', encoding='utf-8') as only_for_reading:
        monkeypatch.setattr('sys.stderr', only_for_reading)
        report('wrong')


@pytest.mark.parametrize('error', [ConnectionLost(0, 'lost'), ValueError('lost'), OSError('lost')])
def test_errors_say_how_far_the_work_has_come(error):
    with pytest.raises(Failure, match=r'^lost; 3 done$'), errors_say(lambda: '3 done'):
        raise error


def test_interrupts_say_how_far_the_work_has_come():
    done = r'^interrupted; 3 done$'
    with pytest.raises(KeyboardInterrupt, match=done), errors_say(lambda: '3 done'):
        raise KeyboardInterrupt


def test_numbers_have_their_unit():
    assert [count(0), count(1), count(2000)] == ['0 messages', '1 message', '2,000 messages']
