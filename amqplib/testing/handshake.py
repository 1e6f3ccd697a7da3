"""Handlers of the connection class: login, tuning, opening and closing."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

from amqplib.core.serialization import LONG, decode_table
from amqplib.core.spec import (
    ACCESS_REFUSED,
    CHANNEL_ERROR,
    COMMAND_INVALID,
    DEFAULT_FRAME_MAX,
    FRAME_MIN_SIZE,
    NOT_ALLOWED,
)
from amqplib.testing.errors import Hangup, Refusal
from amqplib.testing.session import Session
from amqplib.testing.stages import CLOSING, OPEN, RUNNING, SILENCE, START_OK, TUNE_OK

CHANNEL_MAX = 2047
HEARTBEAT = 60


def _expect(session: Session, stage: int) -> None:
    """Refuse a method that comes at another stage."""
    if session.stage != stage:
        if session.stage < OPEN:
            raise Hangup(SILENCE)
        raise Refusal(CHANNEL_ERROR, 'a method of the handshake at the wrong time')


def start_ok(
    session: Session,
    client_properties: dict[str, Any],
    mechanism: str,
    response: Union[str, bytes],
    locale: str,
) -> None:
    """Check user and password."""
    _expect(session, START_OK)
    session.client.properties = client_properties
    read = _MECHANISMS.get(mechanism)
    if read is None:
        raise Hangup(SILENCE)
    data = response.encode() if isinstance(response, str) else response
    credentials = read(data)
    if credentials is None or session.shared.users.get(credentials[0]) != credentials[1]:
        _refuse_login(session, mechanism)
        return
    session.client.user = credentials[0]
    session.stage = TUNE_OK
    session.reply('connection.tune', CHANNEL_MAX, DEFAULT_FRAME_MAX, HEARTBEAT)


def _refuse_login(session: Session, mechanism: str) -> None:
    if not session.client.wants('authentication_failure_close'):
        raise Hangup(SILENCE)
    text = (
        f'Login was refused using authentication mechanism {mechanism}. '
        'For details see the broker logfile.'
    )
    session.refuse_connection(Refusal(ACCESS_REFUSED, text))


def _plain(data: bytes) -> Optional[tuple[str, str]]:
    parts = data.decode('utf-8', 'replace').split('\0')
    return (parts[1], parts[2]) if len(parts) == 3 else None


def _amqplain(data: bytes) -> Optional[tuple[str, str]]:
    try:
        table, _ = decode_table(LONG.pack(len(data)) + data, 0, LONG.size + len(data))
    except ValueError:
        return None
    return table.get('LOGIN', ''), table.get('PASSWORD', '')


_MECHANISMS: dict[str, Callable[[bytes], Optional[tuple[str, str]]]] = {
    'PLAIN': _plain,
    'AMQPLAIN': _amqplain,
}


def tune_ok(session: Session, channel_max: int, frame_max: int, heartbeat: int) -> None:
    """Take what was negotiated, if it is within the limits."""
    _expect(session, TUNE_OK)
    if not (0 < channel_max <= CHANNEL_MAX and FRAME_MIN_SIZE <= frame_max <= DEFAULT_FRAME_MAX):
        raise Hangup(SILENCE)
    session.stage = OPEN
    session.tuned(channel_max, frame_max, heartbeat)


def open_(session: Session, virtual_host: str, capabilities: str, insist: bool) -> tuple[Any, ...]:
    """Enter a virtual host."""
    _expect(session, OPEN)
    vhost = session.shared.vhosts.get(virtual_host)
    if vhost is None:
        raise Refusal(NOT_ALLOWED, f'vhost {virtual_host} not found')
    session.opened(vhost)
    return ('',)


def close(
    session: Session, reply_code: int, reply_text: str, class_id: int, method_id: int
) -> tuple[Any, ...]:
    """Close the connection."""
    if session.stage < OPEN:
        raise Hangup(SILENCE)
    session.closed_by_client()
    return ()


def close_ok(session: Session) -> None:
    """End the connection that was closed."""
    if session.stage != CLOSING:
        raise Refusal(COMMAND_INVALID, 'unexpected connection.close_ok')
    session.reset()


def update_secret(session: Session, new_secret: object, reason: str) -> tuple[Any, ...]:
    """Take a new secret, which nobody asks for again."""
    _expect(session, RUNNING)
    return ()


HANDLERS: dict[str, Callable[..., Any]] = {
    'connection.start_ok': start_ok,
    'connection.tune_ok': tune_ok,
    'connection.open': open_,
    'connection.close': close,
    'connection.close_ok': close_ok,
    'connection.update_secret': update_secret,
}
