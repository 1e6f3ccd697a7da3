"""TLS with a real broker."""

import pytest

from tests.helpers import broker as brokers
from tests.helpers.authority import Authority


@pytest.fixture(scope='module')
def other_authority(tmp_path_factory):
    """An `Authority` that did not sign the broker's certificate."""
    return Authority(tmp_path_factory.mktemp('other'))


@pytest.fixture(scope='module')
def strict_node(make_node, authority):
    """A real broker that speaks TLS with those who show a certificate."""
    certificate, key = authority.files('127.0.0.1', 'localhost')
    tls = brokers.TLS(certificate, key, authority.file, client_certificates=True)
    with make_node(tls=tls) as node:
        yield node


def test_publish_get_and_consume(amqp, own_node, authority):
    options = {'ca_certs': authority.file}
    body = bytes(range(256)) * 12000
    with amqp.Connection(host=own_node.tls_address, ssl=options) as connection:
        channel = connection.channel()
        queue, _, _ = channel.queue_declare(exclusive=True)
        for text in (b'small', body):
            channel.basic_publish(amqp.Message(text), routing_key=queue)
        channel.queue_declare(queue, passive=True)  # both have arrived now
        assert channel.basic_get(queue, no_ack=True).body == b'small'
        assert channel.basic_get(queue, no_ack=True).body == body
        got = []
        channel.basic_consume(queue, no_ack=True, callback=got.append)
        for _ in range(200):
            channel.basic_publish(amqp.Message(b'x' * 500), routing_key=queue)
        while len(got) < 200:
            channel.wait(timeout=10)


def test_refusals(amqp, own_node, authority):
    options = {'ca_certs': authority.file}
    with pytest.raises(amqp.LoginRefused) as caught:
        amqp.Connection(host=own_node.tls_address, ssl=options, password='wrong')
    assert caught.value.amqp_reply_code == 403
    with pytest.raises(amqp.AMQPConnectionException) as caught:
        amqp.Connection(host=own_node.tls_address, ssl=options, virtual_host='/nowhere')
    assert caught.value.amqp_reply_code == 530


def test_wrong_port(amqp, own_node, authority):
    with pytest.raises((amqp.ProtocolVersionRefused, amqp.ConnectionLost)) as caught:
        amqp.Connection(host=own_node.tls_address, connect_timeout=20)
    # RabbitMQ 3.8 may reset the connection, so that its TLS alert is lost.
    assert isinstance(caught.value, amqp.ConnectionLost) or 'ssl=True' in str(caught.value)
    with pytest.raises(amqp.ConnectionLost, match='TLS'):
        amqp.Connection(host=own_node.address, ssl={'ca_certs': authority.file}, connect_timeout=20)


def test_unknown_authority(amqp, own_node, other_authority):
    with pytest.raises(amqp.ConnectionLost, match='verify failed'):
        amqp.Connection(host=own_node.tls_address, ssl={'ca_certs': other_authority.file})


def test_external_login_by_certificate(amqp, strict_node, authority):
    certificate, key = authority.files('guest@example.org', common_name='guest')
    options = {'ca_certs': authority.file, 'certfile': certificate, 'keyfile': key}
    with amqp.Connection(
        host=strict_node.tls_address,
        ssl=options,
        login_method='EXTERNAL',
        userid=None,
        password=None,
    ) as connection:
        assert 'EXTERNAL' in connection.mechanisms
        assert connection.channel().queue_declare(exclusive=True)[1:] == (0, 0)


def test_certificate_of_no_user_is_a_refused_login(amqp, strict_node, authority):
    certificate, key = authority.files('nobody@example.org', common_name='nobody')
    options = {'ca_certs': authority.file, 'certfile': certificate, 'keyfile': key}
    with pytest.raises(amqp.LoginRefused):
        amqp.Connection(
            host=strict_node.tls_address,
            ssl=options,
            login_method='EXTERNAL',
            userid=None,
            password=None,
        )


def test_certificate_that_is_missing(amqp, strict_node, authority):
    with pytest.raises(amqp.ConnectionLost):
        amqp.Connection(host=strict_node.tls_address, ssl={'ca_certs': authority.file})
