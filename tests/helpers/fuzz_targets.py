"""Targets of fuzzing besides whole conversations: functions of bytes that raise what is wrong."""

import amqplib.client_0_8 as amqp
from amqplib.client_0_8.spec import PROTOCOL, ROWS
from amqplib.core.arguments import compile_decoder
from amqplib.core.decoding import Decoder
from amqplib.core.legacy import AnyInbox
from amqplib.core.spec import BASIC_PROPERTIES
from amqplib.core.streams import AMQPReader

BEGINNING = b'\1\0\0\0\0\0\4\0\x0a\0\x0a\xce'


def read_in(portions):
    """Return the methods that a Decoder finds, and the error it ends by."""
    decoder = Decoder(PROTOCOL, amqp.Message, AnyInbox())
    failure = None
    try:
        for portion in portions:
            decoder.take(portion)
    except amqp.AMQPException as error:
        failure = type(error), error.args
    found = [
        (channel, signature, bytes(args.data), message and (message.properties, message.body))
        for channel, (signature, args, message) in decoder.queue
    ]
    return found, failure


def frames(data):
    """The same methods and the same error, in whatever portions."""
    data = BEGINNING + data
    whole = read_in([data])
    assert read_in([data[i : i + 1] for i in range(len(data))]) == whole
    middle = len(data) // 2
    assert read_in([data[:middle], data[middle:]]) == whole


def arguments(data):
    """Values or a ProtocolError; the first byte chooses the method."""
    row = ROWS[data[0] % len(ROWS)] if data else ROWS[0]
    try:
        values = compile_decoder(row)(AMQPReader(data[1:]))
    except amqp.ProtocolError:
        return
    assert len(values) == len(row.fields)


def properties(data):
    """A message whose damaged properties raise an error only when they are read."""
    message = amqp.Message.received(data, b'body') if len(data) > 1 else amqp.Message()
    for name in [name for name, _ in BASIC_PROPERTIES]:
        try:
            value = getattr(message, name, None)
        except ValueError:
            assert name not in message.properties
        else:
            assert message.properties.get(name) == value or value != value  # noqa: PLR0124
    assert repr(message)


def table(data):
    """A table or a ValueError; what can be read and written comes back the same."""
    reader = AMQPReader(len(data).to_bytes(4, 'big') + data)
    try:
        entries = reader.read_table()
    except ValueError:
        return
    assert isinstance(entries, dict)


TARGETS = {'frames': frames, 'arguments': arguments, 'properties': properties, 'table': table}
