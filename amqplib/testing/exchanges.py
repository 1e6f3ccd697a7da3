"""Exchanges: their bindings, and which of these a message takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable

from amqplib.core.memoize import lru_cache
from amqplib.testing.arguments import check_binding

if TYPE_CHECKING:
    from amqplib.testing.messages import Published

#: An Exchange or a Queue.
Destination = object


#: Routing key -> destination -> arguments of its bindings with this key.
Bindings = Mapping[str, Mapping[Destination, list[dict[str, Any]]]]


def _direct(bindings: Bindings, message: Published) -> Iterable[Destination]:
    for key in message.routing_keys:
        yield from bindings.get(key, ())


def _fanout(bindings: Bindings, message: Published) -> Iterable[Destination]:
    for bound in bindings.values():
        yield from bound


def _topic(bindings: Bindings, message: Published) -> Iterable[Destination]:
    for pattern, bound in bindings.items():
        if any(topic_matches(pattern, key) for key in message.routing_keys):
            yield from bound


def _headers(bindings: Bindings, message: Published) -> Iterable[Destination]:
    headers = message.properties.headers
    for bound in bindings.values():
        for destination, all_arguments in bound.items():
            if any(headers_match(arguments, headers) for arguments in all_arguments):
                yield destination


#: Type of an exchange -> function that returns where a message goes; a place may come again.
TYPES: dict[str, Callable[[Bindings, Published], Iterable[Destination]]] = {
    'direct': _direct,
    'fanout': _fanout,
    'headers': _headers,
    'topic': _topic,
}


@lru_cache(maxsize=4096)
def topic_matches(pattern: str, key: str) -> bool:
    """Return whether a routing key matches a pattern of words, * (a word) and # (any words)."""
    words = key.split('.') if key else []
    # The numbers of words that the pattern can have matched so far.
    reached = {0}
    for part in pattern.split('.') if pattern else ():
        if part == '#':
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(words) and part in ('*', words[at])}
        if not reached:
            return False
    return len(words) in reached


def headers_match(wanted: dict[str, Any], headers: dict[str, Any]) -> bool:
    """Return whether headers match the arguments of a binding (x-match: all, any, ...-with-x)."""
    how = wanted.get('x-match', 'all')
    with_x = str(how).endswith('-with-x')
    pairs = [
        (name, value)
        for name, value in wanted.items()
        if name != 'x-match' and (with_x or not name.startswith('x-'))
    ]
    matches = (
        name in headers and (value is None or _equal(headers[name], value)) for name, value in pairs
    )
    return any(matches) if str(how).startswith('any') else all(matches)


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


class Exchange:
    """An exchange.

    type: one of TYPES.
    bindings: routing key -> destination -> arguments of its bindings with this key.
    """

    kind = 'exchange'

    def __init__(
        self,
        name: str,
        type: str,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] = {},
    ) -> None:
        self.name = name
        self.type = type
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = dict(arguments)
        self.bindings: dict[str, dict[Destination, list[dict[str, Any]]]] = {}
        # The keys of all bindings to a destination.
        self._keys: dict[Destination, set[str]] = {}
        self._matching = TYPES[type]

    @property
    def alternate(self) -> Any:
        """The name of the exchange for messages that this one routes nowhere; None if absent."""
        return self.arguments.get('alternate-exchange')

    def destinations(self, message: Published) -> list[Destination]:
        """Return where a message goes; the same place may come more than once."""
        return list(self._matching(self.bindings, message))

    def bind(self, destination: Destination, key: str, arguments: dict[str, Any]) -> None:
        """Add a binding, unless it is there; refuse one that RabbitMQ refuses."""
        if self.type == 'headers':
            check_binding(arguments)
        all_arguments = self.bindings.setdefault(key, {}).setdefault(destination, [])
        if arguments not in all_arguments:
            all_arguments.append(arguments)
        self._keys.setdefault(destination, set()).add(key)

    def unbind(self, destination: Destination, key: str, arguments: dict[str, Any]) -> bool:
        """Remove a binding; return whether it was there."""
        all_arguments = self.bindings.get(key, {}).get(destination, [])
        if arguments not in all_arguments:
            return False
        all_arguments.remove(arguments)
        if not all_arguments:
            self._forget(destination, key)
        return True

    def unbind_all(self, destination: Destination) -> bool:
        """Remove all bindings to a destination; return whether there were any."""
        keys = list(self._keys.get(destination, ()))
        for key in keys:
            self._forget(destination, key)
        return bool(keys)

    def _forget(self, destination: Destination, key: str) -> None:
        """Remove what there is of a destination and a key."""
        del self.bindings[key][destination]
        if not self.bindings[key]:
            del self.bindings[key]
        self._keys[destination].discard(key)
        if not self._keys[destination]:
            del self._keys[destination]


#: The exchanges that are always there: name -> (type, internal).
PREDECLARED = {
    '': ('direct', False),
    'amq.direct': ('direct', False),
    'amq.fanout': ('fanout', False),
    'amq.headers': ('headers', False),
    'amq.match': ('headers', False),
    'amq.topic': ('topic', False),
    'amq.rabbitmq.trace': ('topic', True),
}
