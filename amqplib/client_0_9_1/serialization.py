"""AMQPReader and AMQPWriter, where client_0_8 has them too."""

from amqplib.core.properties import GenericContent
from amqplib.core.streams import AMQPReader, AMQPWriter

__all__ = ['AMQPReader', 'AMQPWriter', 'GenericContent']
