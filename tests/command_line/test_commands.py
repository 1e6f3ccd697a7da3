"""The commands on a broker: what they do, write and return."""

import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from amqplib.command_line import receiving, sending
from amqplib.command_line.json_lines import from_line
from tests.command_line.conftest import status_of
from tests.helpers.queues import await_ready, get_bodies, ready_count


def lines_of(result):
    return [json.loads(line) for line in result.out.splitlines()]


def done(result):
    """Return what a command has written that did what it should."""
    assert (result.status, result.err) == (0, '')
    return result.out


def failed(result, status, error):
    """Check that a command has ended with a status and one line."""
    assert result.status == status
    assert result.err.startswith('amqplib: ')
    assert error in result.err
    assert result.err.count('\n') == 1


# --- publish --------------------------------------------------------------------------------------


def test_publish_sends_each_body(run, channel, queue):
    assert done(run('publish', queue, 'first', '', '\udcff')) == b''
    assert get_bodies(channel, queue, 3) == [b'first', '', b'\xff']


def test_publish_sends_persistent_messages_with_properties_and_headers(run, channel, queue):
    done(run('publish', queue, '--header', 'n=1', 'body', '--property', 'priority=7',
             '--header', 'when={"$timestamp": 0}', '--property', 'app_id=7'))  # fmt: skip
    msg = channel.basic_get(queue, no_ack=True)
    when = msg.application_headers.pop('when')
    assert when.timestamp() == 0
    assert msg.properties == {
        'delivery_mode': 2, 'priority': 7, 'app_id': '7', 'application_headers': {'n': 1},
    }  # fmt: skip


def test_publish_sends_standard_input_as_one_message(run, channel, queue):
    done(run('publish', queue, given=b'one\ntwo\n\0\xff'))
    assert get_bodies(channel, queue, 1) == [b'one\ntwo\n\0\xff']


def test_publish_does_not_take_empty_input_for_a_message(run, channel, queue, tmp_path):
    failed(run('publish', queue, given=b''), 1, "standard input is empty; '' is an empty message")
    assert done(run('publish', queue, '--lines', given=b'')) == b''
    (tmp_path / 'file').touch()
    done(run('publish', queue, '--file', str(tmp_path / 'file')))
    assert get_bodies(channel, queue, 1) == ['']


def test_input_that_cannot_be_read_is_an_error(run, channel, queue, tmp_path):
    with open(tmp_path / 'file', 'wb') as only_for_writing:
        failed(
            run('publish', queue, given=only_for_writing), 1, 'cannot read the input: Bad file desc'
        )
    failed(run('publish', queue, '--file', str(tmp_path / 'none')), 1, 'none: No such file')
    assert ready_count(channel, queue) == 0


def test_publish_sends_a_file(run, channel, queue, tmp_path):
    (tmp_path / 'file').write_bytes(b'x' * 300_000)
    done(run('publish', queue, '--file', str(tmp_path / 'file')))
    assert get_bodies(channel, queue, 1) == [b'x' * 300_000]


def test_publish_sends_lines(run, channel, queue):
    done(run('publish', queue, '--lines', given=b'one\n\ntwo'))
    assert get_bodies(channel, queue, 3) == [b'one', '', b'two']


def test_publish_sends_lines_of_json_where_they_say(run, channel, queue):
    line = b'{"body": "x", "routing_key": "%s"}\n' % queue.encode()
    assert done(run('publish', '--json', given=line * 2)) == b''
    assert get_bodies(channel, queue, 2) == [b'x', b'x']


def test_publish_sends_lines_of_json_elsewhere(run, channel, queue):
    channel.queue_bind(queue, 'amq.topic', f'{queue}.#')
    line = b'{"body": "x", "exchange": "none", "routing_key": "%s.a"}\n' % queue.encode()
    done(run('publish', queue, '--json', given=line))
    done(run('publish', '--exchange', 'amq.topic', '--json', given=line))
    done(run('publish', '--exchange', 'amq.topic', f'{queue}.b', '--json', given=line))
    keys = [channel.basic_get(queue, no_ack=True).routing_key for _ in range(3)]
    assert keys == [queue, f'{queue}.a', f'{queue}.b']


def test_publish_ends_with_4_if_a_message_is_returned(run):
    failed(
        run('publish', 'no-such-queue', 'x'),
        4,
        '1 message returned: 312 NO_ROUTE, no queue takes it',
    )


def test_publish_without_mandatory_does_not_mind(run):
    done(run('publish', 'no-such-queue', 'x', '--no-mandatory'))


def test_publish_writes_what_is_returned_as_lines(run, queue):
    lines = [
        b'{"body": "lost", "routing_key": "no-such-queue", "properties": {"priority": 1}}\n',
        b'{"body": "fine", "routing_key": "%s"}\n' % queue.encode(),
        b'{"body_base64": "/w==", "routing_key": "no-such-queue"}\n',
    ]
    result = run('publish', '--json', given=b''.join(lines))
    failed(result, 4, '2 messages returned: 312 NO_ROUTE, no queue takes it')
    assert list(map(from_line, result.out.splitlines())) == [
        from_line(lines[0]),
        from_line(lines[2]),
    ]


def test_publish_says_if_what_is_confirmed_was_returned(run):
    """Also if it ends by something else: the message is confirmed, but nowhere."""
    given = b'{"body": "x", "routing_key": "no-such-queue"}\n{"body": 1}\n'
    failed(
        run('publish', '--json', given=given),
        1,
        '1 message confirmed, 1 of them returned or refused',
    )


def test_publish_ends_with_4_if_a_message_is_refused(run, new_queue, protocol):
    full = new_queue(arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'})
    result = run('publish', full, 'one', 'two')
    reason = 'partial tx completion' if protocol == '0-8' else '1 message refused by the broker'
    failed(result, 4, reason)


def test_publish_says_which_line_is_wrong_and_how_many_are_safe(run, channel, queue):
    given = b'{"body": "1"}\n{"body": "2"}\n{"body": "3", "properties": {"priority": 256}}\n'
    result = run('publish', queue, '--json', given=given)
    failed(result, 1, 'message 3: priority: 256 is not')
    assert '2 messages confirmed' in result.err
    assert get_bodies(channel, queue, 2) == [b'1', b'2']


def test_publish_holds_nothing_back_while_it_waits_for_more(run, channel, queue):
    reader, writer = os.pipe()

    def write_and_wait():
        with open(writer, 'wb') as file:
            file.write(b'one\ntwo\n')
            file.flush()
            await_ready(channel, queue, 2)

    with open(reader, 'rb') as given, ThreadPoolExecutor() as threads:
        written = threads.submit(write_and_wait)
        done(run('publish', queue, '--lines', given=given))
        written.result()


def test_publish_sends_large_messages_a_few_at_a_time(run, channel, queue, monkeypatch):
    monkeypatch.setattr(sending, 'WINDOW_BYTES', 3000)
    settled = []
    settle = sending.Sender.settle
    monkeypatch.setattr(
        sending.Sender, 'settle', lambda self: settled.append(self.published) or settle(self)
    )
    done(run('publish', queue, '--lines', given=(b'x' * 1000 + b'\n') * 7))
    assert settled == [3, 6, 7]
    assert ready_count(channel, queue) == 7


def test_publish_to_an_exchange_that_is_not_there_fails(run):
    result = run('publish', '--exchange', 'no-such-exchange', 'key', 'x')
    failed(result, 3, "404 NOT_FOUND - no exchange 'no-such-exchange'")
    assert '0 messages confirmed' in result.err


# --- get ------------------------------------------------------------------------------------------


def fill(channel, message_class, queue, *bodies):
    for body in bodies:
        channel.basic_publish(message_class(body), routing_key=queue)
    await_ready(channel, queue, len(bodies))


def test_get_takes_one_message(run, channel, queue, message_class):
    fill(channel, message_class, queue, b'one', b'two')
    assert done(run('get', queue)) == b'one\n'
    assert done(run('get', queue, '--no-newline')) == b'two'
    assert ready_count(channel, queue) == 0


def test_get_takes_several_or_all(run, channel, queue, message_class):
    fill(channel, message_class, queue, *'12345')
    assert done(run('get', queue, '--count', '2')) == b'1\n2\n'
    assert done(run('get', queue, '--all')) == b'3\n4\n5\n'
    assert ready_count(channel, queue) == 0


def test_get_ends_with_3_if_the_queue_is_empty(run, queue):
    failed(run('get', queue), 3, f'no message in {queue!r}')
    failed(run('get', queue, '--all'), 3, f'no message in {queue!r}')


def test_get_can_leave_the_messages(run, channel, queue, message_class):
    fill(channel, message_class, queue, b'one', b'two')
    assert done(run('get', queue, '--all', '--keep')) == b'one\ntwo\n'
    await_ready(channel, queue, 2)


def test_get_writes_lines_of_json(run, channel, queue, message_class):
    fill(channel, message_class, queue, b'one')
    done(run('get', queue, '--keep', '--json'))
    await_ready(channel, queue, 1)
    assert lines_of(run('get', queue, '--json')) == [
        {'body': 'one', 'exchange': '', 'routing_key': queue, 'redelivered': True}
    ]


# --- consume --------------------------------------------------------------------------------------


def test_consume_ends_after_a_number(run, channel, queue, message_class):
    fill(channel, message_class, queue, *'12345')
    assert done(run('consume', queue, '--count', '3')) == b'1\n2\n3\n'
    await_ready(channel, queue, 2)


def test_consume_ends_when_nothing_comes(run, channel, queue, message_class):
    fill(channel, message_class, queue, *'123')
    assert done(run('consume', queue, '--idle', '0.1', '--no-newline')) == b'123'
    failed(run('consume', queue, '--idle', '0.1'), 3, f'no message in {queue!r}')


def test_consume_writes_large_messages_one_by_one(run, channel, queue, message_class, monkeypatch):
    monkeypatch.setattr(receiving, 'BATCH_BYTES', 1000)
    fill(channel, message_class, queue, *['x' * 999] * 5)
    flushes = []
    flush = receiving.Output.flush
    monkeypatch.setattr(
        receiving.Output, 'flush', lambda self: flushes.append(self.size) or flush(self)
    )
    done(run('consume', queue, '--count', '5', '--prefetch', '2'))
    assert flushes == [1000] * 5


def test_consume_fails_if_the_queue_is_deleted(run, channel, new_queue, monkeypatch):
    queue = new_queue()
    monkeypatch.setattr(
        'amqplib.command_line.interrupts.Interrupts.came', lambda self: channel.queue_delete(queue)
    )
    result = run('consume', queue)
    failed(result, 1, 'the broker cancelled the consumer')
    assert '0 messages written' in result.err


def test_a_queue_goes_into_a_file_and_back(run, channel, new_queue, message_class):
    """Twice, which shows that nothing is lost on the way."""
    one, other = new_queue(), new_queue()
    for number in range(1000):
        msg = message_class(
            bytes((number % 256,)) * (number % 50), delivery_mode=1 + number % 2,
            message_id=str(number), timestamp=number, application_headers={'n': [number, b'\xff']},
        )  # fmt: skip
        channel.basic_publish(msg, routing_key=one)
    await_ready(channel, one, 1000)
    saved = done(run('consume', one, '--json', '--idle', '0.1'))
    assert [line['properties']['message_id'] for line in map(json.loads, saved.splitlines())] == [
        str(number) for number in range(1000)
    ]
    assert ready_count(channel, one) == 0
    done(run('publish', other, '--json', given=saved))
    again = done(run('consume', other, '--json', '--count', '1000'))
    assert again.replace(other.encode(), one.encode()) == saved


# --- The others -----------------------------------------------------------------------------------


def test_queues_and_exchanges_come_and_go(run, channel, protocol):
    queue, exchange = (f'amqplib-test-{uuid.uuid4()}' for _ in range(2))
    assert done(run('declare', queue, '--argument', 'x-max-length=2')) == b''
    assert done(run('declare', exchange, '--exchange', 'topic')) == b''
    assert done(run('bind', queue, exchange, 'weather.*')) == b''
    done(run('publish', '--exchange', exchange, 'weather.a', 'one', 'two', 'three'))
    assert done(run('info', queue)) == f'queue: {queue}\nmessages: 2\nconsumers: 0\n'.encode()
    failed(run('delete', queue, '--if-empty'), 1, '406 PRECONDITION_FAILED')
    failed(run('delete', exchange, '--exchange', '--if-unused'), 1, '406 PRECONDITION_FAILED')
    assert done(run('purge', queue)) == b'2 messages deleted\n'
    done(run('publish', '--exchange', exchange, 'weather.b', 'one'))
    assert done(run('delete', queue)) == b'1 message deleted\n'
    assert done(run('delete', exchange, '--exchange')) == b''
    for command in (
        ('info', queue), ('purge', queue), ('get', queue), ('consume', queue),
        ('bind', queue, exchange), ('publish', '--exchange', exchange, 'x', 'y'),
    ):  # fmt: skip
        failed(run(*command), 3, '404 NOT_FOUND')


def test_info_tells_whether_there_is_an_exchange(run):
    assert done(run('info', 'amq.topic', '--exchange')) == b'exchange: amq.topic\n'
    failed(run('info', 'no-such-exchange', '--exchange'), 3, "no exchange 'no-such-exchange'")


def test_what_is_not_there_cannot_be_deleted(run):
    failed(run('delete', 'no-such-queue'), 3, "no queue 'no-such-queue'")
    failed(run('delete', 'no-such-exchange', '--exchange'), 3, "no exchange 'no-such-exchange'")


@pytest.mark.parametrize('command', ['purge', 'delete'])
def test_nothing_is_deleted_if_the_number_cannot_be_shown(
    environment, protocol, channel, queue, message_class, monkeypatch, command
):
    fill(channel, message_class, queue, b'x')
    with monkeypatch.context() as patch:
        patch.setattr('sys.stdout', None)
        assert status_of(command, queue, '--protocol', protocol) == 1
    assert ready_count(channel, queue) == 1


def test_nothing_is_published_if_what_returns_cannot_be_written(
    environment, protocol, channel, queue, monkeypatch, tmp_path
):
    (tmp_path / 'lines').write_text('{"body": "x"}\n')
    with monkeypatch.context() as patch:
        patch.setattr('sys.stdout', None)
        arguments = 'publish', queue, '--json', '--file', str(tmp_path / 'lines')
        assert status_of(*arguments, '--protocol', protocol) == 1
    assert ready_count(channel, queue) == 0


def test_an_empty_name_asks_the_broker_for_one_and_shows_it(run, channel):
    name = done(run('declare', '')).decode().rstrip('\n')
    assert channel.queue_delete(name) == 0
    failed(run('info', ''), 3, 'queue')


def test_names_may_look_like_options(run, channel):
    name = f'--amqplib-test-{uuid.uuid4()}'
    done(run('declare', '--auto-delete', '--', name))
    done(run('publish', '--', name, '--lines', '-', '--'))
    assert done(run('get', '--all', '--', name)) == b'--lines\n-\n--\n'
    assert done(run('delete', '--', name)) == b'0 messages deleted\n'


def test_bind_connects_exchanges(run, channel, queue, protocol):
    one = f'amqplib-test-{uuid.uuid4()}'
    done(run('declare', one, '--exchange', 'fanout', '--auto-delete'))
    result = run('bind', '--exchange', one, 'amq.topic', queue)
    channel.queue_bind(queue, one)
    if protocol == '0-9-1':
        done(result)
        done(run('publish', '--exchange', 'amq.topic', queue, 'x'))
        assert get_bodies(channel, queue, 1) == [b'x']
    else:
        failed(result, 2, 'AMQP 0-8 cannot')


def test_info_tells_of_the_broker(run, protocol):
    facts = json.loads(done(run('info', '--json')))
    assert facts['protocol'] == protocol
    assert facts['product']
    assert facts['frame_max'] > 4096
    assert f'protocol: {protocol}\n' in done(run('info')).decode()


# --- Which broker, and wrong usage ----------------------------------------------------------------


def test_the_url_comes_from_an_option_or_a_file(run, address, tmp_path, monkeypatch):
    monkeypatch.setenv('AMQP_URL', 'amqp://nobody.invalid')
    done(run('info', '--url', f'amqp://guest:guest@{address}'))
    (tmp_path / 'url').write_text(f'amqp://guest:guest@{address}\n')
    done(run('info', '--url-file', str(tmp_path / 'url')))
    failed(run('info', '--url-file', str(tmp_path / 'none')), 1, 'none: No such file')
    failed(run('info', '--url', ''), 2, 'url: there is none')
    (tmp_path / 'url').write_bytes(b'\xff')
    failed(run('info', '--url-file', str(tmp_path / 'url')), 2, f'{tmp_path / "url"}: ')


@pytest.mark.parametrize(
    'url', ['amqp://guest:s3cret/@{}', 'http://guest:s3cret@{}', 'amqp://guest:s3cret@{}?x=y']
)
def test_a_wrong_url_is_wrong_usage_and_no_password_is_shown(run, address, url):
    result = run('info', '--url', url.format(address))
    failed(result, 2, '')
    assert 's3cret' not in result.err


def test_a_login_that_is_refused_fails_and_no_password_is_shown(run, address):
    result = run('info', '--url', f'amqp://guest:s3cret@{address}')
    failed(result, 1, '403 ACCESS_REFUSED')
    assert 's3cret' not in result.err


def test_a_broker_that_is_not_there_fails(run):
    failed(run('get', 'x', '--url', 'amqp://127.0.0.1:1', '--timeout', '5'), 1, 'refused')


@pytest.mark.parametrize(
    ('arguments', 'error'),
    [
        ([], 'COMMAND'),
        (['list'], "'list'"),
        (['amqp://guest:s3cret@localhost'], 'amqp://guest:***@localhost'),
        (['--url', 'amqp://u:s3cret@localhost', 'get', 'x'], '--url: options come after COMMAND'),
        (['--url=amqp://guest:s3cret@localhost', 'get', 'x'], '--url: options come after COMMAND'),
        (['get'], 'QUEUE'),
        (['get', 'x', '--count', '0'], "invalid number of messages value: '0'"),
        (['get', 'x', '--timeout', '-1'], "invalid number of seconds value: '-1'"),
        (['get', 'x', '--count', '2', '--all'], 'not allowed with'),
        (['publish'], 'where to?'),
        (['publish', 'x', 'y', '--lines'], 'excludes'),
        (['publish', 'x', '--json', '--header', 'a=b'], 'are in the lines'),
        (['publish', 'x', '--header', 'a'], "'a' is not NAME=VALUE"),
        (['publish', 'x', '--header', 'a={"$bytes": "*"}'], 'a: '),
        (['publish', 'x', '--property', 'color=red'], "'color' is not one of: content_type"),
        (['publish', 'x', '--property', 'priority=high'], "priority: 'high' is not a number"),
        (['publish', 'x', '--property', 'priority=300'], 'priority: 300 is not a number from 0'),
        (['consume', 'x', '--prefetch', '65536'], "invalid number of messages value: '65536'"),
        (['delete', 'x', '--exchange', '--if-empty'], '--if-empty is for queues'),
        (['info', '--exchange'], 'which exchange?'),
        (['get', 'x', '--', '-y'], 'unrecognized arguments: -y (see amqplib get --help)'),
    ],
)
def test_wrong_usage_is_one_line(run, arguments, error):
    result = run(*arguments)
    failed(result, 2, error)
    assert 's3cret' not in result.err
