"""What a URL says, on the wire; and what is shown of it nowhere."""

import contextlib
import logging
import string
import traceback
from urllib.parse import quote

import pytest

PASSWORD = f'S3CR{string.punctuation} é\n\0ET'


class Login:
    """A script that notes what arrives."""

    def __init__(self, answer):
        self.answer = answer
        self.response = self.virtual_host = None

    def __call__(self, peer):
        self.response = peer.expect_login(mechanisms='PLAIN').response
        self.answer(self, peer)

    def accept(self, peer):
        peer.tune()
        self.virtual_host = peer.open().virtual_host
        peer.expect_close()

    def refuse(self, peer):
        peer.send_method(0, 'connection.close', 403, 'ACCESS_REFUSED - no', 0, 0)
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    def hang_up(self, peer):
        peer.close()


def url_of(broker, password=PASSWORD, virtual_host='/', scheme='amqp', query=''):
    user, password, virtual_host = (
        quote(text, safe='') for text in ('m:e@', password, virtual_host)
    )
    return f'{scheme}://{user}:{password}@{broker.address}/{virtual_host}?{query}'


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level(logging.DEBUG)


@pytest.mark.parametrize('virtual_host', ['/', '//', string.punctuation, 'ü'])
@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_what_is_percent_encoded_arrives_as_it_was(amqp, play, caplog, host, virtual_host):
    login = Login(Login.accept)
    broker = play(login, host=host)
    with amqp.Connection.from_url(url_of(broker, virtual_host=virtual_host)) as connection:
        assert 'S3CR' not in repr(connection)
    broker.finish()
    assert login.response == f'\0m:e@\0{PASSWORD}'.encode()
    assert login.virtual_host == virtual_host
    assert 'S3CR' not in caplog.text


@pytest.mark.parametrize('answer', [Login.refuse, Login.hang_up])
@pytest.mark.parametrize(
    'connect',
    [
        lambda amqp, urls: amqp.Connection.from_url(urls),
        lambda amqp, urls: next(amqp.reconnecting(urls, first=0)),
    ],
    ids=['from_url', 'reconnecting'],
)
def test_no_error_and_no_log_shows_a_password(amqp, play, caplog, answer, connect):
    broker = play(Login(answer), Login(Login.refuse))
    urls = [url_of(broker)] * 2
    with pytest.raises(amqp.LoginRefused) as caught:
        connect(amqp, urls)
    if answer is Login.refuse:
        with pytest.raises(amqp.LoginRefused):
            amqp.Connection.from_url(urls[0])
    error = caught.value
    shown = traceback.format_exception(type(error), error, error.__traceback__)
    assert 'S3CR' not in ''.join(shown) + repr(error) + repr(error.__context__) + caplog.text


def test_what_cannot_be_a_password_is_shown_neither(amqp, play):
    """It is found before there is a socket."""
    with pytest.raises(ValueError, match=r'^password: ') as caught:
        amqp.Connection.from_url('amqp://me:S3CR%ffET@127.0.0.1:1')
    assert 'S3CR' not in str(caught.value) + repr(caught.value.__context__)


def test_files_of_a_url_verify_the_broker(amqp, play, authority):
    login = Login(Login.accept)
    broker = play(login, tls=authority.server())
    query = f'cacertfile={quote(authority.file)}&verify=verify_peer'
    amqp.Connection.from_url(url_of(broker, scheme='amqps', query=query)).close()
    assert login.virtual_host == '/'


def test_a_certificate_is_verified_unless_the_url_says_otherwise(amqp, play, authority):
    context = authority.server()

    def refused_by_the_client(peer):
        with contextlib.suppress(OSError):
            peer.start_tls(context)
            peer.expect_end()

    broker = play(refused_by_the_client)
    with pytest.raises(amqp.ConnectionLost, match='certificate'):
        amqp.Connection.from_url(url_of(broker, scheme='amqps'))
    login = Login(Login.accept)
    broker = play(login, tls=context)
    amqp.Connection.from_url(url_of(broker, scheme='amqps', query='verify=verify_none')).close()
    assert login.virtual_host == '/'
