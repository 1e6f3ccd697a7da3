"""The limits of a connection, before there is a socket."""

import pytest

from amqplib.core.limits import lower


@pytest.fixture(autouse=True)
def no_socket(monkeypatch):
    monkeypatch.setattr('socket.socket.connect', pytest.fail)


@pytest.mark.parametrize(
    ('name', 'value', 'error'),
    [
        ('channel_max', -1, ValueError),
        ('channel_max', 65536, ValueError),
        ('channel_max', '5', TypeError),
        ('frame_max', 4095, ValueError),
        ('frame_max', -1, ValueError),
        ('frame_max', 1 << 32, ValueError),
        ('frame_max', 8192.0, TypeError),
        ('max_message_size', 0, ValueError),
        ('max_message_size', 1e6, TypeError),
        ('max_message_size', True, TypeError),
        ('tcp_user_timeout', 0, ValueError),
        ('tcp_user_timeout', 3_000_000, ValueError),
        ('tcp_user_timeout', '5', TypeError),
    ],
)
def test_a_wrong_limit_of_a_connection_is_named(amqp, name, value, error):
    with pytest.raises(error, match=f'^{name}: '):
        amqp.Connection(**{name: value})


def test_a_system_without_the_timeout_of_tcp_says_so(amqp, monkeypatch):
    monkeypatch.delattr('socket.TCP_USER_TIMEOUT', raising=False)
    with pytest.raises(ValueError, match=r'^tcp_user_timeout: this system .*heartbeat'):
        amqp.Connection(tcp_user_timeout=5)


@pytest.mark.parametrize(
    ('proposed', 'wanted', 'agreed'), [(5, 3, 3), (3, 5, 3), (0, 5, 5), (5, 0, 5), (0, 0, 0)]
)
def test_the_lower_limit_where_zero_is_none(proposed, wanted, agreed):
    assert lower(proposed, wanted) == agreed
