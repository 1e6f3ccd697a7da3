"""Deliveries the short way: read by what those before them were like.

The deliveries of a consumer have its tag in common, and most have exchange and routing key in
common with others. So the octets of these are remembered with what they mean, and the places of
everything else by the size of the method frame. A delivery that is whole in the read buffer, and
of which all this is known, is taken with a few comparisons. Anything else goes the general way of
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
    DEFAULT_FRAME_MAX,
    FRAME_BODY,
    FRAME_END,
    METHODS,
    Signature,
)

#: The largest method or header frame that is read. Brokers send headers beyond frame_max: a
#: message keeps the headers it was published with, and dead-lettering adds to them.
LARGEST_HEADER = 8 * DEFAULT_FRAME_MAX
#: More than this many of a kind are not remembered: routing keys may all be different.
MOST_REMEMBERED = 1024

_DELIVER = METHODS['basic.deliver']
_SIGNATURE: Signature = _DELIVER.signature

_FRAME = Struct('>BHI')
#: Octets of a size.
_SIZE = 4
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


class _Layout:
    """Where things are in a delivery with a method frame, consumer tag and header of some sizes.

    tags: the octets up to the consumer tag -> the tag.
    sources: those from the bits to the content header -> redelivered, exchange, routing key.
    """

    __slots__ = ('body', 'body_lead', 'channel', 'sources', 'tags', 'unpack')

    def __init__(self, channel: int, size: int, tag_size: int, header_size: int) -> None:
        self.channel = channel
        self.tags: dict[bytes, str] = {}
        self.sources: dict[bytes, tuple[bool, str, str]] = {}
        # Frame header, signature, consumer tag.
        lead = _ARGUMENTS + 1 + tag_size
        # Bits, exchange, routing key, the end of the frame, a frame header, class and weight.
        source = _FRAME.size + size - lead - _DELIVERY_TAG_SIZE + 1 + _FRAME.size + 4
        properties = header_size - _CONTENT_SIZE
        # The second number is the size of the body, and so is the last.
        layout = Struct(f'>{lead}sQ{source}sQ{properties}s4sI')
        self.unpack = layout.unpack_from
        self.body = layout.size
        # The end of the content header, and what begins the frame behind it.
        self.body_lead = bytes((FRAME_END, FRAME_BODY)) + channel.to_bytes(2, 'big')


class Deliveries:
    """What is known of the deliveries of a connection.

    message_class: what is made of contents.
    layouts: what _sizes() returns -> what is known of deliveries that have these.
    targets: number of a channel -> where its deliveries go, without signature and number being
        looked at again.
    """

    def __init__(self, message_class: type[Message]) -> None:
        self._message_class = message_class
        self.targets: dict[int, deque[Delivery]] = {}
        self.layouts: dict[bytes, _Layout] = {}
        # How many things are remembered, at most.
        self._count = 0

    def take(self, data: bytes, offset: int, body_limit: int, queue: deque[ReadMethod]) -> int:
        """Put the deliveries at the offset on the queue, up to the first that is not known.

        Those for a target go there at once, unless something on the queue comes before them.

        Returns where the first begins that is not known.
        """
        layouts, targets, message_class = self.layouts, self.targets, self._message_class
        end = len(data)
        layout = layouts.get(_sizes(data, offset))
        while layout is not None:
            body = offset + layout.body
            if body > end:
                break
            lead, delivery_tag, source, body_size, properties, body_lead, frame_size = (
                layout.unpack(data, offset)
            )
            consumer_tag = layout.tags.get(lead)
            delivery = layout.sources.get(source)
            if consumer_tag is None or delivery is None:
                another = layouts.get(_sizes(data, offset))
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
        if self._count == MOST_REMEMBERED:
            self.layouts.clear()
            self._count = 0
        self._count += 1
        sizes = _sizes(data, offset)
        if sizes not in self.layouts:
            header_size = int.from_bytes(sizes[-_SIZE:], 'big')
            self.layouts[sizes] = _Layout(channel, size, octets[0], header_size)
        layout = self.layouts[sizes]
        lead, _, source, *_ = layout.unpack(data, offset)
        layout.tags[lead] = values[0]
        layout.sources[source] = values[2:]
        return DeliveryArguments(octets)


def _sizes(data: bytes, offset: int) -> bytes:
    """Return octets that say how large the parts of a delivery are.

    They are those from its frame header to the size of its consumer tag, and the size of its
    content header.
    """
    start = offset + _FRAME.size
    size = int.from_bytes(data[start - _SIZE : start], 'big')
    # Behind the end of the frame, type and channel of the next one.
    header_size = start + size + 4
    return data[offset : start + 5] + data[header_size : header_size + _SIZE]
