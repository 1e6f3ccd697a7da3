"""The demos that go on after a loss: the worker, and the server and client of remote calls.

They run with either client.
"""

import importlib
import signal
import subprocess
import sys

import pytest

from amqplib.testing import Broker
from tests.helpers.broker import free_port
from tests.helpers.demos import demos_of
from tests.helpers.packages import mostly_0_9_1


@pytest.fixture
def demos(amqp, tmp_path):
    """The folder of the demos, which use the client under test."""
    return demos_of(amqp, tmp_path)


@pytest.fixture
def start(demos):
    """A function (demo, *arguments) that starts a program; all are ended after the test."""
    processes = []

    def start(demo, *arguments):
        command = [sys.executable, str(demos / demo), *arguments]
        output = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'encoding': 'utf-8'}
        processes.append(subprocess.Popen(command, **output))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def read_until(process, text):
    """Read the output up to the line that contains a text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    raise AssertionError(f'there is no {text!r} in {lines}')


def stop(process, number=signal.SIGTERM):
    """Return the exit status after a signal."""
    process.send_signal(number)
    return process.wait()


def publish(amqp, url, body):
    """Publish a message that is safe when this returns; return how many were there before."""
    with amqp.Connection.from_url(url) as conn, conn.channel() as ch:
        _, ready, _ = ch.queue_declare('tasks', durable=True, auto_delete=False)
        with ch.transaction():
            ch.basic_publish(amqp.Message(body, delivery_mode=2), routing_key='tasks')
    return ready


@mostly_0_9_1
def test_the_worker_goes_on_when_its_broker_was_killed_and_started_again(amqp, start, new_node):
    node = new_node()
    url = f'amqp://{node.address}'
    worker = start('worker.py', url)
    publish(amqp, url, 'before')
    read_until(worker, 'done: before')
    node.kill()
    read_until(worker, 'trying again in')
    node.start()
    publish(amqp, url, 'after')
    read_until(worker, 'done: after')
    assert stop(worker) == 0
    assert publish(amqp, url, 'for the next one') == 0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['ctrl-c', 'sigterm'])
@pytest.mark.parametrize('demo', ['worker.py', 'rpc_server.py'])
def test_it_stops_at_once_while_there_is_no_broker(start, demo, number):
    worker = start(demo, f'amqp://me:S3CRET@127.0.0.1:{free_port()}')
    read_until(worker, 'trying again in')
    assert stop(worker, number) == 0
    assert 'S3CRET' not in worker.stdout.read()


@pytest.fixture
def in_process(amqp):
    """A broker in this process that has the queue for requests."""
    with Broker() as broker:
        with amqp.Connection.from_url(broker.url) as conn, conn.channel() as ch:
            ch.queue_declare('shouting', durable=True, auto_delete=False)
        yield broker


@pytest.fixture
def ask(demos, in_process):
    """A function (text) that returns what the client prints."""

    def ask(text):
        command = [sys.executable, str(demos / 'rpc_client.py'), text, in_process.url]
        return subprocess.run(command, capture_output=True, encoding='utf-8', check=True).stdout

    return ask


def test_requests_are_answered_also_after_a_lost_connection(start, ask, in_process):
    server = start('rpc_server.py', in_process.url)
    assert ask('hello') == 'HELLO\n'
    in_process.drop_connections()
    assert ask('grüße') == 'GRÜSSE\n'
    assert stop(server) == 0


def test_a_late_reply_is_not_taken_for_that_of_the_next_request(
    amqp, demos, start, in_process, monkeypatch
):
    monkeypatch.syspath_prepend(str(demos))
    monkeypatch.delitem(sys.modules, 'rpc_client', raising=False)
    client = importlib.import_module('rpc_client')
    assert client.amqp is amqp
    with amqp.Connection.from_url(in_process.url) as conn, conn.channel() as ch:
        with pytest.raises(amqp.AMQPTimeout):
            client.ask(ch, 'too early', timeout=0)
        # A request that is given up, whose reply comes then.
        with ch.consume(client.REPLIES, no_ack=True):
            ch.basic_publish(amqp.Message('x', reply_to=client.REPLIES), routing_key='shouting')
            given_up = ch.basic_get('shouting', no_ack=True)
        ch.basic_publish(amqp.Message('LATE'), routing_key=given_up.reply_to)
        # One without anybody to reply to.
        ch.basic_publish(amqp.Message('x'), routing_key='shouting')
        start('rpc_server.py', in_process.url)
        assert client.ask(ch, 'in time', timeout=20) == 'IN TIME'
