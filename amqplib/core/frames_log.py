"""The logger `amqplib.frames`: each method that is sent or received. Imported if it is on.

There is a line for a method with its arguments, and the sizes of the content. There are no bodies,
no properties, and no secrets. To see every method, the fast paths of the decoder are left out; a
connection without this log pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count, islice, takewhile
from typing import TYPE_CHECKING, Any, cast

from amqplib.core.addresses import join_address
from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.core.decoding import Decoder
from amqplib.core.log import escaped
from amqplib.core.session import Session
from amqplib.core.spec import CONTENT_START, FRAME_HEADER, FRAME_METHOD, FRAME_START, SIGNATURE
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import ProtocolError

if TYPE_CHECKING:
    import logging

    from amqplib.core.arguments import Decoders
    from amqplib.core.fast_decoding import ArrivedMethod, FastPath, Inbox
    from amqplib.core.message import Message
    from amqplib.core.serialization import BytesLike
    from amqplib.core.spec import Protocol, Signature
    from amqplib.core.transport import AbstractTransport

_FRAME_END_SIZE = 1

#: The fields that are not shown; nor is the size of their method.
SECRETS = frozenset({'challenge', 'response', 'new_secret'})

#: The longest text of arguments; tables may be large.
MAX_TEXT = 1000

_numbers = count(1)


def logged_session(
    logger: logging.Logger,
    transport: AbstractTransport,
    decoders: Decoders,
    protocol: Protocol,
    message_class: type[Message],
    inboxes: dict[int, Inbox],
) -> Session:
    """Return a session whose methods are logged."""
    frames = FramesLog(logger, protocol, decoders)
    frames.line(f'connected to {join_address(transport.host, transport.port)}')
    session = Session(transport, LoggedDecoder(frames, protocol, message_class, inboxes), inboxes)
    session.outbox.transport = cast('AbstractTransport', LoggedTransport(frames, transport))
    return session


class FramesLog:
    """The lines of one connection.

    logger: where they go; each begins with a number of the connection.
    """

    def __init__(self, logger: logging.Logger, protocol: Protocol, decoders: Decoders) -> None:
        self._logger = logger
        self._protocol = protocol
        self._decoders = decoders
        self._number = next(_numbers)

    def line(self, text: str) -> None:
        """Log a line."""
        self._logger.debug('%s', f'#{self._number} {escaped(text)}')

    def received(self, channel: int, method: ArrivedMethod) -> None:
        """Log a method that has arrived with its content."""
        signature, args, msg = method
        sizes = ''
        if msg is not None:
            sizes = _sizes(len(msg.raw_properties or b''), len(msg.body))
        self.line(f'<- channel {channel}: {self._describe(signature, args.input)}{sizes}')

    def sent(self, frames: bytes) -> None:
        """Log the methods in frames that are sent."""
        offset, line = 0, ''
        while len(frames) - offset >= FRAME_START.size:
            kind, channel, size = FRAME_START.unpack_from(frames, offset)
            start = offset + FRAME_START.size
            offset = start + size + _FRAME_END_SIZE
            if kind == FRAME_METHOD:
                self._end(line)
                signature = SIGNATURE.unpack_from(frames, start)
                arguments = frames[start + SIGNATURE.size : start + size]
                line = f'-> channel {channel}: {self._describe(signature, arguments)}'
            elif kind == FRAME_HEADER:
                _, _, body = CONTENT_START.unpack_from(frames, start)
                line += _sizes(size - CONTENT_START.size, body)
        self._end(line)

    def _end(self, line: str) -> None:
        if line:
            self.line(line)

    def _describe(self, signature: Signature, arguments: bytes) -> str:
        """Return the name of a method, its arguments and their size."""
        row = self._protocol.by_signature.get(signature)
        if row is None:
            return f'unknown method {signature}, size {len(arguments)}'
        names = [name for name, _ in row.fields]
        try:
            values = self._decoders[row.name](AMQPReader(arguments))
        except ProtocolError as error:
            return f'{row.name}, malformed ({error.amqp_reply_text}), size {len(arguments)}'
        text = f'{row.name}({_arguments(zip(names, values))})'
        return text if SECRETS.intersection(names) else f'{text}, size {len(arguments)}'


def _arguments(fields: Iterable[tuple[str, Any]]) -> str:
    text = ', '.join(
        f'{name}=...' if name in SECRETS else f'{name}={value!r}' for name, value in fields
    )
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + '...'


def _sizes(properties: int, body: int) -> str:
    return f', properties {properties}, body {body}'


class LoggedDecoder(Decoder):
    """A decoder that logs the methods; none of them is on a fast path."""

    def __init__(
        self,
        frames: FramesLog,
        protocol: Protocol,
        message_class: type[Message],
        inboxes: Mapping[int, Inbox],
    ) -> None:
        super().__init__(protocol, message_class, inboxes)
        self._frames = frames

    def add_fast_path(self, path: FastPath) -> None:
        """Leave it out."""

    def take(self, received: bytes) -> None:
        known = len(self.queue)
        try:
            super().take(received)
        finally:
            for channel, method in islice(self.queue, known, None):
                self._frames.received(channel, method)


class LoggedTransport:
    """A transport for the outbox that logs what is sent."""

    def __init__(self, frames: FramesLog, transport: AbstractTransport) -> None:
        self._frames = frames
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def send(self, data: bytes, deadline: Deadline = NO_DEADLINE) -> None:
        self._frames.sent(data)
        self._transport.send(data, deadline)

    def send_pieces(self, pieces: list[BytesLike], deadline: Deadline = NO_DEADLINE) -> None:
        # What comes before the first part of a large body, which is the last one in a write.
        self._frames.sent(b''.join(takewhile(lambda piece: isinstance(piece, bytes), pieces)))
        self._transport.send_pieces(pieces, deadline)

    def send_some(self, data: BytesLike) -> int:
        sent = self._transport.send_some(data)
        if sent and isinstance(data, bytes):  # else this is the rest of it
            self._frames.sent(data)
        return sent
