"""Channel: the methods that differ in AMQP 0-8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional

from amqplib.client_0_8.spec import DECODERS, ENCODERS, PROTOCOL
from amqplib.core import channel, log
from amqplib.core.abstract_channel import handlers_by_signature

if TYPE_CHECKING:
    from amqplib.core.consumer import Consumer
    from amqplib.core.message import Message

__all__ = ['Channel']


class Channel(channel.Channel):
    __doc__ = channel.Channel.__doc__

    _protocol = PROTOCOL
    _encoders = ENCODERS
    _decoders = DECODERS

    def access_request(
        self,
        realm: str,
        exclusive: bool = False,
        passive: bool = False,
        active: bool = False,
        write: bool = False,
        read: bool = False,
    ) -> int:
        """Request access to a realm, such as '/data'.

        exclusive, passive, active, write, read: the kinds of access to request.

        Returns the ticket, and keeps it as default_ticket. RabbitMQ grants every request, and
        ignores tickets.
        """
        granted: int = self._call('access.request', realm, exclusive, passive, active, write, read)
        return granted

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
        """Consume the messages of a queue; wait() then calls the callback with each message.

        consumer_tag: a name for the consumer; '' makes one up.
        no_local: leave out messages published by this connection (RabbitMQ ignores this).
        no_ack: messages need no acknowledgement; the broker deletes them once they are sent.
        exclusive: be the only consumer; else AccessRefused.
        callback: function of a Message; None discards messages, which stay unacknowledged.
        on_cancel: function of the consumer tag; wait() calls it when the broker cancels the
            consumer, for instance because the queue is deleted. Without it, wait() raises
            ConsumerCancelled.

        Returns the consumer tag, the key of the callback in callbacks. Raises NotFound.
        """
        options = (queue, consumer_tag, no_local, no_ack, exclusive, nowait)
        return self._consume(options, callback, ticket, on_cancel)

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
        """Consume the messages of a queue, to iterate over: ``for msg in ch.consume('tasks')``.

        prefetch: how many messages the broker sends ahead of acknowledgements, as in basic_qos,
            where it stays set for the consumers that follow; None leaves what is set there.
        timeout: seconds without a message after which a loop ends; None for no limit.
        stop: function that is asked before each message and at least twice a second; a loop ends
            when it returns true.
        on_cancel: function of the consumer tag, called when the broker cancels the consumer; loops
            then end. Without it, they raise ConsumerCancelled.

        The others are those of basic_consume. Raises NotFound.
        """
        options = (queue, consumer_tag, no_local, no_ack, exclusive, nowait)
        return self._iterate(options, ticket, on_cancel, prefetch, timeout, stop)

    def basic_recover(self, requeue: bool = False) -> None:
        """Redeliver all unacknowledged messages of the channel, without waiting for a reply.

        requeue: to any consumer; RabbitMQ refuses False (NotSupported).
        """
        self._cast('basic.recover_async', requeue)

    _METHOD_MAP = handlers_by_signature(PROTOCOL, channel.Channel._HANDLERS)
    _IMMEDIATE_METHODS: ClassVar[Any] = frozenset(
        PROTOCOL.methods[name].signature for name in channel.Channel._IMMEDIATE
    )


def __getattr__(name: str) -> Any:
    # Names that old programs import from here.
    if name == 'Queue':
        from queue import Queue  # noqa: PLC0415

        return Queue
    if name == 'AMQP_LOGGER':
        return log.logger()
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
