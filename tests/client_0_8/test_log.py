"""The logger: heard by those who listen, and no cost to the others."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import amqplib
from amqplib.client_0_8 import log


@pytest.mark.parametrize('level', ['debug', 'warning'])
def test_a_record_says_who_logs(caplog, level):
    with caplog.at_level(logging.DEBUG, logger='amqplib'):
        getattr(log, level)('%s of %s', 1, 'two')
    (record,) = caplog.records
    assert record.name == 'amqplib'
    assert record.levelname == level.upper()
    assert record.getMessage() == '1 of two'
    assert record.filename == 'test_log.py'


def test_an_exception_can_be_logged(caplog):
    try:
        raise ValueError('the cause')
    except ValueError:
        log.warning('it failed', exc_info=True)
    (record,) = caplog.records
    assert record.exc_info[0] is ValueError


def test_a_logger_that_is_there_from_the_beginning_can_be_set_up():
    """As `disable_existing_loggers`, which is the default, silences those that are there."""
    program = (
        'import logging.config; from amqplib.client_0_8 import log\n'
        'handler = {"class": "logging.StreamHandler", "level": "DEBUG"}\n'
        'logging.config.dictConfig({"version": 1, "handlers": {"all": handler},'
        ' "root": {"handlers": ["all"], "level": "DEBUG"}})\n'
        'log.debug("silenced"); logging.getLogger("another").debug("heard")'
    )
    assert in_new_interpreter(program) == ('', 'heard\n')


@pytest.mark.parametrize('unready', ['None', 'type(sys)("logging")'])
def test_logging_that_is_not_imported_to_its_end_is_left_alone(unready):
    program = (
        f'import sys; from amqplib.client_0_8 import log; sys.modules["logging"] = {unready}\n'
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


def test_nothing_is_imported_for_a_program_that_does_not_log():
    program = (
        'import sys; from amqplib.client_0_8 import log; log.warning("not heard")\n'
        'print("logging" in sys.modules)'
    )
    assert in_new_interpreter(program) == ('False\n', '')


def test_nothing_is_printed_for_a_program_that_configures_nothing():
    program = 'from amqplib.client_0_8 import log; import logging; log.warning("not heard")'
    assert in_new_interpreter(program) == ('', '')


def test_a_program_that_configures_it_later_hears_it():
    program = (
        'from amqplib.client_0_8 import log; import logging; log.warning("not heard")\n'
        'logging.basicConfig(); log.warning("heard")'
    )
    assert in_new_interpreter(program) == ('', 'WARNING:amqplib:heard\n')
