"""The errors of client_0_8, which are these, and one that 0-9-1 adds.

::

    AMQPException
    +-- MessageNacked                   the broker refused messages that were to be confirmed
"""

from __future__ import annotations

from typing import Optional

from amqplib.client_0_8 import exceptions as exceptions_0_8
from amqplib.client_0_8.exceptions import *  # noqa: F403
from amqplib.client_0_8.exceptions import NO_METHOD, AMQPException
from amqplib.client_0_8.spec import Signature

__all__ = ['MessageNacked']
__all__ += exceptions_0_8.__all__


class MessageNacked(AMQPException):
    """The broker could not take care of messages that were to be confirmed.

    sequence_numbers: tuple of those that basic_publish returned for them, ascending. The channel
        stays open.
    """

    def __init__(
        self,
        reply_code: int,
        reply_text: str,
        method_sig: Signature = NO_METHOD,
        method_name: Optional[str] = None,
        sequence_numbers: tuple[int, ...] = (),
    ) -> None:
        super().__init__(reply_code, reply_text, method_sig, method_name)
        self.sequence_numbers = sequence_numbers
