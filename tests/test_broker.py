"""The broker fixture: which broker it takes, and that nothing of it stays."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme

from tests.helpers import broker as brokers

COMMAND = [sys.executable, brokers.__file__]

CHOICES = (brokers.node_class, brokers.docker_image, brokers.rabbitmq_at_hand)

AMQP_0_9_1 = b'AMQP\x00\x00\x09\x01'  # a header that every RabbitMQ takes


@pytest.fixture
def fresh_choice():
    """Let a test choose a kind of node anew, and forget it afterwards."""
    for choice in CHOICES:
        choice.cache_clear()
    yield
    for choice in CHOICES:
        choice.cache_clear()


class FakeDocker:
    """A `docker` whose commands all do, but for those that are made to fail.

    images: those that are there; what is not may be fetched unless 'pull' fails.
    """

    def __init__(self, folder):
        self._folder = folder
        self.bin = folder / 'bin'
        self.bin.mkdir()
        script = self.bin / 'docker'
        script.write_text(
            '#!/bin/sh\n'
            f'cd {folder}\n'
            'echo "$@" >>calls\n'
            'case "$1 $2" in\n'
            '    "images --quiet") grep -xF -- "$3" images ;;\n'
            '    images*) cat images ;;\n'
            '    inspect*) echo true ;;\n'
            '    ps*) echo a-number ;;\n'
            'esac\n'
            '[ ! -e "no-$1 $3" ] && [ ! -e "no-$1" ]\n'
        )
        script.chmod(0o755)
        self.have(brokers.IMAGE)

    def have(self, *images):
        (self._folder / 'images').write_text(''.join(f'{image}\n' for image in images))

    def fail(self, command):
        (self._folder / f'no-{command}').touch()

    def calls(self):
        return (self._folder / 'calls').read_text().splitlines()


@pytest.fixture
def fake_docker(tmp_path, monkeypatch, fresh_choice):
    """The `FakeDocker` that is found first; nothing else is asked for."""
    fake = FakeDocker(tmp_path)
    monkeypatch.setenv('PATH', str(fake.bin), prepend=os.pathsep)
    monkeypatch.delenv('AMQPLIB_BROKER', raising=False)
    monkeypatch.delenv('AMQPLIB_IMAGE', raising=False)
    monkeypatch.setattr(brokers, 'handshake', lambda address: None)
    return fake


@pytest.mark.parametrize(
    ('text', 'parsed'),
    [
        ('localhost', ('localhost', 5672)),
        ('rabbit:1234', ('rabbit', 1234)),
        ('[::1]', ('::1', 5672)),
        ('[::1]:1234', ('::1', 1234)),
    ],
)
def test_address(text, parsed):
    assert brokers.parse_address(text) == parsed
    assert brokers.parse_address(brokers.Broker(*parsed).address) == parsed


@pytest.mark.parametrize('text', [':1', 'rabbit:x', '::1'])
def test_bad_address_is_shown(text):
    with pytest.raises(brokers.BrokerError, match=r'AMQPLIB_BROKER should be host:port'):
        brokers.parse_address(text)


def test_given_broker_is_used_and_left_alone(monkeypatch):
    monkeypatch.setenv('AMQPLIB_BROKER', 'rabbit:1234')
    given = brokers.the_broker()
    assert given.address == 'rabbit:1234'
    assert not given.can_control
    with pytest.raises(brokers.BrokerError, match='not ours'):
        given.rabbitmqctl('status')


def test_broker_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(brokers.Broker, 'start_seconds', 0)
    absent = brokers.Broker('127.0.0.1', brokers.free_port())
    with pytest.raises(brokers.BrokerError, match=f'no AMQP broker at {absent.address}'):
        absent.start()


@pytest.fixture
def nothing_at_hand(monkeypatch, fresh_choice):
    """No broker is named, and no RabbitMQ can be had."""
    monkeypatch.delenv('AMQPLIB_BROKER', raising=False)
    monkeypatch.delenv('AMQPLIB_RABBITMQ', raising=False)
    monkeypatch.setattr(brokers, 'docker_usable', lambda: False)
    monkeypatch.setattr(brokers, 'find_program', lambda name: None)
    monkeypatch.setattr(os, 'geteuid', lambda: 1000)


@pytest.mark.usefixtures('nothing_at_hand')
def test_nothing_at_hand_names_the_four_ways():
    with pytest.raises(brokers.BrokerError) as caught:
        brokers.node_class()
    for way in ('AMQPLIB_BROKER', 'Docker', 'rabbitmq-server', 'as root'):
        assert way in str(caught.value)


@pytest.mark.usefixtures('nothing_at_hand')
def test_the_broker_in_the_process_does_where_there_is_no_rabbitmq(capsys):
    brokers.prepare()
    assert 'the broker of amqplib.testing' in capsys.readouterr().err
    with brokers.the_broker() as ours:
        assert isinstance(ours, brokers.ProcessBroker)
        brokers.handshake(ours.address)


@pytest.mark.usefixtures('nothing_at_hand')
def test_each_process_of_a_command_has_that_broker_in_itself(capfd):
    command = ['sh', '-c', 'echo "$AMQPLIB_BROKER"; exit 7']
    assert brokers.run_beside_the_broker(command) == 7
    assert capfd.readouterr().out == 'process\n'


@pytest.mark.usefixtures('nothing_at_hand')
def test_rabbitmq_may_be_insisted_on(monkeypatch):
    monkeypatch.setenv('AMQPLIB_RABBITMQ', '1')
    with pytest.raises(brokers.BrokerError, match='no RabbitMQ broker is at hand'):
        brokers.prepare()
    with pytest.raises(brokers.BrokerError, match='no RabbitMQ broker is at hand'):
        brokers.run_beside_the_broker(['true'])


def test_docker_comes_first(fake_docker):
    with brokers.the_broker() as node:
        assert isinstance(node, brokers.DockerNode)
        node.restart()
    calls = fake_docker.calls()
    name = node.name
    assert (
        f'create --name {name} --hostname {name} --publish=127.0.0.1:{node.port}:5672 rabbitmq:3.13'
    ) in calls
    assert f'cp {node.folder}/rabbitmq.conf {name}:/etc/rabbitmq/conf.d/90-amqplib.conf' in calls
    assert calls.count(f'start {name}') == 2
    assert calls[-1] == f'rm --force --volumes {name}'
    assert not node.folder.exists()


def test_docker_without_a_daemon_is_passed_over(fake_docker):
    fake_docker.fail('info')
    assert not brokers.docker_usable()


def test_docker_without_an_image_is_passed_over_aloud(fake_docker, capsys):
    fake_docker.have()
    fake_docker.fail('pull')
    assert not brokers.docker_usable()
    assert 'going on without Docker' in capsys.readouterr().err


def test_the_image_of_docker_speaks_both_versions_if_it_can_be_had(fake_docker):
    fake_docker.have('rabbitmq:4')
    assert brokers.docker_image() == 'rabbitmq:3.13'
    assert 'pull --quiet rabbitmq:3.13' in fake_docker.calls()


def test_any_image_of_docker_will_do(fake_docker, capsys):
    fake_docker.have('rabbitmq:<none>', 'rabbitmq:4')
    fake_docker.fail('pull')
    assert brokers.docker_usable()
    assert brokers.docker_image() == 'rabbitmq:4'
    assert 'going on without the Docker image rabbitmq:3.13' in capsys.readouterr().err


def test_the_newest_image_is_fetched_where_there_is_none(fake_docker):
    fake_docker.have()
    fake_docker.fail('pull rabbitmq:3.13')
    assert brokers.docker_image() == 'rabbitmq:latest'


def test_the_image_that_is_asked_for_is_used(fake_docker, monkeypatch):
    monkeypatch.setenv('AMQPLIB_IMAGE', 'rabbitmq:4-management')
    with brokers.the_broker() as node:
        assert isinstance(node, brokers.DockerNode)
    assert any(
        call.startswith('create ') and call.endswith(' rabbitmq:4-management')
        for call in fake_docker.calls()
    )


def test_watchdog_acts_when_its_owner_is_killed(tmp_path):
    sign = tmp_path / 'sign'
    program = (
        'import os, signal, sys\n'
        'from tests.helpers import broker\n'
        'dog = broker.Watchdog(f"touch {sys.argv[1]}")\n'
        'os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    subprocess.run(
        [sys.executable, '-c', program, str(sign)],
        cwd=Path(brokers.__file__).parents[2],
        check=False,
    )
    await_true(sign.exists)


def test_watchdog_acts_when_released(tmp_path):
    sign = tmp_path / 'sign'
    dog = brokers.Watchdog(f'touch {sign}')
    assert not sign.exists()
    dog.release()
    assert sign.exists()


@pytest.mark.any_version
def test_command_runs_beside_the_broker(address):
    done = run_command(address, 'sh', '-c', 'echo "$AMQPLIB_BROKER"; exit 7')
    assert (done.stdout, done.returncode) == (f'{address}\n', 7)


@pytest.mark.any_version
def test_command_ended_by_a_signal_reads_as_in_a_shell(address):
    assert run_command(address, 'sh', '-c', 'kill -9 $$').returncode == 128 + 9


def test_unknown_command_needs_no_broker():
    done = run_command('nowhere.invalid', 'no-such-command')
    assert done.returncode == 127
    assert 'no such command: no-such-command' in done.stderr


@pytest.mark.any_version
@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_command_too(address, signum, tmp_path):
    number = tmp_path / 'number'
    script = f'echo $$ >{number}.new; mv {number}.new {number}; exec sleep 1000'
    with subprocess.Popen([*COMMAND, 'sh', '-c', script], env=given(address)) as process:
        await_true(number.exists)
        process.send_signal(signum)
        assert process.wait() == 128 + signum
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


@pytest.mark.any_version
def test_node_can_be_frozen_killed_and_started_again(new_node):
    node = new_node(['heartbeat = 7'])
    with node.memory_alarm():
        assert 'memory' in node.evaluate('rabbit_alarm:get_alarms()')

    node.suspend()
    with socket.create_connection((node.host, node.port), timeout=0.5) as frozen:
        frozen.sendall(AMQP_0_9_1)
        with pytest.raises(socket.timeout):
            frozen.recv(1)
    node.resume()
    brokers.handshake(node.address)

    node.kill()
    with pytest.raises(OSError, match='refused'):
        brokers.handshake(node.address)
    node.start()
    node.stop()
    node.close()
    assert not node.folder.exists()


def test_node_whose_port_was_taken_meanwhile_takes_another(make_node, monkeypatch):
    if brokers.node_class() is not brokers.PrivateNode:
        pytest.skip('a container has its ports for itself')
    node = make_node()
    with socket.create_server((brokers.LOOPBACK, brokers.free_port())) as other:
        expected = brokers.free_port()
        given = [expected, other.getsockname()[1]]
        monkeypatch.setattr(brokers, 'free_port', given.pop)
        with node:
            brokers.handshake(node.address)
            assert node._dist_port == expected


def test_the_port_of_a_stopped_node_is_given_to_nobody_else(make_node, monkeypatch):
    with make_node() as node:
        node.stop()
        choose, wanted = brokers.secrets.randbelow, [node.port - 20000] * 3

        def choose_it_first(most):
            return wanted.pop() if wanted else choose(most)

        with monkeypatch.context() as patch:
            patch.setattr(brokers.secrets, 'randbelow', choose_it_first)
            assert brokers.free_port() != node.port
        assert not wanted
        node.start()


@pytest.mark.any_version
def test_node_that_cannot_start_shows_its_log(new_node):
    with pytest.raises(brokers.BrokerError, match='no_such_setting'):
        new_node(['no_such_setting = 1'])


@pytest.mark.any_version
def test_node_with_tls_and_client_certificates(new_node, tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / 'ca.pem')
    server = ca.issue_cert('localhost', '127.0.0.1')
    server.cert_chain_pems[0].write_to_path(tmp_path / 'cert.pem')
    server.private_key_pem.write_to_path(tmp_path / 'key.pem')
    files = [str(tmp_path / name) for name in ('cert.pem', 'key.pem', 'ca.pem')]
    node = new_node(tls=brokers.TLS(*files, client_certificates=True))

    context = ssl.create_default_context(cafile=files[2])
    ca.issue_cert('guest@example.org', common_name='guest').configure_cert(context)
    plain = socket.create_connection((node.host, node.tls_port), timeout=10)
    with context.wrap_socket(plain, server_hostname='localhost') as secure:
        secure.sendall(AMQP_0_9_1)
        assert b'EXTERNAL' in secure.recv(4096)


@pytest.mark.usefixtures('make_node')
def test_node_of_a_killed_process_is_ended():
    program = (
        'import os, signal\n'
        'from tests.helpers import broker\n'
        'node = broker.new_node()\n'
        'node.start()\n'
        'print(node.address, node.folder, flush=True)\n'
        'os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program],
        cwd=Path(brokers.__file__).parents[2],
        stdout=subprocess.PIPE,
        encoding='utf-8',
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    address, folder = done.stdout.split()
    await_true(lambda: not Path(folder).exists())
    # The system takes a while to close what a large process had open.
    await_true(lambda: refuses(address))


def refuses(address):
    try:
        brokers.handshake(address)
    except OSError as error:
        return 'refused' in str(error)
    return False


def given(address):
    return {**os.environ, 'AMQPLIB_BROKER': address}


def run_command(address, *args):
    return subprocess.run(
        [*COMMAND, *args],
        env=given(address),
        capture_output=True,
        encoding='utf-8',
        check=False,
    )


def await_true(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.02)
