"""Dead letters: messages that a queue does not keep, with their history (header x-death)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Optional

from amqplib.core.message import Message
from amqplib.core.properties import join_properties, split_properties
from amqplib.core.serialization import (
    FIELD_TYPES,
    LONGLONG,
    encode_shortstr,
    encode_table,
    encode_void,
    join_table,
    split_table,
)
from amqplib.core.spec import FieldTypes
from amqplib.testing.messages import Published

if TYPE_CHECKING:
    from amqplib.testing.queues import Queue

_EMPTY_TABLE = b'\0\0\0\0'


class _Count(int):
    """An int that is written as 64 bits, as RabbitMQ does."""


class _Seconds(int):
    """A time, in seconds."""


_TYPES: FieldTypes = {
    **FIELD_TYPES,
    type(None): encode_void,
    _Count: lambda value, types, depth: b'l' + LONGLONG.pack(value),
    _Seconds: lambda value, types, depth: b'T' + LONGLONG.pack(value),
}

Death = dict[str, Any]


def dead_letter(queue: Queue, message: Published, reason: str) -> Optional[Published]:
    """Return the message to publish instead, to the dead-letter exchange of the queue.

    Returns None if it would go in circles.
    """
    deaths = _deaths_of(message)
    if _is_cycle(queue.name, reason, deaths):
        return None
    arguments = queue.arguments
    key = arguments.get('x-dead-letter-routing-key')
    properties = split_properties(message.properties.raw)
    expiration = properties.pop('expiration', None)
    headers = split_table(properties.get('application_headers', _EMPTY_TABLE))
    if key is not None:
        headers.pop(encode_shortstr('CC'), None)
    headers.pop(encode_shortstr('BCC'), None)
    death: Death = {
        'count': _Count(1),
        'reason': reason,
        'queue': queue.name,
        'time': _Seconds(time.time()),
        'exchange': message.exchange,
        'routing-keys': [message.routing_key, *message.properties.copies],
    }
    if expiration is not None:
        death['original-expiration'] = message.properties.expiration
    history: dict[str, Any] = {'x-death': _with_death(deaths, death)}
    if not deaths:
        first = {'exchange': message.exchange, 'queue': queue.name, 'reason': reason}
        history.update({f'x-first-death-{name}': value for name, value in first.items()})
    headers.pop(encode_shortstr('x-death'), None)
    headers.update(split_table(encode_table(history, _TYPES)))
    properties['application_headers'] = join_table(headers)
    content = Message.received(join_properties(properties), message.content.body)
    return Published(
        arguments['x-dead-letter-exchange'],
        message.routing_key if key is None else key,
        content,
    )


def _deaths_of(message: Published) -> list[Death]:
    """Return what x-death says; [] if it is not what a broker writes."""
    deaths = message.properties.headers.get('x-death')
    if not isinstance(deaths, list) or not all(isinstance(death, dict) for death in deaths):
        return []
    return [
        {**death, 'count': _Count(death['count'])}
        for death in deaths
        if isinstance(death.get('count'), int)
    ]


def _with_death(deaths: list[Death], death: Death) -> list[Death]:
    """Return the history with one more death, the latest first; equal ones are counted."""
    what = death['queue'], death['reason']
    for earlier in deaths:
        if (earlier.get('queue'), earlier.get('reason')) == what:
            again = {**earlier, 'count': _Count(earlier['count'] + 1)}
            return [again, *(other for other in deaths if other is not earlier)]
    return [death, *deaths]


def _is_cycle(queue: str, reason: str, deaths: list[Death]) -> bool:
    """Return whether a message comes back to a queue without that anybody rejected it."""
    if reason == 'rejected':
        return False
    names = [death.get('queue') for death in deaths]
    if queue not in names:
        return False
    since = deaths[: names.index(queue) + 1]
    return all(death.get('reason') != 'rejected' for death in since)
