"""Message: a body with the properties of the basic class, and where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union

from amqplib.client_0_8.serialization import GenericContent, named
from amqplib.client_0_8.spec import BASIC_PROPERTIES, COMMON

__all__ = ['Message']

Body = Union[str, bytes, bytearray, memoryview]

#: What text is encoded as where the message does not say.
DEFAULT_ENCODING = 'UTF-8'

#: In the first octet of the property flags.
CONTENT_ENCODING_FLAG = 0x80 >> [name for name, _ in BASIC_PROPERTIES].index('content_encoding')


#: The fields of basic.deliver, which are in delivery_info.
DELIVERY_FIELDS = tuple(name for name, _ in COMMON['basic.deliver'].fields)


class _DeliveryProperty:
    """Attribute access to an entry of delivery_info; one that is assigned goes before it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._index = DELIVERY_FIELDS.index(name)

    def __get__(self, message: Optional[Message], owner: type) -> Any:
        if message is None:
            return self
        delivery = message._delivery
        if delivery is not None:
            return delivery[self._index]
        return message._from_delivery_info(self._name)


class _ChannelProperty(_DeliveryProperty):
    """The channel of a delivery, likewise."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, message: Optional[Message], owner: type) -> Any:
        if message is None:
            return self
        if message._delivery is not None and message._channel is not None:
            return message._channel
        return message._from_delivery_info(self._name)


class Message(GenericContent):
    """A message to be published, or one that was received (specification 1.6).

    body: str or bytes. Text is encoded when it is published, as content_encoding says, or as
        UTF-8 with content_encoding set to that. Received, it is bytes; text if the channel's
        auto_decode is on and the message has a content_encoding that is right; '' if it is empty.
    children: accepted and not used.
    properties: content_type, content_encoding, application_headers (dict), delivery_mode (1, or
        2 for persistent), priority (0 to 255), correlation_id, reply_to, expiration
        (milliseconds, as str), message_id, timestamp (datetime or seconds), type, user_id,
        app_id, cluster_id; str where nothing else is said. None is not sent. An unknown name is
        ignored with a warning.

    Properties and the entries of delivery_info can be read as attributes; what is absent is an
    AttributeError. Properties can be assigned as attributes too.

    delivery_info: dict; on messages that a consumer received: channel, consumer_tag,
        delivery_tag, redelivered, exchange, routing_key; on those of basic_get: delivery_tag,
        redelivered, exchange, routing_key, message_count; absent on others.

    Messages are equal when their bodies and properties would be the same on the wire. They can
    be pickled; without the channel they came from.
    """

    # A list, as programs add their own to it in subclasses.
    PROPERTIES: ClassVar[list[tuple[str, str]]] = list(BASIC_PROPERTIES)

    # The values of DELIVERY_FIELDS, and the channel, of a delivery until its delivery_info is
    # looked at: many programs never do.
    _delivery: Optional[tuple[Any, ...]] = None
    _channel: Any = None
    _delivery_info: Optional[dict[str, Any]] = None

    # Those that programs look at for each message. Others, and what is absent, take the way of
    # __getattr__, which costs more.
    channel = _ChannelProperty()
    consumer_tag = _DeliveryProperty()
    delivery_tag = _DeliveryProperty()

    def __init__(self, body: Body = '', children: Any = None, **properties: Any) -> None:
        try:
            # Not with text, as its encoding is to be added.
            raw = self._remembered(**properties) if type(body) is bytes else None
        except (TypeError, ValueError):
            raw = None  # publishing finds out what is wrong, if anything is
        if raw is None and not self._NAMES.issuperset(properties):
            properties = self._without_unknown(properties)
        self._raw_properties = raw
        # The properties of this call alone, so they need no copy.
        self._properties = properties
        # For type checkers, it is of any type, as nobody wants to ask before each use.
        self.body: Any = body

    @classmethod
    def received(cls, raw_properties: bytes, body: bytes) -> Message:
        """Make a message of a content header's property list and a body."""
        message = cls.__new__(cls)
        message._raw_properties = raw_properties
        message.body = body or ''
        return message

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where a received message came from, by name."""
        if self._delivery is not None:
            self._make_delivery_info(self._delivery)
        if self._delivery_info is None:
            raise AttributeError('delivery_info')
        return self._delivery_info

    @delivery_info.setter
    def delivery_info(self, info: dict[str, Any]) -> None:
        self._delivery_info = info
        self._delivery = None

    def _make_delivery_info(self, delivery: tuple[Any, ...]) -> None:
        self._delivery_info = dict(zip(DELIVERY_FIELDS, delivery))
        if self._channel is not None:
            self._delivery_info['channel'] = self._channel
        self._delivery = None

    def _from_delivery_info(self, name: str) -> Any:
        if self._delivery_info is None or name not in self._delivery_info:
            raise AttributeError(name)
        return self._delivery_info[name]

    def __getattr__(self, name: str) -> Any:
        # Asked when there is no such attribute and no such property.
        if self._delivery is not None:
            self._make_delivery_info(self._delivery)
        return self._from_delivery_info(name)

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            """Properties can be assigned, which type checkers do not see."""

    def __eq__(self, other: object) -> bool:
        if not hasattr(other, 'properties') or not hasattr(other, 'body'):
            return False
        return _as_sent(self) == _as_sent(other)

    __hash__ = None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ('_delivery', '_delivery_info', '_channel'):
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
        self.__dict__.update(state)

    def __copy__(self) -> Message:
        if self._properties is not None:
            self._raw_properties = None  # the other one may change what they share
        duplicate = type(self).__new__(type(self))
        duplicate.__dict__.update(self.__dict__)
        return duplicate

    def __repr__(self) -> str:
        return '<{} of {} {}>'.format(
            type(self).__name__,
            len(self.body),
            'characters' if isinstance(self.body, str) else 'octets',
        )

    def encode_body(self) -> Union[bytes, bytearray, memoryview]:
        """Return the body as octets; notes the encoding in the properties if it was text.

        Raises ValueError if the text cannot be encoded, TypeError if it is neither str nor bytes.
        """
        body = self.body
        if body == '' and self._properties is None:
            return b''  # received so, and sent on unchanged
        if isinstance(body, str):
            encoding = self.properties.get('content_encoding') or DEFAULT_ENCODING
            octets = _encode_text(body, encoding)
            self.properties['content_encoding'] = encoding
            return octets
        if isinstance(body, memoryview):
            return body.cast('B') if body.c_contiguous else body.tobytes()
        if isinstance(body, (bytes, bytearray)):
            return body
        raise TypeError(f'body: {type(body).__name__!r} is not a str or bytes')

    def decode_body(self) -> None:
        """Make text of the body where content_encoding names how; else leave it as it is."""
        try:
            self.body = self.body.decode(self.content_encoding)
        except Exception:  # noqa: BLE001
            # No encoding, not octets, an encoding that is not known or not the one of the body:
            # a sender may name anything, and every encoding has errors (and warnings) of its own.
            return


def _encode_text(body: str, encoding: str) -> bytes:
    try:
        return body.encode(encoding)
    except LookupError:
        raise ValueError(f'content_encoding: {encoding!r} is not known') from None
    except (TypeError, ValueError) as error:
        raise named(error, 'body') from None


def _as_sent(message: Any) -> tuple[dict[str, Any], Any]:
    """Return properties and body as publishing would send them; as they are if it could not."""
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
