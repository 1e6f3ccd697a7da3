"""Opening a connection, step by step as it is on the wire, and all the ways in which it fails."""

import errno
import logging
import socket

import pytest

import amqplib.client_0_8 as amqp
from amqplib import client_0_9_1
from amqplib.core import transport
from tests.helpers import wire
from tests.helpers.checks import refused
from tests.helpers.leaks import open_descriptors
from tests.helpers.scripted_broker import MECHANISMS
from tests.helpers.waiting import lasting
from tests.helpers.wire import VERSION_0_8, VERSION_0_9_1

pytestmark = pytest.mark.usefixtures('little_memory')

AMQPLAIN = b'\x05LOGINS\x00\x00\x00\x05guest\x08PASSWORDS\x00\x00\x00\x05guest'
PLAIN = b'\0guest\0guest'


class StartOk:
    """A script that opens a connection and keeps what the client said of itself."""

    def __init__(self, **start):
        self.start = start
        self.values = None

    def __call__(self, peer):
        self.values = peer.expect_login(**self.start)
        peer.tune()
        peer.open()
        peer.expect_close()


# --- What is on the wire ------------------------------------------------------------------------


def test_whole_conversation(play, connect):
    heard = {}

    def script(peer):
        heard['header'] = peer.read(8)
        peer.send_method(0, 'connection.start', 8, 0, {'product': 'Script'}, MECHANISMS, 'en_US')
        heard['start_ok'] = peer.expect_method(0, 'connection.start_ok')
        heard['tune_ok'] = peer.tune(100, 8192, 0)
        heard['open'] = peer.open(known_hosts='a:1,b:2')
        heard['close'] = peer.expect_close()

    broker = play(script)
    connection = connect(broker)
    assert (connection.version_major, connection.version_minor) == (8, 0)
    assert connection.server_properties == {'product': 'Script'}
    assert connection.mechanisms == ['PLAIN', 'AMQPLAIN']
    assert connection.locales == ['en_US']
    assert (connection.channel_max, connection.frame_max) == (100, 8192)
    assert connection.known_hosts == 'a:1,b:2'
    assert connection.channels == {0: connection}
    connection.close()
    broker.finish()

    assert heard['header'] == b'AMQP\x01\x01\x08\x00'
    assert heard['start_ok'].locale == 'en_US'
    assert (heard['tune_ok'].channel_max, heard['tune_ok'].frame_max) == (100, 8192)
    assert heard['open'].virtual_host == '/'
    assert heard['open'].capabilities == ''
    assert not heard['open'].insist
    assert (heard['close'].reply_code, heard['close'].reply_text) == (0, '')
    assert (heard['close'].class_id, heard['close'].method_id) == (0, 0)


@pytest.mark.parametrize(
    ('offered', 'arguments', 'mechanism', 'response'),
    [
        ('PLAIN AMQPLAIN', {}, 'AMQPLAIN', AMQPLAIN),
        ('GSSAPI EXTERNAL PLAIN', {}, 'PLAIN', PLAIN),
        ('PLAIN', {'login_response': b'as it is'}, 'AMQPLAIN', b'as it is'),
    ],
)
def test_mechanism_and_response(play, connect, offered, arguments, mechanism, response):
    script = StartOk(mechanisms=offered)
    broker = play(script)
    connect(broker, **arguments).close()
    broker.finish()
    assert script.values.mechanism == mechanism
    assert script.values.response == response


def test_client_properties_carry_the_two_capabilities(play, connect):
    script = StartOk()
    broker = play(script)
    connect(broker).close()
    broker.finish()
    properties = script.values.client_properties
    assert properties['library'] == 'Python amqplib'
    assert properties['library_version'] == amqp.connection.LIBRARY_PROPERTIES['library_version']
    assert properties['capabilities'] == {
        'authentication_failure_close': True,
        'consumer_cancel_notify': True,
    }


def test_own_client_properties_are_laid_over_those_of_the_library(play, connect):
    script = StartOk()
    broker = play(script)
    own = {'library': 'mine', 'number': 7, 'capabilities': {'consumer_cancel_notify': False}}
    connect(broker, client_properties=own).close()
    broker.finish()
    properties = script.values.client_properties
    assert properties['library'] == 'mine'
    assert properties['number'] == 7
    assert properties['capabilities'] == {
        'authentication_failure_close': True,
        'consumer_cancel_notify': False,
    }


def test_capabilities_that_are_none_are_those_of_the_library(play, connect):
    script = StartOk()
    broker = play(script)
    connect(broker, client_properties={'capabilities': None}).close()
    broker.finish()
    assert script.values.client_properties['capabilities'] == {
        'authentication_failure_close': True,
        'consumer_cancel_notify': True,
    }


def test_locale_virtual_host_and_insist_are_passed_on(play, connect):
    heard = {}

    def script(peer):
        heard['start_ok'] = peer.expect_login(locales='de_DE en_US')
        peer.tune()
        heard['open'] = peer.open()
        peer.expect_close()

    broker = play(script)
    connect(broker, locale='de_DE', virtual_host='/häuser', insist=True).close()
    broker.finish()
    assert heard['start_ok'].locale == 'de_DE'
    assert heard['open'].virtual_host == '/häuser'
    assert heard['open'].insist


@pytest.mark.parametrize('cls', [amqp.Connection, client_0_9_1.Connection])
@pytest.mark.parametrize('with_both', [False, True])
def test_host_and_port_apart(play, cls, with_both):
    version = VERSION_0_9_1 if cls is client_0_9_1.Connection else VERSION_0_8
    broker = play(StartOk(), version=version)
    host = broker.address if with_both else broker.host
    connection = cls(host, port=broker.port, connect_timeout=10)
    assert (connection.transport.host, connection.transport.port) == (broker.host, broker.port)
    connection.close()
    with pytest.raises(ValueError, match='port'):
        cls(broker.address, port=broker.port % 65535 + 1)


def test_a_redirect_has_its_own_port(play):
    second = play(StartOk())
    first = play(redirect(second.address, ''))
    connection = amqp.Connection(first.host, port=first.port, connect_timeout=10)
    assert connection.transport.port == second.port
    connection.close()


@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_ipv4_and_ipv6(play, connect, host):
    try:
        broker = play(StartOk(), host=host)
    except OSError as problem:
        if problem.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        pytest.skip('this machine has no IPv6')
    connect(broker).close()


def test_heartbeats_between_the_steps_are_no_steps(play, connect):
    def script(peer):
        peer.expect_login()
        peer.send_heartbeat()
        peer.send_heartbeat()
        peer.tune()
        peer.send_heartbeat()
        peer.open()
        peer.expect_close()

    connect(play(script)).close()


# --- Tuning -------------------------------------------------------------------------------------


def test_tune_of_zero_means_no_limit(play, connect):
    tuned = {}
    body = bytes(range(256)) * 4096

    def script(peer):
        peer.handshake(tune=(0, 0, 0))
        tuned['ok'] = peer.tuned
        peer.open_channel()
        peer.expect_method(1, 'basic.publish')
        assert peer.expect_content(1)[1] == body
        peer.expect_method(1, 'basic.get')
        peer.send_content(1, 'basic.get_ok', 1, False, '', 'q', 0, body=body)
        peer.expect_close()

    broker = play(script)
    connection = connect(broker)
    assert (connection.channel_max, connection.frame_max) == (65535, 131072)
    channel = connection.channel()
    channel.basic_publish(amqp.Message(body), routing_key='q')
    assert channel.basic_get('q').body == body
    connection.close()
    broker.finish()
    assert (tuned['ok'].channel_max, tuned['ok'].frame_max) == (65535, 131072)


def test_largest_tune_is_taken(play, connect):
    def script(peer):
        peer.handshake(tune=(65535, 0xFFFFFFFF, 0))
        peer.expect_close()

    connection = connect(play(script))
    assert connection.channel_max == 65535
    connection.close()


def test_tuned_frame_size_limits_every_frame_that_is_sent(play, connect):
    body = b'x' * (3 * (4096 - 8) + 1)
    sizes = []

    def script(peer):
        peer.handshake(tune=(10, 4096, 0))
        peer.open_channel()
        peer.expect_method(1, 'basic.publish')
        sizes.extend(len(peer.expect_frame()[2]) + 8 for _ in range(5))
        peer.expect_close()

    broker = play(script)
    connection = connect(broker)
    connection.channel().basic_publish(amqp.Message(body), routing_key='q')
    connection.close()
    broker.finish()
    assert sizes[1:] == [4096, 4096, 4096, 9]


@pytest.mark.parametrize(
    ('wishes', 'proposed', 'agreed'),
    [
        ((100, 8192), (2047, 131072), (100, 8192)),
        ((2047, 131072), (100, 8192), (100, 8192)),
        ((7, 1 << 20), (0, 0), (7, 1 << 20)),
        ((0, 0), (0, 0), (65535, 131072)),
        ((None, 0), (2047, 1 << 20), (2047, 1 << 20)),
    ],
)
def test_the_lower_of_the_two_limits_is_agreed_on(play, connect, wishes, proposed, agreed):
    tuned = {}

    def script(peer):
        peer.handshake(tune=(*proposed, 0))
        tuned['ok'] = peer.tuned
        peer.expect_close()

    broker = play(script)
    connection = connect(broker, channel_max=wishes[0], frame_max=wishes[1])
    assert (connection.channel_max, connection.frame_max) == agreed
    connection.close()
    broker.finish()
    assert (tuned['ok'].channel_max, tuned['ok'].frame_max) == agreed


@pytest.mark.parametrize('frame_max', [1, 7, 8, 4095])
def test_frames_below_the_minimum_size_are_refused(play, frame_max):
    said = []

    def script(peer):
        peer.expect_login()
        peer.send_method(0, 'connection.tune', 10, frame_max, 0)
        said.append(peer.expect_method(0, 'connection.close'))
        peer.expect_end()

    error = refused(play(script), amqp.ProtocolError)
    assert error.amqp_reply_code == 530
    assert '4096' in error.amqp_reply_text
    assert said[0].reply_code == 530


def test_channel_max_is_the_most_channels(play, connect):
    def script(peer):
        peer.handshake(tune=(2, 4096, 0))
        peer.open_channel(1)
        peer.open_channel(2)
        peer.expect_method(1, 'channel.close')
        peer.send_method(1, 'channel.close_ok')
        peer.open_channel(1)
        peer.expect_close()

    connection = connect(play(script))
    first, second = connection.channel(), connection.channel()
    with pytest.raises(amqp.AMQPException) as caught:
        connection.channel()
    assert caught.value.amqp_reply_code == 530
    first.close()
    assert connection.channel().channel_id == 1
    assert second.is_open
    connection.close()


# --- Security challenges ------------------------------------------------------------------------


@pytest.mark.parametrize('rounds', [1, 8])
def test_security_challenges_are_answered(play, connect, rounds):
    responses = []

    def script(peer):
        peer.expect_login()
        for number in range(rounds):
            peer.send_method(0, 'connection.secure', b'challenge %d' % number)
            responses.append(peer.expect_method(0, 'connection.secure_ok').response)
        peer.tune()
        peer.open()
        peer.expect_close()

    broker = play(script)
    connect(broker).close()
    broker.finish()
    assert responses == [AMQPLAIN] * rounds


def test_endless_security_challenges_are_a_refused_login(play):
    def script(peer):
        peer.expect_login()
        for _ in range(9):
            peer.send_method(0, 'connection.secure', b'\xff more')
            peer.expect_method(0, 'connection.secure_ok')
        peer.expect_end()

    error = refused(play(script), amqp.LoginRefused)
    assert 'challenges' in error.amqp_reply_text


# --- Refused logins -----------------------------------------------------------------------------


def test_refused_password_says_what_the_broker_says(play):
    def script(peer):
        peer.expect_login()
        peer.send_method(0, 'connection.close', 403, 'ACCESS_REFUSED - Login was refused', 0, 0)
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    error = refused(play(script), amqp.LoginRefused, most=1, password='wrong-secret')
    assert error.amqp_reply_code == 403
    assert error.amqp_reply_text == 'ACCESS_REFUSED - Login was refused'
    assert 'wrong-secret' not in repr(error) + str(error)


@pytest.mark.parametrize('end', ['close', 'reset'])
@pytest.mark.parametrize('challenged', [False, True])
def test_hang_up_before_tune_is_a_refused_login(play, end, challenged):
    def script(peer):
        peer.expect_login()
        if challenged:
            peer.send_method(0, 'connection.secure', b'')
            peer.expect_method(0, 'connection.secure_ok')
        getattr(peer, end)()

    error = refused(play(script), amqp.LoginRefused, password='wrong-secret')
    assert error.amqp_reply_code == 403
    assert 'user or password' in error.amqp_reply_text
    assert isinstance(error.__cause__, amqp.ConnectionLost)
    assert 'wrong-secret' not in repr(error) + str(error)


@pytest.mark.parametrize(
    ('arguments', 'cause'),
    [
        ({'password': 'p' * 4096}, 'password or login_response takes 41'),
        ({'password': 'p' * 4096, 'connection_name': 'x' * 1000}, 'password'),
        ({'login_response': b'p' * 4096}, 'password or login_response takes 4096'),
        ({'connection_name': 'n' * 4096}, 'connection_name takes 4'),
        ({'client_properties': {'x': 'y' * 4096}}, 'client_properties takes 4'),
        # Each of them would fit.
        ({'password': 'p' * 2100, 'connection_name': 'n' * 2000}, 'password or login_response'),
    ],
)
def test_large_login_is_the_likely_cause_of_a_drop(play, amqp, arguments, cause):
    def script(peer):
        peer.expect_login()
        peer.close()

    error = refused(play(script), amqp.LoginRefused, **arguments)
    assert error.amqp_reply_code == 403
    assert cause in error.amqp_reply_text
    assert '4096 is what every broker allows' in error.amqp_reply_text
    assert 'may be wrong' not in error.amqp_reply_text
    assert 'pppp' not in repr(error) + str(error)


def test_login_of_4096_bytes_is_not_called_too_large(play, amqp):
    """Also the size is right: one byte more, and it is named as the cause."""
    sizes = []

    def script(peer):
        peer.expect_header()
        numbers = peer.version.numbers
        peer.send_method(0, 'connection.start', *numbers, {}, 'PLAIN', 'en_US')
        sizes.append(len(peer.expect_frame()[2]) + 8)
        peer.close()

    refused(play(script), amqp.LoginRefused, password='')
    fits = 4096 - sizes[0]
    error = refused(play(script), amqp.LoginRefused, password='p' * fits)
    assert 'user or password may be wrong' in error.amqp_reply_text
    error = refused(play(script), amqp.LoginRefused, password='p' * (fits + 1))
    assert sizes[1:] == [4096, 4097]
    assert 'its frame of 4097 bytes' in error.amqp_reply_text


@pytest.mark.parametrize(
    ('offered', 'arguments'),
    [
        ('GSSAPI SCRAM-SHA-256', {}),
        ('', {}),
        ('PLAIN', {'login_method': 'AMQPLAIN'}),
        ('AMQPLAIN', {'login_method': 'PLAIN'}),
        ('PLAIN AMQPLAIN', {'login_method': 'EXTERNAL'}),
        ('PLAINER', {'login_method': 'PLAIN'}),
    ],
)
def test_no_common_mechanism_is_a_refused_login(play, offered, arguments):
    def script(peer):
        peer.expect_header()
        peer.send_method(0, 'connection.start', 8, 0, {}, offered, 'en_US')
        peer.expect_end()

    error = refused(play(script), amqp.LoginRefused, **arguments)
    assert (offered.replace(' ', ', ') or 'none') in error.amqp_reply_text


@pytest.mark.parametrize('offered', ['PLAIN', 'AMQPLAIN'])
def test_password_is_in_no_log_no_error_and_no_representation(play, caplog, offered):
    def script(peer):
        peer.expect_login(mechanisms=offered)
        peer.send_method(0, 'connection.secure', b'once more')
        peer.expect_method(0, 'connection.secure_ok')
        peer.send_method(0, 'connection.close', 403, 'ACCESS_REFUSED', 0, 0)
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    with caplog.at_level(logging.DEBUG, logger='amqplib'):
        error = refused(play(script), amqp.LoginRefused, password='wrong-secret')
    assert caplog.records
    said = caplog.text + repr(error) + str(error) + repr(error.__cause__)
    assert 'wrong-secret' not in said
    # Not even in the arguments of the records, which a handler may show.
    assert not any('wrong-secret' in repr(record.args) for record in caplog.records)


# --- Redirects ----------------------------------------------------------------------------------


def redirect(*targets):
    """Return a script that sends the client on."""

    def script(peer):
        peer.expect_login()
        peer.tune()
        peer.expect_method(0, 'connection.open')
        peer.send_method(0, 'connection.redirect', *targets)
        peer.expect_end()

    return script


def test_redirect_is_followed_with_the_same_arguments(play, connect):
    heard = {}

    def script(peer):
        heard['start_ok'] = peer.expect_login(mechanisms='PLAIN')
        peer.tune(7, 4096, 0)
        heard['open'] = peer.open()
        peer.expect_close()

    second = play(script)
    first = play(redirect(second.address, 'x:1'))
    connection = connect(first, virtual_host='/there', userid='me', password='secret')
    first.finish()
    assert connection.transport.port == second.port
    # What the first host said is forgotten.
    assert (connection.channel_max, connection.frame_max) == (7, 4096)
    assert connection.mechanisms == ['PLAIN']
    assert connection.known_hosts == ''
    connection.close()
    second.finish()
    assert heard['start_ok'].response == b'\0me\0secret'
    assert heard['open'].virtual_host == '/there'


def test_publish_after_a_redirect_has_frames_of_the_size_of_the_new_host(play, connect):
    body = bytes(400_000)
    sizes = []

    def script(peer):
        peer.handshake(tune=(7, 4096, 0))
        peer.open_channel()
        peer.expect_method(1, 'basic.publish')
        peer.expect_frame()
        while sum(sizes) < len(body):
            sizes.append(len(peer.expect_frame()[2]))
        peer.expect_close()

    second = play(script)
    connection = connect(play(redirect(second.address, '')))
    connection.channel().basic_publish(amqp.Message(body), routing_key='q')
    connection.close()
    second.finish()
    assert max(sizes) == 4096 - 8
    assert sum(sizes) == len(body)


def test_sockets_of_redirecting_hosts_are_closed(play, connect):
    before = open_descriptors()

    def last(peer):
        peer.handshake()
        peer.mark()
        peer.stall()

    second = play(last)
    first = play(redirect(second.address, ''))
    connection = connect(first)
    second.await_mark()
    first.finish()
    # The second broker's two sockets, and the client's one.
    assert len(open_descriptors() - before) <= 3
    connection.transport.close()


def test_eight_redirects_are_followed_and_no_more(play):
    def script(peer):
        redirect(peer.broker.address, '')(peer)

    error = refused(play(*[script] * 9), amqp.AMQPConnectionException)
    assert 'redirected more than 8 times' in error.amqp_reply_text


@pytest.mark.parametrize(
    'target',
    [
        b'host:port',
        b'host:',
        b'host:70000',
        b'host:-1',
        b'[::1]:x',
        b'x' * 255,
        b'\xff\xfe',
        b'..',
    ],
)
def test_redirect_to_what_is_no_address(play, target):
    error = refused(play(redirect(target, '')), amqp.ProtocolError)
    assert error.amqp_method_sig == (10, 50)


def test_redirect_to_a_host_that_is_not_there(play):
    port = socket.socket()
    port.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{port.getsockname()[1]}'
    broker = play(redirect(address, ''))
    try:
        error = refused(broker, amqp.ConnectionLost)
    finally:
        port.close()
    assert error.errno == errno.ECONNREFUSED
    assert address in error.amqp_reply_text


def test_redirect_from_tls_goes_to_tls(play, connect, authority):
    def script(peer):
        peer.handshake()
        peer.expect_close()

    second = play(script, tls=authority.server())
    first = play(redirect(second.address, ''), tls=authority.server())
    connect(first, ssl={'ca_certs': authority.file}).close()


def test_redirects_share_one_deadline(play):
    def silent(peer):
        peer.expect_header()
        peer.stall()

    second = play(silent)
    first = play(redirect(second.address, ''))
    with lasting(0.3, 2), pytest.raises(amqp.AMQPTimeout):
        amqp.Connection(host=first.address, connect_timeout=0.3)


# --- Every step can fail ------------------------------------------------------------------------


def at_accept(peer):
    """Nothing has been read or written."""


def at_start(peer):
    peer.expect_header()


def at_start_ok(peer):
    peer.expect_login()


def at_secure_ok(peer):
    peer.expect_login()
    peer.send_method(0, 'connection.secure', b'?')
    peer.expect_method(0, 'connection.secure_ok')


def at_tune_ok(peer):
    peer.expect_login()
    peer.tune()


def at_open(peer):
    at_tune_ok(peer)
    peer.expect_method(0, 'connection.open')


STEPS = [at_accept, at_start, at_start_ok, at_secure_ok, at_open]
LOGIN_STEPS = [at_start_ok, at_secure_ok]


@pytest.mark.parametrize('step', STEPS)
@pytest.mark.parametrize('end', ['close', 'reset'])
def test_broker_hangs_up(play, step, end):
    def script(peer):
        step(peer)
        getattr(peer, end)()

    kind = amqp.LoginRefused if step in LOGIN_STEPS else amqp.ConnectionLost
    refused(play(script), kind, most=1)


@pytest.mark.parametrize('step', STEPS)
@pytest.mark.parametrize('end', ['close', 'reset'])
def test_broker_hangs_up_in_the_middle_of_a_frame(play, step, end):
    def script(peer):
        step(peer)
        peer.send_raw(wire.method(0, 'connection.close', 320, 'going', 0, 0)[:9])
        getattr(peer, end)()

    kind = amqp.LoginRefused if step in LOGIN_STEPS else amqp.ConnectionLost
    refused(play(script), kind, most=1)


@pytest.mark.parametrize('step', STEPS)
def test_silent_broker_is_given_up_in_time(play, step):
    def script(peer):
        step(peer)
        peer.mark()
        peer.stall()

    broker = play(script)
    with lasting(0.2, 1.5), pytest.raises(amqp.AMQPTimeout) as caught:
        amqp.Connection(host=broker.address, connect_timeout=0.2)
    assert isinstance(caught.value, TimeoutError)
    assert broker.address in caught.value.amqp_reply_text
    assert '0.2 s' in caught.value.amqp_reply_text
    broker.await_mark()


@pytest.mark.parametrize('step', [at_start, at_start_ok, at_open])
def test_dripping_broker_is_given_up_in_time(play, step):
    def script(peer):
        step(peer)
        peer.drip(b'\x01\x00\x00\x00\x00\x01\x00' + b'x' * 250, interval=0.02)

    broker = play(script)
    with lasting(0.2, 1.5), pytest.raises(amqp.AMQPTimeout):
        amqp.Connection(host=broker.address, connect_timeout=0.2)


@pytest.mark.parametrize('step', [at_start_ok, at_open])
def test_heartbeats_alone_are_given_up_in_time(play, step):
    def script(peer):
        step(peer)
        peer.drip(b'\x08\0\0\0\0\0\0\xce' * 200, interval=0.002)

    broker = play(script)
    with lasting(0.2, 1.5), pytest.raises(amqp.AMQPTimeout):
        amqp.Connection(host=broker.address, connect_timeout=0.2)


@pytest.mark.parametrize('step', [at_start, at_start_ok, at_secure_ok, at_open])
@pytest.mark.parametrize(('code', 'text'), [(320, 'going down'), (403, 'no'), (530, 'vhost / ?')])
def test_broker_closes_with_a_reason(play, step, code, text):
    def script(peer):
        step(peer)
        peer.send_method(0, 'connection.close', code, text, 10, 40)
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    kind = {320: amqp.ConnectionForced, 530: amqp.NotAllowed}.get(
        code, amqp.AMQPConnectionException
    )
    if step in LOGIN_STEPS and code == 403:
        kind = amqp.LoginRefused
    error = refused(play(script), kind, most=1)
    assert error.args == (code, text, (10, 40), 'Connection.open')


@pytest.mark.parametrize('step', [at_start, at_start_ok, at_open])
def test_reason_wins_over_the_reset_that_follows_it(play, step):
    def script(peer):
        step(peer)
        peer.send_method(0, 'connection.close', 320, 'going down', 0, 0)
        peer.reset()

    error = refused(play(script), amqp.ConnectionForced, most=1)
    assert error.args[:2] == (320, 'going down')


@pytest.mark.parametrize(
    ('step', 'name', 'values'),
    [
        (at_start, 'connection.tune', (1, 4096, 0)),
        (at_start, 'connection.secure', (b'',)),
        (at_start, 'connection.open_ok', ('',)),
        (at_start, 'connection.redirect', ('127.0.0.1:1', '')),
        (at_start, 'connection.close_ok', ()),
        (at_start_ok, 'connection.start', (8, 0, {}, 'PLAIN', 'en_US')),
        (at_start_ok, 'connection.open_ok', ('',)),
        (at_start_ok, 'connection.redirect', ('127.0.0.1:1', '')),
        (at_open, 'connection.start', (8, 0, {}, 'PLAIN', 'en_US')),
        (at_open, 'connection.secure', (b'',)),
        (at_open, 'connection.tune', (1, 4096, 0)),
        (at_open, 'connection.close_ok', ()),
    ],
)
def test_step_out_of_order(play, step, name, values):
    said = []

    def script(peer):
        step(peer)
        peer.send_method(0, name, *values)
        said.append(peer.expect_method(0, 'connection.close'))
        peer.expect_end()

    error = refused(play(script), amqp.ProtocolError, most=1)
    assert error.amqp_reply_code == said[0].reply_code == 503


def test_method_of_a_channel_before_there_is_one(play):
    def script(peer):
        at_open(peer)
        peer.send_method(1, 'channel.open_ok')
        assert peer.expect_method(0, 'connection.close').reply_code == 504
        peer.expect_end()

    assert refused(play(script), amqp.ProtocolError, most=1).amqp_reply_code == 504


START = wire.method_payload('connection.start', 8, 0, {'product': 'Script'}, 'PLAIN', 'en_US')
#: A field table: its size, and one entry with a tag that there is not.
STRANGE_TABLE = b'\0\0\0\4' + b'\1k?\0'


@pytest.mark.parametrize(
    'payload',
    [
        START[:-1],
        START + b'\0',
        START[:4],
        START[:6] + STRANGE_TABLE + START[-16:],
        START[:6] + b'\xff\xff\xff\xff' + START[10:],
        START[:6] + b'\0\0\0\x09' + b'\1kS\xff\xff\xff\xffab' + START[-16:],
        START[:6] + b'\0\0\0\x07' + b'\1kF\xff\xff\xff\xff' + START[-16:],
        START[:6] + b'\0\0\0\x09' + b'\1kA\0\0\0\4S\0' + START[-16:],
    ],
)
def test_start_that_cannot_be_read(play, payload):
    def script(peer):
        peer.expect_header()
        peer.send_frame(1, 0, payload)
        assert peer.expect_method(0, 'connection.close').reply_code == 502
        peer.expect_end()

    error = refused(play(script), amqp.ProtocolError, most=1)
    assert error.amqp_reply_code == 502
    assert error.amqp_method_sig == (10, 10)


def test_mechanisms_that_are_not_text(play):
    def script(peer):
        peer.expect_header()
        peer.send_method(0, 'connection.start', 8, 0, {}, b'\xff PLAINE\xff', 'en_US')
        peer.expect_end()

    refused(play(script), amqp.LoginRefused, most=1)


def test_locales_that_are_not_text(play, connect):
    connection = connect(play(StartOk(locales=b'en_US \xff')))
    assert connection.locales == ['en_US', '\ufffd']
    connection.close()


def test_server_properties_nested_beyond_reason(play):
    table = b''
    for _ in range(2000):
        table = b'\1kF' + wire.pack_long_string(table)

    def script(peer):
        peer.expect_header()
        peer.send_method(0, 'connection.start', 8, 0, table, 'PLAIN', 'en_US')
        assert peer.expect_method(0, 'connection.close').reply_code == 502
        peer.expect_end()

    assert refused(play(script), amqp.ProtocolError).amqp_reply_code == 502


def test_body_frame_beyond_the_size_before_tuning(play):
    def script(peer):
        at_start_ok(peer)
        peer.send_raw(b'\x03\0\0\0\0\x10\x01')
        assert peer.expect_method(0, 'connection.close').reply_code == 501
        peer.expect_end()

    assert refused(play(script), amqp.ProtocolError).amqp_reply_code == 501


# --- Peers that are no brokers of this protocol --------------------------------------------------

STRANGERS = {
    'http': (b'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n', 'does not speak AMQP'),
    'html': (b'<html><body>no</body></html>', 'does not speak AMQP'),
    'redis': (b"-ERR unknown command 'AMQP'\r\n", 'does not speak AMQP'),
    'ssh': (b'SSH-2.0-OpenSSH_9.2\r\n', 'does not speak AMQP'),
    'almost AMQP': (b'AMQQ\0\0\x09\x01', 'does not speak AMQP'),
    'AMQP 0-9-1': (b'AMQP\0\0\x09\x01', 'speaks AMQP 0-9-1, not 0-8; '),
    'AMQP 1.0 SASL': (b'AMQP\x03\x01\x00\x00', 'speaks AMQP 1.0, not 0-8; for 0-9-1, '),
    'AMQP 0-8': (b'AMQP\x01\x01\x08\x00', 'speaks AMQP 0-8, '),
    'TLS alert': (b'\x15\x03\x01\x00\x02\x02\x0a', 'ssl=True'),
    'zeros': (b'\0' * 4096, 'does not speak AMQP'),
    'heartbeat': (b'\x08\0\0\0\0\0\0\xce', 'does not speak AMQP'),
}


@pytest.mark.parametrize('end', ['stall', 'reset', 'close'])
@pytest.mark.parametrize('stranger', STRANGERS)
def test_peer_of_another_protocol_is_recognised(play, stranger, end):
    data, text = STRANGERS[stranger]

    def script(peer):
        peer.expect_header()
        peer.send_raw(data)
        if end == 'stall':
            peer.expect_end()
        else:
            getattr(peer, end)()

    error = refused(play(script), amqp.ProtocolVersionRefused, most=1)
    assert text in error.amqp_reply_text


@pytest.mark.parametrize('stranger', STRANGERS)
def test_peer_of_another_protocol_is_recognised_byte_by_byte(play, stranger, byte_by_byte):
    data, text = STRANGERS[stranger]

    def script(peer):
        peer.expect_header()
        peer.send_raw(data)
        peer.rest()

    error = refused(play(script), amqp.ProtocolVersionRefused, most=1)
    assert text in error.amqp_reply_text


@pytest.mark.parametrize('data', [b'AMQP', b'A', b'AMQP\0\0\x09', b'\x01', b'\x01\0\0\0\0\0\x10'])
def test_end_within_the_first_bytes(play, data):
    def script(peer):
        peer.expect_header()
        peer.send_raw(data)
        peer.close()

    refused(play(script), amqp.ConnectionLost, most=1)


def test_first_frame_that_is_no_method_of_the_protocol(play):
    def script(peer):
        peer.expect_header()
        peer.send_frame(1, 0, b'\0\x63\0\x01')
        peer.rest()

    assert refused(play(script), amqp.ProtocolError).amqp_reply_code == 504


def test_whole_handshake_byte_by_byte(play, connect, byte_by_byte):
    def script(peer):
        peer.handshake(server_properties={'product': 'Script', 'x': {'y': 1}})
        peer.open_channel()
        peer.expect_method(1, 'basic.get')
        peer.send_content(1, 'basic.get_ok', 1, False, '', 'q', 0, body=b'body')
        peer.expect_close()

    connection = connect(play(script))
    assert connection.server_properties == {'product': 'Script', 'x': {'y': 1}}
    assert connection.channel().basic_get('q').body == b'body'
    connection.close()


def test_addresses_that_fail_are_closed_and_the_next_one_is_tried(play, monkeypatch):
    broker = play(StartOk())
    port = socket.socket()
    port.bind(('127.0.0.1', 0))
    dead = port.getsockname()
    look_up = transport.look_up

    def three_addresses(host, asked_port, deadline):
        (alive,) = look_up('127.0.0.1', broker.port, deadline)
        return [(*alive[:4], dead), (*alive[:4], dead), alive]

    monkeypatch.setattr(transport, 'look_up', three_addresses)
    before = open_descriptors()
    connection = amqp.Connection(host='several.example', connect_timeout=10)
    # The client's one socket, and the scripted broker's.
    assert len(open_descriptors() - before) <= 2
    connection.close()
    port.close()


def test_many_failed_connects_leave_nothing(play):
    def script(peer):
        peer.expect_login()
        peer.reset()

    broker = play(*[script] * 50)
    before = open_descriptors()
    errors = []
    for _ in range(50):
        with pytest.raises(amqp.LoginRefused) as caught:
            amqp.Connection(host=broker.address, connect_timeout=10)
        errors.append(caught.value)  # and with it all that it refers to
    broker.finish()
    assert open_descriptors() <= before
