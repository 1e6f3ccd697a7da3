"""The properties of a content, in the property list of its header (specification 4.2.6.1).

A received property list stays undecoded until a property is read. So it can be sent on unchanged,
and a property that cannot be decoded harms nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Callable, ClassVar, Optional

from amqplib.core.memoize import lru_cache
from amqplib.core.serialization import (
    DECODERS,
    ENCODERS,
    FIELD_TYPES,
    SHORT,
    Decoded,
    decode_bytes,
    encode_table,
    with_context,
)
from amqplib.core.spec import FieldTypes

#: The property list of a content without properties.
_NO_PROPERTIES = b'\0\0'
#: Properties per word of flags; the lowest bit of a word says that another word follows.
_FLAGS_PER_WORD = 15


def decode_flags(data: bytes, names: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], int]:
    """Return the (name, wire type) pairs whose flags are set, and the offset after the flags."""
    present = []
    for offset in range(0, len(data) - 1, 2):
        (flags,) = SHORT.unpack_from(data, offset)
        word, names = names[:_FLAGS_PER_WORD], names[_FLAGS_PER_WORD:]
        present += [pair for bit, pair in enumerate(word) if flags & 0x8000 >> bit]
        if flags & 0xFFFE & (0xFFFF >> len(word)):
            raise ValueError('a flag is set for a property that does not exist')
        if not flags & 1:
            return present, offset + 2
    raise ValueError('the property flags do not end')


def _refuse(*args: Any) -> Any:
    raise ValueError('its class declares it as of a type that no property can have')


def _remember_nothing(**properties: Any) -> bytes:
    raise TypeError('nothing is remembered')


def flag_of(position: int, words: int) -> int:
    """Return the flag of a property, in the number that all words of flags form."""
    word, bit = divmod(position, _FLAGS_PER_WORD)
    return 0x8000 >> bit << 16 * (words - 1 - word)


class GenericContent:
    """A content with the properties that the class attribute PROPERTIES lists.

    properties: dict of the properties that are set. Each is also an attribute; reading an absent
    one raises AttributeError. A property that cannot be decoded is left out of the dict; reading
    it as an attribute raises ValueError.

    raw_properties is only for the core: the property flags and list in wire format, as long as no
    program has got the dict, which it may change; then None.
    """

    PROPERTIES: ClassVar[list[tuple[str, str]]] = [('dummy', 'shortstr')]
    #: How Python types are written in tables.
    field_types: FieldTypes = FIELD_TYPES
    #: What programs call a property -> its name.
    OTHER_NAMES: ClassVar[Mapping[str, str]] = MappingProxyType({})

    raw_properties: Optional[bytes] = None
    # None if they are not decoded yet.
    _properties: Optional[dict[str, Any]] = None
    # Property name -> why it cannot be decoded.
    _decode_errors: Mapping[str, str] = MappingProxyType({})

    # What follows from PROPERTIES: see __init_subclass__.
    _NAMES: frozenset[str]
    _CHANGEABLE: frozenset[str]
    _FLAGS_SIZE: int
    _NO_FLAGS: int
    _ENCODERS: list[tuple[str, int, Callable[[Any], bytes]]]
    _remembered: Callable[..., bytes]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Work out what depends on the properties of a class."""
        super().__init_subclass__(**kwargs)
        for name, _ in cls.__dict__.get('PROPERTIES', ()):
            setattr(cls, name, cls._make_property(name))
        cls._NAMES = frozenset(name for name, _ in cls.PROPERTIES)
        cls._CHANGEABLE = frozenset(
            name for name, kind in cls.PROPERTIES if kind in ('table', 'timestamp')
        )
        words = 1 + max(0, len(cls.PROPERTIES) - 1) // _FLAGS_PER_WORD
        cls._FLAGS_SIZE = 2 * words
        # Each word except the last says that another one follows.
        cls._NO_FLAGS = sum(1 << 16 * word for word in range(1, words))
        encoders: dict[str, Callable[[Any], bytes]] = {
            **ENCODERS,
            # Reads field_types at each call.
            'table': lambda table: encode_table(table, cls.field_types),
        }
        cls._ENCODERS = [
            (name, flag_of(position, words), encoders.get(kind, _refuse))
            for position, (name, kind) in enumerate(cls.PROPERTIES)
        ]
        # Most messages of a program have the same properties as others. A class that overrides the
        # encoding is called each time.
        encode: Callable[..., bytes] = _remember_nothing
        if cls._serialize_properties is cls._standard_serialization:
            encode = lru_cache(maxsize=256, typed=True)(cls._encode_unchangeable)
        cls._remembered = staticmethod(encode)

    @staticmethod
    def _make_property(name: str) -> property:
        """Return attribute access to a property of this name."""

        def read(self: GenericContent) -> Any:
            properties = self.properties
            if name in properties:
                return properties[name]
            error = self._decode_errors.get(name)
            if error is not None:
                raise ValueError(error)
            # Python calls __getattr__ next.
            raise AttributeError(name)

        def assign(self: GenericContent, value: Any) -> None:
            self.properties[name] = value

        def delete(self: GenericContent) -> None:
            if name not in self.properties and name not in self._decode_errors:
                raise AttributeError(name)
            self.properties.pop(name, None)
            errors = {other: text for other, text in self._decode_errors.items() if other != name}
            self._decode_errors = errors

        return property(read, assign, delete)

    def __init__(self, **properties: Any) -> None:
        if not self._NAMES.issuperset(properties):
            properties = self._without_unknown(properties)
        self._properties = properties

    def _without_unknown(self, properties: dict[str, Any]) -> dict[str, Any]:
        unknown = properties.keys() - self._NAMES
        names = ', '.join(sorted(map(repr, unknown)))
        text = f'{type(self).__name__} has no property {names}: it is ignored'
        meant = ', '.join(self.OTHER_NAMES[name] for name in self.OTHER_NAMES if name in unknown)
        warnings.warn(f'{text} (AMQP and amqplib call it {meant})' if meant else text, stacklevel=3)
        return {name: properties[name] for name in properties if name not in unknown}

    @property
    def properties(self) -> dict[str, Any]:
        """The properties that are set, by name."""
        # In this order: another thread sets `_properties` before it resets `raw_properties`.
        raw, properties = self.raw_properties, self._properties
        if properties is None:
            properties = self._decode_properties(_NO_PROPERTIES if raw is None else raw)
        self.raw_properties = None
        return properties

    @properties.setter
    def properties(self, properties: dict[str, Any]) -> None:
        self.raw_properties = None
        self._decode_errors = {}
        self._properties = properties

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __eq__(self, other: object) -> bool:
        return hasattr(other, 'properties') and bool(self.properties == other.properties)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def _load_properties(self, raw_bytes: bytes) -> None:
        """Take the property flags and list of a content header; they are decoded when read."""
        self.raw_properties, self._properties = raw_bytes, None
        if self._remembered is _remember_nothing:
            self._decode_properties(raw_bytes)
            self.raw_properties = None

    def _decode_properties(self, raw: bytes) -> dict[str, Any]:
        """Decode the properties, and record the errors of those that cannot be decoded."""
        properties: dict[str, Any] = {}
        errors: dict[str, str] = {}
        present: list[tuple[str, str]] = []
        try:
            present, offset = decode_flags(raw, list(self.PROPERTIES))
        except ValueError as error:
            errors = {name: f'{name}: {error}' for name, _ in self.PROPERTIES}
        for name, wire_type in present:
            decode: Callable[[bytes, int, int], Decoded] = DECODERS.get(wire_type, _refuse)
            try:
                following = offset
                if wire_type == 'table':
                    # Even if the table is malformed, its size says where the next one begins.
                    following = decode_bytes(raw, offset, len(raw))[1]
                properties[name], offset = decode(raw, offset, len(raw))
            except ValueError as error:
                errors[name] = f'{name}: {error}'
                offset = following if following > offset else len(raw)
        # Set only now, so that neither an interrupt nor another thread sees half of the work.
        self._decode_errors = errors
        self._properties = properties
        return properties

    def _serialize_properties(self) -> bytes:
        """Return the property flags and list for a content header.

        Raises ValueError or TypeError that names the property.
        """
        raw = self.raw_properties
        if raw is not None:
            return raw
        if self._decode_errors:
            self._refuse_decode_errors()
        properties = self.properties
        try:
            return self._remembered(**properties)
        except (TypeError, ValueError):
            # There is a table or a time among them, which are not cached; or one is wrong.
            return self._encode(properties)

    _standard_serialization = _serialize_properties

    def encode_properties(self) -> bytes:
        """Return the property flags and list; old programs override _serialize_properties."""
        return self._serialize_properties()

    @classmethod
    def _encode_unchangeable(cls, **properties: Any) -> bytes:
        if not cls._NAMES.issuperset(properties):
            raise TypeError('unknown names are not remembered')
        if not cls._CHANGEABLE.isdisjoint(properties):
            # Equal times may be encoded differently: naive ones depend on the zone and on `fold`.
            # Tables may be equal although their values have other types, and may be changed.
            raise TypeError('times and tables are not remembered')
        return cls._encode(properties)

    @classmethod
    def _encode(cls, properties: Mapping[str, Any]) -> bytes:
        flags = cls._NO_FLAGS
        parts = [b'']
        for name, flag, encode in cls._ENCODERS:
            value = properties.get(name)
            if value is None:
                continue
            flags |= flag
            try:
                parts.append(encode(value))
            except (TypeError, ValueError) as error:
                raise with_context(error, name) from None
        parts[0] = flags.to_bytes(cls._FLAGS_SIZE, 'big')
        return b''.join(parts)

    def _refuse_decode_errors(self) -> None:
        for name, error in self._decode_errors.items():
            if self.properties.get(name) is None:
                raise ValueError(f'{error} (received so; set or remove it to send it on)')


GenericContent.__init_subclass__()  # for itself
