"""The limits of a connection: the largest message, and how long the system waits for the peer."""

import errno
import socket

import pytest

import amqplib.client_0_8 as amqp
from tests.helpers.checks import check_closed
from tests.helpers.waiting import lasting
from tests.helpers.wire import delivery, frame, method

HEADER = bytes.fromhex('003c 0000')


def test_too_large_a_message_ends_the_connection_before_it_is_collected(session):
    said = []

    def script(peer):
        peer.send_raw(delivery(1, 'tag', 1, b'x' * 1000))
        header = HEADER + (1001).to_bytes(8, 'big') + b'\0\0'
        peer.send_raw(method(1, 'basic.deliver', 'tag', 2, False, '', 'q') + frame(2, 1, header))
        said.append(peer.expect_method(0, 'connection.close'))
        peer.expect_end()

    ours = session(script, max_message_size=1000)
    got = []
    ours.channel.callbacks['tag'] = got.append
    ours.channel.wait(timeout=5)
    assert [message.delivery_tag for message in got] == [1]
    with lasting(most=1), pytest.raises(amqp.MessageTooLarge) as caught:
        ours.channel.wait(timeout=5)
    text = 'a message of 1001 bytes; max_message_size is 1000'
    assert caught.value.args == (311, text, (60, 60), 'Channel.basic_deliver')
    check_closed(ours.connection, ours.sock, caught.value, [ours.channel])
    ours.broker.finish()
    assert (said[0].reply_code, said[0].reply_text) == (311, text)
    assert (said[0].class_id, said[0].method_id) == (60, 60)
    assert len(got) == 1


@pytest.mark.skipif(not hasattr(socket, 'TCP_USER_TIMEOUT'), reason='Linux has it')
def test_a_peer_whose_system_takes_nothing_is_lost_after_the_timeout_of_tcp(play, connect):
    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.stall()

    broker = play(script, receive_buffer=4096)
    connection = connect(broker, tcp_user_timeout=0.1)
    option = socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT
    assert connection.transport.sock.getsockopt(*option) == 100
    channel = connection.channel()
    with lasting(most=20), pytest.raises(amqp.ConnectionLost) as caught:
        channel.basic_publish(amqp.Message(b'x' * (1 << 24)), routing_key='q')
    assert caught.value.errno == errno.ETIMEDOUT
