"""The demos, run as programs against the broker."""

import ast
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from datetime import datetime
from pathlib import Path

import pytest

from amqplib import client_0_8, client_0_9_1
from amqplib.testing import Broker
from tests.helpers.broker import free_port
from tests.helpers.demos import demos_of
from tests.helpers.refusing_relay import AMQP_0_8, RefusingRelay

DEMO = Path(__file__).resolve().parents[1] / 'demo'
DEMOS = ('demo_send.py', 'demo_receive.py', 'amqp_clock.py')
SECONDS = 30

# What each needs beside the address to do something and end.
ARGUMENTS = {'demo_send.py': ['hello'], 'demo_receive.py': [], 'amqp_clock.py': ['--once']}

# What each prints when it has come so far.
SAYS = {'demo_send.py': 'sent: ', 'demo_receive.py': 'ready: ', 'amqp_clock.py': 'published: '}


class Program:
    """A demo that runs; its output comes line by line."""

    def __init__(self, demo, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, str(DEMO / demo), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding='utf-8',
        )
        self.lines = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip('\n'))

    def read_until(self, text):
        """Return the lines up to the one that contains a text."""
        lines = []
        while not lines or text not in lines[-1]:
            lines.append(self.lines.get(timeout=SECONDS))
        return lines

    def rest(self):
        """Return the lines that are left once it has ended."""
        self._reader.join(SECONDS)
        return [self.lines.get() for _ in range(self.lines.qsize())]

    def wait(self):
        """Return (exit status, standard error) once it has ended."""
        self._reader.join(SECONDS)
        status = self.process.wait(timeout=SECONDS)
        return status, self.process.stderr.read()

    def close(self):
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def start():
    """A function (demo, *arguments) that starts a program; all are ended after the test."""
    programs = []

    def start(*arguments):
        programs.append(Program(*arguments))
        return programs[-1]

    # Where Ctrl-C is ignored (in the background of a shell), programs would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield start
    signal.signal(signal.SIGINT, before)
    for program in programs:
        program.close()


def run(demo, *arguments):
    return subprocess.run(
        [sys.executable, str(DEMO / demo), *arguments],
        capture_output=True,
        encoding='utf-8',
        timeout=SECONDS,
        check=False,
    )


@pytest.fixture(params=['0-8', pytest.param('0-9-1', marks=pytest.mark.any_version)])
def protocol(request):
    """Each version of AMQP that the demos speak, by its name."""
    return request.param


@pytest.fixture
def exchange(address):
    """The name of an exchange for this test alone, which does not stay if the demo declares it."""
    name = f'amqplib-test-{uuid.uuid4()}'
    yield name
    with client_0_9_1.Connection(address) as conn, conn.channel() as ch:
        ch.exchange_delete(name)


@pytest.fixture
def options(protocol, address, exchange):
    """The options that name the broker, the protocol and the exchange."""
    return ['--host', address, '--protocol', protocol, '--exchange', exchange]


@pytest.fixture
def connection(protocol, address):
    """A connection that speaks the same."""
    with {'0-8': client_0_8, '0-9-1': client_0_9_1}[protocol].Connection(address) as conn:
        yield conn


@pytest.fixture
def receiver(start, options):
    """A receiver that is ready."""
    program = start('demo_receive.py', *options)
    program.read_until('ready')
    return program


def test_messages_arrive_and_quit_ends_the_receiver(receiver, options, exchange):
    sent = run('demo_send.py', *options, 'hello', 'grüße', 'quit')
    assert (sent.returncode, sent.stderr) == (0, '')
    assert sent.stdout.splitlines() == ['sent: hello', 'sent: grüße', 'sent: quit']

    first = receiver.read_until('    hello')
    assert '    content_type: text/plain' in first
    assert '    content_encoding: UTF-8' in first
    headers = next(line for line in first if line.startswith('    application_headers: '))
    # Newer brokers put them in another order.
    assert ast.literal_eval(headers.partition(': ')[2]) == {'foo': 7, 'bar': 'baz'}
    assert '    delivery_tag: 1' in first
    assert f'    exchange: {exchange}' in first
    second = receiver.read_until('    grüße')
    assert '    delivery_tag: 2' in second
    assert receiver.wait() == (0, '')


def test_all_receivers_get_the_messages(start, receiver, options):
    other = start('demo_receive.py', *options)
    other.read_until('ready')
    run('demo_send.py', *options, 'for both', 'quit')
    for program in (receiver, other):
        program.read_until('    for both')
        assert program.wait() == (0, '')


def test_the_receiver_acknowledges(channel, monkeypatch):
    monkeypatch.syspath_prepend(str(DEMO))
    import demo_receive

    name, _, _ = channel.queue_declare(auto_delete=False, exclusive=True)
    channel.basic_consume(name, callback=demo_receive.show)
    channel.basic_publish(client_0_8.Message('quit'), routing_key=name)
    while channel.callbacks:
        channel.wait(timeout=SECONDS)
    channel.basic_recover_sync(requeue=True)
    assert channel.basic_get(name) is None


def test_properties_may_be_given(receiver, options):
    properties = ['--property', 'priority=5', '--property', 'content_type=text/html']
    assert run('demo_send.py', *options, *properties, 'quit').returncode == 0
    lines = receiver.read_until('    quit')
    assert '    priority: 5' in lines
    assert '    content_type: text/html' in lines


@pytest.mark.parametrize('text', ['colour=red', 'priority=high', 'timestamp=0', ''])
def test_other_properties_are_refused(text):
    ended = run('demo_send.py', '--property', text, 'hello')
    assert ended.returncode == 2
    assert 'argument --property' in ended.stderr
    assert 'Traceback' not in ended.stderr


def test_a_property_out_of_range_is_an_error_of_one_line(options):
    ended = run('demo_send.py', *options, '--property', 'priority=256', 'hello')
    assert ended.returncode == 1
    assert re.fullmatch(r'demo_send\.py: priority: .*\n', ended.stderr)


def test_the_clock_tells_the_time_once(options, exchange, channel):
    channel.exchange_declare(exchange, 'topic', auto_delete=True)
    name, _, _ = channel.queue_declare(exclusive=True)
    channel.queue_bind(name, exchange, '#')

    before = datetime.now().replace(microsecond=0)
    told = run('amqp_clock.py', *options, '--once')
    after = datetime.now()

    assert (told.returncode, told.stderr) == (0, '')
    msg = channel.basic_get(name, no_ack=True)
    time_told = datetime.fromisoformat(msg.body)
    assert before <= time_told <= after
    assert msg.timestamp == time_told
    assert msg.routing_key == time_told.strftime('%Y.%m.%d.%w.%H.%M')
    assert told.stdout == f'published: {msg.routing_key}\n'
    assert channel.basic_get(name) is None


def test_the_clock_publishes_as_a_minute_begins(monkeypatch):
    monkeypatch.syspath_prepend(str(DEMO))
    import amqp_clock

    slept = []
    monkeypatch.setattr(amqp_clock.time, 'sleep', slept.append)
    before = time.time()
    amqp_clock.sleep_until_next_minute()
    woken = before + slept[0]
    assert woken % 60 == pytest.approx(0.1, abs=0.05)
    assert 0 < slept[0] <= 60.1


@pytest.mark.any_version
@pytest.mark.parametrize('demo', DEMOS)
def test_the_demos_speak_0_9_1_where_the_broker_refuses_0_8_and_say_so(
    demo, start, address, exchange
):
    with RefusingRelay(address) as relay:
        program = start(demo, '--host', relay.address, '--exchange', exchange, *ARGUMENTS[demo])
        program.read_until(SAYS[demo])
        assert relay.passed == 1
        assert end(program, demo) == 'The broker refuses AMQP 0-8, so this is AMQP 0-9-1.\n'


def end(program, demo):
    """Have a demo end well that has done something; return its standard error."""
    waits = demo == 'demo_receive.py'
    if waits:
        program.process.send_signal(signal.SIGINT)
    status, errors = program.wait()
    assert status == (130 if waits else 0)
    return errors


@pytest.mark.parametrize('demo', DEMOS)
def test_the_demos_speak_0_8_where_the_broker_takes_it(demo, start, address, exchange):
    with RefusingRelay(address, accepted=AMQP_0_8) as relay:
        program = start(demo, '--host', relay.address, '--exchange', exchange, *ARGUMENTS[demo])
        program.read_until(SAYS[demo])
        assert relay.passed == 1
        assert end(program, demo) == ''


@pytest.mark.any_version
@pytest.mark.parametrize('demo', DEMOS)
def test_a_protocol_that_was_asked_for_is_the_one_that_is_spoken(demo, start, address, exchange):
    arguments = ['--exchange', exchange, *ARGUMENTS[demo]]
    with RefusingRelay(address) as relay:
        ended = run(demo, '--host', relay.address, '--protocol', '0-8', *arguments)
        assert ended.returncode == 1
        assert re.fullmatch(f'{demo}: .*amqplib\\.client_0_9_1.*\n', ended.stderr)
        assert relay.passed == 0

        program = start(demo, '--host', relay.address, '--protocol', '0-9-1', *arguments)
        program.read_until(SAYS[demo])
        assert relay.passed == 1


def test_another_protocol_is_refused():
    ended = run('demo_send.py', '--protocol', '1-0', 'hello')
    assert ended.returncode == 2
    assert 'argument --protocol' in ended.stderr


@pytest.mark.parametrize('demo', DEMOS)
def test_help(demo):
    ended = run(demo, '--help')
    assert ended.returncode == 0
    for option in ('--host', '--userid', '--password', '--ssl', '--protocol', '--exchange'):
        assert option in ended.stdout


@pytest.mark.parametrize('demo', DEMOS)
def test_no_broker_is_an_error_of_one_line(demo):
    address = f'127.0.0.1:{free_port()}'
    ended = run(demo, '--host', address, *ARGUMENTS[demo])
    assert ended.returncode == 1
    assert ended.stdout == ''
    assert re.fullmatch(f'{demo}: cannot connect to {address}: .*\n', ended.stderr)


@pytest.mark.any_version
@pytest.mark.parametrize('demo', DEMOS)
def test_a_wrong_password_is_an_error_of_one_line(demo, address):
    ended = run(demo, '--host', address, '--password', 'wrong', *ARGUMENTS[demo])
    assert ended.returncode == 1
    assert ended.stdout == ''
    assert re.fullmatch(f'{demo}: .*refused.*\n', ended.stderr)


@pytest.mark.any_version
def test_an_unknown_user_is_an_error_of_one_line(address):
    ended = run('demo_send.py', '--host', address, '--userid', 'nobody', 'hello')
    assert ended.returncode == 1
    assert re.fullmatch(r'demo_send\.py: .*refused.*\n', ended.stderr)


@pytest.mark.parametrize('demo', DEMOS)
def test_a_wrong_address_is_an_error_of_one_line(demo):
    ended = run(demo, '--host', 'localhost:amqp', *ARGUMENTS[demo])
    assert ended.returncode == 1
    assert re.fullmatch(f'{demo}: host: .*\n', ended.stderr)


@pytest.mark.any_version
def test_tls_with_a_broker_that_has_none_is_an_error_of_one_line(address):
    ended = run('demo_send.py', '--host', address, '--ssl', 'hello')
    assert ended.returncode == 1
    assert re.fullmatch(r'demo_send\.py: no TLS connection .*\n', ended.stderr)


def test_a_sender_needs_something_to_send():
    assert run('demo_send.py').returncode == 2


def test_ctrl_c_ends_the_receiver(receiver):
    receiver.process.send_signal(signal.SIGINT)
    assert receiver.wait() == (130, '')


def test_ctrl_c_ends_the_clock(start, options, exchange, connection):
    program = start('amqp_clock.py', *options)
    await_exchange(connection, exchange)
    program.process.send_signal(signal.SIGINT)
    assert program.wait() == (130, '')


def await_exchange(connection, name):
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with connection.channel() as ch:
                ch.exchange_declare(name, 'topic', passive=True)
            return
        except client_0_8.NotFound:
            assert time.monotonic() < deadline
            time.sleep(0.05)


# demo/run: all of that in one command.


def run_all(checkout, environ):
    """Run demo/run as whoever has just fetched it; return what it printed."""
    ended = subprocess.run(
        ['sh', str(checkout / 'demo' / 'run')],
        env={**environ, 'PYTHON': sys.executable, 'LC_ALL': 'C.UTF-8'},
        cwd='/',
        capture_output=True,
        encoding='utf-8',
        timeout=4 * SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert '    received |     grüße from another process' in ended.stdout.splitlines()
    assert ended.stdout.splitlines()[-1].startswith('demo: 3 messages and a quit went from one')
    return ended


def without_broker():
    return {name: value for name, value in os.environ.items() if name != 'AMQPLIB_BROKER'}


def test_demo_run_needs_nothing_but_python_and_leaves_nothing(tmp_path):
    root = DEMO.parent
    for folder in ('amqplib', 'demo'):
        no_caches = shutil.ignore_patterns('__pycache__')
        shutil.copytree(root / folder, tmp_path / folder, ignore=no_caches)
    (tmp_path / 'tests').mkdir()
    shutil.copy(root / 'tests' / 'environment.sh', tmp_path / 'tests')
    # Nothing can be installed from there.
    environ = {'PIP_INDEX_URL': 'http://127.0.0.1:9', 'PYTHONDONTWRITEBYTECODE': '1'}
    before = files_in(tmp_path)
    ended = run_all(tmp_path, {**without_broker(), **environ})
    assert ended.stderr == ''
    assert files_in(tmp_path) == before
    address = re.search('^The broker is at (.*)$', ended.stdout, re.MULTILINE).group(1)
    # Another process may have the port by now.
    with pytest.raises(client_0_8.AMQPException):
        client_0_8.Connection(address, connect_timeout=SECONDS)


def files_in(folder):
    return sorted(folder.rglob('*'))


def test_demo_run_takes_the_broker_that_is_named():
    with Broker() as broker:
        ended = run_all(DEMO.parent, {**os.environ, 'AMQPLIB_BROKER': broker.host})
    assert f'The broker is at {broker.host}\n' in ended.stdout
    assert 'amqplib broker' not in ended.stdout


# Draining a queue: a program of its own kind, with a URL, of one client.


@pytest.fixture
def drain(amqp, tmp_path):
    """The path of the program, which uses the client under test."""
    return demos_of(amqp, tmp_path) / 'drain.py'


@pytest.fixture
def drained():
    """A broker with the queue 'full', in which there are the messages 0 to 499."""
    with Broker() as broker:
        fill(broker.url, range(500))
        yield broker


def fill(url, numbers):
    with client_0_9_1.Connection.from_url(url) as conn, conn.channel() as ch:
        ch.queue_declare('full', durable=True, auto_delete=False)
        for number in numbers:
            ch.basic_publish(client_0_9_1.Message(str(number)), routing_key='full')


def numbers_in(lines):
    return [int(json.loads(line)['body']) for line in lines]


def test_draining_writes_each_message_as_a_line(start, drain, address):
    name = f'amqplib-test-{uuid.uuid4()}'
    bodies = ['text', 'gr\u00fc\u00dfe', b'\xff\x00', '']
    with client_0_9_1.Connection(address) as conn, conn.channel() as ch:
        ch.queue_declare(name, durable=True, auto_delete=False)
        try:
            for body in bodies:
                msg = client_0_9_1.Message(
                    body, message_id='m', application_headers={'when': datetime(2026, 1, 2), 'x': 7}
                )
                ch.basic_publish(msg, routing_key=name)
            program = start(drain, '--url', f'amqp://{address}', '--idle', '1', name)
            assert program.wait() == (0, '')
            assert ch.basic_get(name) is None
        finally:
            ch.queue_delete(name)
    lines = [json.loads(line) for line in program.rest()]
    assert [line.get('body') for line in lines] == ['text', 'gr\u00fc\u00dfe', None, '']
    assert lines[2]['body_base64'] == '/wA='
    for line in lines:
        assert (line['message_id'], line['routing_key'], line['redelivered']) == ('m', name, False)
        assert line['application_headers'] == {'when': '2026-01-02 00:00:00', 'x': 7}


def test_what_drains_may_be_killed(start, drain, drained):
    killed = start(drain, '--url', drained.url, 'full')
    first = killed.read_until('"body": "123"')
    killed.process.kill()
    killed.wait()
    first += killed.rest()
    drained.drop_connections()  # it may not have noticed the end yet
    fill(drained.url, range(500, 600))  # the first one may have been quick enough for the others
    second = start(drain, '--url', drained.url, '--idle', '1', 'full')
    assert second.wait() == (0, '')
    written, rest = numbers_in(first), numbers_in(second.rest())
    assert written == list(range(len(written)))
    assert rest == list(range(rest[0], 600))
    assert rest[0] <= len(written)
    assert drained.messages('full') == []


def test_what_drains_stops_on_a_signal(start, drain, drained):
    program = start(drain, '--url', drained.url, 'full')
    lines = program.read_until('"body": "123"')
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == (0, '')
    lines += program.rest()
    left = [int(msg.body) for msg in drained.messages('full')]
    assert numbers_in(lines) + left == list(range(500))


def test_what_drains_stops_on_a_signal_also_if_nothing_comes(start, drain, drained):
    program = start(drain, '--url', drained.url, '--idle', '60', 'full')
    program.read_until('"body": "499"')
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == (0, '')


def test_what_drains_connects_again(start, drain, drained):
    program = start(drain, '--url', drained.url, '--idle', '2', 'full')
    lines = program.read_until('"body": "123"')
    drained.drop_connections()
    status, errors = program.wait()
    lines += program.rest()
    assert status == 0
    assert 'Traceback' not in errors
    assert set(numbers_in(lines)) == set(range(500))
    assert drained.messages('full') == []


def test_a_queue_that_is_not_there_cannot_be_drained(start, drain, drained):
    status, errors = start(drain, '--url', drained.url, 'missing').wait()
    assert status == 1
    assert re.fullmatch(r"drain\.py: 404 .*'missing'.*\n", errors)


def test_what_drains_ends_with_what_reads_it(drain, drained):
    fill(drained.url, range(2000))  # more than fits into the pipe
    command = [sys.executable, str(drain), '--url', drained.url, 'full']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert numbers_in([process.stdout.readline()]) == [0]
        process.stdout.close()
        assert process.stderr.read() == b''
        assert process.wait(SECONDS) == 1
    assert drained.messages('full')[-1].body == b'1999'
