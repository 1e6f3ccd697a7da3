"""The limits that a program sets for a connection: wishes for the tuning, and its own."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Optional

from amqplib.core.checks import check_int
from amqplib.core.decoding import NO_LIMIT
from amqplib.core.spec import DEFAULT_CHANNEL_MAX, FRAME_MIN_SIZE

if TYPE_CHECKING:
    from amqplib.core.decoding import Decoder
    from amqplib.core.transport import AbstractTransport

MAX_FRAME_MAX = 0xFFFFFFFF
#: The longest TCP_USER_TIMEOUT, in seconds: it is an int of milliseconds.
MAX_USER_TIMEOUT = 2_147_483


class Limits:
    """The arguments of Connection of these names; raises ValueError or TypeError.

    channel_max, frame_max: 0 for no wish.
    """

    def __init__(
        self,
        channel_max: Optional[int],
        frame_max: Optional[int],
        max_message_size: Optional[int],
        tcp_user_timeout: Optional[float],
    ) -> None:
        self.channel_max = channel_max or 0
        self.frame_max = frame_max or 0
        self._max_message_size = NO_LIMIT if max_message_size is None else max_message_size
        self._tcp_user_timeout = tcp_user_timeout
        check_int('channel_max', self.channel_max, 0, DEFAULT_CHANNEL_MAX)
        check_int('frame_max', self.frame_max, FRAME_MIN_SIZE if frame_max else 0, MAX_FRAME_MAX)
        check_int('max_message_size', self._max_message_size, 1, NO_LIMIT)
        if tcp_user_timeout is not None:
            _check_user_timeout(tcp_user_timeout)

    def apply(self, transport: AbstractTransport, decoder: Decoder) -> None:
        """Set the limits that the broker has no part in."""
        decoder.max_message_size = self._max_message_size
        if self._tcp_user_timeout is not None:
            transport.set_user_timeout(max(1, round(self._tcp_user_timeout * 1000)))


def lower(proposed: int, wanted: int) -> int:
    """Return the lower one of two limits; 0 means none."""
    return min(proposed, wanted) or proposed or wanted


def _check_user_timeout(seconds: Any) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f'tcp_user_timeout: {seconds!r} is not a number of seconds')
    if not 0 < seconds <= MAX_USER_TIMEOUT:
        text = f'tcp_user_timeout: {seconds} is not more than 0 and at most {MAX_USER_TIMEOUT}'
        raise ValueError(text)
    if not hasattr(socket, 'TCP_USER_TIMEOUT'):
        text = 'tcp_user_timeout: this system has no such option; heartbeat works everywhere'
        raise ValueError(text)
