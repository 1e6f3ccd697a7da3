"""Messages as lines of JSON, the same in both directions.

A line is an object with these fields; on input, only a body is required::

    body, body_base64      the body: text if its bytes are UTF-8, else base64
    properties             an object; the timestamp is in seconds since 1970
    headers                the application headers
    exchange, routing_key  where the message was published
    redelivered            whether it was delivered before; not used on input
    properties_base64      properties and headers in wire format, only where the two fields above
                           would not become the same bytes again; takes precedence over them

A value in the headers for which JSON has no type is an object with one of these keys::

    $bytes (base64), $timestamp (seconds since 1970), $decimal (text),
    $table (a table with a single key that begins with $)
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import Counter
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union

from amqplib.core.message import Message
from amqplib.core.serialization import MAX_NESTING, with_context

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ['Entry', 'from_line', 'to_line']

HEADERS = 'application_headers'

FIELDS = frozenset((
    'body', 'body_base64', 'properties', 'headers', 'properties_base64', 'exchange', 'routing_key',
    'redelivered',
))  # fmt: skip

_PROPERTIES = frozenset(name for name, _ in Message.PROPERTIES if name != HEADERS)

_readable = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(',', ':')).encode
_ascii = json.JSONEncoder(allow_nan=False, separators=(',', ':')).encode


class Entry(NamedTuple):
    """A message, and where to publish it."""

    message: Message
    exchange: str = ''
    routing_key: str = ''


# --- Writing --------------------------------------------------------------------------------------


def to_line(entry: Entry, redelivered: bool = False) -> bytes:
    """Return a message as a line, with its newline."""
    message, exchange, routing_key = entry
    fields = {**_body_fields(message.body), **_property_fields(message)}
    fields.update(exchange=exchange, routing_key=routing_key)
    if redelivered:
        fields['redelivered'] = True
    try:
        return _encode(fields)
    except ValueError:  # NaN or an infinity in the headers, which properties_base64 has too
        del fields['headers']
        return _encode(fields)


def _encode(fields: dict[str, Any]) -> bytes:
    try:
        return _readable(fields).encode() + b'\n'
    except UnicodeEncodeError:  # a name or a property that is not UTF-8
        return _ascii(fields).encode() + b'\n'


def _body_fields(body: Union[str, bytes]) -> dict[str, Any]:
    if isinstance(body, str):  # it is empty
        return {'body': body}
    try:
        return {'body': body.decode('utf-8')}
    except UnicodeDecodeError:
        return {'body_base64': b64encode(body).decode()}


def _property_fields(message: Message) -> dict[str, Any]:
    raw = message.encode_properties()
    properties = dict(message.properties)
    exact = _encodes_to(raw, message, properties)
    headers = properties.pop(HEADERS, None)
    fields: dict[str, Any] = {}
    if properties:
        fields['properties'] = {name: _plain(value) for name, value in properties.items()}
    if headers is not None:
        fields['headers'] = {name: _to_json(value) for name, value in headers.items()}
    if not exact:
        fields['properties_base64'] = b64encode(raw).decode()
    return fields


def _encodes_to(raw: bytes, message: Message, properties: dict[str, Any]) -> bool:
    try:
        return type(message)(**properties).encode_properties() == raw
    except (TypeError, ValueError):
        return False


def _plain(value: Any) -> Any:
    return int(value.timestamp()) if isinstance(value, datetime) else value


def _table_to_json(table: dict[str, Any]) -> dict[str, Any]:
    converted = {name: _to_json(value) for name, value in table.items()}
    ambiguous = len(table) == 1 and next(iter(table)).startswith('$')
    return {'$table': converted} if ambiguous else converted


_TO_JSON: dict[type, Callable[[Any], Any]] = {
    bytes: lambda value: {'$bytes': b64encode(value).decode()},
    datetime: lambda value: {'$timestamp': int(value.timestamp())},
    Decimal: lambda value: {'$decimal': str(value)},
    dict: _table_to_json,
    list: lambda value: [_to_json(item) for item in value],
}


def _to_json(value: Any) -> Any:
    convert = _TO_JSON.get(type(value))
    return value if convert is None else convert(value)


# --- Reading --------------------------------------------------------------------------------------


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; json would keep the last of several fields of one name."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f'{name!r} is there twice')
    return fields


_decode = json.JSONDecoder(object_pairs_hook=_to_object).decode


def from_line(line: bytes, message_class: type[Message] = Message) -> Entry:
    """Return the message of a line; raise ValueError or TypeError that names the field."""
    try:
        fields = _decode(line.decode('utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'not JSON: {error}') from None
    if not isinstance(fields, dict):
        raise TypeError('not a JSON object')
    unknown = fields.keys() - FIELDS
    if unknown:
        raise ValueError(f'{min(unknown)!r} is not one of: {", ".join(sorted(FIELDS))}')
    message = _message(fields, message_class)
    return Entry(message, _text(fields, 'exchange'), _text(fields, 'routing_key'))


def _message(fields: dict[str, Any], message_class: type[Message]) -> Message:
    body = _body(fields)
    if 'properties_base64' in fields:
        return message_class.received(_from_base64(fields, 'properties_base64'), body)
    properties = _object(fields, 'properties')
    unknown = properties.keys() - _PROPERTIES
    if unknown:
        names = ', '.join(sorted(_PROPERTIES))
        raise ValueError(f'properties: {min(unknown)!r} is not one of: {names}')
    for name, value in properties.items():
        if isinstance(value, bool):  # which is a number in Python
            raise TypeError(f'{name}: {_ascii(value)} is not a number or text')
    if 'headers' in fields:
        properties[HEADERS] = _headers(_object(fields, 'headers'))
    return message_class(body, **properties)


def _body(fields: dict[str, Any]) -> bytes:
    if ('body' in fields) == ('body_base64' in fields):
        raise ValueError('it needs either body or body_base64')
    if 'body_base64' in fields:
        return _from_base64(fields, 'body_base64')
    try:
        return _text(fields, 'body').encode('utf-8')
    except UnicodeEncodeError as error:
        raise with_context(error, 'body') from None


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name, '')
    if not isinstance(value, str):
        raise TypeError(f'{name}: {value!r} is not a string')
    return value


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name, {})
    if not isinstance(value, dict):
        raise TypeError(f'{name}: {value!r} is not an object')
    return value


def _from_base64(fields: dict[str, Any], name: str) -> bytes:
    try:
        return b64decode(_text(fields, name), validate=True)
    except ValueError as error:
        raise with_context(error, name) from None


def _headers(headers: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(_items(headers))
    except (TypeError, ValueError) as error:
        raise with_context(error, 'headers') from None


def _items(table: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if not isinstance(table, dict):
        raise TypeError(f'{table!r} is not an object')
    for name, value in table.items():
        try:
            yield name, from_json(value, depth + 1)
        except (TypeError, ValueError) as error:
            raise with_context(error, f'[{name!r}]') from None


def _decimal(text: Any) -> Decimal:
    if not isinstance(text, str):
        raise TypeError(f'{_ascii(text)} is not text')
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f'{text!r} is not a decimal number') from None


def _time(seconds: Any) -> datetime:
    if type(seconds) is not int:
        raise TypeError(f'{_ascii(seconds)} is not a whole number')
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (ArithmeticError, OSError):
        raise ValueError(f'{seconds!r} is out of range') from None


_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    '$bytes': lambda text: b64decode(text, validate=True),
    '$timestamp': _time,
    '$decimal': _decimal,
}


def from_json(value: Any, depth: int = 0) -> Any:
    """Return what a value in JSON stands for in a table; raise ValueError or TypeError."""
    if depth > MAX_NESTING:
        raise ValueError(f'nested more than {MAX_NESTING} deep')
    if isinstance(value, list):
        return [from_json(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key in _FROM_JSON:
            return _FROM_JSON[key](inner)
        if key == '$table':
            return dict(_items(inner, depth))
        if key.startswith('$'):
            raise ValueError(f'{key!r} is not one of: {", ".join(_FROM_JSON)}, $table')
    return dict(_items(value, depth))
