"""Opening and closing connections: addresses, logins, properties, and what is refused."""

import json
import socket
import time
import warnings

import pytest

from tests.helpers.broker import free_port
from tests.helpers.queues import new_name
from tests.helpers.relay import Relay
from tests.helpers.waiting import poll


@pytest.fixture
def soon():
    """Fail a test that takes as long as the default timeouts."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 9


@pytest.fixture
def host_and_port(address):
    host, _, port = address.rpartition(':')
    return host.strip('[]'), int(port)


# What a connection is like


def test_attributes_of_an_open_connection(amqp, connection):
    assert connection.connection is connection
    assert connection.channels == {0: connection}
    assert isinstance(connection.transport, amqp.transport.TCPTransport)
    assert isinstance(connection.method_reader, amqp.method_framing.MethodReader)
    assert isinstance(connection.method_writer, amqp.method_framing.MethodWriter)
    assert connection.channel_id == 0
    assert list(connection.method_queue) == []
    assert connection.auto_decode is False


def test_what_the_broker_proposes_is_kept(connection):
    assert (connection.channel_max, connection.frame_max, connection.heartbeat) == (
        2047,
        131072,
        60,
    )


def test_what_the_broker_says_of_itself(connection, by_version):
    version = (connection.version_major, connection.version_minor)
    assert version == by_version((8, 0), (0, 9))
    assert connection.server_properties['product'] in {'RabbitMQ', 'amqplib.testing'}
    assert isinstance(connection.server_properties['capabilities'], dict)
    assert {'PLAIN', 'AMQPLAIN'} <= set(connection.mechanisms)
    assert connection.locales == ['en_US']
    assert connection.known_hosts == ''


def test_attributes_of_a_closed_connection(connection):
    kept = {
        name: getattr(connection, name)
        for name in (
            'channel_id',
            'auto_decode',
            'channel_max',
            'frame_max',
            'heartbeat',
            'version_major',
            'version_minor',
            'server_properties',
            'mechanisms',
            'locales',
            'known_hosts',
            'method_reader',
            'method_writer',
        )
    }
    connection.channel()
    assert connection.close() is None
    assert connection.transport is None
    assert connection.channels is None
    assert connection.connection is None
    assert list(connection.method_queue) == []
    assert {name: getattr(connection, name) for name in kept} == kept


def test_closing_twice_is_fine(connection):
    connection.close()
    assert connection.close() is None


def test_a_connection_can_be_closed_with_a_code_and_a_text(connection):
    assert connection.close(320, 'good bye', (10, 40)) is None
    assert connection.transport is None


def test_calls_on_a_closed_connection_say_that_it_is_closed(amqp, connection):
    connection.close()
    for call in (connection.channel, connection.wait):
        with pytest.raises(amqp.AMQPConnectionException, match='closed'):
            call()


def test_neither_descriptors_nor_threads_stay(no_leaks, connect):
    for _ in range(5):
        connection = connect()
        connection.channel().queue_declare(exclusive=True)
        connection.close()


def test_waiting_on_the_connection_itself_ends_when_its_time_is_over(amqp, connection):
    with pytest.raises(amqp.AMQPTimeout):
        connection.wait(timeout=0.05)
    assert connection.channel().is_open


# Where it is


def test_host_and_port(connect, host_and_port):
    connection = connect(host='{}:{}'.format(*host_and_port))
    addresses = socket.getaddrinfo(*host_and_port, type=socket.SOCK_STREAM)
    assert connection.transport.sock.getpeername() in [address[-1] for address in addresses]


def test_a_host_name_of_several_addresses(connect, host_and_port):
    """As where localhost is ::1 too, and the broker listens only on 127.0.0.1."""
    if host_and_port[0] not in ('127.0.0.1', 'localhost'):
        pytest.skip('the broker is on another machine')
    assert connect(host=f'localhost:{host_and_port[1]}').channel().is_open


@pytest.fixture
def ipv6_relay(host_and_port):
    """A relay to the broker that listens on ::1."""
    try:
        relay = Relay(socket.AF_INET6, '::1', host_and_port)
    except OSError as problem:
        pytest.skip(f'no IPv6 on this machine: {problem}')
    with relay:
        yield relay


def test_an_ipv6_address_with_brackets_and_port(connect, ipv6_relay):
    connection = connect(host=f'[::1]:{ipv6_relay.port}')
    assert connection.channel().is_open
    connection.close()
    assert ipv6_relay.connections == 1


@pytest.mark.parametrize('host', ['::1', '[::1]', '0:0:0:0:0:0:0:1'])
def test_an_ipv6_address_with_or_without_brackets(amqp, monkeypatch, connect, ipv6_relay, host):
    monkeypatch.setattr(amqp.transport.TCPTransport, 'default_port', ipv6_relay.port)
    connection = connect(host=host)
    assert connection.channel().is_open
    connection.close()
    assert ipv6_relay.connections == 1


def test_the_local_host_and_the_usual_port_are_the_default(amqp, monkeypatch, host_and_port):
    if host_and_port[0] not in ('127.0.0.1', 'localhost'):
        pytest.skip('the broker is on another machine')
    assert amqp.transport.TCPTransport.default_port == 5672
    monkeypatch.setattr(amqp.transport.TCPTransport, 'default_port', host_and_port[1])
    for arguments in [(), ('',), ('localhost',), ('127.0.0.1',)]:
        with amqp.Connection(*arguments) as connection:
            assert connection.transport.sock.getpeername()[1] == host_and_port[1]


def test_a_host_that_does_not_exist(amqp, connect):
    with pytest.raises(amqp.ConnectionLost, match=r'no-such-host\.invalid'):
        connect(host='no-such-host.invalid', connect_timeout=20)


# Who it is


@pytest.mark.parametrize('login_method', [None, 'AMQPLAIN', 'PLAIN'])
def test_login_methods(connect, login_method):
    connection = connect(userid='guest', password='guest', login_method=login_method)
    assert connection.channel().is_open


@pytest.mark.parametrize(
    ('login_method', 'login_response'),
    [
        ('PLAIN', b'\0guest\0guest'),
        ('PLAIN', '\0guest\0guest'),
        ('AMQPLAIN', b'\5LOGINS\0\0\0\5guest\x08PASSWORDS\0\0\0\5guest'),
        (None, b'\5LOGINS\0\0\0\5guest\x08PASSWORDS\0\0\0\5guest'),
    ],
)
def test_a_login_response_is_sent_as_it_is(connect, login_method, login_response):
    connection = connect(
        userid=None, password=None, login_method=login_method, login_response=login_response
    )
    assert connection.channel().is_open


@pytest.mark.parametrize('login_method', [None, 'AMQPLAIN', 'PLAIN'])
@pytest.mark.parametrize('userid', ['guest', 'nobody'])
def test_a_wrong_user_or_password_is_refused_at_once(amqp, connect, soon, login_method, userid):
    with pytest.raises(amqp.LoginRefused) as raised:
        connect(userid=userid, password='wrong password', login_method=login_method)
    assert raised.value.amqp_reply_code == 403
    assert 'ACCESS_REFUSED' in raised.value.amqp_reply_text
    assert 'wrong password' not in str(raised.value)
    assert isinstance(raised.value, amqp.AMQPConnectionException)


def test_a_wrong_login_response_is_refused_at_once(amqp, connect, soon):
    with pytest.raises(amqp.LoginRefused, match='ACCESS_REFUSED'):
        connect(login_method='PLAIN', login_response=b'\0guest\0wrong')


def test_a_mechanism_that_the_broker_does_not_offer(amqp, connect, soon):
    with pytest.raises(amqp.LoginRefused, match='PLAIN'):
        connect(login_method='EXTERNAL')


def test_a_virtual_host_that_does_not_exist(amqp, connect, soon):
    name = new_name()
    with pytest.raises(amqp.AMQPConnectionException, match=name) as raised:
        connect(virtual_host=name)
    assert raised.value.amqp_reply_code == 530
    assert tuple(raised.value.amqp_method_sig) == (10, 40)
    assert raised.value.args[3] == 'Connection.open'
    assert not isinstance(raised.value, amqp.LoginRefused)


def test_a_failed_connection_leaves_nothing_behind(no_leaks, amqp, connect):
    for arguments in (
        {'password': 'wrong'},
        {'virtual_host': '/none'},
        {'host': f'127.0.0.1:{free_port()}'},
    ):
        with pytest.raises(amqp.AMQPConnectionException):
            connect(**arguments)


def test_known_arguments_give_no_warning(connect):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        connection = connect(
            userid='guest',
            password='guest',
            login_method='AMQPLAIN',
            login_response=None,
            virtual_host='/',
            locale='en_US',
            client_properties={},
            ssl=False,
            insist=True,
            connect_timeout=10,
            rpc_timeout=10,
            write_timeout=10,
        )
    assert connection.channel().is_open


# What the broker sees


def test_client_properties_are_seen_by_the_broker(controlled, connect, by_version):
    name = new_name()
    properties = {'connection_name': name, 'library_version': 'mine', 'number': 7}
    connect(host=controlled.address, client_properties=properties)

    def client_properties():
        listing = controlled.rabbitmqctl(
            'list_connections', '--formatter', 'json', 'client_properties'
        )
        for row in json.loads(listing):
            seen = {key: value for key, _, value in row['client_properties']}
            if seen.get('connection_name') == name:
                return seen
        return None

    seen = poll(client_properties, 'the listing of the connection')
    assert seen['library'] == 'Python amqplib'
    assert seen['library_version'] == 'mine'
    assert seen['number'] == 7
    capabilities = {key: value for key, _, value in seen['capabilities']}
    in_both = {'authentication_failure_close', 'consumer_cancel_notify'}
    added = {
        'basic.nack',
        'connection.blocked',
        'exchange_exchange_bindings',
        'publisher_confirms',
    }
    assert capabilities == dict.fromkeys(by_version(in_both, in_both | added), True)


# By a URL


@pytest.fixture
def from_url(amqp, connect):
    """A function that connects by a URL; the connection is closed after the test."""

    def open_connection(url, **arguments):
        return connect(lambda host, **rest: amqp.Connection.from_url(url, **rest), **arguments)

    return open_connection


def test_a_url_names_the_broker_and_everything_else(from_url, address):
    conn = from_url(f'amqp://guest:gu%65st@{address}/%2F?heartbeat=7&connection_timeout=20000')
    assert conn.heartbeat == 7
    assert conn.is_open
    conn.close()
    assert not conn.is_open


def test_a_url_makes_a_connection_of_the_class_that_was_asked(amqp, address):
    class Own(amqp.Connection):
        pass

    with Own.from_url(f'amqp://{address}') as conn:
        assert type(conn) is Own


def test_the_next_url_is_used_if_nobody_listens(from_url, address):
    conn = from_url([f'amqp://localhost:{free_port()}', f'amqp://{address}'])
    assert conn.is_open


def test_a_refused_login_is_not_tried_elsewhere(amqp, from_url, address):
    with pytest.raises(amqp.LoginRefused) as caught:
        from_url([f'amqp://guest:no@{address}', f'amqp://{address}'])
    assert not caught.value.recoverable


def test_a_user_without_a_password_is_refused_before_anything_is_sent(from_url):
    with pytest.raises(TypeError, match='password'):
        from_url(f'amqp://guest@localhost:{free_port()}')


def test_a_lost_connection_is_not_open(connection):
    connection.transport.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionError):
        connection.channel()
    assert not connection.is_open


def test_a_connection_is_not_open_before_the_handshake(amqp, from_url, address):
    class Enough(Exception):
        pass

    class Own(amqp.Connection):
        def _handshake(self, deadline):
            assert not self.is_open
            raise Enough

    with pytest.raises(Enough):
        Own.from_url(f'amqp://{address}')
