"""Working again after a loss, on the wire: which ends of a login are tried again."""

import logging

import pytest


def hang_up(peer):
    peer.expect_login()
    peer.close()


def refuse(peer):
    peer.expect_login()
    peer.send_method(0, 'connection.close', 403, 'ACCESS_REFUSED - no', 0, 0)
    peer.expect_method(0, 'connection.close_ok')
    peer.expect_end()


def serve(peer):
    peer.handshake()
    peer.expect_close()


def work(amqp, broker):
    """Return the connection of the block; it comes to its end within a few attempts."""
    tries = iter(range(50))
    url = f'amqp://me:S3CRET@{broker.address}'
    for attempt in amqp.reconnecting(url, first=0, stop=lambda: next(tries, None) is None):
        with attempt as connection:
            return connection
    return None


def test_a_login_is_tried_again_until_it_is_answered(amqp, play, caplog):
    broker = play(hang_up, hang_up, serve)
    with caplog.at_level(logging.WARNING, 'amqplib'):
        connection = work(amqp, broker)
    broker.finish()
    assert not connection.is_open
    assert [f'{broker.address}: LoginRefused: 403 the broker hung up' in text for text in
            caplog.messages] == [True, True]  # fmt: skip
    assert 'S3CRET' not in caplog.text


def test_a_login_that_the_broker_refuses_is_not(amqp, play):
    with pytest.raises(amqp.LoginRefused):
        work(amqp, play(refuse))
