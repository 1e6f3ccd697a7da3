"""The arguments of a connection, before there is a socket. (The rest is tested with peers.)"""

import pytest


@pytest.fixture(autouse=True)
def no_socket(monkeypatch):
    monkeypatch.setattr('socket.socket.connect', pytest.fail)


@pytest.mark.parametrize('name', ['connect_timeout', 'rpc_timeout', 'write_timeout'])
@pytest.mark.parametrize(('value', 'error'), [('5', TypeError), (-1, ValueError)])
def test_a_wrong_timeout_of_a_connection_is_named(amqp, name, value, error):
    with pytest.raises(error, match=f'^{name}: '):
        amqp.Connection(**{name: value})


@pytest.mark.parametrize('name', ['connection_name', 'client_properties'])
def test_a_wrong_property_of_a_connection_is_named(amqp, name):
    with pytest.raises(TypeError, match=f'^{name}: '):
        amqp.Connection(**{name: 5})


@pytest.mark.parametrize('heartbeat', [-1, 65536])
def test_a_wrong_heartbeat_is_named(amqp, heartbeat):
    with pytest.raises(ValueError, match='heartbeat'):
        amqp.Connection(heartbeat=heartbeat)


@pytest.mark.parametrize('name', ['virtual_host', 'locale'])
def test_a_text_that_is_too_long_is_refused(amqp, name):
    with pytest.raises(ValueError, match='too long'):
        amqp.Connection(**{name: 'x' * 256})


def test_an_unknown_argument_is_ignored_with_a_warning(amqp):
    with pytest.warns(UserWarning, match="Connection has no argument 'hostname'"):  # noqa: SIM117
        with pytest.raises(ValueError, match='heartbeat'):
            amqp.Connection(hostname='x', heartbeat=-1)


def test_a_connection_that_was_never_made_is_none(amqp):
    assert amqp.Connection.__new__(amqp.Connection).transport is None
