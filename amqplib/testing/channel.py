"""A channel of a client: what is unacknowledged, confirmed or in a transaction, and consumers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, Callable, Optional

from amqplib.core.spec import ACCESS_REFUSED, NO_ROUTE
from amqplib.testing.consumers import Consumer
from amqplib.testing.errors import NAMES, Refusal, precondition_failed
from amqplib.testing.queues import Queue

if TYPE_CHECKING:
    from amqplib.core.message import Message
    from amqplib.testing.memory import Memory
    from amqplib.testing.messages import Entry, Published
    from amqplib.testing.virtual_host import VirtualHost

#: What becomes of deliveries: Queue.acknowledge, Queue.requeue or Queue.reject.
Settlement = Callable[['Queue', Iterable['Entry']], object]


class Delivery:
    """A message that was delivered and is not acknowledged."""

    __slots__ = ('consumer', 'entry', 'queue')

    def __init__(self, queue: Queue, entry: Entry, consumer: Optional[Consumer]) -> None:
        self.queue = queue
        self.entry = entry
        self.consumer = consumer

    @property
    def tag(self) -> str:
        """The tag of the consumer; '' for basic.get."""
        return '' if self.consumer is None else self.consumer.tag


class Transaction:
    """What waits for tx.commit.

    published: (message, names of queues, mandatory).
    settled: (deliveries by tag, how they are settled).
    """

    def __init__(self, memory: Memory) -> None:
        self.published: list[tuple[Published, list[str], bool]] = []
        self.settled: list[tuple[dict[int, Delivery], Settlement]] = []
        self._memory = memory

    def publish(self, message: Published, queues: list[Queue], mandatory: bool) -> None:
        """Keep a message, which counts as memory meanwhile."""
        self._memory.take(message.cost)
        # By name, as they may go, and be declared again, before the end.
        self.published.append((message, [queue.name for queue in queues], mandatory))

    def end(self) -> None:
        """Count the messages no longer."""
        self._memory.give_back(sum(message.cost for message, _, _ in self.published))


class Channel:
    """The broker's side of a channel.

    session: its Session.
    keeps_content: whether the decoder keeps contents for it.
    """

    keeps_content = True

    def __init__(self, session: Any, number: int) -> None:
        self.session = session
        self.number = number
        self.vhost: VirtualHost = session.vhost
        self.consumers: dict[str, Consumer] = {}
        self.unacknowledged: dict[int, Delivery] = {}
        self.last_queue = ''
        self.transaction: Optional[Transaction] = None
        self.confirming = False
        #: The limit of unacknowledged messages for each new consumer, and that of the channel.
        self.prefetch = self.channel_prefetch = 0
        self.closing = False
        # For direct replies: the tag of the consumer, and the key that leads to it.
        self.reply_tag: Optional[str] = None
        self.reply_key: Optional[str] = None
        # Unacknowledged messages, also of consumers that were cancelled.
        self._sent_to_consumers = 0
        self._tags = count(1)
        self._published = 0
        # The last message that was confirmed, but not yet to the client; and how many there are.
        self._to_confirm = self._unsaid = 0

    def send(self, name: str, *values: Any, content: Optional[Message] = None) -> None:
        """Send a method."""
        self.send_confirms()
        self.session.send(self.number, name, *values, content=content)

    def reply(self, name: str, *values: Any) -> None:
        """Send a method without content."""
        self.send(name, *values)

    # Publishing

    def publish(self, message: Published, queues: list[Queue], mandatory: bool) -> None:
        """Put a message into queues, now or at the end of the transaction."""
        if self.transaction is not None:
            self.transaction.publish(message, queues, mandatory)
        else:
            self._put(message, queues, mandatory)

    def _put(self, message: Published, queues: list[Queue], mandatory: bool) -> bool:
        """Put a message into queues; return whether none of them has refused it."""
        if not queues and mandatory:
            self.send(
                'basic.return', NO_ROUTE, NAMES[NO_ROUTE], message.exchange, message.routing_key,
                content=message.content,
            )  # fmt: skip
        # All of them, even after one has refused it.
        taken = [queue.publish(message) for queue in queues]
        if self.confirming:
            self._published += 1
            self._confirm(all(taken))
        return all(taken)

    def _confirm(self, ok: bool) -> None:
        if ok:
            self._to_confirm = self._published
            self._unsaid += 1
            self.session.flush_soon(self)
        else:
            self.send('basic.nack', self._published, False, False)

    def send_confirms(self) -> None:
        """Send the confirms of all messages that are in their queues."""
        if not self._unsaid:
            return
        multiple, self._unsaid = self._unsaid > 1, 0
        self.session.send(self.number, 'basic.ack', self._to_confirm, multiple)

    # Delivering

    def has_room(self) -> bool:
        """Return whether one more message may be delivered."""
        if self.closing or not self.session.has_room:
            return False
        limit = self.channel_prefetch
        return not limit or self._sent_to_consumers < limit

    def next_tag(self, queue: Queue, entry: Entry, consumer: Optional[Consumer]) -> int:
        """Return the tag of a message that is delivered and will be acknowledged."""
        tag = next(self._tags)
        self.unacknowledged[tag] = Delivery(queue, entry, consumer)
        return tag

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """Send a message to a consumer."""
        message = entry.message
        if consumer.no_ack:
            tag = next(self._tags)
        else:
            tag = self.next_tag(consumer.queue, entry, consumer)
            consumer.unacknowledged += 1
            self._sent_to_consumers += 1
        self.send(
            'basic.deliver', consumer.tag, tag, entry.redelivered, message.exchange,
            message.routing_key, content=message.content,
        )  # fmt: skip

    def skip_tag(self) -> int:
        """Return a tag for a message that needs no acknowledgement."""
        return next(self._tags)

    # Acknowledging

    def take_deliveries(self, tag: int, multiple: bool) -> dict[int, Delivery]:
        """Take out the deliveries that a tag stands for, or refuse it."""
        if multiple and not tag:
            taken, self.unacknowledged = self.unacknowledged, {}
            return taken
        if tag not in self.unacknowledged:
            raise precondition_failed(f'unknown delivery tag {tag}')
        # In their order, so that nothing has to look at all of them.
        up_to = takewhile(lambda one: one <= tag, self.unacknowledged)
        tags = list(up_to) if multiple else [tag]
        return {one: self.unacknowledged.pop(one) for one in tags}

    def settle(self, taken: dict[int, Delivery], how: Settlement) -> None:
        """Settle deliveries, now or at the end of the transaction."""
        if self.transaction is not None:
            self.transaction.settled.append((taken, how))
        else:
            self.settle_now(taken.values(), how)

    def settle_now(self, deliveries: Iterable[Delivery], how: Settlement) -> None:
        """Settle deliveries, those of each consumer together, by the names of both."""
        groups: dict[tuple[Queue, str], list[Delivery]] = {}
        for delivery in deliveries:
            groups.setdefault((delivery.queue, delivery.tag), []).append(delivery)
        for key in sorted(groups, key=lambda key: (key[0].name, key[1])):
            self._settle_group(key[0], groups[key], how)
        self.wake_queues()

    def _settle_group(self, queue: Queue, group: list[Delivery], how: Settlement) -> None:
        """Settle deliveries to a consumer, or of basic.get."""
        consumer = group[0].consumer
        if consumer is not None:
            consumer.unacknowledged -= len(group)
        how(queue, [delivery.entry for delivery in group])
        self.vhost.surroundings.serve()
        # Only now, as in RabbitMQ: what comes back may go to another channel.
        if consumer is not None:
            self._sent_to_consumers -= len(group)

    def wake_queues(self) -> None:
        """Have the queues deliver, as the consumers may take messages again."""
        for consumer in self.consumers.values():
            consumer.queue.wake()

    def requeue_all(self) -> None:
        """Give back all that is not acknowledged."""
        deliveries, self.unacknowledged = self.unacknowledged, {}
        self.settle_now(deliveries.values(), Queue.requeue)

    # Transactions

    def commit(self) -> None:
        """Do what the transaction consists of, one thing after the other."""
        transaction = self._next_transaction()
        all_taken = True
        for message, names, mandatory in transaction.published:
            all_taken &= self._put(message, self.vhost.queues_of(names), mandatory)
            self.vhost.surroundings.serve()
        for deliveries, how in transaction.settled:
            self.settle_now(deliveries.values(), how)
        if not all_taken:
            raise precondition_failed('partial tx completion')

    def rollback(self) -> None:
        """Forget what was published; what was acknowledged is so no longer."""
        transaction = self._next_transaction()
        for taken, _ in transaction.settled:
            self.unacknowledged.update(taken)
        self.unacknowledged = dict(sorted(self.unacknowledged.items()))

    def begin(self) -> None:
        """Begin a transaction."""
        self.transaction = Transaction(self.vhost.surroundings.memory)

    def _next_transaction(self) -> Transaction:
        """End the transaction and return it, and begin the next one."""
        transaction = self.transaction
        if transaction is None:
            raise precondition_failed('channel is not transactional')
        transaction.end()
        self.begin()
        return transaction

    # Consumers

    def consume(self, queue: Queue, tag: str, no_ack: bool, exclusive: bool, priority: int) -> None:
        """Deliver the messages of a queue from now on."""
        consumers = queue.consumers
        if consumers.exclusive or (exclusive and (consumers or consumers.single)):
            what = self.vhost.describe('queue', queue.name)
            raise Refusal(ACCESS_REFUSED, f'{what} in exclusive use')
        consumer = Consumer(
            tag, queue, no_ack, exclusive, priority, self.prefetch, self.has_room, self.deliver,
            self._on_queue_deleted,
        )  # fmt: skip
        self.consumers[tag] = consumer
        queue.add_consumer(consumer)

    def cancel(self, tag: str) -> None:
        """Deliver no longer; what was delivered stays unacknowledged."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)
        elif tag == self.reply_tag:
            self.end_replies()

    def end_replies(self) -> None:
        """Take no more direct replies."""
        if self.reply_key is not None:
            del self.vhost.reply_channels[self.reply_key]
            self.reply_key = self.reply_tag = None

    def _on_queue_deleted(self, consumer: Consumer) -> None:
        self.consumers.pop(consumer.tag, None)
        if self.session.client.wants('consumer_cancel_notify'):
            self.send('basic.cancel', consumer.tag, True)

    # The end

    def end(self) -> None:
        """Cancel the consumers and give back what is not acknowledged."""
        self.closing = True
        self.keeps_content = False
        self.end_replies()
        if self.transaction is not None:
            self.rollback()
        for tag in list(self.consumers):
            self.cancel(tag)
        self._give_back_all()

    def _give_back_all(self) -> None:
        """Give back what is not acknowledged: here, all of a queue together."""
        by_queue: dict[Queue, list[Entry]] = {}
        for delivery in self.unacknowledged.values():
            by_queue.setdefault(delivery.queue, []).append(delivery.entry)
        self.unacknowledged.clear()
        for queue, entries in by_queue.items():
            queue.requeue(entries)
