"""Queues: what is in them, what becomes of it, and when they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import count
from typing import Any, Callable, Optional

from amqplib.testing.arguments import Arguments
from amqplib.testing.backlog import Backlog
from amqplib.testing.consumers import Consumer, Consumers
from amqplib.testing.loop import Loop, Timer
from amqplib.testing.memory import Memory
from amqplib.testing.messages import Entry, Published


class Surroundings:
    """What a queue needs of its virtual host.

    dead_letter: function(queue, message, reason), for what the queue does not keep.
    delete: function(queue).
    """

    def __init__(
        self,
        loop: Loop,
        memory: Memory,
        dead_letter: Callable[[Queue, Published, str], object],
        delete: Callable[[Queue], object],
    ) -> None:
        self.loop = loop
        self.memory = memory
        self.delete = delete
        self._dead_letter = dead_letter
        self._dead: deque[tuple[Queue, Published, str]] = deque()
        self._to_serve: dict[Queue, None] = {}

    def wake(self, queue: Queue) -> None:
        """Have a queue deliver what it can, after the current method."""
        self._to_serve[queue] = None

    def dead_letter(self, queue: Queue, message: Published, reason: str) -> None:
        """Have a dead letter published, after the current method.

        Not at once, as the next queue may refuse it in turn, and so on.
        """
        self._dead.append((queue, message, reason))

    def serve(self) -> None:
        """Publish the dead letters, and have all queues that are awake deliver what they can."""
        while self._dead or self._to_serve:
            while self._dead:
                self._dead_letter(*self._dead.popleft())
            if self._to_serve:
                queue = next(iter(self._to_serve))
                del self._to_serve[queue]
                queue.serve()


class Queue:
    """A queue.

    owner: the session to which an exclusive queue belongs; None for other queues.
    backlog: the entries that are ready.
    """

    kind = 'queue'

    def __init__(
        self,
        surroundings: Surroundings,
        name: str,
        durable: bool,
        owner: Optional[object],
        auto_delete: bool,
        arguments: Arguments,
    ) -> None:
        self.name = name
        self.durable = durable
        self.owner = owner
        self.auto_delete = auto_delete
        self.arguments = arguments
        self.deleted = False
        self.backlog = Backlog()
        self.consumers = Consumers(bool(arguments.get('x-single-active-consumer')))
        self._surroundings = surroundings
        self._numbers = count()
        self._max_priority: int = arguments.get('x-max-priority', 0)
        self._time_to_live = _seconds(arguments.get('x-message-ttl'))
        self._lifetime = _seconds(arguments.get('x-expires'))
        self._overflow: str = arguments.get('x-overflow', 'drop-head')
        self._max_length: Optional[int] = arguments.get('x-max-length')
        self._max_bytes: Optional[int] = arguments.get('x-max-length-bytes')
        self._expiry: Optional[Timer] = None
        self._end: Optional[Timer] = None
        self.note_use()

    # Messages come

    def publish(self, message: Published) -> bool:
        """Take a message; return False if the queue refuses it, being full."""
        if self._overflow != 'drop-head' and self._is_too_long(1, message.size):
            if self._overflow == 'reject-publish-dlx':
                self._surroundings.dead_letter(self, message, 'maxlen')
            return False
        priority = min(message.properties.priority, self._max_priority)
        entry = Entry(message, (-priority, next(self._numbers)), self._expiry_of(message))
        self._surroundings.memory.take(entry.message.cost)
        self.backlog.put(entry)
        self._surroundings.wake(self)
        return True

    def requeue(self, entries: Iterable[Entry]) -> None:
        """Take back what was delivered; it goes to its old places."""
        for entry in entries:
            entry.redelivered = True
            if self.deleted:
                self.settle(entry)
            else:
                self.backlog.put(entry)
        self._drop_what_is_too_much()
        self._surroundings.wake(self)

    def _expiry_of(self, message: Published) -> Optional[float]:
        own, of_queue = message.properties.time_to_live, self._time_to_live
        seconds = min((ttl for ttl in (own, of_queue) if ttl is not None), default=None)
        return None if seconds is None else self._surroundings.loop.now + seconds

    def _is_too_long(self, more: int = 0, more_bytes: int = 0) -> bool:
        length, size = len(self.backlog) + more, self.backlog.bytes + more_bytes
        return (self._max_length is not None and length > self._max_length) or (
            self._max_bytes is not None and size > self._max_bytes
        )

    # Messages go

    def serve(self) -> None:
        """Deliver what can be delivered, and drop what has expired or is too much."""
        if self.deleted:
            return
        self._drop_expired()
        while self.backlog:
            consumer = self.consumers.next()
            if consumer is None:
                break
            self._give(consumer)
            self._drop_expired()
        self._drop_expired(now_too=True)
        self._drop_what_is_too_much()
        self._set_expiry()

    def _give(self, consumer: Consumer) -> None:
        entry = self.backlog.pop()
        if consumer.no_ack:
            self.settle(entry)
        consumer.deliver(entry)

    def get(self) -> Optional[Entry]:
        """Take out the first message."""
        self._drop_expired()
        self.note_use()
        self._surroundings.wake(self)  # the next one may expire
        entry = self.backlog.pop() if self.backlog else None
        self._drop_expired()
        return entry

    def settle(self, entry: Entry) -> None:
        """Forget a message that was taken out of the queue."""
        self._surroundings.memory.give_back(entry.message.cost)

    def acknowledge(self, entries: Iterable[Entry]) -> None:
        """Forget messages that were delivered and dealt with."""
        for entry in entries:
            self.settle(entry)

    def reject(self, entries: Iterable[Entry]) -> None:
        """Drop messages that were delivered and refused."""
        for entry in entries:
            self._drop(entry, 'rejected')

    def purge(self) -> int:
        """Drop what is ready; return how many messages that were."""
        size = len(self.backlog)
        while self.backlog:
            self.settle(self.backlog.pop())
        return size

    def _drop(self, entry: Entry, reason: str) -> None:
        self.settle(entry)
        if not self.deleted:
            self._surroundings.dead_letter(self, entry.message, reason)

    def _drop_what_is_too_much(self) -> None:
        while self.backlog and self._overflow == 'drop-head' and self._is_too_long():
            self._drop(self.backlog.pop(), 'maxlen')

    def _drop_expired(self, now_too: bool = False) -> None:
        """Drop what has expired.

        now_too: also what expires now, once no consumer has taken it.
        """
        now = self._surroundings.loop.now
        first = self.backlog.first()
        while first is not None and first.has_expired(now, now_too):
            self._drop(self.backlog.pop(), 'expired')
            first = self.backlog.first()

    def _set_expiry(self) -> None:
        """Set the timer for the first message."""
        first = self.backlog.first()
        if first is None or first.expires is None:
            return
        if self._expiry is not None:
            if self._expiry.callback is not None and self._expiry.when == first.expires:
                return
            self._expiry.cancel()
        self._expiry = self._surroundings.loop.call_at(first.expires, self._on_expiry)

    def _on_expiry(self) -> None:
        self._expiry = None
        self.serve()
        self._surroundings.serve()

    # The queue itself

    def add_consumer(self, consumer: Consumer) -> None:
        """Deliver to a consumer from now on."""
        self.consumers.add(consumer)
        self.note_use()
        self._surroundings.wake(self)

    def remove_consumer(self, consumer: Consumer) -> None:
        """Deliver no longer to a consumer; an auto-delete queue ends with its last one."""
        if not self.consumers.remove(consumer):
            return
        self.note_use()
        if self.auto_delete and not self.consumers:
            self._surroundings.delete(self)
        self._surroundings.wake(self)  # an exclusive consumer may have held it up

    def wake(self) -> None:
        """Deliver after the current method, as a consumer may take messages again."""
        self._surroundings.wake(self)

    def note_use(self) -> None:
        """Begin its lifetime (x-expires) anew."""
        if self._lifetime is None:
            return
        if self._end is not None:
            self._end.cancel()
        self._end = self._surroundings.loop.call_later(self._lifetime, self._on_end)

    def _on_end(self) -> None:
        if not self.consumers and not self.deleted:
            self._surroundings.delete(self)
            self._surroundings.serve()

    def end(self) -> int:
        """Drop everything, and tell its consumers; return how many messages there were."""
        self.deleted = True
        for timer in (self._expiry, self._end):
            if timer is not None:
                timer.cancel()
        for consumer in self.consumers:
            self.consumers.remove(consumer)
            consumer.on_queue_deleted(consumer)
        return self.purge()


def _seconds(milliseconds: Any) -> Optional[float]:
    return None if milliseconds is None else milliseconds / 1000
