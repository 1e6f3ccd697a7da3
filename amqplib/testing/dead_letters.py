"""Dead letters: messages that a queue does not keep, with their history (header x-death)."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

from amqplib.core.message import Message
from amqplib.core.raw_values import join_properties, join_table, split_properties, split_table
from amqplib.core.serialization import (
    FIELD_TYPES,
    LONGLONG,
    encode_table,
    encode_void,
)
from amqplib.core.spec import FieldTypes
from amqplib.testing.messages import Death, Published

if TYPE_CHECKING:
    from amqplib.testing.queues import Queue

_EMPTY_TABLE = b'\0\0\0\0'


class _Count(int):
    """An int that is written as 64 bits, as RabbitMQ does."""


class _Seconds(int):
    """A time, in seconds."""


class _Death(dict[str, Any]):
    """An entry of x-death, which nothing changes: it is encoded once, and sent again and again."""

    @cached_property
    def encoded(self) -> bytes:
        return b'F' + encode_table(self, _TYPES)


_TYPES: FieldTypes = {
    **FIELD_TYPES,
    type(None): encode_void,
    _Count: lambda value, types, depth: b'l' + LONGLONG.pack(value),
    _Seconds: lambda value, types, depth: b'T' + LONGLONG.pack(value),
    _Death: lambda value, types, depth: value.encoded,
}


def dead_letter(queue: Queue, message: Published, reason: str) -> Optional[Published]:
    """Return the message to publish instead, to the dead-letter exchange of the queue.

    Returns None if it would go in circles.
    """
    if _is_cycle(queue.name, reason, message.deaths):
        return None
    properties = split_properties(message.content.raw_properties or b'')
    expiration = properties.pop('expiration', None)
    death: Death = _Death(
        {
            'count': _Count(1),
            'reason': reason,
            'queue': queue.name,
            'time': _Seconds(time.time()),
            'exchange': message.exchange,
            'routing-keys': list(message.keys[0]),
        }
    )
    if expiration is not None:
        death['original-expiration'] = message.properties.expiration
    deaths = _with_death(message.deaths, death)
    headers = split_table(properties.get('application_headers', _EMPTY_TABLE))
    headers.update(split_table(encode_table(_history(deaths), _TYPES)))
    properties['application_headers'] = join_table(headers)
    content = Message.received(join_properties(properties), message.content.body)
    exchange = queue.arguments['x-dead-letter-exchange']
    key = queue.arguments.get('x-dead-letter-routing-key')
    if key is None:
        return Published(exchange, message.routing_key, content, deaths, message.keys)
    return Published(exchange, key, content, deaths, ((key,), ()))


def _history(deaths: tuple[Death, ...]) -> dict[str, Any]:
    """Return the headers that tell of the deaths; of equal ones, the first one stays the first."""
    history: dict[str, Any] = {'x-death': list(deaths)}
    for which, death in (('first', deaths[-1]), ('last', deaths[0])):
        for name in ('exchange', 'queue', 'reason'):
            history[f'x-{which}-death-{name}'] = death[name]
    return history


def _with_death(deaths: tuple[Death, ...], death: Death) -> tuple[Death, ...]:
    """Return the deaths with one more, the latest first; equal ones are counted."""
    what = death['queue'], death['reason']
    for earlier in deaths:
        if (earlier['queue'], earlier['reason']) == what:
            again = _Death({**earlier, 'count': _Count(earlier['count'] + 1)})
            return (again, *(other for other in deaths if other is not earlier))
    return (death, *deaths)


def _is_cycle(queue: str, reason: str, deaths: tuple[Death, ...]) -> bool:
    """Return whether a message comes back to a queue without anybody having rejected it."""
    names = [death['queue'] for death in deaths]
    if reason == 'rejected' or queue not in names:
        return False
    return all(death['reason'] != 'rejected' for death in deaths[: names.index(queue) + 1])
