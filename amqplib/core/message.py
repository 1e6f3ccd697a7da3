"""Message: a body, the properties of the basic class, and where the message came from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union

from amqplib.core.properties import GenericContent
from amqplib.core.serialization import with_context
from amqplib.core.spec import BASIC_PROPERTIES, DELIVER
from amqplib.core.text_encodings import is_text_encoding

if TYPE_CHECKING:
    from datetime import datetime

Body = Union[str, bytes, bytearray, memoryview]

#: The encoding of text if the message names none.
DEFAULT_ENCODING = 'UTF-8'

#: Its flag in the first byte of the property flags.
CONTENT_ENCODING_FLAG = 0x80 >> [name for name, _ in BASIC_PROPERTIES].index('content_encoding')

#: The fields of basic.deliver, which delivery_info has.
DELIVERY_FIELDS = tuple(name for name, _ in DELIVER.fields)

#: Why a message cannot be acknowledged.
NO_ACK = 'was received with no_ack'
_COPIED = 'is a copy: acknowledge the one that was received'
_NOT_RECEIVED = 'was not received by this process'
COVERED = 'was acknowledged with a later one'

#: Attributes that are pickled -> their names in version 2.0.
_NAMES_OF_2_0 = {'raw_properties': '_raw_properties', '_decode_errors': '_damage'}


class _DeliveryProperty:
    """Attribute access to an entry of delivery_info; an assigned attribute takes precedence."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._index = DELIVERY_FIELDS.index(name)

    def __get__(self, message: Optional[Message], owner: type) -> Any:
        if message is None:
            return self
        delivery = message.raw_delivery
        if delivery is not None:
            return delivery[self._index]
        # Python calls Message.__getattr__ next.
        raise AttributeError(self._name)


class _ChannelProperty:
    """Attribute access to the channel of a received message."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, message: Optional[Message], owner: type) -> Any:
        if message is None:
            return self
        info = message.raw_delivery_info
        if message.raw_channel is not None and (info is None or self._name not in info):
            return message.raw_channel
        raise AttributeError(self._name)


class Message(GenericContent):
    """A message to publish, or a received message (specification 1.6).

    body: str or bytes. When published, text is encoded by content_encoding; if that is not set, as
        UTF-8, and content_encoding is set. A received body is bytes; it is text if the channel's
        auto_decode is on and content_encoding names a common text encoding that fits it; it is ''
        if it is empty.
    children: accepted but not used.
    properties: content_type, content_encoding, application_headers (dict; with AMQP 0-9-1 its
        values may be None), delivery_mode (1, or 2 for persistent), priority (0 to 255),
        correlation_id, reply_to, expiration (milliseconds, as str), message_id, timestamp (datetime
        or seconds), type, user_id, app_id, cluster_id; str unless stated otherwise. None is not
        sent. An unknown name is ignored with a warning.

    Properties and the entries of delivery_info can be read as attributes; if they are absent,
    reading raises AttributeError. Properties can be assigned as attributes too.

    delivery_info: dict. After basic_consume: channel, consumer_tag, delivery_tag, redelivered,
        exchange, routing_key. After basic_get: delivery_tag, redelivered, exchange, routing_key,
        message_count. Absent on other messages.
    channel: the channel on which it was received.

    Messages are equal if their bodies and properties are the same on the wire. They can be pickled,
    without the channel that they came from.
    """

    # A list, because subclasses in programs extend it.
    PROPERTIES: ClassVar[list[tuple[str, str]]] = list(BASIC_PROPERTIES)
    OTHER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({'headers': 'application_headers'})

    # For type checkers: the properties, and what is in delivery_info.
    content_type: str
    content_encoding: str
    application_headers: dict[str, Any]
    delivery_mode: int
    priority: int
    correlation_id: str
    reply_to: str
    expiration: str
    message_id: str
    timestamp: Union[datetime, int]
    type: str
    user_id: str
    app_id: str
    cluster_id: str
    redelivered: bool
    exchange: str
    routing_key: str
    message_count: int

    # Only for the core: the values of DELIVERY_FIELDS until delivery_info is read, which many
    # programs never do; the channel; why the message cannot be acknowledged (any more); and
    # delivery_info, once it was made.
    raw_delivery: Optional[tuple[Any, ...]] = None
    raw_channel: Any = None
    raw_settled: Optional[str] = None
    raw_delivery_info: Optional[dict[str, Any]] = None

    # The entries that programs read for each message. All others, and absent ones, go through
    # __getattr__, which is slower.
    channel = _ChannelProperty()
    consumer_tag: str = _DeliveryProperty()  # type: ignore[assignment]
    delivery_tag: int = _DeliveryProperty()  # type: ignore[assignment]

    def __init__(self, body: Body = '', children: Any = None, **properties: Any) -> None:
        try:
            # Not for text, because content_encoding has to be added.
            raw = self._remembered(**properties) if type(body) is bytes else None
        except (TypeError, ValueError):
            raw = None  # if something is wrong, publishing raises it
        if raw is None and not self._NAMES.issuperset(properties):
            properties = self._without_unknown(properties)
        self.raw_properties = raw
        # Nothing else refers to this dict, so it need not be copied.
        self._properties = properties
        # Typed as Any, so that programs need no check before each use.
        self.body: Any = body

    @classmethod
    def received(cls, raw_properties: bytes, body: bytes) -> Message:
        """Make a message from the property list of a content header and a body."""
        message = cls.__new__(cls)
        message.raw_properties = raw_properties
        message.body = body or ''
        return message

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where a received message came from, by name."""
        if self.raw_delivery is not None:
            self._make_delivery_info(self.raw_delivery)
        if self.raw_delivery_info is None:
            raise AttributeError('delivery_info')
        return self.raw_delivery_info

    @delivery_info.setter
    def delivery_info(self, info: dict[str, Any]) -> None:
        self.raw_delivery_info = info
        self.raw_delivery = None

    def _make_delivery_info(self, delivery: tuple[Any, ...]) -> None:
        self.raw_delivery_info = dict(zip(DELIVERY_FIELDS, delivery))
        if self.raw_channel is not None:
            self.raw_delivery_info['channel'] = self.raw_channel
        self.raw_delivery = None

    def __getattr__(self, name: str) -> Any:
        # Called if there is no such attribute and no such property.
        if self.raw_delivery is not None:
            self._make_delivery_info(self.raw_delivery)
        info = self.raw_delivery_info
        if info is None or name not in info:
            raise AttributeError(name)
        return info[name]

    def ack(self, multiple: bool = False) -> None:
        """Acknowledge this message; with `multiple`, also all that its channel received before it.

        Raises the error that closed the channel; ValueError, and sends nothing, if the message was
        acknowledged or rejected by its methods before, was received with no_ack, or not received.
        """
        self._settle('basic_ack', multiple, 'was acknowledged before')

    def reject(self, requeue: bool) -> None:
        """Reject this message: requeue it, or let the broker drop or dead-letter it.

        Raises the same errors as ack().
        """
        self._settle('basic_reject', requeue, 'was rejected before')

    def _settle(self, method: str, argument: bool, settled: str) -> None:
        """Call a method of the channel, and record how the message was settled.

        Raises ValueError if the message cannot be settled (any more).
        """
        why, delivery, channel = self.raw_settled, self.raw_delivery, self.raw_channel
        if delivery is not None and channel is not None:  # so it is nearly always
            consumer_tag, tag = delivery[:2]
        else:
            names = ('channel', 'consumer_tag', 'delivery_tag')
            channel, consumer_tag, tag = (getattr(self, name, None) for name in names)
        if why is None and (channel is None or tag is None):
            why = _NOT_RECEIVED
        elif why is None:
            why = channel.why_settled(tag, consumer_tag)
        if why is not None:
            raise ValueError(f'the message {why}')
        # After an interrupt, it is unknown whether something was sent: a second try is refused.
        self.raw_settled = settled
        if channel.uncommitted is not None:
            channel.uncommitted.append(self)
        try:
            getattr(channel, method)(tag, argument)
        except Exception:
            self.raw_settled = None
            raise

    def __eq__(self, other: object) -> bool:
        if not hasattr(other, 'properties') or not hasattr(other, 'body'):
            return False
        return _as_sent(self) == _as_sent(other)

    __hash__ = None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ('raw_delivery', 'raw_delivery_info', 'raw_channel', 'raw_settled'):
            state.pop(name, None)
        info = getattr(self, 'delivery_info', None)
        if info is not None:
            # A channel belongs to its process.
            state['delivery_info'] = {
                name: value for name, value in info.items() if name != 'channel'
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        for name in ('properties', 'delivery_info'):  # amqplib 1.0.2 pickled both like this
            if name in state:
                setattr(self, name, state.pop(name))
        for name, old_name in _NAMES_OF_2_0.items():
            if old_name in state:
                state[name] = state.pop(old_name)
        self.__dict__.update(state)

    def __copy__(self) -> Message:
        if self._properties is not None:
            self.raw_properties = None  # the copy may change the shared dict
        duplicate = type(self).__new__(type(self))
        duplicate.__dict__.update(self.__dict__)
        duplicate.raw_settled = _COPIED
        return duplicate

    def __repr__(self) -> str:
        body = self.body
        what = f'{type(body).__name__!r}, which cannot be sent'
        if isinstance(body, str):
            what = f'{len(body)} characters'
        elif isinstance(body, (bytes, bytearray, memoryview)):
            with suppress(ValueError):  # its memory is released
                what = f'{memoryview(body).nbytes} bytes'
        return f'<{type(self).__name__} of {what}>'

    def encode_body(self) -> Union[bytes, bytearray, memoryview]:
        """Return the body as bytes; if it was text, set content_encoding.

        Raises ValueError if the text cannot be encoded, TypeError if it is neither str nor bytes.
        """
        body = self.body
        if body == '' and self._properties is None:
            return b''  # an empty body that was received is sent on unchanged
        if isinstance(body, str):
            properties = self.properties
            encoding = properties.get('content_encoding') or DEFAULT_ENCODING
            encoded = _encode_text(body, encoding)
            properties['content_encoding'] = encoding
            return encoded
        if isinstance(body, memoryview):
            try:
                return body.cast('B') if body.c_contiguous else body.tobytes()
            except ValueError as error:  # its memory is released
                raise with_context(error, 'body') from None
        if isinstance(body, (bytes, bytearray)):
            return body
        raise TypeError(f'body: {type(body).__name__!r} is not a str or bytes')

    def decode_body(self) -> None:
        """Decode the body by content_encoding; leave it unchanged if that is not possible."""
        try:
            encoding = self.content_encoding
            if is_text_encoding(encoding):
                self.body = self.body.decode(encoding)
        except Exception:  # noqa: BLE001
            # There is no encoding, the body is not bytes, or the encoding is wrong: codecs raise
            # all kinds of errors (and warnings).
            return


def check_message(value: object) -> None:
    """Raise TypeError if the value is not a Message."""
    if not isinstance(value, Message):
        raise TypeError(f'msg: {type(value).__name__!r} is not a Message')


def _encode_text(body: str, encoding: str) -> bytes:
    try:
        return body.encode(encoding)
    except LookupError:
        raise ValueError(f'content_encoding: {encoding!r} is not known') from None
    except (TypeError, ValueError) as error:
        raise with_context(error, 'body') from None


def _as_sent(message: Any) -> tuple[dict[str, Any], Any]:
    """Return properties and body as they would be sent; unchanged if they cannot be sent."""
    properties = dict(message.properties)
    body = message.body
    if isinstance(body, str):
        encoding = properties.get('content_encoding') or DEFAULT_ENCODING
        try:
            body = body.encode(encoding)
        except (LookupError, TypeError, ValueError):
            return properties, body
        properties['content_encoding'] = encoding
    return {name: value for name, value in properties.items() if value is not None}, body
