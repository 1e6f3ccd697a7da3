"""The log of frames: what it shows, what it never shows; it is off by default."""

import logging

import pytest

import amqplib.client_0_8 as amqp
from amqplib.client_0_9_1 import Connection as Connection_0_9_1
from amqplib.core.decoding import Decoder
from amqplib.core.frames_log import MAX_TEXT
from amqplib.testing import Broker
from tests.helpers.scripted_broker import ScriptedBroker
from tests.helpers.wire import VERSION_0_9_1

#: A line of its own, and a command to a terminal.
RAW = 'gone\r\nforged \x1b[2J'


@pytest.fixture
def lines(caplog):
    """A function that returns the lines without the number of the connection."""
    logger = logging.getLogger('amqplib.frames')
    logger.setLevel(logging.DEBUG)
    yield lambda: [
        record.getMessage().split(' ', 1)[1]
        for record in caplog.records
        if record.name == 'amqplib.frames'
    ]
    logger.setLevel(logging.NOTSET)


def use_all(peer):
    peer.handshake()
    peer.open_channel()
    peer.expect_method(1, 'basic.publish')
    peer.expect_content(1)
    peer.expect_method(1, 'basic.get')
    peer.send_method(1, 'channel.flow', True)
    peer.expect_method(1, 'channel.flow_ok')
    peer.send_content(1, 'basic.get_ok', 7, False, '', RAW, 0, body=b'secret', properties=b'\0\0')
    peer.expect_close()


def publish_and_get(connection, body=b'secret'):
    with connection:
        channel = connection.channel()
        channel.basic_publish(amqp.Message(body, delivery_mode=2), routing_key='q')
        return channel.basic_get('q')


def test_each_method_is_a_line(lines):
    with ScriptedBroker(use_all) as broker:
        publish_and_get(amqp.Connection(broker.address, password='password'))
        port = broker.port
    shown = lines()
    assert shown[0] == f'connected to 127.0.0.1:{port}'
    assert [line.split('(')[0] for line in shown[1:]] == [
        '<- channel 0: connection.start',
        '-> channel 0: connection.start_ok',
        '<- channel 0: connection.tune',
        '-> channel 0: connection.tune_ok',
        '-> channel 0: connection.open',
        '<- channel 0: connection.open_ok',
        '-> channel 1: channel.open',
        '<- channel 1: channel.open_ok',
        '-> channel 1: basic.publish',
        '-> channel 1: basic.get',
        '<- channel 1: channel.flow',
        '-> channel 1: channel.flow_ok',
        '<- channel 1: basic.get_ok',
        '-> channel 0: connection.close',
        '<- channel 0: connection.close_ok',
    ]
    assert (
        "-> channel 1: basic.publish(ticket=0, exchange='', routing_key='q', mandatory=False, "
        'immediate=False), size 6, properties 3, body 6'
    ) in shown
    assert (
        r"<- channel 1: basic.get_ok(delivery_tag=7, redelivered=False, exchange='', "
        r"routing_key='gone\r\nforged \x1b[2J', message_count=0), size 32, properties 2, body 6"
    ) in shown


def test_secrets_and_bodies_are_not_shown(lines, caplog):
    with ScriptedBroker(use_all) as broker:
        publish_and_get(amqp.Connection(broker.address, password='password'))
    (start_ok,) = (line for line in lines() if 'start_ok' in line)
    assert start_ok.endswith("mechanism='AMQPLAIN', response=..., locale='en_US')")
    assert 'password' not in caplog.text
    assert 'secret' not in caplog.text


def test_challenges_and_new_secrets_are_not_shown(lines, caplog):
    def challenge(peer):
        peer.expect_login()
        peer.send_method(0, 'connection.secure', b'hidden')
        peer.expect_method(0, 'connection.secure_ok')
        peer.tune()
        peer.open()
        peer.expect_method(0, 'connection.update_secret')
        peer.send_method(0, 'connection.update_secret_ok')
        peer.expect_close()

    with ScriptedBroker(challenge, version=VERSION_0_9_1) as broker:
        connection = Connection_0_9_1(broker.address, password='password')
        connection.update_secret('hidden', 'reason')
        connection.close()
    shown = lines()
    assert '<- channel 0: connection.secure(challenge=...)' in shown
    assert '-> channel 0: connection.secure_ok(response=...)' in shown
    assert "-> channel 0: connection.update_secret(new_secret=..., reason='reason')" in shown
    assert 'hidden' not in caplog.text
    assert 'password' not in caplog.text


@pytest.mark.parametrize('size', [0, 5000, 300_000])
def test_sizes_of_bodies_that_take_other_paths(lines, size):
    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.expect_method(1, 'basic.publish')
        peer.expect_content(1)
        peer.expect_method(1, 'basic.get')
        peer.send_content(1, 'basic.get_ok', 7, False, '', 'q', 0, body=bytes(size))
        peer.expect_close()

    with ScriptedBroker(script) as broker:
        assert len(publish_and_get(amqp.Connection(broker.address), bytes(size)).body) == size
    endings = [line.rpartition(', ')[2] for line in lines() if ', properties ' in line]
    assert endings == [f'body {size}'] * 2


def test_each_message_of_a_gathered_write_is_a_line(lines):
    sizes = [1, 2, 200_000, 5000, 3, 70_000, 4]
    items = ((amqp.Message(bytes(size)), '', 'q') for size in sizes)
    with Broker() as broker, amqp.Publisher(broker.url) as publisher:
        assert list(publisher.publish_all(items, mandatory=False)) == []
    published = [line for line in lines() if 'basic.publish(' in line]
    assert [int(line.rpartition('body ')[2]) for line in published] == sizes


@pytest.mark.parametrize(
    ('payload', 'line'),
    [
        (b'\0\x0a\0\x32\0', '<- channel 0: connection.redirect, malformed ('),
        (b'\0\x63\0\1', '<- channel 0: unknown method (99, 1), size 0'),
    ],
)
def test_malformed_and_unknown_methods_are_lines_too(lines, payload, line):
    def script(peer):
        peer.handshake()
        peer.send_frame(1, 0, payload)
        peer.expect_method(0, 'connection.close')

    with ScriptedBroker(script) as broker:
        connection = amqp.Connection(broker.address)
        with pytest.raises(amqp.ProtocolError):
            connection.wait(timeout=10)
    assert any(shown.startswith(line) for shown in lines())


def test_long_arguments_are_cut(lines):
    def script(peer):
        peer.handshake(server_properties={'long': 'x' * 10_000})
        peer.expect_close()

    with ScriptedBroker(script) as broker:
        amqp.Connection(broker.address).close()
    (start,) = (line for line in lines() if 'connection.start(' in line)
    assert MAX_TEXT < len(start) < MAX_TEXT + 100


@pytest.mark.parametrize('level', [logging.NOTSET, logging.INFO])
def test_it_is_off_if_only_the_library_logs(caplog, level):
    logging.getLogger('amqplib.frames').setLevel(level)
    with ScriptedBroker(use_all) as broker, caplog.at_level(logging.DEBUG, logger='amqplib'):
        connection = amqp.Connection(broker.address)
        assert type(connection._session.decoder) is Decoder
        publish_and_get(connection)
    logging.getLogger('amqplib.frames').setLevel(logging.NOTSET)
    assert not [record for record in caplog.records if record.name == 'amqplib.frames']
