"""The demos that publish safely, with a broker that is killed and started again under them."""

import contextlib
import http.client
import signal
import subprocess
import sys
import threading

import pytest

from amqplib.testing import Broker
from tests.helpers.demos import demos_of
from tests.helpers.nodes import write_down
from tests.helpers.packages import mostly_0_9_1
from tests.helpers.threads import begin
from tests.helpers.waiting import poll

PATIENCE = 60


@pytest.fixture
def start(amqp, tmp_path, monkeypatch):
    """A function (demo, *arguments) that starts a program; all are ended after the test."""
    demos, processes = demos_of(amqp, tmp_path), []
    monkeypatch.setenv('PORT', '0')

    def start(demo, *arguments):
        command = [sys.executable, str(demos / demo), *arguments]
        pipes = {
            **dict.fromkeys(('stdin', 'stdout'), subprocess.PIPE),
            'stderr': subprocess.DEVNULL,
        }
        processes.append(subprocess.Popen(command, **pipes, encoding='utf-8'))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def bodies(amqp, address):
    with amqp.Connection(address) as conn, conn.channel() as ch:
        ch.auto_decode = False
        messages = iter(lambda: ch.basic_get('tasks', no_ack=True), None)
        return [msg.body.decode() for msg in messages]


def write(process, lines):
    process.stdin.write(''.join(f'{line}\n' for line in lines))
    process.stdin.flush()


def post(port, body):
    """Return the status with which the web server answers."""
    client = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE)
    try:
        client.request('POST', '/', body)
        return client.getresponse().status
    finally:
        client.close()


@mostly_0_9_1
def test_nothing_is_lost_when_the_broker_is_killed(amqp, start, new_node):
    node = new_node()
    url = f'amqp://{node.address}'
    lines = start('publish_lines.py', url)
    web = start('web.py', url)
    port = int(web.stdout.readline().split()[-1])

    taken = []
    half, over = threading.Semaphore(0), threading.Event()

    def visit(name):
        number = 0
        while not over.is_set():
            body = f'{name}.{number}'
            if post(port, body) == 204:
                taken.append(body)
                half.release()
            number += 1

    visitors = [begin(visit, name) for name in range(8)]
    write(lines, [f'line {number}' for number in range(3000)])
    for _ in range(40):
        assert half.acquire(timeout=PATIENCE)
    write_down(node)
    node.kill()
    node.start()
    write(lines, [f'line {number}' for number in range(3000, 5000)])
    for _ in range(80):
        assert half.acquire(timeout=PATIENCE)
    over.set()
    for visitor in visitors:
        visitor.result(PATIENCE)
    lines.stdin.close()
    assert lines.wait(PATIENCE) == 0
    assert lines.stdout.read() == ''
    arrived = bodies(amqp, node.address)
    published = dict.fromkeys(body for body in arrived if body.startswith('line '))
    assert list(published) == [f'line {number}' for number in range(5000)]
    assert set(taken) <= set(arrived)


def test_what_cannot_be_published_is_said(amqp, start):
    with Broker() as broker:
        # The programs declare the queue in another way, which the broker refuses.
        with amqp.Connection(broker.host) as conn, conn.channel() as ch:
            ch.queue_declare('tasks', durable=False, auto_delete=False)
        web = start('web.py', broker.url)
        assert post(int(web.stdout.readline().split()[-1]), b'order') == 503
        lines = start('publish_lines.py', broker.url)
        lines.stdin.write('one\n')
        lines.stdin.close()
        assert lines.wait(PATIENCE) == 1
        assert lines.stdout.read().startswith('not published: one 406 PRECONDITION_FAILED')


def is_declared(broker, queue):
    with contextlib.suppress(LookupError):
        return broker.messages(queue) is not None


def test_ctrl_c_ends_them(start):
    with Broker() as broker:
        web = start('web.py', broker.url)
        assert web.stdout.readline()
        web.send_signal(signal.SIGINT)
        assert web.wait(PATIENCE) == 0
        lines = start('publish_lines.py', broker.url)
        poll(lambda: write(lines, ['one']) or is_declared(broker, 'tasks'), 'the declaration')
        lines.send_signal(signal.SIGINT)
        assert lines.wait(PATIENCE) == 130
