"""Telling errors of a socket from exceptions of signal handlers that run right after a call."""

import errno
import os
import socket

import pytest

import amqplib.client_0_8 as amqp


class Socket(socket.socket):
    """A socket that can be given calls of its own."""


def replace_socket(ours):
    """Have the connection use a socket that can be given calls of its own; return it."""
    sock = ours.connection.transport.sock = Socket(fileno=ours.sock.detach())
    return sock


def raising(error, then=lambda *args: None):
    """Return a call that does its work, and ends by an error all the same."""

    def call(*args):
        then(*args)
        raise error

    return call


HANDLER_ERRORS = [
    TimeoutError('too late'),
    TimeoutError('timed out'),
    socket.timeout('too late'),
    OSError('no more'),
    ValueError('no more'),
]


@pytest.mark.parametrize('error', HANDLER_ERRORS, ids=repr)
def test_what_a_handler_raises_after_a_write_comes_through_and_nothing_is_sent_twice(
    session, error
):
    def script(peer):
        data = peer.rest()
        assert data.count(b'one body') == 1
        assert b'another' not in data

    ours = session(script)
    sock = replace_socket(ours)
    sock.send = raising(error, sock.send)
    with pytest.raises(type(error)) as caught:
        ours.channel.basic_publish(amqp.Message(b'one body'), routing_key='q')
    assert caught.value is error
    # It is not known how much was sent.
    with pytest.raises(amqp.ConnectionLost, match='interrupted'):
        ours.channel.basic_publish(amqp.Message(b'another'), routing_key='q')


@pytest.mark.parametrize('error', HANDLER_ERRORS, ids=repr)
def test_what_a_handler_raises_in_a_wait_comes_through_and_nothing_is_lost(session, error):
    def script(peer):
        peer.await_cue()
        peer.send_method(1, 'channel.flow', False)
        peer.expect_method(1, 'channel.flow_ok')
        peer.expect_close()

    ours = session(script)
    sock = replace_socket(ours)
    sock.recv = raising(error)
    with pytest.raises(type(error)) as caught:
        ours.channel.wait()
    assert caught.value is error
    del sock.recv
    ours.broker.cue()
    ours.channel.wait(timeout=10)
    assert not ours.channel.active
    ours.connection.close()


@pytest.mark.parametrize('timeout', [None, 5])
@pytest.mark.parametrize('number', [errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE])
def test_what_the_system_says_is_a_lost_connection(session, number, timeout):
    ours = session(lambda peer: peer.rest())
    error = OSError(number, os.strerror(number))
    sock = replace_socket(ours)
    sock.shutdown(socket.SHUT_RD)  # so that there is something to be read
    sock.recv = raising(error)
    with pytest.raises(amqp.ConnectionLost, match=os.strerror(number)) as caught:
        ours.channel.wait(timeout=timeout)
    assert caught.value.errno == number
