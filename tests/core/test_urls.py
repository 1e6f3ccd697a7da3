"""URLs as the arguments of a connection, and which one of several is used."""

import logging
import string
import traceback
from pathlib import Path

import pytest

from amqplib.core.urls import QUERY, TLS_QUERY, connect, parse, parse_all
from amqplib.exceptions import AMQPConnectionException, ConnectionLost, LoginRefused

PLAIN = {'host': 'rabbit', 'virtual_host': '/'}
USER = {'userid': 'me', 'password': 'pw'}


# --- One URL ---


@pytest.mark.parametrize(
    ('url', 'arguments'),
    [
        ('amqp://', {**PLAIN, 'host': ''}),
        ('amqp://rabbit', PLAIN),
        ('amqp://rabbit?', PLAIN),
        ('AMQP://rabbit', PLAIN),
        ('amqp:///', {**PLAIN, 'host': ''}),
        ('amqp://rabbit:5673', {**PLAIN, 'port': 5673}),
        ('amqp://:5673/', {**PLAIN, 'host': '', 'port': 5673}),
        ('amqp://rabbit/', PLAIN),
        ('amqp://rabbit//', PLAIN),
        ('amqp://rabbit/%2F', PLAIN),
        ('amqp://rabbit/%2f%2f', {**PLAIN, 'virtual_host': '//'}),
        ('amqp://rabbit/test', {**PLAIN, 'virtual_host': 'test'}),
        ('amqp://rabbit/a/b%20%3F+', {**PLAIN, 'virtual_host': 'a/b ?+'}),
        ('amqp://rabbit/%C3%BC', {**PLAIN, 'virtual_host': 'ü'}),
        ('amqp://rabbit/ü', {**PLAIN, 'virtual_host': 'ü'}),
        ('amqp://rabbit/%ff', {**PLAIN, 'virtual_host': '\udcff'}),
        ('amqp://[::1]', {**PLAIN, 'host': '[::1]'}),
        ('amqp://[::1]:5673/', {**PLAIN, 'host': '[::1]', 'port': 5673}),
        ('amqp://[fe80::1%25eth0]:1/', {**PLAIN, 'host': '[fe80::1%eth0]', 'port': 1}),
        ('amqp://me:pw@rabbit/', {**PLAIN, **USER}),
        ('amqp://me:pw@[::1]:1/x', {**USER, 'host': '[::1]', 'port': 1, 'virtual_host': 'x'}),
        ('amqp://me:p:w@rabbit/', {**PLAIN, 'userid': 'me', 'password': 'p:w'}),
        ('amqp://me:p@w@rabbit/', {**PLAIN, 'userid': 'me', 'password': 'p@w'}),
        ('amqp://m%3Ae:%25%2B@rabbit/', {**PLAIN, 'userid': 'm:e', 'password': '%+'}),
        ('amqp://me:@rabbit/', {**PLAIN, 'userid': 'me', 'password': ''}),
        # The default password is that of the default user.
        ('amqp://me@rabbit/', {**PLAIN, 'userid': 'me', 'password': None}),
        ('amqps://rabbit', {**PLAIN, 'ssl': True}),
        ('amqps://rabbit:1', {**PLAIN, 'port': 1, 'ssl': True}),
        ('amqp://rabbit?heartbeat=30', {**PLAIN, 'heartbeat': 30}),
        ('amqp://rabbit/?heartbeat=0&&', {**PLAIN, 'heartbeat': 0}),
        (
            'amqp://rabbit?connection_timeout=1500&channel_max=9&frame_max=8192',
            {**PLAIN, 'connect_timeout': 1.5, 'channel_max': 9, 'frame_max': 8192},
        ),
        ('amqp://rabbit?auth_mechanism=external', {**PLAIN, 'login_method': 'EXTERNAL'}),
        (
            'amqps://rabbit?cacertfile=/a/b.pem&certfile=c+d&keyfile=%2Be&password=%26&heart%62eat=1',
            {
                **PLAIN,
                'heartbeat': 1,
                'ssl': {
                    'ca_certs': '/a/b.pem',
                    'certfile': 'c d',
                    'keyfile': '+e',
                    'password': '&',
                },
            },
        ),
        (
            'amqps://rabbit?verify=verify_none&server_name_indication=other',
            {**PLAIN, 'ssl': {'cert_reqs': 0, 'server_hostname': 'other'}},
        ),
        ('amqps://rabbit?verify=verify_peer', {**PLAIN, 'ssl': {'cert_reqs': 2}}),
    ],
)
def test_arguments_of_a_url(url, arguments):
    assert parse(url) == arguments


@pytest.mark.parametrize(
    ('url', 'text'),
    [
        ('', 'not of the form amqp://'),
        ('rabbit', 'not of the form'),
        ('amqp:rabbit', 'not of the form'),
        ('http://rabbit', 'not of the form'),
        ('amqp://[::1', 'not of the form'),
        ('amqp://::1/', 'not of the form'),
        ('amqp://me:pw@a@b/c@d', 'percent-encoded'),
        ('amqp://rabbit:/', 'port'),
        ('amqp://rabbit:0/', 'port'),
        ('amqp://rabbit:65536/', 'port'),
        ('amqp://rabbit:' + '9' * 5000, 'port'),
        ('amqp://rabbit:amqp/', 'port'),
        ('amqp://rabbit:٣/', 'port'),
        ('amqp://rabbit/%', 'virtual_host: a %'),
        ('amqp://rabbit/%2', 'virtual_host: a %'),
        ('amqp://rabbit/%zz', 'virtual_host: a %'),
        ('amqp://me:%@rabbit', 'password: a %'),
        ('amqp://m%e@rabbit', 'userid: a %'),
        ('amqp://rabbit?heartbeat=%x', 'heartbeat: a %'),
        ('amqp://rabbit/ ', 'percent-encoded'),
        ('amqp://rabbit\n', 'percent-encoded'),
        ('amqp://rabbit/#a', 'percent-encoded'),
        ('amqp://rabbit/\udcff', 'percent-encoded'),
        ('amqp://rabbit?heartbeats=1', "the parameter 'heartbeats' is unknown; known are auth_m"),
        ('amqp://rabbit?host=other', "'host' is unknown"),
        ('amqp://rabbit?=1', "'' is unknown"),
        ('amqp://rabbit?heartbeat', 'heartbeat: it is not a number'),
        ('amqp://rabbit?heartbeat=-1', 'heartbeat: it is not a number'),
        ('amqp://rabbit?heartbeat=1.5', 'heartbeat: it is not a number'),
        ('amqp://rabbit?channel_max=' + '9' * 5000, 'channel_max: it is not a number'),
        ('amqp://rabbit?heartbeat=1&heartbeat=1', 'heartbeat: it is there twice'),
        ('amqp://rabbit?verify=verify_peer', 'verify: it needs amqps'),
        ('amqp://rabbit?cacertfile=ca.pem', 'cacertfile: it needs amqps'),
        ('amqps://rabbit?verify=no', 'verify: it is not one of verify_none, verify_peer'),
        ('amqps://rabbit?server_name_indication=disable', 'server_name_indication: it cannot'),
        # Two errors at once are one error.
        ('amqp://rabbit:x/?heartbeat=y&z=1', 'port'),
    ],
)
def test_what_is_wrong_is_one_clear_error(url, text):
    with pytest.raises(ValueError, match='url: ') as caught:
        parse(url)
    assert text in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize('url', [b'amqp://me:pw@rabbit', None, 5672, Path('pw'), ['amqp://pw', 1]])
def test_what_is_no_text_is_refused(url):
    with pytest.raises(TypeError, match=r'url: .* is not a str') as caught:
        parse_all(url)
    assert 'pw' not in str(caught.value)


SECRET = 'S3CR3T'


@pytest.mark.parametrize(
    'url',
    [
        'amqp://me:{}@rabbit/',
        'amqp://me:{}@rabbit:port/',
        'amqp://me:{}@rabbit/?unknown=1',
        'amqp://me:{}@',
        'amqp://me:{}',
        'amqps://rabbit?password={}',
        'amqps://rabbit?password={}&heartbeat=x',
        'http://me:{}@rabbit/',
        '{}',
    ],
)
def test_no_error_shows_a_password(url):
    for special in string.punctuation + ' \n\0é\udcff':
        error = error_of(url.format(f'{SECRET}{special}{SECRET}'))
        if error is not None:
            shown = traceback.format_exception(type(error), error, error.__traceback__)
            assert SECRET not in ''.join(shown)
            assert SECRET not in repr(error.__context__)


def error_of(url):
    """Return the error that a URL raises, None if there is none."""
    try:
        parse(url)
    except ValueError as error:
        return error
    return None


def test_parameters_are_those_of_rabbitmq():
    assert sorted([*QUERY, *TLS_QUERY]) == [
        'auth_mechanism', 'cacertfile', 'certfile', 'channel_max', 'connection_timeout',
        'frame_max', 'heartbeat', 'keyfile', 'password', 'server_name_indication', 'verify',
    ]  # fmt: skip


# --- Several URLs ---


class Brokers:
    """In place of the class Connection: what happens at each host."""

    def __init__(self, **errors):
        self.errors = errors
        self.asked = []

    def __call__(self, **arguments):
        self.asked.append(arguments)
        if arguments['host'] in self.errors:
            raise self.errors[arguments['host']]
        return f'connection to {arguments["host"]}'

    def hosts(self):
        return [arguments['host'] for arguments in self.asked]


ABC = ('amqp://a', 'amqp://b', 'amqp://c')


def test_the_first_url_that_works_is_used():
    brokers = Brokers(a=ConnectionLost(0, 'refused'))
    assert connect(brokers, parse_all(iter(ABC)), {}) == 'connection to b'
    assert brokers.hosts() == ['a', 'b']


def test_the_last_error_is_raised():
    brokers = Brokers(**{host: ConnectionLost(0, f'{host} refused') for host in 'abc'})
    with pytest.raises(ConnectionLost, match='c refused'):
        connect(brokers, parse_all(ABC), {})


@pytest.mark.parametrize('error', [LoginRefused(403, 'no'), AMQPConnectionException(530, 'no')])
def test_what_is_not_recoverable_ends_the_search(error):
    brokers = Brokers(b=error)
    with pytest.raises(type(error)):
        connect(brokers, parse_all(ABC[1:]), {})
    assert brokers.hosts() == ['b']


def test_a_login_that_was_not_answered_does_not_end_the_search():
    brokers = Brokers(a=LoginRefused.by_hanging_up('who knows'))
    assert connect(brokers, parse_all(ABC), {}) == 'connection to b'


def test_no_url():
    with pytest.raises(ValueError, match='url: there is none'):
        parse_all(())


def test_a_wrong_url_is_found_before_anything_is_tried():
    with pytest.raises(ValueError, match='port'):
        parse_all(['amqp://a', 'amqp://b:x'])


def test_a_failure_is_logged_with_the_address_and_without_the_password(caplog):
    brokers = Brokers(a=ConnectionLost(0, 'refused'))
    brokers.errors['[::1]'] = ConnectionLost(0, 'refused')
    with caplog.at_level(logging.WARNING, 'amqplib'):
        connect(brokers, parse_all(['amqps://me:pw@a', 'amqp://[::1]:1/', 'amqp://b']), {})
    assert caplog.messages == [
        'a:5671: refused; trying the next URL',
        '[::1]:1: refused; trying the next URL',
    ]


@pytest.mark.parametrize(
    ('arguments', 'merged'),
    [
        ({'heartbeat': 5}, {'host': 'a', 'port': 1, 'heartbeat': 5}),
        ({'port': 2}, {'host': 'a', 'port': 2}),
        ({'host': 'b:2'}, {'host': 'b:2'}),
        ({'ssl': False, 'password': 'other'}, {'host': 'a', 'port': 1, 'ssl': False}),
    ],
)
def test_arguments_win_over_the_url(arguments, merged):
    brokers = Brokers()
    connect(brokers, parse_all('amqps://me:pw@a:1/x?heartbeat=9'), arguments)
    (asked,) = brokers.asked
    assert asked == {
        'userid': 'me', 'password': 'pw', 'virtual_host': 'x', 'heartbeat': 9, 'ssl': True,
        **arguments, **merged,
    }  # fmt: skip
