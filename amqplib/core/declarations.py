"""Declarations: the methods of the classes access, exchange and queue, as a base of Channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

from amqplib.core.abstract_channel import AbstractChannel

if TYPE_CHECKING:
    from amqplib.core.streams import AMQPReader

Table = dict[str, Any]


class Declarations(AbstractChannel):
    """What a channel can do with exchanges and queues, but for their messages.

    default_ticket: int; the ticket that was requested last.
    """

    default_ticket = 0

    def _ticket(self, ticket: Optional[int]) -> int:
        return self.default_ticket if ticket is None else ticket

    # The access class (specification, class 30)

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
        ignores tickets. AMQP 0-9-1 has none: there, 0 is returned without asking the broker.
        """
        return self._request_access(realm, exclusive, passive, active, write, read)

    def _request_access(self, *values: Any) -> int:
        granted: int = self._call('access.request', *values)
        return granted

    def _access_request_ok(self, args: AMQPReader) -> int:
        (self.default_ticket,) = self._decode('access.request_ok', args)
        return self.default_ticket

    # The exchange class (specification, class 40)

    def exchange_declare(
        self,
        exchange: str,
        type: str,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = True,
        internal: bool = False,
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> None:
        """Create an exchange, or check that it exists with these arguments.

        type: 'direct', 'fanout', 'topic', 'headers', or a type of a broker plugin.
        passive: only check that the name exists.
        durable: survive a restart of the broker.
        auto_delete: delete the exchange when its last binding is removed.
        internal: accept messages only from other exchanges.

        Raises NotFound (passive), PreconditionFailed (it exists with different arguments),
        AccessRefused.
        """
        self._call(
            'exchange.declare', self._ticket(ticket), exchange, type, passive, durable,
            auto_delete, internal, nowait, arguments, nowait=nowait,
        )  # fmt: skip

    def exchange_delete(
        self,
        exchange: str,
        if_unused: bool = False,
        nowait: bool = False,
        ticket: Optional[int] = None,
    ) -> None:
        """Delete an exchange; on RabbitMQ it need not exist.

        if_unused: only if no queue is bound to it; else PreconditionFailed.
        """
        self._call(
            'exchange.delete', self._ticket(ticket), exchange, if_unused, nowait, nowait=nowait
        )

    # The queue class (specification, class 50)

    def queue_declare(
        self,
        queue: str = '',
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> Union[tuple[str, int, int], Any]:
        """Create a queue, or check that it exists with these arguments.

        queue: its name; '' lets the broker make one up.
        passive: only check that the name exists.
        durable: survive a restart of the broker.
        exclusive: only for this connection, and deleted with it.
        auto_delete: delete the queue with its last consumer, and all its messages, durable or not.
            Newer RabbitMQ can refuse queues that are neither durable nor exclusive (541).

        Returns (name, number of messages, number of consumers); None with nowait.
        Raises NotFound (passive), PreconditionFailed (it exists with different arguments),
        ResourceLocked.
        """
        declared: Optional[tuple[str, int, int]] = self._call(
            'queue.declare', self._ticket(ticket), queue, passive, durable, exclusive,
            auto_delete, nowait, arguments, nowait=nowait,
        )  # fmt: skip
        return declared

    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = '',
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> None:
        """Bind a queue ('' for the last one declared) to an exchange.

        routing_key: what a message must have; a topic exchange knows '*' (a word) and '#' (any).
        arguments: dict; for a headers exchange, the headers that a message must have.

        Raises NotFound if one of them does not exist.
        """
        self._call(
            'queue.bind', self._ticket(ticket), queue, exchange, routing_key, nowait, arguments,
            nowait=nowait,
        )  # fmt: skip

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = '',
        nowait: bool = False,
        arguments: Optional[Table] = None,
        ticket: Optional[int] = None,
    ) -> None:
        """Remove the binding of a queue that has this exchange, routing_key and arguments.

        nowait: accepted, but without effect: the protocol has no such flag here, so the method
            waits for the reply.
        """
        self._call('queue.unbind', self._ticket(ticket), queue, exchange, routing_key, arguments)

    def queue_purge(
        self, queue: str = '', nowait: bool = False, ticket: Optional[int] = None
    ) -> Optional[int]:
        """Remove all messages from a queue that are not delivered yet.

        Returns how many there were; None with nowait. Raises NotFound.
        """
        message_count: Optional[int] = self._call(
            'queue.purge', self._ticket(ticket), queue, nowait, nowait=nowait
        )
        return message_count

    def queue_delete(
        self,
        queue: str = '',
        if_unused: bool = False,
        if_empty: bool = False,
        nowait: bool = False,
        ticket: Optional[int] = None,
    ) -> Optional[int]:
        """Delete a queue; on RabbitMQ it need not exist.

        if_unused, if_empty: only if it has no consumers, no messages; else PreconditionFailed.

        Returns how many messages were deleted with it; None with nowait.
        """
        message_count: Optional[int] = self._call(
            'queue.delete', self._ticket(ticket), queue, if_unused, if_empty, nowait,
            nowait=nowait,
        )  # fmt: skip
        return message_count
