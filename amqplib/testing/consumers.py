"""Consumers: what they may still be given, and which one of a queue is next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    from amqplib.testing.messages import Entry


class Consumer:
    """A consumer of a queue, on a channel.

    queue: its Queue.
    limit: how many unacknowledged messages it may have; 0 for no limit.
    has_room: function() -> whether its channel takes more.
    send: function(consumer, entry) that delivers a message.
    on_queue_deleted: function(consumer).
    """

    def __init__(
        self,
        tag: str,
        queue: Any,
        no_ack: bool,
        exclusive: bool,
        priority: int,
        limit: int,
        has_room: Callable[[], bool],
        send: Callable[[Consumer, Entry], object],
        on_queue_deleted: Callable[[Consumer], object],
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.priority = priority
        self.limit = limit
        self.unacknowledged = 0
        self._has_room = has_room
        self._send = send
        self.on_queue_deleted = on_queue_deleted

    def can_take(self) -> bool:
        """Return whether it may be given one more message."""
        within = self.no_ack or not self.limit or self.unacknowledged < self.limit
        return within and self._has_room()

    def deliver(self, entry: Entry) -> None:
        """Give it a message."""
        self._send(self, entry)


class Consumers:
    """The consumers of a queue: those of the highest priority first, equals in turns.

    single: give everything to the first one, as long as it is there.
    """

    def __init__(self, single: bool) -> None:
        self.single = single
        # Ordered by priority; among equals, the one that waits longest comes first.
        self._waiting: list[Consumer] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Consumer]:
        return iter(list(self._waiting))

    def add(self, consumer: Consumer) -> None:
        """Add a consumer, after those of its priority."""
        later = (
            position
            for position, other in enumerate(self._waiting)
            if other.priority < consumer.priority and not self.single
        )
        self._waiting.insert(next(later, len(self._waiting)), consumer)

    def remove(self, consumer: Consumer) -> bool:
        """Remove a consumer; return whether it was there."""
        if consumer not in self._waiting:
            return False
        self._waiting.remove(consumer)
        return True

    @property
    def exclusive(self) -> bool:
        """Whether one of them wants to be the only one."""
        return any(consumer.exclusive for consumer in self._waiting)

    def next(self) -> Optional[Consumer]:
        """Return the one whose turn it is; None if none of them can take a message."""
        if self.single:
            first = self._waiting[0] if self._waiting else None
            return first if first is not None and first.can_take() else None
        for consumer in self._waiting:
            if consumer.can_take():
                self._waiting.remove(consumer)
                self.add(consumer)
                return consumer
        return None
