"""Field tables and properties as other clients may encode them."""

import struct


def raw_field(key, tag, data=b''):
    """Return an entry of a field table."""
    return bytes([len(key)]) + key + tag + data


def raw_long(data):
    """Return bytes after their size, as long strings, tables and arrays are encoded."""
    return struct.pack('>I', len(data)) + data


def nested_tables(depth):
    """Return an entry whose value is that many tables, each the only entry of the one before."""
    table = raw_long(b'')
    for _ in range(depth - 1):
        table = raw_long(raw_field(b'', b'F', table))
    return raw_field(b'', b'F', table)


def with_raw_headers(amqp, *fields, body=b'odd'):
    """Return a message whose application_headers have exactly these entries."""
    message = amqp.Message(body)
    message._load_properties(struct.pack('>H', 0x2000) + raw_long(b''.join(fields)))
    return message


def with_raw_property(amqp, flag, data, body=b'odd'):
    """Return a message with one property, given by its flag and as it is on the wire."""
    message = amqp.Message(body)
    message._load_properties(struct.pack('>H', flag) + data)
    return message
