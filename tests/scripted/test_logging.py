"""What the broker says is logged, and cannot forge a line or reach a terminal unescaped."""

import logging

import pytest

from tests.helpers.packages import PACKAGES, only_0_8

both = pytest.mark.parametrize('amqp', PACKAGES, indirect=True)

#: A line of its own, a command to a terminal, and what is not UTF-8.
RAW = b'gone\r\nWARNING:root:forged \x1b[2J\xff'
SHOWN = r'gone\r\nWARNING:root:forged \x1b[2J'


def check(caplog, *begins):
    """Look at all that was logged; among it is a line for each of these beginnings."""
    lines = caplog.messages
    for line in lines:
        assert line.isprintable(), line
        line.encode()
    for begin in begins:
        assert any(line.startswith(begin) and SHOWN in line for line in lines), (begin, lines)


@pytest.fixture(autouse=True)
def _heard(caplog):
    with caplog.at_level(logging.DEBUG, logger='amqplib'):
        yield


@both
def test_what_a_broker_says_of_itself(play, connect, caplog):
    def script(peer):
        peer.expect_login(b'PLAIN ' + RAW, b'en_US ' + RAW, {RAW: RAW, 'table': {RAW: RAW}})
        peer.tune()
        peer.open(known_hosts=RAW)
        peer.expect_close()

    connect(play(script)).close()
    check(caplog, 'start from the broker', 'connection open')


@both
def test_why_a_broker_closes(amqp, play, connect, caplog):
    def script(peer):
        peer.handshake()
        for number in (1, 2):
            peer.open_channel(number)
        peer.mark()
        for number in (1, 2):
            peer.send_method(number, 'channel.close', 404, RAW, 50, 10)
        for number in (1, 2):
            peer.expect_method(number, 'channel.close_ok')
        peer.send_method(0, 'connection.close', 320, RAW, 0, 0)
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    broker = play(script)
    connection = connect(broker)
    connection.channel()
    connection.channel()
    broker.await_mark()
    with pytest.raises(amqp.ConnectionForced, match='gone'):
        connection.wait(timeout=10)
    check(caplog, 'channel 1 closed', 'connection closed', 'the broker closed a channel')


@both
def test_a_message_for_nobody(play, connect, caplog):
    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.mark()
        peer.send_content(1, 'basic.deliver', RAW, 1, False, RAW, RAW)
        peer.expect_close()

    broker = play(script)
    channel = connect(broker).channel()
    broker.await_mark()
    channel.wait(timeout=10)
    check(caplog, 'message 1 dropped')
    channel.connection.close()


@only_0_8  # the other one has no redirect
def test_a_host_to_go_to_instead(amqp, play, connect, caplog):
    def script(peer):
        peer.expect_login()
        peer.tune()
        peer.expect_method(0, 'connection.open')
        peer.send_method(0, 'connection.redirect', RAW, RAW)

    broker = play(script)
    with pytest.raises((amqp.AMQPException, ValueError)):
        connect(broker)
    check(caplog, 'redirected to')
