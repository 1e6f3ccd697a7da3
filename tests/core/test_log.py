"""The logger: heard by those who listen, and no cost to the others."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import amqplib
from amqplib.core import log
from amqplib.exceptions import AMQPException
from tests.helpers.interrupts import in_thread


@pytest.mark.parametrize('level', ['debug', 'warning'])
def test_a_record_says_who_logs(caplog, level):
    with caplog.at_level(logging.DEBUG, logger='amqplib'):
        getattr(log, level)('%s of %s', 1, 'two')
    (record,) = caplog.records
    assert record.name == 'amqplib'
    assert record.levelname == level.upper()
    assert record.getMessage() == '1 of two'
    assert record.filename == 'test_log.py'


#: What forges a line, what a terminal obeys or cannot show, and what cannot be encoded.
RAW = {
    'a line break': ('gone\r\nWARNING:root:forged', r'gone\r\nWARNING:root:forged'),
    'other line breaks': ('\x0b\x0c\x1c\x85\u2028', r'\x0b\x0c\x1c\x85\u2028'),
    'an escape sequence': ('\x1b[2J\x9b2J\x07', r'\x1b[2J\x9b2J\x07'),
    'another direction': ('\u202etxet', r'\u202etxet'),
    'no UTF-8': ('caf\udce9', r'caf\udce9'),
    'printable': ("caf\xe9 '100%' \\", "caf\xe9 '100%' \\"),
}


@pytest.mark.parametrize('level', ['debug', 'warning'])
@pytest.mark.parametrize(('raw', 'shown'), RAW.values(), ids=RAW)
def test_what_is_logged_is_escaped(caplog, level, raw, shown):
    """Text is escaped wherever it is: in an argument, a list, or an error."""
    with caplog.at_level(logging.DEBUG, logger='amqplib'):
        getattr(log, level)('%s, %s', raw, AMQPException(404, raw))
        getattr(log, level)('%s', {raw: [raw]})
    line, table = (record.getMessage() for record in caplog.records)
    assert line == f'{shown}, 404 {shown}'
    assert table.isprintable()
    table.encode()


def test_numbers_stay_numbers(caplog):
    log.warning('%d of %5.1f s', 7, 2.04)
    assert caplog.messages == ['7 of   2.0 s']


def test_nothing_is_escaped_for_a_level_that_is_not_heard(caplog):
    class Silent:
        def __str__(self):
            raise AssertionError

    with caplog.at_level(logging.WARNING, logger='amqplib'):
        log.debug('%s', Silent())
    assert not caplog.records


def test_a_logger_that_is_there_from_the_beginning_can_be_set_up():
    """`disable_existing_loggers`, which is the default, silences all loggers that exist."""
    program = (
        'import logging.config; from amqplib.core import log\n'
        'handler = {"class": "logging.StreamHandler", "level": "DEBUG"}\n'
        'logging.config.dictConfig({"version": 1, "handlers": {"all": handler},'
        ' "root": {"handlers": ["all"], "level": "DEBUG"}})\n'
        'log.debug("silenced"); logging.getLogger("another").debug("heard")'
    )
    assert in_new_interpreter(program) == ('', 'heard\n')


@pytest.mark.parametrize('unready', ['None', 'type(sys)("logging")'])
def test_logging_that_is_not_imported_to_its_end_is_left_alone(unready):
    program = (
        f'import sys; from amqplib.core import log; sys.modules["logging"] = {unready}\n'
        'log.debug("not heard"); log.warning("not heard")'
    )
    assert in_new_interpreter(program) == ('', '')


def test_there_is_one_handler_however_often_it_is_asked_for():
    handlers = list(log.logger().handlers)
    assert handlers
    assert log.logger().handlers == handlers


def in_new_interpreter(program):
    """Run a program; return what it prints, and what is printed as an error."""
    command = [sys.executable, '-S', '-W', 'error', '-c', program]
    environment = {**os.environ, 'PYTHONPATH': str(Path(amqplib.__file__).parent.parent)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout, done.stderr


def test_a_connection_needs_no_lock_that_all_loggers_share():
    """A signal handler that raises could leave such a lock locked."""
    log.logger()
    with logging._lock:
        in_thread(log.frames_logger)
        in_thread(log.debug, 'not heard')


def test_nothing_is_imported_for_a_program_that_does_not_log():
    program = (
        'import sys; from amqplib.core import log; log.warning("not heard")\n'
        'print("logging" in sys.modules)'
    )
    assert in_new_interpreter(program) == ('False\n', '')


def test_nothing_is_printed_for_a_program_that_configures_nothing():
    program = 'from amqplib.core import log; import logging; log.warning("not heard")'
    assert in_new_interpreter(program) == ('', '')


def test_a_program_that_configures_it_later_hears_it():
    program = (
        'from amqplib.core import log; import logging; log.warning("not heard")\n'
        'logging.basicConfig(); log.warning("heard")'
    )
    assert in_new_interpreter(program) == ('', 'WARNING:amqplib:heard\n')
