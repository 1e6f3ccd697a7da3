"""Refusals, with the reply codes of RabbitMQ and its texts."""

from __future__ import annotations

from amqplib.core import spec

_NAMES = (
    'CONNECTION_FORCED', 'INVALID_PATH', 'ACCESS_REFUSED', 'NOT_FOUND', 'RESOURCE_LOCKED',
    'PRECONDITION_FAILED', 'FRAME_ERROR', 'SYNTAX_ERROR', 'COMMAND_INVALID', 'CHANNEL_ERROR',
    'UNEXPECTED_FRAME', 'RESOURCE_ERROR', 'NOT_ALLOWED', 'NOT_IMPLEMENTED', 'INTERNAL_ERROR',
    'CONTENT_TOO_LARGE', 'NO_ROUTE', 'NO_CONSUMERS',
)  # fmt: skip

#: Reply code -> its name, with which RabbitMQ begins its texts.
NAMES: dict[int, str] = {getattr(spec, name): name for name in _NAMES}

#: The reply codes that close a channel; all others close the connection.
CHANNEL_CODES = frozenset(
    (
        spec.CONTENT_TOO_LARGE,
        spec.NO_ROUTE,
        spec.NO_CONSUMERS,
        spec.ACCESS_REFUSED,
        spec.NOT_FOUND,
        spec.RESOURCE_LOCKED,
        spec.PRECONDITION_FAILED,
    )
)


class Refusal(Exception):
    """The broker refuses a method, and closes the channel or the connection for it.

    code: the reply code.
    text: the reply text, without the name of the code.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    @property
    def reply_text(self) -> str:
        """The whole reply text, at most 255 bytes."""
        name = NAMES.get(self.code)
        return shortened(self.text if name is None else f'{name} - {self.text}')


class Hangup(Exception):
    """The broker ends a connection without a word, as RabbitMQ does.

    delay: after how many seconds.
    """

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__(delay)
        self.delay = delay


def shortened(text: str) -> str:
    """Return a text that fits into a short string."""
    data = text.encode('utf-8', 'replace')
    return text if len(data) <= 255 else data[:252].decode('utf-8', 'ignore') + '...'


def not_implemented(what: str) -> Refusal:
    return Refusal(spec.NOT_IMPLEMENTED, what)


def not_found(kind: str, name: str, vhost: str) -> Refusal:
    return Refusal(spec.NOT_FOUND, f"no {kind} '{name}' in vhost '{vhost}'")


def precondition_failed(text: str) -> Refusal:
    return Refusal(spec.PRECONDITION_FAILED, text)
