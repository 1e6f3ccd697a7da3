"""The arguments of a connection, before there is a socket. (tests/scripted has the rest.)"""

import math

import pytest


@pytest.fixture(autouse=True)
def no_socket(monkeypatch):
    monkeypatch.setattr('socket.socket.connect', pytest.fail)


WRONG_TIMES = [
    (-1, ValueError),
    (-0.001, ValueError),
    (math.nan, ValueError),
    ('1', TypeError),
    (True, TypeError),
    ([], TypeError),
]


@pytest.mark.parametrize('name', ['connect_timeout', 'rpc_timeout', 'write_timeout'])
@pytest.mark.parametrize(('value', 'error'), WRONG_TIMES)
def test_a_wrong_timeout_is_named(amqp, name, value, error):
    with pytest.raises(error, match=f'^{name}: '):
        amqp.Connection(**{name: value})


@pytest.mark.parametrize('heartbeat', [-1, 65536, 1.5, 0.0, '10', '', [], object()])
def test_a_wrong_heartbeat_is_named(amqp, heartbeat):
    with pytest.raises((TypeError, ValueError), match=r'^heartbeat: '):
        amqp.Connection(heartbeat=heartbeat)


@pytest.mark.parametrize(
    ('name', 'value', 'error'),
    [
        ('host', 5, TypeError),
        ('host', None, TypeError),
        ('virtual_host', 'x' * 256, ValueError),
        ('virtual_host', None, TypeError),
        ('locale', 'x' * 256, ValueError),
        ('connection_name', 5, TypeError),
        ('client_properties', 5, TypeError),
        ('client_properties', {5: 'value'}, TypeError),
        ('client_properties', {'key': object()}, ValueError),
        ('client_properties', {'capabilities': 'text'}, TypeError),
        ('client_properties', {'capabilities': True}, TypeError),
    ],
)
def test_a_wrong_argument_is_named(amqp, name, value, error):
    with pytest.raises(error, match=name):
        amqp.Connection(**{name: value})


def test_an_unknown_argument_is_ignored_with_a_warning(amqp):
    with pytest.warns(UserWarning, match="Connection has no argument 'hostname'"):  # noqa: SIM117
        with pytest.raises(ValueError, match='heartbeat'):
            amqp.Connection(hostname='x', heartbeat=-1)


@pytest.mark.parametrize(
    ('name', 'hint'),
    [('vhost', r' \(amqplib calls it virtual_host\)'), ('user', r' \(.* userid\)'), ('pool', '')],
)
def test_an_argument_by_the_name_of_other_clients_is_recognized(amqp, name, hint):
    with pytest.warns(UserWarning, match=f"no argument '{name}': it is ignored{hint}$"):  # noqa: SIM117
        with pytest.raises(ValueError, match='heartbeat'):
            amqp.Connection(heartbeat=-1, **{name: 'x'})


def _connect_to_url(amqp, url, **arguments):
    amqp.Connection.from_url(url, **arguments)


def _connect_again(amqp, url, **arguments):
    next(iter(amqp.reconnecting(url, **arguments)))


def _publish(amqp, url, **arguments):
    amqp.Publisher(url, **arguments).publish(amqp.Message('x'))


@pytest.mark.parametrize('use', [_connect_to_url, _connect_again, _publish])
def test_the_warning_for_an_unknown_argument_names_the_line_of_the_program(amqp, use):
    warned = pytest.warns(UserWarning, match="no argument 'hostname'")
    with warned as warnings, pytest.raises(ValueError, match='heartbeat'):
        use(amqp, 'amqp://localhost', hostname='x', heartbeat=-1)
    assert warnings[0].filename == __file__


def test_a_connection_that_was_never_made_is_none(amqp):
    assert amqp.Connection.__new__(amqp.Connection).transport is None
