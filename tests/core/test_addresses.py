"""Host and port out of text, and the look-up of names."""

import socket
import threading
import time

import pytest

from amqplib.core.addresses import look_up, parse_address, with_port
from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.exceptions import AMQPTimeout, ConnectionLost

# --- Parsing ---


@pytest.mark.parametrize(
    ('text', 'parsed'),
    [
        ('localhost', ('localhost', 5672)),
        ('localhost:1234', ('localhost', 1234)),
        ('rabbit.example.com:1', ('rabbit.example.com', 1)),
        ('127.0.0.1', ('127.0.0.1', 5672)),
        ('127.0.0.1:65535', ('127.0.0.1', 65535)),
        ('::1', ('::1', 5672)),
        ('[::1]', ('::1', 5672)),
        ('[::1]:1234', ('::1', 1234)),
        ('2001:db8::2:1', ('2001:db8::2:1', 5672)),
        ('[2001:DB8::A]:1234', ('2001:DB8::A', 1234)),
        ('::ffff:127.0.0.1', ('::ffff:127.0.0.1', 5672)),
        ('[::ffff:127.0.0.1]:1234', ('::ffff:127.0.0.1', 1234)),
        ('fe80::1%eth0', ('fe80::1%eth0', 5672)),
        ('[fe80::1%eth0]:1234', ('fe80::1%eth0', 1234)),
        ('', ('localhost', 5672)),
        (':1234', ('localhost', 1234)),
    ],
)
def test_host_and_port(text, parsed):
    assert parse_address(text, 5672) == parsed


def test_a_name_that_is_too_long_is_refused_before_it_is_looked_up():
    longest = 'é' * 255
    assert parse_address(longest, 5672) == (longest, 5672)
    with pytest.raises(ValueError, match='is not a host name') as raised:
        parse_address('é' * 400_000, 5672)
    assert len(str(raised.value)) < 400


def test_default_port_is_the_caller_s():
    assert parse_address('::1', 5671) == ('::1', 5671)


@pytest.mark.parametrize(
    'port',
    ['', '0', '65536', '-1', '+1', '1.5', 'amqp', ' 1', '1 ', '0x10', '1_0', '1\n', '٣', '²'],
)
@pytest.mark.parametrize('host', ['localhost', '127.0.0.1', '[::1]'])
def test_a_port_that_is_none_is_refused(host, port):
    with pytest.raises(ValueError, match='host'):
        parse_address(f'{host}:{port}', 5672)


@pytest.mark.parametrize(
    ('host', 'whole'),
    [
        ('', 'localhost:1234'),
        ('rabbit', 'rabbit:1234'),
        ('rabbit:1234', 'rabbit:1234'),
        ('::1', '[::1]:1234'),
        ('[::1]', '[::1]:1234'),
        ('[::1]:1234', '[::1]:1234'),
        ('fe80::1%eth0', '[fe80::1%eth0]:1234'),
    ],
)
def test_a_port_that_is_given_apart(host, whole):
    assert with_port(host, 1234) == whole
    assert parse_address(whole, 5672) == parse_address(host, 1234)


@pytest.mark.parametrize('host', ['rabbit:5672', '[::1]:1235', ':1'])
def test_a_port_that_is_not_that_of_the_host(host):
    with pytest.raises(ValueError, match='port: 1234 is not the port of the host'):
        with_port(host, 1234)


@pytest.mark.parametrize(
    ('port', 'error'),
    [
        ('1234', TypeError),
        (True, TypeError),
        (1.5, TypeError),
        (0, ValueError),
        (65536, ValueError),
    ],
)
def test_a_port_is_a_number(port, error):
    with pytest.raises(error, match='port: '):
        with_port('rabbit', port)


@pytest.mark.parametrize('host', ['[rabbit', 'rabbit:', 'amqp://rabbit'])
def test_a_port_does_not_mend_a_host(host):
    with pytest.raises(ValueError, match='host'):
        with_port(host, 1234)


@pytest.mark.parametrize(
    'host', ['[rabbit]:1234', '[::1', '::1]', '[]', '[::1]x', '[::1]1234', 'localhost\0.example']
)
def test_what_cannot_be_a_host_is_refused(host):
    with pytest.raises(ValueError, match=r'host.*not a host name'):
        parse_address(host, 5672)


@pytest.mark.parametrize('host', [None, b'localhost', 5672, ('localhost', 5672)])
def test_a_host_that_is_no_text_is_refused(host):
    with pytest.raises(TypeError, match='host'):
        parse_address(host, 5672)


# --- Look-up ---


def answer(*addresses):
    """Return what getaddrinfo says for these addresses."""
    kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, '')
    return [(*kind, (address, 5672)) for address in addresses]


@pytest.fixture
def names(monkeypatch):
    """Names in place of those of the network: name -> addresses, an error, or a function."""
    names = {}
    original = socket.getaddrinfo

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        if flags & socket.AI_NUMERICHOST or host not in names:
            return original(host, port, family, type, proto, flags)
        found = names[host]
        if isinstance(found, Exception):
            raise found
        return found() if callable(found) else found

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    return names


def test_an_address_needs_no_name_service(monkeypatch):
    asked = []
    original = socket.getaddrinfo

    def getaddrinfo(*args, **kwargs):
        asked.append(threading.current_thread())
        return original(*args, **kwargs)

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    (address,) = look_up('127.0.0.1', 5672, Deadline(0))
    assert address[0] == socket.AF_INET
    assert address[1] == socket.SOCK_STREAM
    assert address[4] == ('127.0.0.1', 5672)
    assert asked == [threading.current_thread()]


def test_an_ipv6_address():
    (address,) = look_up('::1', 5672, NO_DEADLINE)
    assert address[0] == socket.AF_INET6
    assert address[4][:2] == ('::1', 5672)


def test_localhost():
    found = look_up('localhost', 5672, Deadline(30))
    assert {address[4][0] for address in found} & {'127.0.0.1', '::1'}
    assert {address[4][1] for address in found} == {5672}


def test_all_addresses_of_a_name_in_their_order(names):
    names['rabbit'] = answer('192.0.2.2', '192.0.2.1', '192.0.2.3')
    found = look_up('rabbit', 5672, Deadline(30))
    assert [address[4][0] for address in found] == ['192.0.2.2', '192.0.2.1', '192.0.2.3']


def test_a_name_that_is_not_known(names):
    failure = socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
    names['rabbit'] = failure
    with pytest.raises(ConnectionLost, match='address of rabbit: Name or service') as caught:
        look_up('rabbit', 5672, NO_DEADLINE)
    assert caught.value.errno == socket.EAI_NONAME
    assert caught.value.__cause__ is failure


@pytest.mark.parametrize('name', ['a' * 64 + '.example', 'a..b'])
def test_what_cannot_be_a_name_is_refused(name):
    with pytest.raises(ValueError, match='host'):
        look_up(name, 5672, Deadline(30))


def test_a_slow_name_service_is_given_up_in_time(names):
    answered = threading.Event()

    def slow():
        answered.wait(60)
        return answer('192.0.2.1')

    names['rabbit'] = slow
    begun = time.monotonic()
    try:
        with pytest.raises(AMQPTimeout, match=r'address of rabbit.*within 0\.1 s'):
            look_up('rabbit', 5672, Deadline(0.1))
        assert 0.1 <= time.monotonic() - begun < 5
    finally:
        answered.set()


@pytest.mark.parametrize('url', ['amqp://guest:secret@localhost:5672/', 'guest:secret@localhost'])
def test_the_password_of_a_url_is_not_repeated(url):
    with pytest.raises(ValueError, match=r'URL .*from_url\(\)') as caught:
        parse_address(url, 5672)
    assert 'secret' not in str(caught.value)
