"""SASL mechanisms: which one is chosen, and what it sends."""

import pytest

from amqplib.core.login import Login
from amqplib.exceptions import AMQPConnectionException, LoginRefused

# RFC 4616.
PLAIN = b'\x00joe\x00s3cret'
# A field table without its length.
AMQPLAIN = b'\x05LOGINS\x00\x00\x00\x03joe\x08PASSWORDS\x00\x00\x00\x06s3cret'


def login(method=None, response=None, userid='joe', password='s3cret'):
    return Login(userid, password, method, response)


@pytest.mark.parametrize(
    ('method', 'response'), [('PLAIN', PLAIN), ('AMQPLAIN', AMQPLAIN), ('EXTERNAL', b'')]
)
def test_the_mechanism_that_is_asked_for(method, response):
    offered = ['PLAIN', 'EXTERNAL', 'AMQPLAIN', 'RABBIT-CR-DEMO']
    assert login(method).choose(offered) == (method, response)


@pytest.mark.parametrize(
    ('offered', 'chosen'),
    [
        (['PLAIN', 'AMQPLAIN'], ('AMQPLAIN', AMQPLAIN)),
        (['AMQPLAIN'], ('AMQPLAIN', AMQPLAIN)),
        (['EXTERNAL', 'PLAIN'], ('PLAIN', PLAIN)),
        (['GSSAPI', 'PLAIN'], ('PLAIN', PLAIN)),
        (['EXTERNAL'], ('EXTERNAL', b'')),
    ],
)
def test_one_that_the_broker_offers_where_none_is_asked_for(offered, chosen):
    assert login().choose(offered) == chosen


def test_user_and_password_are_sent_as_utf_8():
    assert login('PLAIN', userid='jürgen', password='€').choose(['PLAIN'])[1] == (
        b'\x00j\xc3\xbcrgen\x00\xe2\x82\xac'
    )
    assert login('AMQPLAIN', userid='ü', password='€').choose(['AMQPLAIN'])[1] == (
        b'\x05LOGINS\x00\x00\x00\x02\xc3\xbc\x08PASSWORDS\x00\x00\x00\x03\xe2\x82\xac'
    )


def test_empty_user_and_password_can_be_sent():
    assert login('PLAIN', userid='', password='').choose(['PLAIN'])[1] == b'\x00\x00'


@pytest.mark.parametrize(
    ('method', 'offered', 'named'),
    [
        ('AMQPLAIN', ['PLAIN', 'EXTERNAL'], 'PLAIN, EXTERNAL, not AMQPLAIN'),
        (None, ['GSSAPI'], 'GSSAPI, not AMQPLAIN, PLAIN, EXTERNAL'),
        ('PLAIN', [], 'none, not PLAIN'),
    ],
)
def test_a_broker_that_offers_nothing_usable_is_refused(method, offered, named):
    with pytest.raises(LoginRefused, match=named) as caught:
        login(method).choose(offered)
    assert isinstance(caught.value, AMQPConnectionException)
    assert 's3cret' not in str(caught.value)


@pytest.mark.parametrize('method', ['PLAIN', 'AMQPLAIN', 'CRAM-MD5', None])
def test_a_response_of_the_program_goes_out_as_it_is(method):
    chosen = login(method, response=b'\x00\xff', userid=None, password=None).choose(['PLAIN'])
    assert chosen == (method or 'AMQPLAIN', b'\x00\xff')


def test_an_unknown_mechanism_needs_a_response():
    with pytest.raises(ValueError, match=r'login_method.*CRAM-MD5.*login_response'):
        login('CRAM-MD5')


@pytest.mark.parametrize('method', [None, 'PLAIN', 'AMQPLAIN'])
@pytest.mark.parametrize('missing', ['userid', 'password'])
@pytest.mark.parametrize('value', [None, b'bytes', 5])
def test_user_and_password_are_needed(method, missing, value):
    with pytest.raises(TypeError, match=missing):
        login(method, **{missing: value})


def test_external_needs_neither():
    chosen = login('EXTERNAL', userid=None, password=None).choose(['EXTERNAL'])
    assert chosen == ('EXTERNAL', b'')


def test_secrets_do_not_show():
    assert 's3cret' not in repr(login())
    assert 's3cret' not in repr(login(response=b's3cret'))
