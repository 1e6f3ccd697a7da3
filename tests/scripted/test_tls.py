"""TLS: which servers are trusted, how records arrive, how it ends."""

import contextlib
import datetime
import functools
import ssl

import pytest

import amqplib.client_0_8 as amqp
from amqplib.core import transport
from tests.helpers.checks import check_closed, check_repeated, refused, until_raised
from tests.helpers.waiting import lasting
from tests.helpers.wire import content, delivery, method

# The lowest port number there is; a connection to it is refused.
NOBODY_LISTENS = '127.0.0.1:1'

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def usual(peer):
    """Open a connection and have it closed."""
    peer.handshake()
    peer.expect_close()


def refused_tls(context):
    """Return a script in which the client breaks off the TLS handshake."""

    def script(peer):
        try:
            peer.start_tls(context)
        except OSError:
            return  # it said why, or just hung up
        peer.expect_end()

    return script


class MemoryTLS:
    """The server's side of TLS, with the bytes of its records at hand.

    interval: seconds between any two bytes that are sent; None to send records whole.
    """

    def __init__(self, peer, context, interval=None):
        self.peer = peer
        self.sock = peer.sock
        self.interval = interval
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def __enter__(self):
        self.repeat(self.tls.do_handshake)
        self.peer.sock = self
        return self

    def __exit__(self, *exc_info):
        self.peer.sock = self.sock

    def repeat(self, operation, *args):
        while True:
            try:
                return operation(*args)
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            finally:
                self.flush()

    def flush(self):
        data = self.outgoing.read()
        step = len(data) if self.interval is None else 1
        with contextlib.suppress(ConnectionError):  # who hung up is noticed by reading
            for position in range(0, len(data), step or 1):
                self.sock.sendall(data[position : position + step])
                self.peer.broker._finished.wait(self.interval or 0)

    def records(self, data):
        """Return the bytes of the records that carry these."""
        self.tls.write(data)
        return self.outgoing.read()

    def sendall(self, data):
        self.tls.write(data)
        self.flush()

    def recv(self, size):
        return self.repeat(self.tls.read, size)

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)


# --- Whom the client trusts ---------------------------------------------------------------------


def test_authority_that_is_named(play, connect, authority):
    connection = connect(play(usual, tls=authority.server()), ssl={'ca_certs': authority.file})
    assert isinstance(connection.transport, transport.SSLTransport)
    assert connection.transport.sslobj.version().startswith('TLSv1.')
    connection.close()


def test_authorities_of_the_system_are_trusted(play, connect, authority, monkeypatch):
    monkeypatch.setenv('SSL_CERT_FILE', authority.file)
    connect(play(usual, tls=authority.server()), ssl=True).close()


@pytest.mark.parametrize('options', [True, {'check_hostname': False}])
def test_unknown_authority_is_refused(play, authority, options):
    error = refused(play(refused_tls(authority.server())), amqp.ConnectionLost, ssl=options)
    assert 'certificate verify failed' in str(error.__cause__)
    assert 'TLS' in error.amqp_reply_text


def test_certificate_of_another_authority_is_refused(play, authority, other_authority):
    broker = play(refused_tls(other_authority.server()))
    error = refused(broker, amqp.ConnectionLost, ssl={'ca_certs': authority.file})
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize('name', ['example.org', '127.0.0.2'])
def test_certificate_for_another_name_is_refused(play, authority, name):
    broker = play(refused_tls(authority.server(name)))
    error = refused(broker, amqp.ConnectionLost, ssl={'ca_certs': authority.file})
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert 'IP address mismatch' in str(error.__cause__)


def test_expired_certificate_is_refused(play, authority):
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    times = {'not_before': past, 'not_after': past + datetime.timedelta(days=1)}
    broker = play(refused_tls(authority.server('127.0.0.1', **times)))
    error = refused(broker, amqp.ConnectionLost, ssl={'ca_certs': authority.file})
    assert 'expired' in str(error.__cause__)


def test_name_is_asked_for_and_checked(play, connect, authority):
    asked = []
    context = authority.server('localhost')
    context.sni_callback = lambda sock, name, context: asked.append(name)
    broker = play(usual, tls=context)
    connection = amqp.Connection(
        host=f'localhost:{broker.port}', ssl={'ca_certs': authority.file}, connect_timeout=10
    )
    connection.close()
    assert asked == ['localhost']


@pytest.mark.parametrize(
    'options',
    [
        {'check_hostname': False},
        {'server_hostname': 'example.org'},
        {'cert_reqs': ssl.CERT_NONE, 'ca_certs': None},
        {'server_hostname': 'example.org', 'cert_reqs': ssl.CERT_REQUIRED},
        {'check_hostname': False, 'cert_reqs': ssl.CERT_OPTIONAL},
        {'cert_reqs': 0, 'ca_certs': None, 'check_hostname': True},
    ],
)
def test_checking_can_be_changed_by_saying_so(play, connect, authority, options):
    broker = play(usual, tls=authority.server('example.org'))
    connect(broker, ssl={'ca_certs': authority.file, **options}).close()


def test_options_that_have_lost_their_meaning_are_accepted(play, connect, authority):
    old = {
        'ca_certs': authority.file,
        'ssl_version': ssl.PROTOCOL_TLS_CLIENT,
        'do_handshake_on_connect': True,
        'suppress_ragged_eofs': True,
        'server_side': False,
        'keyfile': None,
        'certfile': None,
        'ciphers': 'HIGH',
    }
    connect(play(usual, tls=authority.server()), ssl=old).close()


def test_no_options_are_those_by_default(play, connect, authority, monkeypatch):
    monkeypatch.setenv('SSL_CERT_FILE', authority.file)
    connection = connect(play(usual, tls=authority.server()), ssl={})
    assert isinstance(connection.transport, transport.SSLTransport)
    connection.close()
    refused(play(refused_tls(authority.server('example.org'))), amqp.ConnectionLost, ssl={})


@pytest.mark.parametrize(
    ('options', 'kind', 'text'),
    [
        ('ca.pem', TypeError, "ssl: 'ca.pem' is not"),
        ('', TypeError, "ssl: '' is not"),
        (0, TypeError, 'ssl: 0 is not'),
        ([], TypeError, 'ssl: list is not'),
        (ssl, TypeError, 'ssl: module is not'),
        ({'ca_certs': ''}, FileNotFoundError, "ssl: ca_certs: ''"),
        ({'ca_certs': '/no/such/file'}, FileNotFoundError, "ssl: ca_certs: '/no/such/file': No "),
        ({'ca_certs': '/'}, IsADirectoryError, "ssl: ca_certs: '/'"),
        ({'ca_certs': __file__}, ssl.SSLError, f'ssl: ca_certs: {__file__!r}'),
        ({'ca_certs': False}, TypeError, 'ssl: ca_certs: False'),
        ({'ca_certs': 'a\0'}, ValueError, 'ssl: ca_certs'),
        ({'certfile': '/no/such/file'}, FileNotFoundError, "ssl: certfile: '/no/such/file'"),
        ({'certfile': ''}, FileNotFoundError, "ssl: certfile: ''"),
        ({'certfile': __file__}, ssl.SSLError, f'ssl: certfile: {__file__!r}'),
        ({'certfile': __file__, 'keyfile': '/no'}, FileNotFoundError, "ssl: keyfile: '/no'"),
        ({'certfile': __file__, 'keyfile': ''}, FileNotFoundError, "ssl: keyfile: ''"),
        ({'certfile': __file__, 'keyfile': __file__}, ssl.SSLError, f', keyfile: {__file__!r}'),
        ({'certfile': __file__, 'password': 5}, TypeError, 'ssl: certfile'),
        ({'keyfile': 'key.pem'}, ValueError, 'ssl: keyfile: it needs a certfile'),
        ({'password': 'secret'}, ValueError, 'ssl: password: it needs a certfile'),
        ({'cert_reqs': 3}, ValueError, 'ssl: cert_reqs: 3'),
        ({'cert_reqs': -1}, ValueError, 'ssl: cert_reqs: -1'),
        ({'cert_reqs': 'CERT_NONE'}, ValueError, "ssl: cert_reqs: 'CERT_NONE'"),
        ({'cert_reqs': False}, ValueError, 'ssl: cert_reqs: False'),
        ({'check_hostname': 'no'}, TypeError, "ssl: check_hostname: 'no'"),
        ({'check_hostname': ''}, TypeError, "ssl: check_hostname: ''"),
        ({'ciphers': 'no-such-cipher'}, ssl.SSLError, "ssl: ciphers: 'no-such-cipher'"),
        ({'ciphers': ''}, ValueError, 'ssl: ciphers'),
        ({'server_hostname': 5}, TypeError, 'ssl: server_hostname: 5'),
        ({'server_hostname': ''}, ValueError, 'ssl: server_hostname'),
        ({'server_hostname': '.example.org'}, ValueError, "server_hostname '.example.org'"),
        ({'server_hostname': 'a' * 64}, ValueError, "server_hostname 'aaaa"),
        (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ValueError, 'ssl: this SSLContext is for serv'),
    ],
)
def test_wrong_options_are_errors_that_name_them_before_there_is_a_socket(options, kind, text):
    with pytest.raises(kind) as caught:
        amqp.Connection(host=NOBODY_LISTENS, ssl=options, connect_timeout=10)
    assert not isinstance(caught.value, amqp.ConnectionLost)
    assert text in str(caught.value)
    assert 'secret' not in str(caught.value)


def test_address_with_a_zone(play, authority):
    broker = play(usual, tls=authority.server('::1'), host='::1')
    options = {'ca_certs': authority.file}
    amqp.Connection(host=f'[::1%1]:{broker.port}', ssl=options, connect_timeout=10).close()


def test_context_is_used_as_it_is(play, connect, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connect(play(usual, tls=authority.server('example.org')), ssl=context).close()
    assert context.verify_mode == ssl.CERT_NONE


def test_context_that_verifies(play, authority, other_authority):
    context = ssl.create_default_context(cafile=other_authority.file)
    refused(play(refused_tls(authority.server())), amqp.ConnectionLost, ssl=context)


@pytest.mark.parametrize('version', VERSIONS)
def test_client_certificate(play, connect, authority, version):
    heard = []

    def script(peer):
        heard.append(peer.sock.getpeercert()['subject'])
        heard.append(peer.expect_login(mechanisms='EXTERNAL PLAIN'))
        peer.tune()
        peer.open()
        peer.expect_close()

    context = authority.asking_server()
    context.maximum_version = version
    broker = play(script, tls=context)
    certificate, key = authority.files('guest@example.org', common_name='guest')
    options = {'ca_certs': authority.file, 'certfile': certificate, 'keyfile': key}
    connect(broker, ssl=options, login_method='EXTERNAL', userid=None, password=None).close()
    broker.finish()
    assert (('commonName', 'guest'),) in heard[0]
    assert (heard[1].mechanism, heard[1].response) == ('EXTERNAL', b'')


@pytest.mark.parametrize('version', VERSIONS)
def test_client_certificate_that_is_missing(play, authority, version):
    context = authority.asking_server()
    context.maximum_version = version

    def script(peer):
        with pytest.raises(ssl.SSLError, match='PEER_DID_NOT_RETURN_A_CERTIFICATE'):
            peer.start_tls(context)

    refused(play(script), amqp.ConnectionLost, ssl={'ca_certs': authority.file})


@pytest.mark.parametrize(
    ('arguments', 'port'),
    [({}, 5672), ({'ssl': True}, 5671), ({'ssl': {}}, 5671), ({'ssl': None}, 5672)],
)
def test_default_port(monkeypatch, arguments, port):
    asked = []

    def connect(host, port, deadline):
        asked.append((host, port))
        raise amqp.ConnectionLost(0, 'not now')

    monkeypatch.setattr(transport, '_connect', connect)
    with pytest.raises(amqp.ConnectionLost, match='not now'):
        amqp.Connection(host='rabbit', **arguments)
    assert asked == [('rabbit', port)]


# --- What is no TLS -----------------------------------------------------------------------------


@pytest.mark.parametrize('answer', [b'AMQP\0\0\x09\x01', b'HTTP/1.1 400 Bad Request\r\n\r\n', b''])
@pytest.mark.parametrize('end', ['close', 'reset'])
def test_plain_port(play, authority, answer, end):
    def script(peer):
        peer.read(8)
        peer.send_raw(answer)
        getattr(peer, end)()

    error = refused(play(script), amqp.ConnectionLost, most=1, ssl={'ca_certs': authority.file})
    assert 'TLS' in error.amqp_reply_text


def test_broker_without_tls_is_recognized(play):
    def script(peer):
        peer.send_raw(b'AMQP\0\0\x09\x01')
        peer.rest()

    error = refused(play(script), amqp.ConnectionLost, most=1, ssl=True)
    assert ', perhaps a port without TLS:' in error.amqp_reply_text


def test_plain_client_on_a_tls_port(play):
    def script(peer):
        peer.expect_header()
        peer.send_raw(b'\x15\x03\x01\x00\x02\x02\x0a')
        peer.rest()

    error = refused(play(script), amqp.ProtocolVersionRefused, most=1)
    assert 'ssl=True' in error.amqp_reply_text


def test_silent_peer_is_given_up_in_time(play, authority):
    broker = play(lambda peer: peer.stall())
    with lasting(0.2, 1.5), pytest.raises(amqp.AMQPTimeout, match='TLS'):
        amqp.Connection(host=broker.address, ssl={'ca_certs': authority.file}, connect_timeout=0.2)


def test_peer_that_is_silent_after_the_tls_handshake_is_given_up_in_time(play, authority):
    broker = play(lambda peer: peer.stall(), tls=authority.server())
    with lasting(0.3, 2), pytest.raises(amqp.AMQPTimeout, match='AMQP'):
        amqp.Connection(host=broker.address, ssl={'ca_certs': authority.file}, connect_timeout=0.3)


def test_dripping_tls_handshake_is_given_up_in_time(play, authority):
    def script(peer):
        with contextlib.suppress(OSError), MemoryTLS(peer, authority.server(), interval=0.01):
            raise AssertionError('the client should have given up')

    broker = play(script)
    with lasting(0.3, 2), pytest.raises(amqp.AMQPTimeout, match='TLS'):
        amqp.Connection(host=broker.address, ssl={'ca_certs': authority.file}, connect_timeout=0.3)


@pytest.mark.parametrize('end', ['close', 'reset'])
def test_end_within_the_tls_handshake(play, authority, end):
    def script(peer):
        peer.read(100)
        peer.send_raw(b'\x16\x03\x03\x00\x7a\x02')
        getattr(peer, end)()

    refused(play(script), amqp.ConnectionLost, most=1, ssl={'ca_certs': authority.file})


# --- How records arrive -------------------------------------------------------------------------


@pytest.mark.parametrize('version', VERSIONS)
def test_whole_conversation_byte_by_byte(play, connect, authority, version):
    context = authority.server()
    context.maximum_version = version

    def script(peer):
        with MemoryTLS(peer, context, interval=0.0001):
            peer.handshake()
            peer.open_channel()
            peer.expect_method(1, 'basic.get')
            peer.send_content(1, 'basic.get_ok', 1, False, '', 'q', 0, body=b'body')
            peer.expect_close()

    connection = connect(play(script), ssl={'ca_certs': authority.file})
    assert connection.channel().basic_get('q').body == b'body'
    connection.close()


@pytest.mark.parametrize('version', VERSIONS)
def test_record_that_is_split_at_every_byte(play, connect, authority, version):
    context = authority.server()
    context.maximum_version = version
    data = delivery(1, 'tag', body=b'body')
    # A record has a header of five bytes, and more bytes after its content.
    splits = range(1, len(data) + 20)

    def script(peer):
        with MemoryTLS(peer, context) as tls:
            peer.handshake()
            peer.open_channel()
            for position in splits:
                record = tls.records(data)
                assert len(record) > position
                tls.sock.sendall(record[:position])
                peer.mark()
                peer.await_cue()
                tls.sock.sendall(record[position:])
            peer.expect_close()

    broker = play(script)
    connection = connect(broker, ssl={'ca_certs': authority.file})
    channel = connection.channel()
    got = []
    channel.callbacks['tag'] = got.append
    for number, _ in enumerate(splits):
        broker.await_mark()
        with pytest.raises(amqp.AMQPTimeout):
            channel.wait(timeout=0)
        broker.cue()
        channel.wait(timeout=5)
        assert len(got) == number + 1
    connection.close()


def test_frames_in_many_records_and_records_of_many_frames(play, connect, authority):
    data = delivery(1, 'tag', body=b'body') * 3

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.send_raw(data)
        for position in range(len(data)):
            peer.send_raw(data[position : position + 1])
        peer.expect_close()

    connection = connect(play(script, tls=authority.server()), ssl={'ca_certs': authority.file})
    channel = connection.channel()
    got = []
    channel.callbacks['tag'] = got.append
    for _ in range(6):
        channel.wait(timeout=5)
    assert [m.body for m in got] == [b'body'] * 6
    connection.close()


def test_large_bodies_both_ways(play, connect, authority):
    body = bytes(range(256)) * 20000

    def script(peer):
        peer.handshake()
        peer.open_channel()
        peer.expect_method(1, 'basic.publish')
        assert peer.expect_content(1)[1] == body
        peer.expect_method(1, 'basic.get')
        peer.send_content(1, 'basic.get_ok', 1, False, '', 'q', 0, body=body)
        peer.expect_close()

    connection = connect(play(script, tls=authority.server()), ssl={'ca_certs': authority.file})
    channel = connection.channel()
    channel.basic_publish(amqp.Message(body), routing_key='q')
    assert channel.basic_get('q').body == body
    connection.close()


# --- How it ends --------------------------------------------------------------------------------


@pytest.fixture
def secure_session(play, connect, authority):
    """A function that plays a script behind handshake and channel.open, over TLS."""

    def start(script, **options):
        arguments = options.pop('arguments', {})

        def whole(peer):
            peer.handshake()
            peer.open_channel()
            peer.await_cue()
            script(peer)

        broker = play(whole, tls=authority.server(), **options)
        connection = connect(broker, ssl={'ca_certs': authority.file}, **arguments)
        sock = connection.transport.sock
        channel = connection.channel()
        broker.cue()
        return broker, connection, channel, sock

    return start


def without_close_notify(peer):
    peer.close()


def with_close_notify(peer):
    with contextlib.suppress(OSError):  # the client does not answer it
        peer.sock.unwrap()


def by_reset(peer):
    peer.reset()


@pytest.mark.parametrize('end', [without_close_notify, with_close_notify, by_reset])
@pytest.mark.parametrize('reason', [True, False])
def test_broker_ends_the_stream(secure_session, end, reason):
    def script(peer):
        if reason:
            peer.send_method(0, 'connection.close', 320, 'bye', 0, 0)
        end(peer)

    broker, connection, channel, sock = secure_session(script)
    with lasting(most=2), pytest.raises(amqp.AMQPConnectionException) as caught:
        channel.wait(timeout=5)
    error = caught.value
    if reason:
        assert error.args[:2] == (320, 'bye')
    else:
        assert type(error) is amqp.ConnectionLost
    broker.finish()
    check_closed(connection, sock, error, [channel])


def test_end_in_the_middle_of_a_record(play, connect, authority):
    def script(peer):
        with MemoryTLS(peer, authority.server()) as tls:
            peer.handshake()
            peer.open_channel()
            peer.await_cue()
            tls.sock.sendall(tls.records(delivery(1, 'tag'))[:-3])

    broker = play(script)
    connection = connect(broker, ssl={'ca_certs': authority.file})
    sock = connection.transport.sock
    channel = connection.channel()
    broker.cue()
    with lasting(most=2), pytest.raises(amqp.ConnectionLost) as caught:
        channel.wait(timeout=5)
    broker.finish()
    check_closed(connection, sock, caught.value, [channel])


def test_record_that_is_forged(play, connect, authority):
    def script(peer):
        with MemoryTLS(peer, authority.server()) as tls:
            peer.handshake()
            peer.open_channel()
            peer.await_cue()
            record = bytearray(tls.records(delivery(1, 'tag')))
            record[-1] ^= 1
            tls.sock.sendall(record)
            with contextlib.suppress(ssl.SSLError):  # it says what it thinks of that
                peer.rest()

    broker = play(script)
    connection = connect(broker, ssl={'ca_certs': authority.file})
    sock = connection.transport.sock
    channel = connection.channel()
    broker.cue()
    with lasting(most=2), pytest.raises(amqp.ConnectionLost) as caught:
        channel.wait(timeout=5)
    broker.finish()
    check_closed(connection, sock, caught.value, [channel])


def test_close_does_not_wait_for_the_end_of_tls(secure_session):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.send_method(0, 'connection.close_ok')
        peer.stall()  # and no close_notify

    _, connection, _, sock = secure_session(script)
    with lasting(most=1):
        connection.close()
    assert sock.fileno() == -1


def test_nothing_is_written_after_a_write_that_took_too_long(secure_session):
    body = bytes(24 << 20)
    seen = []

    def script(peer):
        begun = peer.read(100000)
        peer.await_cue()
        with contextlib.suppress(ssl.SSLError):  # within a record
            peer.rest()
        seen.append(begun + peer._buffer)

    broker, connection, channel, sock = secure_session(
        script, receive_buffer=65536, arguments={'write_timeout': 0.3}
    )
    with lasting(0.3, 4), pytest.raises(amqp.WriteTimeout) as caught:
        channel.basic_publish(amqp.Message(body), routing_key='q')
    check_repeated(caught.value, lambda: channel.basic_ack(1))
    check_closed(connection, sock, caught.value, [channel])
    broker.cue()
    broker.finish()
    whole = method(1, 'basic.publish', 0, '', 'q', False, False) + content(1, body)
    assert len(seen[0]) < len(whole)
    assert whole.startswith(seen[0])


def test_timeout_of_the_socket_ends_a_wait_and_not_the_connection(secure_session):
    """Which is how old programs limited a wait."""

    def script(peer):
        peer.await_cue()
        peer.send_raw(delivery(1, 'tag'))
        peer.expect_close()

    broker, connection, channel, sock = secure_session(script)
    sock.settimeout(0.3)
    for _ in range(2):
        with lasting(0.25, 2), pytest.raises(amqp.AMQPTimeout):
            channel.wait()
    sock.settimeout(30)
    for timeout in (0, 0.1):
        with lasting(timeout, 2), pytest.raises(amqp.AMQPTimeout):
            channel.wait(timeout=timeout)
    assert sock.gettimeout() == 30
    got = []
    channel.callbacks['tag'] = got.append
    broker.cue()
    channel.wait()
    assert len(got) == 1
    connection.close()


def test_tls_is_used_by_one_thread_at_a_time(secure_session, monkeypatch):
    """OpenSSL does not allow otherwise; heartbeats, too, are sent while another thread reads."""

    def script(peer):
        peer.expect_method(1, 'basic.get')
        peer.send_method(1, 'basic.get_empty', '')
        assert peer.expect_frame() == (8, 0, b'')
        peer.expect_close()

    _, connection, channel, sock = secure_session(script)
    used = []

    def watched(name):
        original = getattr(sock, name)

        def use(*args):
            assert connection.transport._tls_lock.is_mine()
            used.append(name)
            return original(*args)

        return use

    for name in ('send', 'recv'):
        monkeypatch.setattr(sock, name, watched(name))
    assert channel.basic_get('q') is None
    connection._session.send_heartbeat()
    assert used[0] == 'send'
    assert used[-1] == 'send'
    assert 'recv' in used
    connection.close()


def in_the_middle_of(call, action):
    """Return what makes a call, but another one first, as a finalizer might."""
    actions = [action]

    def interrupted(*args):
        if actions:
            actions.pop()()
        return call(*args)

    return interrupted


@pytest.mark.parametrize('arrives', ['before', 'after', 'never'])
def test_what_is_published_in_the_middle_of_a_read_is_sent_after_it(
    secure_session, monkeypatch, arrives
):
    """The program may do nothing else for long, or wait without limit."""

    def script(peer):
        if arrives == 'before':
            peer.send_raw(delivery(1, 'tag'))
        peer.mark()
        peer.expect_method(1, 'basic.publish')
        peer.expect_content(1)
        peer.mark()
        if arrives == 'after':
            peer.send_raw(delivery(1, 'tag'))
        peer.expect_close()

    broker, connection, channel, sock = secure_session(script)
    broker.await_mark()
    channel.callbacks['tag'] = lambda message: None
    publish = functools.partial(channel.basic_publish, amqp.Message('x'), routing_key='q')
    monkeypatch.setattr(sock, 'recv', in_the_middle_of(sock.recv, publish))
    try:
        channel.wait(timeout=0 if arrives == 'never' else 10)
    except amqp.AMQPTimeout:
        assert arrives == 'never'
    broker.await_mark()
    connection.close()


def test_publish_in_the_middle_of_a_write_does_not_read(secure_session, monkeypatch):
    """OpenSSL does not allow it, even if it is time to look for input."""

    def script(peer):
        for body in (b'first', b'second'):
            peer.expect_method(1, 'basic.publish')
            assert peer.expect_content(1)[1] == body
        peer.expect_close()

    _, connection, channel, sock = secure_session(script)

    def publish_another():
        connection._session.poll_due = 0
        channel.basic_publish(amqp.Message(b'second'), routing_key='q')

    monkeypatch.setattr(sock, 'send', in_the_middle_of(sock.send, publish_another))
    channel.basic_publish(amqp.Message(b'first'), routing_key='q')
    connection.close()


def test_publish_for_which_there_was_no_room_counts_as_begun(secure_session):
    """TLS may have encrypted it by then: what follows would be taken for a forgery."""
    seen = []

    def script(peer):
        peer.await_cue()
        with contextlib.suppress(ssl.SSLError):  # within a record
            seen.append(peer.rest())
        seen.append(peer._buffer)

    broker, connection, channel, sock = secure_session(
        script, receive_buffer=65536, arguments={'write_timeout': 0.3}
    )
    sent = 0

    def body_of(number):
        return b'%09d' % number + bytes(3000)  # one record

    def publish():
        nonlocal sent
        channel.basic_publish(amqp.Message(body_of(sent)), routing_key='q')
        sent += 1

    with lasting(0.3, 15):
        error = until_raised(publish)
    assert type(error) is amqp.WriteTimeout
    check_repeated(error, publish)
    check_closed(connection, sock, error, [channel])
    broker.cue()
    broker.finish()
    publishes = [
        method(1, 'basic.publish', 0, '', 'q', False, False) + content(1, body_of(number))
        for number in range(sent + 1)
    ]
    arrived = b''.join(seen)
    # Not compared by the assert, which would explain the difference of megabytes at length.
    as_sent = b''.join(publishes).startswith(arrived)
    assert as_sent
    assert len(arrived) >= len(b''.join(publishes[:sent]))
