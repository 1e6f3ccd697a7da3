"""What the live tests share: names, bounded waiting, a relay, raw header tables."""

import contextlib
import select
import socket
import struct
import threading
import time
import uuid

from scripted.checks import poll

#: Seconds after which something that should happen is taken not to happen.
PATIENCE = 10.0


def new_name():
    """Return a name that nobody else uses."""
    return f'amqplib-test-{uuid.uuid4()}'


def ready_count(channel, queue):
    """Return how many messages of the queue are not delivered."""
    return channel.queue_declare(queue, passive=True)[1]


def await_ready(channel, queue, count):
    """Wait until the queue has this many messages that are not delivered."""
    poll(lambda: ready_count(channel, queue) == count, f'{count} messages in the queue')


def get(channel, queue, **arguments):
    """Get a message that is on its way to the queue."""
    return poll(lambda: channel.basic_get(queue, **arguments), 'a message in the queue')


def get_bodies(channel, queue, count):
    """Get this many messages, acknowledged; return their bodies."""
    return [get(channel, queue, no_ack=True).body for _ in range(count)]


def close_and_get_what_comes_back(amqp, connection, channel, queue):
    """Close a channel on which messages of an empty queue are; return the bodies of those left.

    They come back some time after the answer to the close, all together. So one more that has to
    come back says when that is.
    """
    other = connection.channel()
    other.basic_publish(amqp.Message('the last one'), '', queue)
    assert get(channel, queue).body == 'the last one'
    channel.close()
    poll(lambda: ready_count(other, queue), 'what comes back')
    bodies = get_bodies(other, queue, ready_count(other, queue))
    assert bodies.pop() == 'the last one'
    return bodies


def drain(channel, until, patience=PATIENCE):
    """Hand out what arrives on the channel until the condition holds."""
    deadline = time.monotonic() + patience
    while not until():
        channel.wait(timeout=max(0.0, deadline - time.monotonic()))


def nothing_waits(amqp, channel):
    """Whether the broker has sent nothing so far that the next wait() would hand out."""
    # What was sent before the reply has arrived with it.
    channel.exchange_declare('amq.direct', 'direct', passive=True)
    try:
        channel.wait(timeout=0)
    except amqp.AMQPTimeout:
        return True
    return False


def hand_out_the_rest(amqp, channel):
    """Hand out all that the broker has sent so far on the channel."""
    while not nothing_waits(amqp, channel):
        pass


def await_input(connection):
    """Wait until the broker has sent something that was not read yet."""
    readable, _, _ = select.select([connection.transport.sock], [], [], PATIENCE)
    assert readable, f'the broker sent nothing within {PATIENCE} s'


@contextlib.contextmanager
def sends_nothing(connection):
    """Check that nothing is written to the broker in the block."""
    before = connection.transport.sent
    yield
    assert connection.transport.sent == before


def closed_port():
    """Return a port of 127.0.0.1 where nobody listens."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


# --- Field tables as other clients may write them -------------------------------------------------


def raw_field(key, tag, octets=b''):
    """Return an entry of a field table."""
    return bytes([len(key)]) + key + tag + octets


def raw_long(octets):
    """Return octets behind their number, as long strings, tables and arrays are written."""
    return struct.pack('>I', len(octets)) + octets


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


def with_raw_property(amqp, flag, octets, body=b'odd'):
    """Return a message with one property, given by its flag and as it is on the wire."""
    message = amqp.Message(body)
    message._load_properties(struct.pack('>H', flag) + octets)
    return message


# --- A relay --------------------------------------------------------------------------------------


class Relay:
    """Listens on an address and passes everything on to the broker and back."""

    def __init__(self, family, host, target):
        self._target = target
        self._listener = socket.socket(family)
        self._listener.bind((host, 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self):
        """Serve one connection after the other."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # shut down
            self.connections += 1
            with client, socket.create_connection(self._target) as broker:
                pass_on(client, broker)


def pass_on(one, other):
    """Pass octets on in both directions until one side ends."""
    while True:
        readable, _, _ = select.select([one, other], [], [])
        for source in readable:
            try:
                octets = source.recv(65536)
                if not octets:
                    return
                (other if source is one else one).sendall(octets)
            except OSError:
                return  # reset
