"""Deliveries the short way: read by what those before them were like.

The deliveries of a consumer have its tag in common, and most have exchange and routing key in
common with others. So the octets of these are remembered with what they mean, and the places of
everything else by the sizes of the parts. A delivery that is whole in the read buffer, and of
which all this is known, is taken with a few comparisons. Anything else goes the general way of
MethodReader, and is learned there.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Any, Optional

from amqplib.client_0_8.basic_message import DELIVERY_FIELDS, Message
from amqplib.client_0_8.exceptions import ProtocolError
from amqplib.client_0_8.serialization import AMQPReader, decode_arguments, encode_once
from amqplib.client_0_8.spec import (
    COMMON,
    DEFAULT_FRAME_MAX,
    FRAME_BODY,
    FRAME_END,
    Signature,
)

#: The largest method or header frame that is read. Brokers send headers beyond frame_max: a
#: message keeps the headers it was published with, and dead-lettering adds to them.
LARGEST_HEADER = 8 * DEFAULT_FRAME_MAX
#: When about so many things are remembered, all are forgotten: routing keys may all differ.
MOST_REMEMBERED = 1024

_DELIVER = COMMON['basic.deliver']
_SIGNATURE: Signature = _DELIVER.signature

_FRAME = Struct('>BHI')
#: Octets that tell the kind: frame header, signature, size of the consumer tag.
_KIND_SIZE = 12
#: Octets that a content header begins with: its size, class and weight.
_HEADER_LEAD_SIZE = 8
#: Class, weight and size of the body, which the size of a content header counts.
_CONTENT_SIZE = 12
_DELIVERY_TAG_SIZE = 8
#: Where the arguments of a method begin, from the header of its frame.
_ARGUMENTS = _FRAME.size + 4

#: (signature, arguments, content)
Delivery = tuple[Signature, AMQPReader, Optional[Message]]
#: (channel, signature, arguments, content)
ReadMethod = tuple[int, Signature, AMQPReader, Optional[Message]]


class DeliveryArguments(AMQPReader):
    """The arguments of a delivery; its message has what they say already.

    So there are octets to read only for those who ask, such as handlers of subclasses.
    """

    message: Message

    def __getattr__(self, name: str) -> Any:
        if name not in ('_data', 'input'):
            raise AttributeError(name)
        values = (self.message.delivery_info[field] for field in DELIVERY_FIELDS)
        self.input = self._data = encode_once(_DELIVER, *values)[len(_DELIVER.prefix) :]
        return self._data


_new_arguments = DeliveryArguments.__new__
_new_message = Message.__new__


class _Kind:
    """Deliveries on one channel whose method frame and consumer tag have the same sizes.

    lead_size: octets of frame header, signature and consumer tag.
    source_size: those of bits, exchange, routing key, frame end, type and channel of the next
        frame; what the content header begins with comes behind them, at header_start.
    tags: the octets up to the consumer tag -> the tag.
    sources: those from the bits to the next frame -> redelivered, exchange, routing key.
    layouts: what the content header begins with -> where everything is then.
    """

    __slots__ = (
        'channel', 'header_start', 'layouts', 'lead_size', 'source_size', 'sources', 'tags'
    )  # fmt: skip

    def __init__(self, channel: int, size: int, tag_size: int) -> None:
        self.channel = channel
        self.lead_size = _ARGUMENTS + 1 + tag_size
        self.header_start = _FRAME.size + size + 4
        self.source_size = self.header_start - self.lead_size - _DELIVERY_TAG_SIZE
        self.tags: dict[bytes, str] = {}
        self.sources: dict[bytes, tuple[bool, str, str]] = {}
        self.layouts: dict[bytes, _Layout] = {}


class _Layout:
    """Where things are in a delivery of a kind with a content header of a certain size.

    header: what the content header begins with; it is the key in the layouts of the kind.
    """

    __slots__ = ('body', 'body_lead', 'channel', 'header', 'sources', 'tags', 'unpack')

    def __init__(self, kind: _Kind, header: bytes) -> None:
        self.channel = kind.channel
        self.header = header
        self.tags, self.sources = kind.tags, kind.sources
        properties = int.from_bytes(header[:4], 'big') - _CONTENT_SIZE
        # The second number is the size of the body, and so is the last.
        layout = Struct(
            f'>{kind.lead_size}sQ{kind.source_size}s{_HEADER_LEAD_SIZE}sQ{properties}s4sI'
        )
        self.unpack = layout.unpack_from
        self.body = layout.size
        # The end of the content header, and what begins the frame behind it.
        self.body_lead = bytes((FRAME_END, FRAME_BODY)) + kind.channel.to_bytes(2, 'big')


class Deliveries:
    """What is known of the deliveries of a connection.

    message_class: what is made of contents.
    kinds: the octets from frame header to size of the consumer tag -> what is known of these.
    targets: number of a channel -> where its deliveries go, without signature and number being
        looked at again.
    """

    def __init__(self, message_class: type[Message]) -> None:
        self._message_class = message_class
        self.targets: dict[int, deque[Delivery]] = {}
        self.kinds: dict[bytes, _Kind] = {}
        # How many things are remembered.
        self._count = 0

    def _layout_at(self, data: bytes, offset: int) -> Optional[_Layout]:
        """Return the layout of the delivery at the offset, if it is known."""
        kind = self.kinds.get(data[offset : offset + _KIND_SIZE])
        if kind is None:
            return None
        header = offset + kind.header_start
        return kind.layouts.get(data[header : header + _HEADER_LEAD_SIZE])

    def take(self, data: bytes, offset: int, body_limit: int, queue: deque[ReadMethod]) -> int:
        """Put the deliveries at the offset on the queue, up to the first that is not known.

        Those for a target go there at once, unless something on the queue comes before them.

        Returns where the first begins that is not known.
        """
        targets, message_class = self.targets, self._message_class
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
            message._raw_properties = properties
            message.body = data[body:body_end]
            redelivered, exchange, routing_key = delivery
            message._delivery = consumer_tag, delivery_tag, redelivered, exchange, routing_key
            arguments = _new_arguments(DeliveryArguments)
            arguments.message = message
            target = None if queue else targets.get(layout.channel)
            if target is None:
                queue.append((layout.channel, _SIGNATURE, arguments, message))
            else:
                target.append((_SIGNATURE, arguments, message))
            offset = body_end + 1
        return offset

    def learn(self, data: bytes, offset: int, message: Message) -> AMQPReader:
        """Return the arguments of a whole delivery at the offset, and remember what it is like.

        If they are wrong, or would not be the same octets if they were written, nothing is
        remembered, and whoever decodes them finds out.
        """
        _, channel, size = _FRAME.unpack_from(data, offset)
        octets = data[offset + _ARGUMENTS : offset + _FRAME.size + size]
        try:
            values = decode_arguments(_DELIVER, AMQPReader(octets))
            written = encode_once(_DELIVER, *values)
        except (ProtocolError, ValueError):
            return AMQPReader(octets)
        if written != _DELIVER.prefix + octets:
            return AMQPReader(octets)
        message._delivery = values
        self._remember(data, offset, channel, size, values)
        return DeliveryArguments(octets)

    def _remember(
        self, data: bytes, offset: int, channel: int, size: int, values: tuple[Any, ...]
    ) -> None:
        if self._count >= MOST_REMEMBERED:
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
