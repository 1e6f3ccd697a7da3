"""Runs of the tests with a broker that refuses AMQP 0-8, or cannot be had, or is all there is.

What needs more is left out, and nothing else; the end of the run says how much that was.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import amqplib.client_0_8 as amqp
from amqplib import client_0_9_1
from tests.helpers import broker as brokers
from tests.helpers.refusing_relay import REFUSAL, RefusingRelay

pytestmark = pytest.mark.any_version

ROOT = Path(__file__).resolve().parents[1]
#: Two tests, which run for both clients.
FEW = [
    'tests/live/test_transactions.py::test_a_commit_makes_what_was_published_visible',
    'tests/live/test_transactions.py::test_a_rollback_forgets_what_was_published',
]


@pytest.fixture
def relay(address):
    """A `RefusingRelay` to the broker."""
    with RefusingRelay(address) as ours:
        yield ours


#: The given broker has no time to appear, as it is there or will never be.
GIVEN = 'broker.Broker.start_seconds = 0'

#: Nodes that need not run, as they only have to refuse.
REFUSING_NODES = """
class Refusing(broker.Broker):
    def __init__(self, *options):
        super().__init__('localhost', 1)

    def start(self):
        self.refusal = 'this is no broker'

broker.node_class = lambda: Refusing
"""


def run_tests(address, *arguments, prepared=GIVEN):
    """Run tests with AMQPLIB_BROKER set to an address; return (status, numbers, output).

    prepared: the statements that change the module `broker` before.
    """
    program = (
        f'import sys; from tests.helpers import broker\n{prepared}\n'
        'import pytest; sys.exit(pytest.main(sys.argv[1:]))'
    )
    # The module that is prepared is imported before pytest could rewrite it, which it warns of.
    options = ['-q', '-p', 'no:cacheprovider', '-W', 'ignore::pytest.PytestAssertRewriteWarning']
    done = subprocess.run(
        [sys.executable, '-c', program, *options, *arguments],
        cwd=ROOT,
        env={**os.environ, 'AMQPLIB_BROKER': address},
        capture_output=True,
        encoding='utf-8',
        check=False,
    )
    summary = done.stdout.strip().splitlines()[-1]
    counts = re.findall(r'(\d+) ([a-z ]+)(?:,| in )', summary)
    return done.returncode, {what: int(number) for number, what in counts}, done.stdout


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
    status, numbers, output = run_tests(relay.address, *FEW)
    assert status == 0
    assert (numbers['passed'], numbers['left out']) == (2, 2)
    line = re.search(r'^2 tests were left out, as each needs AMQP 0-8: .*', output, re.M)
    assert 'speaks AMQP 1.0, not 0-8' in line[0]
    assert 'amqplib.client_0_9_1' in line[0]


def test_nodes_that_refuse_it_are_like_a_given_broker():
    """What is not left out would fail, as there is no broker at all."""
    status, numbers, output = run_tests(
        '',
        *('-k', 'not 0-9-1'),
        'tests/faults/test_memory_alarm.py',
        'tests/live/test_connecting.py::test_client_properties_are_seen_by_the_broker',
        'tests/live/test_connecting.py::test_closing_twice_is_fine',
        'tests/reliability/test_threads.py::test_sixteen_threads_over_tls',
        'tests/live/test_tls.py::test_wrong_port',
        'tests/live/test_tls.py::test_certificate_that_is_missing',
        'tests/test_docs.py::test_the_programs_of_the_readme[client_0_8]',
        prepared=REFUSING_NODES,
    )
    assert status == 0, output
    assert set(numbers) == {'left out', 'deselected'}
    line = f'{numbers["left out"]} tests were left out, as each needs AMQP 0-8: this is no broker'
    assert line in output.splitlines()


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
    assert (numbers['passed'], numbers['left out']) == (5, 3)


def test_nothing_is_left_out_of_a_broker_that_speaks_0_8(broker):
    if broker.refusal:
        pytest.skip(f'this one does not: {broker.refusal}')
    status, numbers, output = run_tests(broker.address, *FEW)
    assert status == 0, output
    assert numbers['passed'] == 4
    assert 'left out' not in numbers


#: There is no broker but one that is given, and no way to get one.
NOTHING_AT_HAND = """
broker.docker_usable = lambda: False
broker.find_program = lambda name: None
def no_broker():
    raise broker.BrokerError('nothing is at hand')
broker.install_rabbitmq = no_broker
"""

NEEDS_NONE = 'tests/core/test_deadline.py'


@pytest.mark.parametrize(
    'tests', [FEW[0], 'tests/faults/test_memory_alarm.py', 'tests/live/test_tls.py']
)
def test_a_run_without_rabbitmq_ends_before_the_first_test_if_it_is_insisted_on(tests, monkeypatch):
    monkeypatch.setenv('AMQPLIB_RABBITMQ', '1')
    status, numbers, output = run_tests('', NEEDS_NONE, tests, prepared=NOTHING_AT_HAND)
    assert status == 1
    assert 'amqplib: nothing is at hand' in output
    assert numbers == {}


def test_a_run_without_rabbitmq_takes_the_broker_in_the_process(monkeypatch):
    monkeypatch.delenv('AMQPLIB_RABBITMQ', raising=False)
    status, numbers, output = run_tests(
        '',
        *FEW,
        'tests/faults/test_memory_alarm.py',
        'tests/live/test_client_0_9_1.py',
        prepared=NOTHING_AT_HAND,
    )
    assert status == 0, output
    assert numbers['passed'] > len(FEW)
    assert re.search(r'^\d+ tests were left out, as each needs a broker of its own: ', output, re.M)
    assert re.search(r'^\d+ tests were left out, as each needs RabbitMQ: streams$', output, re.M)
    assert output.index('were left out') < output.index(brokers.FOUR_WAYS)


def test_a_run_with_a_broker_that_is_not_there_ends_before_the_first_test():
    address = f'127.0.0.1:{brokers.free_port()}'
    status, numbers, output = run_tests(address, NEEDS_NONE, *FEW)
    assert status == 1
    assert f'amqplib: no AMQP broker at {address}' in output
    assert numbers == {}


def test_a_run_whose_broker_does_not_start_ends():
    prepared = f"""{REFUSING_NODES}
def start(self):
    raise broker.BrokerError('out of order')
Refusing.start = start
"""
    status, numbers, output = run_tests('', *FEW, prepared=prepared)
    assert status == 1
    assert 'amqplib: out of order' in output
    assert numbers == {}


def test_tests_that_need_no_broker_do_without():
    status, numbers, _ = run_tests('', NEEDS_NONE, prepared=NOTHING_AT_HAND)
    assert status == 0
    assert set(numbers) == {'passed'}


def test_no_broker_is_needed_to_list_the_tests():
    status, _, output = run_tests('', *FEW, '--collect-only', prepared=NOTHING_AT_HAND)
    assert status == 0, output
    assert '4 tests collected' in output


def test_tests_that_need_a_node_are_left_out_where_there_is_only_a_given_broker(broker):
    node_tests = 'tests/faults/test_memory_alarm.py'
    status, numbers, output = run_tests(
        broker.address, *FEW, node_tests, prepared=f'{GIVEN}\n{NOTHING_AT_HAND}'
    )
    assert status == 0, output
    assert numbers == {'passed': 2 if broker.refusal else 4, 'left out': numbers['left out']}
    assert 'tests were left out, as each needs a broker of its own: ' in output
