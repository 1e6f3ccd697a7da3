"""A channel without a socket: what it sends is recorded, and tests pass it what arrives."""

from amqplib.client_0_8.channel import Channel
from amqplib.client_0_8.spec import METHODS, PROTOCOL
from amqplib.core.arguments import compile_encoder
from amqplib.core.channel_numbers import ChannelNumbers
from amqplib.core.closed import Closed
from amqplib.core.deadline import NO_DEADLINE
from amqplib.core.encoding import Encoder
from amqplib.core.streams import AMQPReader


def arrived(name, *values, content=None):
    """Return a method as it arrives."""
    row = METHODS[name]
    payload = compile_encoder(row, PROTOCOL.field_types)(*values)
    return row.signature, AMQPReader(payload[4:]), content


class TransportLike:
    sent = 0

    def limit_of(self, deadline):
        return deadline


class SessionLike:
    """In place of a session.

    sent: the frames that were sent.
    to_come: (channel, method) that arrive when somebody waits.
    """

    poll_due = float('inf')
    blocked = None

    def __init__(self):
        self.closed = Closed()
        self.transport = TransportLike()
        self.encoder = Encoder(4096)
        self.inboxes = {}
        self.sent = []
        self.to_come = []
        self.is_waiting_allowed = True

    def send(self, frames, closed, deadline=NO_DEADLINE, on_turn=None):
        if closed.shut or self.closed.shut:
            closed.raise_cause()
        if on_turn is not None:
            on_turn()
        self.send_urgent(frames if isinstance(frames, bytes) else b''.join(frames))

    def send_urgent(self, frame):
        self.sent.append(frame)
        self.transport.sent += 1

    def may_wait(self):
        return self.is_waiting_allowed

    def wait_until(self, closed, ready, deadline=NO_DEADLINE):
        while not ready():
            if closed.cause is not None:
                closed.raise_cause()
            if not self.to_come:
                return False
            number, method = self.to_come.pop(0)
            self.inboxes[number].arrive(method)
        return True

    def call_handler(self, handler, *args):
        handler(*args)

    def end(self, cause, reported=False):
        if self.closed.end(cause, reported):
            for inbox in list(self.inboxes.values()):
                inbox.session_ended()


class ConnectionLike:
    """In place of a connection."""

    rpc_timeout = write_timeout = None

    def __init__(self):
        self.session = SessionLike()
        self.numbers = ChannelNumbers(self.session, {}, PROTOCOL)
        self.closed_channels = []

    def open_session(self):
        return self.session

    def register(self, channel, wanted):
        channel.channel_id = self.numbers.choose(10) if wanted is None else wanted
        assert self.numbers.take(channel.channel_id, channel)

    def new_consumer_tag(self):
        return 'made-up'

    def note_closed(self, closed):
        self.closed_channels.append(closed)

    def wait_for_channel(self, channel, channel_id, allowed_methods, timeout):
        return channel.wait_for_method(allowed_methods, timeout)


def open_channel(cls=Channel):
    """Return a connection and its channel 1, which has just been opened."""
    connection = ConnectionLike()
    connection.session.to_come.append((1, arrived('channel.open_ok')))
    channel = cls(connection)
    assert channel.is_open
    connection.session.sent.clear()
    return connection, channel
