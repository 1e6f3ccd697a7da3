"""Channel: the methods that differ in AMQP 0-8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Optional

from amqplib.client_0_8.spec import PROTOCOL
from amqplib.core import channel, log

if TYPE_CHECKING:
    from amqplib.core.consumer import Consumer
    from amqplib.core.message import Message

__all__ = ['Channel']


class Channel(channel.Channel):
    __doc__ = channel.Channel.__doc__

    _protocol = PROTOCOL

    def basic_consume(
        self,
        queue: str = '',
        consumer_tag: str = '',
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        callback: Optional[Callable[[Message], Any]] = None,
        ticket: Optional[int] = None,
        on_cancel: Optional[Callable[[str], Any]] = None,
    ) -> str:
        options = (queue, consumer_tag, no_local, no_ack, exclusive, nowait)
        return self._consume(options, callback, ticket, on_cancel)

    basic_consume.__doc__ = channel.Channel._consume.__doc__

    def consume(
        self,
        queue: str = '',
        prefetch: Optional[int] = None,
        timeout: Optional[float] = None,
        stop: Optional[Callable[[], object]] = None,
        *,
        consumer_tag: str = '',
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        ticket: Optional[int] = None,
        on_cancel: Optional[Callable[[str], Any]] = None,
    ) -> Consumer[Message]:
        options = (queue, consumer_tag, no_local, no_ack, exclusive, nowait)
        return self._iterate(options, ticket, on_cancel, prefetch, timeout, stop)

    consume.__doc__ = channel.Channel._iterate.__doc__

    def basic_recover(self, requeue: bool = False) -> None:
        """Redeliver all unacknowledged messages of the channel, without waiting for a reply.

        requeue: to any consumer; RabbitMQ refuses False (NotSupported).
        """
        self._cast('basic.recover_async', requeue)


def __getattr__(name: str) -> Any:
    # Names that old programs import from here.
    if name == 'Queue':
        from queue import Queue  # noqa: PLC0415

        return Queue
    if name == 'AMQP_LOGGER':
        return log.logger()
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
