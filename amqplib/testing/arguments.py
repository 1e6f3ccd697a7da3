"""The arguments of queues and exchanges: which ones there are, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Callable, Optional

from amqplib.testing.errors import Refusal, not_implemented, precondition_failed

Arguments = Mapping[str, Any]


def _check_number(value: Any) -> Optional[str]:
    if not isinstance(value, int) or isinstance(value, bool):
        return f'{{unacceptable_type,{type_of(value)}}}'
    return f'{{value_negative,{value}}}' if value < 0 else None


def _check_positive(value: Any) -> Optional[str]:
    return _check_number(value) or (None if value else '{value_zero,0}')


def _check_priority(value: Any) -> Optional[str]:
    too_large = isinstance(value, int) and value > 255
    return '{max_value_exceeded,255}' if too_large else _check_number(value)


def _check_text(value: Any) -> Optional[str]:
    return None if isinstance(value, str) else f'{{unacceptable_type,{type_of(value)}}}'


def _check_overflow(value: Any) -> Optional[str]:
    if value in OVERFLOWS:
        return None
    return f'invalid overflow: {value}'


OVERFLOWS = ('drop-head', 'reject-publish', 'reject-publish-dlx')

#: Argument of a queue -> function(value) that returns what is wrong, or None.
QUEUE_CHECKS: dict[str, Callable[[Any], Optional[str]]] = {
    'x-expires': _check_positive,
    'x-message-ttl': _check_number,
    'x-max-length': _check_number,
    'x-max-length-bytes': _check_number,
    'x-max-priority': _check_priority,
    'x-overflow': _check_overflow,
    'x-dead-letter-exchange': _check_text,
    'x-dead-letter-routing-key': _check_text,
    'x-single-active-consumer': lambda value: None,
}


def check_queue_arguments(name: str, vhost: str, arguments: Arguments) -> None:
    """Refuse arguments of a queue that RabbitMQ refuses, and those that ask for what is missing."""
    kind = arguments.get('x-queue-type', 'classic')
    if kind != 'classic':
        raise not_implemented(f'{kind} queues: this is the broker for tests')
    if arguments.get('x-single-active-consumer'):
        raise not_implemented('x-single-active-consumer: this is the broker for tests')
    for argument, check in QUEUE_CHECKS.items():
        wrong = check(arguments[argument]) if argument in arguments else None
        if wrong is not None:
            raise precondition_failed(
                f"invalid arg '{argument}' for queue '{name}' in vhost '{vhost}': {wrong}"
            )
    if 'x-dead-letter-routing-key' in arguments and 'x-dead-letter-exchange' not in arguments:
        raise precondition_failed(
            f"invalid arg 'x-dead-letter-routing-key' for queue '{name}' in vhost '{vhost}': "
            'routing_key_but_no_dlx_defined'
        )


def priority_of(name: str, vhost: str, arguments: Arguments) -> int:
    """Return the priority of a consumer, or refuse it."""
    priority = arguments.get('x-priority', 0)
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise precondition_failed(
            f"invalid arg 'x-priority' for queue '{name}' in vhost '{vhost}': "
            f'{{unacceptable_type,{type_of(priority)}}}'
        )
    return priority


def check_equal(what: str, pairs: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse to declare something otherwise than it is.

    what: as in "queue 'tasks' in vhost '/'".
    pairs: name -> (value that is received, current value).
    """
    for name, (received, current) in pairs.items():
        if received != current:
            raise _inequivalent(name, what, f"'{_text(received)}'", f"'{_text(current)}'")


def check_arguments_equal(
    what: str, received: Arguments, current: Arguments, names: tuple[str, ...]
) -> None:
    """Refuse to declare something with other arguments than it has; only these names count."""
    for name in names:
        if not _equivalent(received.get(name), current.get(name)):
            raise _inequivalent(name, what, _described(received, name), _described(current, name))


def _inequivalent(name: str, what: str, received: str, current: str) -> Refusal:
    return precondition_failed(
        f"inequivalent arg '{name}' for {what}: received {received} but current is {current}"
    )


def _equivalent(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _described(arguments: Arguments, name: str) -> str:
    if name not in arguments:
        return 'none'
    value = arguments[name]
    return f"the value '{_text(value)}' of type '{type_of(value)}'"


#: Type -> the name that RabbitMQ gives it.
_TYPES: dict[type, str] = {
    bool: 'bool',
    str: 'longstr',
    bytes: 'longstr',
    float: 'double',
    dict: 'table',
    list: 'array',
    datetime: 'timestamp',
    Decimal: 'decimal',
    type(None): 'void',
}


def type_of(value: Any) -> str:
    """Return RabbitMQ's name for the type of a value."""
    if isinstance(value, int) and not isinstance(value, bool):
        return 'signedint' if -(1 << 31) <= value < 1 << 31 else 'long'
    return _TYPES[type(value)]
