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
#: Class and weight of a content header.
_CLASS = _DELIVER.prefix[:2] + b'\0\0'
#: Class, weight and size of the body, which the size of a content header counts.
_CONTENT_SIZE = 12
#: With the property flags, which are always there.
_LEAST_HEADER = _CONTENT_SIZE + 2
#: The end of a content header, type, channel and size of a body frame.
_BODY = Struct('>4sI')
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


class _Shape:
    """Where things are in a delivery with a certain method frame header and consumer tag."""

    __slots__ = ('body_lead', 'channel', 'properties', 'unpack')

    def __init__(self, channel: int, size: int, tag_size: int) -> None:
        self.channel = channel
        # The signature and the consumer tag; delivery tag and bits; exchange, routing key, the
        # end of the frame, type and channel of the next one; size, class and weight of the
        # content header, size of the body.
        lead = 4 + 1 + tag_size
        source = size - lead - 9
        layout = Struct(f'>{_FRAME.size}x{lead}sQB{source + 4}sI4sQ')
        self.unpack = layout.unpack_from
        self.properties = layout.size
        # The end of the content header, and what begins the frame behind it.
        self.body_lead = bytes((FRAME_END, FRAME_BODY)) + channel.to_bytes(2, 'big')


class Deliveries:
    """What is known of the deliveries of a connection.

    message_class: what is made of contents.
    shapes: header of the method frame -> what is known of deliveries that have it.
    targets: number of a channel -> where its deliveries go, without signature and number being
        looked at again.
    """

    def __init__(self, message_class: type[Message]) -> None:
        self._message_class = message_class
        self.targets: dict[int, deque[Delivery]] = {}
        self.shapes: dict[bytes, _Shape] = {}
        # Octets -> consumer tag; -> exchange and routing key.
        self._tags: dict[bytes, str] = {}
        self._sources: dict[bytes, tuple[str, str]] = {}

    def take(self, data: bytes, offset: int, body_limit: int, queue: deque[ReadMethod]) -> int:
        """Put the deliveries at the offset on the queue, up to the first that is not known.

        Those for a target go there at once, unless something on the queue comes before them.

        Returns where the first begins that is not known.
        """
        shapes, tags, sources, message_class = (
            self.shapes, self._tags, self._sources, self._message_class
        )  # fmt: skip
        targets = self.targets
        end = len(data)
        while True:
            shape = shapes.get(data[offset : offset + 7])
            if shape is None or offset + shape.properties > end:
                return offset
            target = None if queue else targets.get(shape.channel)
            lead, delivery_tag, bits, source, header_size, content_class, body_size = shape.unpack(
                data, offset
            )
            consumer_tag = tags.get(lead)
            names = sources.get(source)
            properties = offset + shape.properties
            properties_end = properties + header_size - _CONTENT_SIZE
            body = properties_end + _BODY.size
            body_end = body + body_size
            if (
                consumer_tag is None
                or names is None
                or content_class != _CLASS
                or not _LEAST_HEADER <= header_size <= LARGEST_HEADER
                or not 0 < body_size <= body_limit
                or body_end >= end
                or data[body_end] != FRAME_END
                or _BODY.unpack_from(data, properties_end) != (shape.body_lead, body_size)
            ):
                return offset
            message = _new_message(message_class)
            message._raw_properties = data[properties:properties_end]
            message.body = data[body:body_end]
            exchange, routing_key = names
            message._delivery = consumer_tag, delivery_tag, bits & 1 == 1, exchange, routing_key
            arguments = _new_arguments(DeliveryArguments)
            arguments.message = message
            if target is None:
                queue.append((shape.channel, _SIGNATURE, arguments, message))
            else:
                target.append((_SIGNATURE, arguments, message))
            offset = body_end + 1

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
        arguments = DeliveryArguments(octets)
        for remembered in (self.shapes, self._tags, self._sources):
            if len(remembered) >= MOST_REMEMBERED:
                remembered.clear()
        shape = _Shape(channel, size, octets[0])
        lead, _, _, source, *_ = shape.unpack(data, offset)
        self.shapes[data[offset : offset + _FRAME.size]] = shape
        self._tags[lead] = values[0]
        self._sources[source] = values[3:]
        return arguments
