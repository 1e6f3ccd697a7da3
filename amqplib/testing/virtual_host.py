"""A virtual host: its exchanges and queues, and the way of a message through them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Optional

from amqplib.core.spec import ACCESS_REFUSED, RESOURCE_LOCKED
from amqplib.testing import dead_letters
from amqplib.testing.arguments import (
    EXCHANGE_ARGUMENTS,
    QUEUE_ARGUMENTS,
    Arguments,
    check_arguments_equal,
    check_equal,
    check_names,
    check_queue_arguments,
)
from amqplib.testing.errors import Refusal, not_found, precondition_failed
from amqplib.testing.exchanges import PREDECLARED, TYPES, Exchange
from amqplib.testing.loop import Loop
from amqplib.testing.memory import Memory
from amqplib.testing.messages import Published
from amqplib.testing.queues import Queue, Surroundings


class VirtualHost:
    """A virtual host.

    surroundings: what its queues use.
    reply_channels: routing key -> the channel that gets direct replies by it.
    """

    def __init__(self, name: str, loop: Loop, memory: Memory) -> None:
        self.name = name
        self.surroundings = Surroundings(loop, memory, self._dead_letter, self.delete_queue)
        self.queues: dict[str, Queue] = {}
        self.reply_channels: dict[str, Any] = {}
        self.exchanges = {
            name: Exchange(name, kind, internal=internal)
            for name, (kind, internal) in PREDECLARED.items()
        }

    def describe(self, kind: str, name: str) -> str:
        """Return how RabbitMQ names a queue or exchange."""
        return f"{kind} '{name}' in vhost '{self.name}'"

    # Exchanges

    def exchange(self, name: str) -> Exchange:
        """Return an exchange, or refuse with 404."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise not_found('exchange', name, self.name)
        return exchange

    def source(self, name: str) -> Exchange:
        """Return an exchange that something may be bound to."""
        check_not_default(name)
        return self.exchange(name)

    def unbind(self, source: str, destination: Any, key: str, arguments: dict[str, Any]) -> None:
        """Remove a binding, if it is there; an auto-delete exchange ends with its last one."""
        check_not_default(source)
        exchange = self.exchanges.get(source)
        if exchange is None or not exchange.unbind(destination, key, arguments):
            return
        if self._ends(exchange):
            self._remove_exchange(exchange)

    def declare_exchange(
        self,
        name: str,
        kind: str,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Arguments,
    ) -> None:
        """Create an exchange, or check that it is as declared."""
        if kind not in TYPES:
            raise precondition_failed(f"unknown exchange type '{kind}'")
        check_not_default(name)
        exchange = self.exchanges.get(name)
        if exchange is None:
            check_not_reserved('exchange', name)
            check_names(self.describe('exchange', name), arguments, EXCHANGE_ARGUMENTS)
            self.exchanges[name] = Exchange(name, kind, durable, auto_delete, internal, arguments)
            return
        what = self.describe('exchange', name)
        pairs = {
            'type': (kind, exchange.type),
            'durable': (durable, exchange.durable),
            'auto_delete': (auto_delete, exchange.auto_delete),
            'internal': (internal, exchange.internal),
        }
        check_equal(what, pairs)
        check_arguments_equal(what, arguments, exchange.arguments, EXCHANGE_ARGUMENTS)

    def delete_exchange(self, name: str, if_unused: bool) -> None:
        """Delete an exchange, if it is there."""
        check_not_default(name)
        if name.startswith('amq.'):
            what = self.describe('exchange', name)
            raise Refusal(ACCESS_REFUSED, f'deletion of system {what} not allowed')
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise precondition_failed(f'{self.describe("exchange", name)} in use')
        self._remove_exchange(exchange)

    def _remove_exchange(self, exchange: Exchange) -> None:
        if self.exchanges.pop(exchange.name, None) is not None:
            self._unbind_everywhere(exchange)

    def _unbind_everywhere(self, destination: Any) -> None:
        """Remove the bindings to something, and the auto-delete exchanges that end by that."""
        gone = [destination]
        while gone:
            destination = gone.pop()
            for exchange in list(self.exchanges.values()):
                if exchange.unbind_all(destination) and self._ends(exchange):
                    del self.exchanges[exchange.name]
                    gone.append(exchange)

    @staticmethod
    def _ends(exchange: Exchange) -> bool:
        return exchange.auto_delete and not exchange.bindings

    # Queues

    def queue(self, name: str, user: object) -> Queue:
        """Return a queue that a session may use, or refuse with 404 or 405."""
        queue = self.queues.get(name)
        if queue is None:
            raise not_found('queue', name, self.name)
        if queue.owner not in (None, user):
            raise self._locked(name)
        return queue

    def _locked(self, name: str) -> Refusal:
        return Refusal(
            RESOURCE_LOCKED,
            f'cannot obtain exclusive access to locked {self.describe("queue", name)}. It could be '
            'originally declared on another connection or the exclusive property value does not '
            'match that of the original declaration.',
        )

    def declare_queue(
        self,
        name: str,
        durable: bool,
        owner: Optional[object],
        user: object,
        auto_delete: bool,
        arguments: Arguments,
    ) -> Queue:
        """Create a queue, or check that it is as declared; '' makes up a name.

        owner: the session if it is to be exclusive, else None.
        """
        check_not_reserved('queue', name)
        queue = self.queues.get(name)
        if queue is not None:
            self._check_as_declared(queue, durable, owner, user, auto_delete, arguments)
            return queue
        check_queue_arguments(name, self.name, arguments)
        name = name or f'amq.gen-{secrets.token_urlsafe(16)}'
        queue = Queue(self.surroundings, name, durable, owner, auto_delete, arguments)
        self.queues[name] = queue
        return queue

    def _check_as_declared(
        self,
        queue: Queue,
        durable: bool,
        owner: Optional[object],
        user: object,
        auto_delete: bool,
        arguments: Arguments,
    ) -> None:
        if queue.owner not in (None, user) or (queue.owner is None) != (owner is None):
            raise self._locked(queue.name)
        what = self.describe('queue', queue.name)
        pairs = {
            'durable': (durable, queue.durable),
            'auto_delete': (auto_delete, queue.auto_delete),
        }
        check_equal(what, pairs)
        check_arguments_equal(what, arguments, queue.arguments, QUEUE_ARGUMENTS)
        queue.note_use()

    def delete_queue(self, queue: Queue) -> int:
        """Delete a queue; return how many messages were in it."""
        if self.queues.get(queue.name) is queue:
            del self.queues[queue.name]
            self._unbind_everywhere(queue)
        return queue.end()

    def delete_queues_of(self, owner: object) -> None:
        """Delete the exclusive queues of a session."""
        for queue in [queue for queue in self.queues.values() if queue.owner is owner]:
            self.delete_queue(queue)

    # Messages

    def route(self, exchange: Exchange, message: Published) -> list[Queue]:
        """Return the queues to which a message goes, each once."""
        queues: dict[Queue, None] = {}
        seen: set[Exchange] = set()
        to_do = [exchange]
        while to_do:
            current = to_do.pop(0)
            if current in seen:
                continue
            seen.add(current)
            destinations = self._destinations(current, message)
            for destination in destinations:
                if isinstance(destination, Queue):
                    queues[destination] = None
                else:
                    to_do.append(destination)
        return list(queues)

    def queues_of(self, names: Iterable[str]) -> list[Queue]:
        """Return those of the named queues that are there."""
        return [self.queues[name] for name in names if name in self.queues]

    def _destinations(self, exchange: Exchange, message: Published) -> Iterable[Any]:
        if not exchange.name:
            return self.queues_of(message.routing_keys)
        destinations = exchange.destinations(message)
        if destinations:
            return destinations
        alternate = self.exchanges.get(exchange.alternate)
        return [] if alternate is None else [alternate]

    def _dead_letter(self, queue: Queue, message: Published, reason: str) -> None:
        exchange = self.exchanges.get(queue.arguments.get('x-dead-letter-exchange', None))
        if exchange is None:
            return
        dead = dead_letters.dead_letter(queue, message, reason)
        if dead is not None:
            for destination in self.route(exchange, dead):
                destination.publish(dead)


def check_not_default(exchange: str) -> None:
    """Refuse to change the default exchange."""
    if not exchange:
        raise Refusal(ACCESS_REFUSED, 'operation not permitted on the default exchange')


def check_not_reserved(kind: str, name: str) -> None:
    """Refuse to declare what begins with amq. but is not there."""
    if name.startswith('amq.'):
        text = f"{kind} name '{name}' contains reserved prefix 'amq.*'"
        raise Refusal(ACCESS_REFUSED, text)
