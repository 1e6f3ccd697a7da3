"""The arguments of queues and exchanges: which ones there are, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Callable, Optional

from amqplib.testing.errors import Refusal, not_implemented, precondition_failed

Arguments = Mapping[str, Any]


#: The largest time, in milliseconds.
MAX_TIME = 2**32 - 1

OVERFLOWS = ('drop-head', 'reject-publish', 'reject-publish-dlx')
MISSING_KINDS = ('quorum', 'stream')

Check = Callable[[Any], Optional[str]]


def _check_number(value: Any) -> Optional[str]:
    if not isinstance(value, int) or isinstance(value, bool):
        return f'"expected integer, got {type_of(value)}"'
    return f'{{value_negative,{value}}}' if value < 0 else None


def _check_time(value: Any) -> Optional[str]:
    too_large = isinstance(value, int) and value > MAX_TIME
    return f'{{value_too_large,{value}}}' if too_large else _check_number(value)


def _check_lifetime(value: Any) -> Optional[str]:
    return _check_time(value) or (None if value else '{value_zero,0}')


def _check_priority(value: Any) -> Optional[str]:
    too_large = isinstance(value, int) and value > 255
    return f'{{max_value_exceeded,{value}}}' if too_large else _check_number(value)


def _check_bool(value: Any) -> Optional[str]:
    return None if isinstance(value, bool) else _unacceptable(value)


def _unacceptable(value: Any) -> str:
    return f'{{unacceptable_type,{type_of(value)}}}'


def _one_of(known: tuple[str, ...], otherwise: str) -> Check:
    def check(value: Any) -> Optional[str]:
        if not isinstance(value, str):
            return _unacceptable(value)
        return None if value in known else otherwise.format(value)

    return check


#: Argument of a queue -> function(value) that returns what is wrong, or None.
QUEUE_CHECKS: dict[str, Check] = {
    'x-expires': _check_lifetime,
    'x-message-ttl': _check_time,
    'x-max-length': _check_number,
    'x-max-length-bytes': _check_number,
    'x-max-priority': _check_priority,
    'x-overflow': _one_of(OVERFLOWS, 'invalid_overflow'),
    'x-queue-type': _one_of(('classic', *MISSING_KINDS), '"unsupported queue type \'{}\'"'),
    'x-single-active-consumer': _check_bool,
}

#: Arguments of queues that are names.
_NAMES = ('x-dead-letter-exchange', 'x-dead-letter-routing-key')

#: The arguments that have to be the same when a queue is declared again.
QUEUE_ARGUMENTS = (*QUEUE_CHECKS, *_NAMES)
EXCHANGE_ARGUMENTS = ('alternate-exchange',)
_DEFAULTS = {'x-queue-type': 'classic'}


def check_queue_arguments(name: str, vhost: str, arguments: Arguments) -> None:
    """Refuse arguments of a queue that RabbitMQ refuses, and those that ask for what is missing."""
    what = f"queue '{name}' in vhost '{vhost}'"
    for argument, check in QUEUE_CHECKS.items():
        wrong = check(arguments[argument]) if argument in arguments else None
        if wrong is not None:
            raise _invalid(argument, what, wrong)
    check_names(what, arguments, _NAMES)
    if 'x-dead-letter-routing-key' in arguments and 'x-dead-letter-exchange' not in arguments:
        raise _invalid('x-dead-letter-routing-key', what, 'routing_key_but_no_dlx_defined')
    kind = arguments.get('x-queue-type')
    if kind in MISSING_KINDS:
        raise not_implemented(f'{kind} queues: this is the broker for tests')


def check_names(what: str, arguments: Arguments, names: tuple[str, ...]) -> None:
    """Refuse arguments that should be names and are not."""
    for argument in names:
        value = arguments.get(argument, '')
        if not isinstance(value, str):
            text = f"invalid type '{type_of(value)}' for arg '{argument}' in {what}"
            raise precondition_failed(text)


def _invalid(argument: str, what: str, wrong: str) -> Refusal:
    return precondition_failed(f"invalid arg '{argument}' for {what}: {wrong}")


def check_binding(arguments: Arguments) -> None:
    """Refuse the arguments of a binding to a headers exchange that RabbitMQ refuses."""
    how = arguments.get('x-match', 'all')
    if not isinstance(how, str):
        raise precondition_failed(
            f'Invalid x-match field type {type_of(how)} (value {how}); expected longstr'
        )
    if how not in ('all', 'any', 'all-with-x', 'any-with-x'):
        raise precondition_failed(
            f'Invalid x-match field value <<"{how}">>; expected all, any, all-with-x, or any-with-x'
        )


def priority_of(name: str, vhost: str, arguments: Arguments) -> int:
    """Return the priority of a consumer, or refuse it."""
    priority = arguments.get('x-priority', 0)
    if not isinstance(priority, int) or isinstance(priority, bool):
        what = f"queue '{name}' in vhost '{vhost}'"
        raise _invalid('x-priority', what, f'"expected integer, got {type_of(priority)}"')
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
        default = _DEFAULTS.get(name)
        one, other = received.get(name, default), current.get(name, default)
        if _equivalent(one, other):
            continue
        if one is None or other is None:
            raise _inequivalent(name, what, _described(received, name), _described(current, name))
        raise _inequivalent(name, what, f"'{_text(one)}'", f"'{_text(other)}'")


def _equivalent(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _inequivalent(name: str, what: str, received: str, current: str) -> Refusal:
    return precondition_failed(
        f"inequivalent arg '{name}' for {what}: received {received} but current is {current}"
    )


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
