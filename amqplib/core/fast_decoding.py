"""Fast paths for the methods that arrive most, which resemble earlier ones.

A fast path takes several complete methods of one kind from the received data, up to the first one
that it does not recognise. The Decoder decodes that one in the general way, and the fast path
remembers it. Methods on a fast path go straight to their channel's target, if there is one.

All deliveries of a consumer have the same tag, and most have an exchange and a routing key that
have occurred before. So the fast path remembers these bytes with their values, and the offsets of
everything else by the sizes of the parts. A delivery that is known in this way takes only a few
comparisons.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from struct import Struct
from typing import Any, Callable, Optional, Protocol

from amqplib.core.arguments import compile_encoder, decode_deliver
from amqplib.core.message import DELIVERY_FIELDS, Message
from amqplib.core.spec import (
    ACK,
    CHANNEL_ERROR,
    CONTENT_START,
    DEFAULT_FRAME_MAX,
    DELIVER,
    FRAME_BODY,
    FRAME_END,
    FRAME_METHOD,
    FRAME_START,
    Signature,
)
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import ProtocolError

#: (signature, arguments, content)
ArrivedMethod = tuple[Signature, AMQPReader, Optional[Message]]
#: (channel, method)
QueuedMethod = tuple[int, ArrivedMethod]

#: The largest method or header frame that is read. Brokers send headers larger than frame_max: a
#: message keeps the headers it was published with, and dead-lettering adds to them.
MAX_HEADER = 8 * DEFAULT_FRAME_MAX
#: When about this many items are remembered, all are discarded: routing keys may all differ.
MAX_REMEMBERED = 1024

#: Bytes that identify the kind: frame header, signature, size of the consumer tag.
_KIND_SIZE = 12
#: The first bytes of a content header: its size, class and weight.
_HEADER_LEAD_SIZE = 8
_DELIVERY_TAG_SIZE = 8
#: The offset of the arguments of a method in its frame.
_ARGUMENTS = FRAME_START.size + 4

#: Frame type, channel, size and signature, sequence number, a bit, frame end.
_CONFIRM = Struct('>BH8sQBB')
_CONFIRM_REST = (len(ACK.prefix) + 9).to_bytes(4, 'big') + ACK.prefix

_encode_delivery = compile_encoder(DELIVER, {})
_DELIVERY = DELIVER.signature


class Target(Protocol):
    """Where the methods of a channel go: a queue, or what passes them on."""

    def append(self, method: ArrivedMethod, /) -> None:
        """Take a method that has arrived."""


class Inbox:
    """What the session and the decoder know of a channel.

    keeps_content: whether contents for it are kept.
    delivery_queue: the target of deliveries on the fast path; None to use arrive().
    take_confirm: function(sequence number, multiple) for confirms; None to use arrive().
    """

    keeps_content = True
    delivery_queue: Optional[Target] = None
    take_confirm: Optional[Callable[[int, bool], Any]] = None

    def arrive(self, method: ArrivedMethod) -> None:
        """Take a method; raise ProtocolError if the broker must not send it."""
        raise NotImplementedError

    def session_ended(self) -> None:
        """Handle the end of the session."""
        raise NotImplementedError


class FastPath(Protocol):
    """A fast path for one kind of method.

    prefix: the class id and method id of this kind.
    """

    prefix: bytes

    def take(self, data: bytes, offset: int, body_limit: int, queue: deque[QueuedMethod]) -> int:
        """Take the methods at the offset; return the offset of the first one that is left.

        They go to their channels at once, unless the queue has earlier methods.
        """


def not_open(channel: int, signature: Signature, name: str) -> ProtocolError:
    """Return the error for a method on a channel that is not open.

    name: the name of the method in errors.
    """
    text = f'a method {signature} on channel {channel}, which is not open'
    return ProtocolError(CHANNEL_ERROR, text, signature, name)


class DeliveryArguments(AMQPReader):
    """The arguments of a delivery whose message already has the values.

    The bytes are encoded only if somebody reads them, such as a handler of a subclass.
    """

    message: Message

    def __getattr__(self, name: str) -> Any:
        if name not in ('data', 'input'):
            raise AttributeError(name)
        values = (self.message.delivery_info[field] for field in DELIVERY_FIELDS)
        self.input = self.data = _encode_delivery(*values)[len(DELIVER.prefix) :]
        return self.data


_new_arguments = DeliveryArguments.__new__
_new_message = Message.__new__


class _Kind:
    """Deliveries on one channel whose method frame and consumer tag have the same sizes.

    lead_size: the size of frame header, signature and consumer tag.
    source_size: the size of bits, exchange, routing key, frame end, and type and channel of the
        next frame; the content header begins after them, at header_start.
    tags: the bytes up to the consumer tag -> the tag.
    sources: the bytes from the bits to the next frame -> redelivered, exchange, routing key.
    layouts: the first bytes of the content header -> the offsets of everything.
    """

    __slots__ = (
        'channel', 'header_start', 'layouts', 'lead_size', 'source_size', 'sources', 'tags'
    )  # fmt: skip

    def __init__(self, channel: int, size: int, tag_size: int) -> None:
        self.channel = channel
        self.lead_size = _ARGUMENTS + 1 + tag_size
        self.header_start = FRAME_START.size + size + 4
        self.source_size = self.header_start - self.lead_size - _DELIVERY_TAG_SIZE
        self.tags: dict[bytes, str] = {}
        self.sources: dict[bytes, tuple[bool, str, str]] = {}
        self.layouts: dict[bytes, _Layout] = {}


class _Layout:
    """The offsets in a delivery of one kind with a content header of one size.

    header: the first bytes of the content header, the key in the layouts of the kind.
    """

    __slots__ = ('body', 'body_lead', 'channel', 'header', 'sources', 'tags', 'unpack')

    def __init__(self, kind: _Kind, header: bytes) -> None:
        self.channel = kind.channel
        self.header = header
        self.tags, self.sources = kind.tags, kind.sources
        properties = int.from_bytes(header[:4], 'big') - CONTENT_START.size
        # The second and the last number are the size of the body.
        layout = Struct(
            f'>{kind.lead_size}sQ{kind.source_size}s{_HEADER_LEAD_SIZE}sQ{properties}s4sI'
        )
        self.unpack = layout.unpack_from
        self.body = layout.size
        # The end of the content header, and the beginning of the frame after it.
        self.body_lead = bytes((FRAME_END, FRAME_BODY)) + kind.channel.to_bytes(2, 'big')


class Deliveries:
    """The fast path of deliveries.

    message_class: the class of the messages.
    inboxes: channel number -> inbox.
    kinds: the bytes from the frame header to the size of the consumer tag -> _Kind.
    """

    prefix = DELIVER.prefix

    def __init__(self, message_class: type[Message], inboxes: Mapping[int, Inbox]) -> None:
        self._message_class = message_class
        self._inboxes = inboxes
        self.kinds: dict[bytes, _Kind] = {}
        # How many items are remembered.
        self._count = 0

    def _layout_at(self, data: bytes, offset: int) -> Optional[_Layout]:
        """Return the layout of the delivery at the offset, if it is known."""
        kind = self.kinds.get(data[offset : offset + _KIND_SIZE])
        if kind is None:
            return None
        header = offset + kind.header_start
        return kind.layouts.get(data[header : header + _HEADER_LEAD_SIZE])

    def take(self, data: bytes, offset: int, body_limit: int, queue: deque[QueuedMethod]) -> int:
        inboxes, message_class = self._inboxes, self._message_class
        end = len(data)
        layout = self._layout_at(data, offset)
        while layout is not None:
            body = offset + layout.body
            if body > end:
                break
            lead, delivery_tag, source, header, body_size, properties, body_lead, frame_size = (
                layout.unpack(data, offset)
            )
            consumer_tag = layout.tags.get(lead)
            delivery = layout.sources.get(source)
            if consumer_tag is None or delivery is None or header != layout.header:
                another = self._layout_at(data, offset)
                if another is layout:
                    break
                layout = another
                continue
            body_end = body + body_size
            if (
                body_lead != layout.body_lead
                or frame_size != body_size
                or not 0 < body_size <= body_limit
                or body_end >= end
                or data[body_end] != FRAME_END
            ):
                break
            message = _new_message(message_class)
            message.raw_properties = properties
            message.body = data[body:body_end]
            redelivered, exchange, routing_key = delivery
            message.raw_delivery = consumer_tag, delivery_tag, redelivered, exchange, routing_key
            arguments = _new_arguments(DeliveryArguments)
            arguments.message = message
            method = _DELIVERY, arguments, message
            if queue:
                queue.append((layout.channel, method))
            else:
                inbox = inboxes.get(layout.channel)
                target = None if inbox is None else inbox.delivery_queue
                if target is None:
                    queue.append((layout.channel, method))
                else:
                    target.append(method)
            offset = body_end + 1
        return offset

    def remember(self, data: bytes, offset: int, message: Message) -> AMQPReader:
        """Return the arguments of a complete delivery at the offset, and remember its layout.

        If they are malformed, or if encoding their values gives different bytes, nothing is
        remembered; if they are malformed, wait() raises the error.
        """
        _, channel, size = FRAME_START.unpack_from(data, offset)
        arguments = data[offset + _ARGUMENTS : offset + FRAME_START.size + size]
        try:
            values = decode_deliver(AMQPReader(arguments))
            written = _encode_delivery(*values)
        except (ProtocolError, ValueError):
            return AMQPReader(arguments)
        if written != DELIVER.prefix + arguments:
            return AMQPReader(arguments)
        message.raw_delivery = values
        self._remember(data, offset, channel, size, values)
        return DeliveryArguments(arguments)

    def _remember(
        self, data: bytes, offset: int, channel: int, size: int, values: tuple[Any, ...]
    ) -> None:
        if self._count >= MAX_REMEMBERED:
            self.kinds.clear()
            self._count = 0
        sizes = data[offset : offset + _KIND_SIZE]
        kind = self.kinds.get(sizes)
        if kind is None:
            kind = self.kinds[sizes] = _Kind(channel, size, sizes[-1])
        start = offset + kind.header_start
        header = data[start : start + _HEADER_LEAD_SIZE]
        layout = kind.layouts.get(header)
        if layout is None:
            layout = kind.layouts[header] = _Layout(kind, header)
            self._count += 1
        lead, _, source, *_ = layout.unpack(data, offset)
        self._count += (lead not in kind.tags) + (source not in kind.sources)
        kind.tags[lead] = values[0]
        kind.sources[source] = values[2:]


class ConfirmFrames:
    """The fast path of confirms.

    inboxes: channel number -> inbox.
    """

    prefix = ACK.prefix

    def __init__(self, inboxes: Mapping[int, Inbox]) -> None:
        self._inboxes = inboxes

    def take(self, data: bytes, offset: int, body_limit: int, queue: deque[QueuedMethod]) -> int:
        """Take the confirms at the offset; raise ProtocolError for an unexpected one."""
        inboxes = self._inboxes
        last = len(data) - _CONFIRM.size
        while offset <= last and not queue:
            kind, channel, rest, number, bits, frame_end = _CONFIRM.unpack_from(data, offset)
            inbox = inboxes.get(channel)
            take = None if inbox is None else inbox.take_confirm
            if (
                take is None
                or kind != FRAME_METHOD
                or rest != _CONFIRM_REST
                or frame_end != FRAME_END
            ):
                break
            take(number, bits & 1 == 1)
            offset += _CONFIRM.size
        return offset
