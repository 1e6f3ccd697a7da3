"""AMQPReader and AMQPWriter, which read and write the wire types one after the other.

The clients themselves use ``arguments`` to encode and decode. Handlers get an AMQPReader, because
programs may override them; programs may also send methods of their own with an AMQPWriter.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, Union

from amqplib.core.serialization import (
    DECODERS,
    ENCODERS,
    FIELD_TYPES,
    LONG,
    OCTET,
    check_end,
    encode_table,
)
from amqplib.core.spec import SIGNATURE, FieldTypes, Signature

if TYPE_CHECKING:
    from datetime import datetime


class AMQPReader:
    """Reads the wire types one after the other from bytes, or from an object with read().

    Consecutive bits are read from one byte, the lowest first (specification 4.2.5.2). Missing or
    malformed data raises ValueError.

    input: the source.
    data: the bytes; from a source with read(), the bytes that were needed so far.
    offset: the offset of the next value in the data.
    """

    # Class attributes, because a reader is made for every method that arrives.
    offset = bits = bitcount = 0

    def __init__(self, source: Any) -> None:
        self.input = source
        if type(source) is bytes:
            self.data = source
        elif isinstance(source, (bytearray, memoryview)):
            self.data = bytes(source)
        elif hasattr(source, 'read'):
            self.data = b''
        else:
            raise ValueError('AMQPReader needs bytes or an object with read()')

    def close(self) -> None:
        """Release the source."""
        self.input = self.data = b''
        self.offset = 0

    def _need(self, size: int) -> None:
        """Make sure that `size` more bytes are there, reading from the source if it is a stream."""
        missing = self.offset + size - len(self.data)
        if missing > 0 and hasattr(self.input, 'read'):
            self.data += self.input.read(missing)
        check_end(self.offset, size, len(self.data))

    def read(self, n: int) -> bytes:
        """Read n raw bytes."""
        self.bitcount = 0
        self._need(n)
        start = self.offset
        self.offset = start + n
        return self.data[start : start + n]

    def _take(self, wire_type: str, size: int) -> Any:
        """Read a value, of which `size` bytes must be there before it can be decoded."""
        self._need(size)
        self.bitcount = 0
        value, self.offset = DECODERS[wire_type](self.data, self.offset, len(self.data))
        return value

    def read_bit(self) -> bool:
        """Read a bit."""
        if not self.bitcount:
            self.bits = self.read_octet()
            self.bitcount = 8
        bit = bool(self.bits & 1)
        self.bits >>= 1
        self.bitcount -= 1
        return bit

    def read_octet(self) -> int:
        """Read an unsigned 8-bit number."""
        return self._take('octet', 1)  # type: ignore[no-any-return]

    def read_short(self) -> int:
        """Read an unsigned 16-bit number."""
        return self._take('short', 2)  # type: ignore[no-any-return]

    def read_long(self) -> int:
        """Read an unsigned 32-bit number."""
        return self._take('long', 4)  # type: ignore[no-any-return]

    def read_longlong(self) -> int:
        """Read an unsigned 64-bit number."""
        return self._take('longlong', 8)  # type: ignore[no-any-return]

    def read_timestamp(self) -> Union[datetime, int]:
        """Read a time: a naive datetime in local time, or an int if there is no such datetime."""
        return self._take('timestamp', 8)  # type: ignore[no-any-return]

    def read_shortstr(self) -> str:
        """Read a string of up to 255 bytes."""
        self._need(1)
        return self._take('shortstr', 1 + self.data[self.offset])  # type: ignore[no-any-return]

    def _take_long(self, wire_type: str) -> Any:
        self._need(4)
        return self._take(wire_type, 4 + LONG.unpack_from(self.data, self.offset)[0])

    def read_longstr(self) -> Union[str, bytes]:
        """Read a long string: str, or bytes if it is not UTF-8."""
        return self._take_long('longstr')  # type: ignore[no-any-return]

    def read_table(self) -> dict[str, Any]:
        """Read a field table."""
        return self._take_long('table')  # type: ignore[no-any-return]


class AMQPWriter:
    """Writes the wire types one after the other, to a buffer or to an object with write().

    Consecutive bits are packed into a byte, the lowest first; any other write ends the byte. Wrong
    values raise ValueError or TypeError, and nothing is written.

    dest: an object with write(), or None to collect the bytes for getvalue().
    """

    #: The encoders of Python types in tables.
    field_types: FieldTypes = FIELD_TYPES

    def __init__(self, dest: Any = None) -> None:
        self.out = BytesIO() if dest is None else dest
        self.bits = self.bitcount = 0

    def _flush_bits(self) -> None:
        if self.bitcount:
            self.out.write(OCTET.pack(self.bits))
            self.bits = self.bitcount = 0

    def flush(self) -> None:
        """Write pending bits, and flush the destination."""
        self._flush_bits()
        if hasattr(self.out, 'flush'):
            self.out.flush()

    def close(self) -> None:
        """Flush, and close the destination."""
        self.flush()
        self.out.close()

    def getvalue(self) -> bytes:
        """Return everything written so far."""
        self._flush_bits()
        return self.out.getvalue()

    def write(self, data: bytes) -> None:
        """Write raw bytes."""
        self._flush_bits()
        self.out.write(data)

    def write_bit(self, value: Any) -> None:
        """Write a bit: whether the value is true."""
        if self.bitcount == 8:
            self._flush_bits()
        self.bits |= bool(value) << self.bitcount
        self.bitcount += 1

    def write_octet(self, value: int) -> None:
        """Write an unsigned 8-bit number."""
        self.write(ENCODERS['octet'](value))

    def write_short(self, value: int) -> None:
        """Write an unsigned 16-bit number."""
        self.write(ENCODERS['short'](value))

    def write_long(self, value: int) -> None:
        """Write an unsigned 32-bit number."""
        self.write(ENCODERS['long'](value))

    def write_longlong(self, value: int) -> None:
        """Write an unsigned 64-bit number."""
        self.write(ENCODERS['longlong'](value))

    def write_shortstr(self, value: Union[str, bytes]) -> None:
        """Write a string of up to 255 bytes; text as UTF-8."""
        self.write(ENCODERS['shortstr'](value))

    def write_longstr(self, value: Union[str, bytes]) -> None:
        """Write a string; text as UTF-8."""
        self.write(ENCODERS['longstr'](value))

    def write_table(self, value: Mapping[str, Any]) -> None:
        """Write a field table."""
        self.write(encode_table(value, self.field_types))

    def write_timestamp(self, value: Union[datetime, int]) -> None:
        """Write a time; a naive datetime is local time."""
        self.write(ENCODERS['timestamp'](value))


def payload_of(method_sig: Signature, args: Union[bytes, AMQPWriter]) -> bytes:
    """Return the payload of a method frame whose arguments a program has encoded."""
    if isinstance(args, AMQPWriter):
        args = args.getvalue()
    return SIGNATURE.pack(*method_sig) + args
