"""What a method is for: a channel or the connection, at a stage where it may come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqplib.core.spec import (
    CHANNEL_ERROR,
    COMMAND_INVALID,
    CONNECTION_CLASS_ID,
    FRAME_ERROR,
    UNEXPECTED_FRAME,
)
from amqplib.testing.channel import Channel
from amqplib.testing.errors import Refusal
from amqplib.testing.stages import CLOSING, RUNNING

if TYPE_CHECKING:
    from amqplib.testing.versions import Handling


def ignores(session: Any, number: int, handling: Handling) -> bool:
    """Return whether a method comes after a close and means nothing any more."""
    name = handling.row.name
    if session.stage == CLOSING:
        return name not in ('connection.close', 'connection.close_ok')
    channel = session.channels.get(number)
    return (
        channel is not None
        and channel.closing
        and name not in ('channel.close', 'channel.close_ok')
    )


def target_of(session: Any, number: int, handling: Handling) -> Any:
    """Return the channel or session that a method is for, or refuse the method."""
    row = handling.row
    if row.signature[0] == CONNECTION_CLASS_ID:
        if number:
            raise Refusal(COMMAND_INVALID, f'{row.name} on channel {number}')
        return session
    if session.stage != RUNNING:
        raise Refusal(UNEXPECTED_FRAME, f'{row.name} before connection.open')
    if not number:
        raise Refusal(CHANNEL_ERROR, f'{row.name} on channel 0')
    channel = session.channels.get(number)
    if row.name == 'channel.open':
        if channel is not None:
            raise Refusal(CHANNEL_ERROR, "second 'channel.open' seen")
        return Channel(session, number)
    if channel is None:
        raise Refusal(CHANNEL_ERROR, "expected 'channel.open'")
    return channel


def check_texts(values: tuple[Any, ...]) -> None:
    """Refuse names that are not UTF-8."""
    for value in values:
        if type(value) is str and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise Refusal(FRAME_ERROR, 'a name that is not UTF-8') from None
