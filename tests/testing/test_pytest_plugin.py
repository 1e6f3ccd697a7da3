"""The fixture amqp_broker, as a program's own tests use it."""

import subprocess
import sys

PROGRAM = """
import sys

import pytest

LATE = [name for name in sys.modules if name.startswith('amqplib.')]


def test_it_is_there(amqp_broker):
    import amqplib.client_0_9_1 as amqp

    with amqp.Connection(amqp_broker.host) as connection:
        connection.channel().queue_declare('tasks', auto_delete=False)
    assert amqp_broker.messages('tasks') == []


def test_each_test_has_its_own(amqp_broker):
    with pytest.raises(LookupError):
        amqp_broker.messages('tasks')


def test_without_it_hardly_anything_is_imported():
    assert sorted(LATE) == ['amqplib.testing', 'amqplib.testing.pytest_plugin']
"""


def test_pytest_finds_the_fixture_by_itself(tmp_path):
    (tmp_path / 'test_program.py').write_text(PROGRAM, encoding='utf-8')
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_program.py']
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert '3 passed' in done.stdout, done.stdout + done.stderr


def test_what_is_not_in_the_package_is_an_attribute_error():
    import pytest

    from amqplib import testing

    with pytest.raises(AttributeError, match='Brocker'):
        _ = testing.Brocker
