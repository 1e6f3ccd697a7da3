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


class Binding:
    """A binding of an exchange to a queue or to another exchange."""

    __slots__ = ('arguments', 'destination', 'key')

    def __init__(self, destination: Destination, key: str, arguments: dict[str, Any]) -> None:
        self.destination = destination
        self.key = key
        self.arguments = arguments


#: Routing key -> bindings with this key.
Bindings = Mapping[str, list[Binding]]


def _direct(bindings: Bindings, message: Published) -> Iterable[Binding]:
    for key in message.routing_keys:
        yield from bindings.get(key, ())


def _fanout(bindings: Bindings, message: Published) -> Iterable[Binding]:
    for bound in bindings.values():
        yield from bound


def _topic(bindings: Bindings, message: Published) -> Iterable[Binding]:
    for pattern, bound in bindings.items():
        if any(topic_matches(pattern, key) for key in message.routing_keys):
            yield from bound


def _headers(bindings: Bindings, message: Published) -> Iterable[Binding]:
    headers = message.properties.headers
    for binding in _fanout(bindings, message):
        if headers_match(binding.arguments, headers):
            yield binding


#: Type of an exchange -> function that returns the bindings that a message takes.
TYPES: dict[str, Callable[[Bindings, Published], Iterable[Binding]]] = {
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
    bindings: routing key -> its bindings.
    incoming: the exchanges that are bound to this one.
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
        self.bindings: dict[str, list[Binding]] = {}
        self._matching = TYPES[type]

    @property
    def alternate(self) -> Any:
        """The name of the exchange for messages that this one routes nowhere; None if absent."""
        return self.arguments.get('alternate-exchange')

    def destinations(self, message: Published) -> list[Destination]:
        """Return where a message goes; the same place may come more than once."""
        return [binding.destination for binding in self._matching(self.bindings, message)]

    def bind(self, destination: Destination, key: str, arguments: dict[str, Any]) -> None:
        """Add a binding, unless it is there; refuse one that RabbitMQ refuses."""
        if self.type == 'headers':
            check_binding(arguments)
        bound = self.bindings.setdefault(key, [])
        if not any(_is(binding, destination, arguments) for binding in bound):
            bound.append(Binding(destination, key, arguments))

    def unbind(self, destination: Destination, key: str, arguments: dict[str, Any]) -> bool:
        """Remove a binding; return whether it was there."""
        return self._remove([key], lambda binding: _is(binding, destination, arguments))

    def unbind_all(self, destination: Destination) -> bool:
        """Remove all bindings to a destination; return whether there were any."""
        return self._remove(list(self.bindings), lambda binding: binding.destination is destination)

    def _remove(self, keys: Iterable[str], wanted: Callable[[Binding], bool]) -> bool:
        removed = False
        for key in keys:
            bound = self.bindings.get(key, [])
            kept = [binding for binding in bound if not wanted(binding)]
            removed = removed or len(kept) < len(bound)
            if kept:
                self.bindings[key] = kept
            else:
                self.bindings.pop(key, None)
        return removed


def _is(binding: Binding, destination: Destination, arguments: dict[str, Any]) -> bool:
    return binding.destination is destination and binding.arguments == arguments


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
