"""What amqplib 1.0.2 had here; the codec itself is in amqplib.core."""

from amqplib.core.properties import GenericContent
from amqplib.core.serialization import OCTET
from amqplib.core.streams import AMQPReader, AMQPWriter

__all__ = ['IS_PY3K', 'AMQPReader', 'AMQPWriter', 'GenericContent', 'byte']

#: Kept for programs that read it.
IS_PY3K = True


def byte(number: int) -> bytes:
    """Return the byte with this value."""
    return OCTET.pack(number)
