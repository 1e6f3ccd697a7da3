"""A broker of the user's choice that refuses AMQP 0-8: what needs that is left out, and no more."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import broker as brokers
import pytest
from refusing_relay import REFUSAL, RefusingRelay

import amqplib.client_0_8 as amqp
from amqplib import client_0_9_1

pytestmark = pytest.mark.any_version

ROOT = Path(__file__).resolve().parents[1]
FEW = 'tests/live/test_transactions.py'


@pytest.fixture
def relay(address):
    """A `RefusingRelay` to the broker."""
    with RefusingRelay(address) as ours:
        yield ours


def run_tests(address, *arguments):
    """Run tests with AMQPLIB_BROKER set to an address; return (status, numbers, output).

    The broker is given no time to appear, as it is there or will never be.
    """
    program = (
        'import sys; sys.path.insert(0, "tests"); import broker; broker.Broker.start_seconds = 0;'
        'import pytest; sys.exit(pytest.main(sys.argv[1:]))'
    )
    done = subprocess.run(
        [sys.executable, '-c', program, '-q', '-rs', '-p', 'no:cacheprovider', *arguments],
        cwd=ROOT,
        env={**os.environ, 'AMQPLIB_BROKER': address},
        capture_output=True,
        encoding='utf-8',
        check=False,
    )
    summary = done.stdout.strip().splitlines()[-1]
    numbers = {word: int(number) for number, word in re.findall(r'(\d+) (\w+)', summary)}
    return done.returncode, numbers, done.stdout


def test_the_relay_refuses_as_the_broker_does(relay):
    host, port = brokers.parse_address(relay.address)
    for header in (b'AMQP\x01\x01\x08\x00', b'AMQP\x01\x01\x09\x01', b'GET / HT'):
        with socket.create_connection((host, port)) as sock:
            sock.sendall(header)
            assert sock.recv(100) == REFUSAL == b'AMQP\x03\x01\x00\x00'
            with pytest.raises(ConnectionResetError):
                sock.recv(100)
    assert relay.passed == 0


def test_each_client_at_such_a_broker(relay):
    with pytest.raises(amqp.ProtocolVersionRefused, match=r'amqplib\.client_0_9_1'):
        amqp.Connection(relay.address)
    with client_0_9_1.Connection(relay.address) as connection:
        assert connection.channel().queue_declare(exclusive=True)
    assert relay.passed == 1


def test_such_a_broker_counts_as_started(relay):
    given = brokers.Broker(*brokers.parse_address(relay.address))
    given.start()
    assert 'client_0_9_1' in given.refusal


def test_a_broker_that_speaks_both_refuses_nothing(broker):
    if broker.refusal:
        pytest.skip(f'this one does: {broker.refusal}')
    with brokers.Broker(broker.host, broker.port) as given:
        assert given.refusal == ''


def test_what_needs_0_8_is_left_out_with_the_reason(relay):
    status, numbers, output = run_tests(relay.address, FEW)
    assert status == 0
    assert (numbers['passed'], numbers['skipped']) == (10, 10)
    reason = re.search(r'SKIPPED .*: (needs AMQP 0-8: .*)', output).group(1)
    assert 'speaks AMQP 1.0, not 0-8' in reason


def test_all_clients_of_0_8_are_left_out_and_nothing_else(relay):
    status, numbers, _ = run_tests(
        relay.address,
        'tests/test_demos.py::test_the_receiver_acknowledges',
        'tests/test_demos.py::test_a_sender_needs_something_to_send',
        'tests/test_docs.py::test_the_programs_of_the_readme',
        'tests/test_broker.py::test_command_runs_beside_the_broker',
        'tests/fuzz/test_replay.py::test_record_in_its_own_portions',
    )
    assert status == 0
    assert (numbers['passed'], numbers['skipped']) == (4, 3)


def test_nothing_is_left_out_of_a_broker_that_speaks_0_8(broker):
    if broker.refusal:
        pytest.skip(f'this one does not: {broker.refusal}')
    status, numbers, output = run_tests(broker.address, FEW)
    assert status == 0, output
    assert numbers['passed'] == 20
    assert 'skipped' not in numbers


def test_a_broker_that_is_not_there_fails_the_tests():
    status, numbers, output = run_tests(f'127.0.0.1:{brokers.free_port()}', FEW)
    assert status == 1
    assert 'no AMQP broker at' in output
    assert set(numbers) & {'passed', 'skipped'} == set()
