"""Handlers of the classes channel, tx and confirm."""

from __future__ import annotations

from typing import Any, Callable

from amqplib.core.spec import COMMAND_INVALID, NOT_ALLOWED
from amqplib.testing.channel import Channel
from amqplib.testing.errors import Refusal, not_implemented, precondition_failed
from amqplib.testing.topology import Reply


def open_(channel: Channel, out_of_band: str) -> Reply:
    session = channel.session
    opened = len(session.channels)
    if opened >= session.client.channel_max:
        raise Refusal(
            NOT_ALLOWED,
            f'number of channels opened ({opened}) has reached the negotiated channel_max '
            f'({session.client.channel_max})',
        )
    session.channels[channel.number] = channel
    fields = session.version.protocol.methods['channel.open_ok'].fields
    return tuple('' for _ in fields)


def close(
    channel: Channel, reply_code: int, reply_text: str, class_id: int, method_id: int
) -> Reply:
    if not channel.closing:
        channel.end()
        del channel.session.channels[channel.number]
    return ()


def close_ok(channel: Channel) -> None:
    if not channel.closing:
        raise Refusal(COMMAND_INVALID, 'unexpected channel.close_ok')
    del channel.session.channels[channel.number]


def flow(channel: Channel, active: bool) -> Reply:
    if not active:
        raise not_implemented('active=false')
    return (True,)


def flow_ok(channel: Channel, active: bool) -> None:
    """Nothing follows from it: the broker never asked."""


def select_transactions(channel: Channel) -> Reply:
    if channel.confirming:
        raise precondition_failed('cannot switch from confirm to tx mode')
    if channel.transaction is None:
        channel.begin()
    return ()


def commit(channel: Channel) -> Reply:
    channel.commit()
    return ()


def roll_back(channel: Channel) -> Reply:
    channel.rollback()
    return ()


def select_confirms(channel: Channel, nowait: bool) -> Reply:
    if channel.transaction is not None:
        raise precondition_failed('cannot switch from tx to confirm mode')
    channel.confirming = True
    return ()


HANDLERS: dict[str, Callable[..., Any]] = {
    'channel.open': open_,
    'channel.close': close,
    'channel.close_ok': close_ok,
    'channel.flow': flow,
    'channel.flow_ok': flow_ok,
    'tx.select': select_transactions,
    'tx.commit': commit,
    'tx.rollback': roll_back,
    'confirm.select': select_confirms,
}
