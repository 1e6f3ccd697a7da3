"""A conversation with a broker: recorded once, and replayed in memory, intact or damaged.

`record` holds the conversation with a real broker. `replay` holds it again with a socket that
plays the broker's part: with the same bytes, in other portions. `feed` does so with any bytes
instead. There is no thread, and no time passes: a wait that would never end is an error at once.
"""

import contextlib
import socket
import struct
import uuid

import amqplib.client_0_8 as amqp_0_8
from amqplib.core import transport

#: Longer than any that the client waits for here, should something wait after all.
PATIENCE = 20

FRAME = struct.Struct('>BHI')

HEADERS = {
    'text': 'ö',
    'bytes': b'\0\xff',
    'number': -7,
    'large': 1 << 40,
    'true': True,
    'table': {'list': [1, 'two', [3.5]]},
}
BODIES = [b'', b'\xce' * 20, bytes(range(256)) * 5]


# --- The conversation ---------------------------------------------------------------------------


class Conversation:
    """A little of everything that programs do, with the same bytes each time.

    results: what came of it so far.
    """

    queue = f'amqplib-test-{uuid.uuid4()}'  # the same throughout a run

    def __init__(self, client):
        self.client = client
        self.results = []
        self.connection = None

    def run(self, address='broker'):
        """Hold it; return the results."""
        self.connection = self.client.Connection(
            host=address, heartbeat=0, connect_timeout=None, connection_name='conversation'
        )
        with self.connection as connection:
            self.note(connection.channel_max, connection.frame_max, connection.mechanisms)
            channel = connection.channel()
            self.fill(channel)
            self.consume(channel)
            self.lose_consumer(connection.channel())
            self.fail(connection.channel())
            self.commit(channel)
        return self.results

    def note(self, *values):
        self.results.append(values)

    def note_message(self, message):
        if message is None:
            self.note(None)
            return
        facts = [message.body]
        for name in ('delivery_tag', 'application_headers', 'timestamp', 'message_id'):
            try:
                facts.append(getattr(message, name, None))
            except ValueError as damage:  # which is that property's alone
                facts.append(str(damage))
        self.note(*facts, message.properties, repr(message))

    def fill(self, channel):
        self.note(channel.queue_declare(self.queue, exclusive=True, auto_delete=False))
        channel.queue_bind(self.queue, 'amq.direct', self.queue)
        for number, body in enumerate(BODIES):
            message = self.client.Message(
                body, message_id=str(number), application_headers=HEADERS, timestamp=1_000_000_000
            )
            channel.basic_publish(message, 'amq.direct', self.queue)
        channel.basic_publish(
            self.client.Message('unroutable'), '', 'amqplib-test-nowhere', mandatory=True
        )
        channel.basic_qos(0, 10, False)
        while not channel.returned_messages.empty():
            *reason, message = channel.returned_messages.get()
            self.note(*reason)
            self.note_message(message)

    def consume(self, channel):
        received = []
        self.note_message(channel.basic_get(self.queue, no_ack=True))
        tag = channel.basic_consume(self.queue, 'consumer', callback=received.append)
        while len(received) < len(BODIES) - 1:
            channel.wait()
        for message in received:
            self.note_message(message)
            channel.basic_ack(message.delivery_tag)
        channel.basic_cancel(tag)
        self.note(tag, channel.callbacks)
        self.note_message(channel.basic_get(self.queue))
        self.note(channel.queue_purge(self.queue), channel.flow(True))

    def lose_consumer(self, channel):
        cancelled = []
        channel.basic_consume(self.queue, 'lost', on_cancel=cancelled.append)
        self.note(channel.queue_delete(self.queue))
        while not cancelled:
            channel.wait()
        self.note(cancelled)
        channel.close()

    def fail(self, channel):
        try:
            channel.queue_declare(self.queue, passive=True)
        except self.client.AMQPChannelException as error:
            self.note(type(error), error.args, channel.is_open)

    def commit(self, channel):
        channel.tx_select()
        channel.basic_publish(self.client.Message('nobody gets this'))
        self.note(channel.tx_commit(), channel.tx_rollback())


# --- Recording ----------------------------------------------------------------------------------


class Record:
    """What passed.

    up: bytes of the client.
    down: (bytes of the broker, how many of the client's had been sent when they were read).
    """

    def __init__(self):
        self.up = b''
        self.down = []

    @property
    def stream(self):
        """All that the broker sent."""
        return b''.join(data for data, _ in self.down)


class RecordingSocket(socket.socket):
    """A socket that writes down what passes."""

    def recv(self, size, *flags):
        data = super().recv(size, *flags)
        self.record.down.append((data, len(self.record.up)))
        return data

    def recvmsg_into(self, buffers, ancillary_size, *flags):
        return receive_into(self, buffers, *flags)

    def send(self, data, *flags):
        sent = super().send(data, *flags)
        self.record.up += bytes(data[:sent])
        return sent

    def sendmsg(self, pieces, ancillary_data, *flags):
        return self.send(b''.join(pieces), *flags)


def receive_into(sock, buffers, *flags):
    """Do what recvmsg_into() does, by recv()."""
    data = sock.recv(sum(map(len, buffers)), *flags)
    offset = 0
    for buffer in buffers:
        piece = data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        offset += len(piece)
    return len(data), [], 0, None


def record(client, address):
    """Hold the conversation with a broker; return what passed and what came of it."""
    made = Record()
    really_connect = transport._connect

    def connect(host, port, deadline):
        plain = really_connect(host, port, deadline)
        sock = RecordingSocket(plain.family, plain.type, plain.proto, plain.detach())
        sock.record = made
        return sock

    with patched(_connect=connect):
        results = Conversation(client).run(address)
    return made, results


# --- Playing ------------------------------------------------------------------------------------


class PlayedSocket(socket.socket):
    """The client's socket: what it sends goes to the player, what it receives comes from there."""

    player = None

    def recv(self, size, flags=0):
        if self.gettimeout() is None and not flags:
            transport.poll_socket(self, None, read=True)  # which knows when nothing will come
        data = super().recv(min(size, self.player.most()))
        self.player.has_received(len(data))
        return data

    def recvmsg_into(self, buffers, ancillary_size, *flags):
        return receive_into(self, buffers, *flags)

    def send(self, data, *flags):
        self.player.has_sent(bytes(data))
        return len(data)

    def sendmsg(self, pieces, ancillary_data, *flags):
        return self.send(b''.join(pieces))


class Player:
    """Plays the broker's part over a pair of sockets; a context manager."""

    def __init__(self):
        self.sent = b''
        self.received = 0
        self.connected = False
        ours, theirs = socket.socketpair()
        self.end = ours
        self.sock = PlayedSocket(theirs.family, theirs.type, theirs.proto, theirs.detach())
        self.sock.player = self
        self._really_poll = transport.poll_socket

    def __enter__(self):
        self._patched = patched(_connect=self._connect, poll_socket=self._poll_socket)
        self._patched.__enter__()
        return self

    def __exit__(self, *exc_info):
        self._patched.__exit__(*exc_info)
        self.end.close()
        self.sock.close()

    def _connect(self, host, port, deadline):
        if self.connected:  # it was redirected
            raise amqp_0_8.ConnectionLost(0, 'there is one broker only')
        self.connected = True
        return self.sock

    def _poll_socket(self, sock, seconds, read=False, write=False):
        if read and seconds != 0 and not any(self._really_poll(sock, 0, read)):
            self.nothing_left()
        return self._really_poll(sock, PATIENCE if seconds is None else seconds, read, write)

    def has_sent(self, data):
        self.sent += data

    def has_received(self, count):
        self.received += count

    def most(self):
        """Return how many bytes may be received at once."""
        return transport.RECEIVE_SIZE

    def nothing_left(self):
        """The client waits, and there is nothing for it to read."""
        raise NotImplementedError


class Replay(Player):
    """Plays a record: each byte as soon as the client has sent what came before it.

    cuts: ascending positions in the broker's bytes; none is received with the one before it.
    """

    def __init__(self, played, cuts):
        super().__init__()
        self.up = played.up
        self.steps = list(played.down)
        self.cuts = list(cuts)

    def has_sent(self, data):
        super().has_sent(data)
        assert self.up.startswith(self.sent), 'the client sends something else than before'
        while self.steps and self.steps[0][1] <= len(self.sent):
            self.end.sendall(self.steps.pop(0)[0])

    def most(self):
        while self.cuts and self.cuts[0] <= self.received:
            del self.cuts[0]
        return self.cuts[0] - self.received if self.cuts else transport.RECEIVE_SIZE

    def nothing_left(self):
        raise AssertionError(f'the client waits for more than the record has: {self.sent[-80:]!r}')


class Feed(Player):
    """Plays any bytes, a frame whenever the client waits, and then the end of the stream.

    size: the most bytes that are received at once.
    """

    def __init__(self, data, size):
        super().__init__()
        self.data = data
        self.size = size

    def most(self):
        return self.size

    def nothing_left(self):
        if not self.data:
            self.end.shutdown(socket.SHUT_WR)
            return
        end = self._frame_end()
        with contextlib.suppress(BrokenPipeError):  # the client has had enough
            self.end.sendall(self.data[:end])
        self.data = self.data[end:]

    def _frame_end(self):
        if len(self.data) >= FRAME.size:
            end = FRAME.unpack_from(self.data)[2] + FRAME.size + 1
            if end < len(self.data):
                return end
        return min(len(self.data), 30_000)


@contextlib.contextmanager
def patched(**replacements):
    """Replace functions of the transport module for the duration of the block."""
    before = {name: getattr(transport, name) for name in replacements}
    for name, replacement in replacements.items():
        setattr(transport, name, replacement)
    try:
        yield
    finally:
        for name, original in before.items():
            setattr(transport, name, original)


def replay(client, played, cuts=()):
    """Hold the conversation of a record again; return what came of it."""
    with Replay(played, cuts) as player:
        results = Conversation(client).run()
        assert player.sent == played.up
    return results


def feed(client, data, size=transport.RECEIVE_SIZE):
    """Hold the conversation with these bytes for the broker's; return the error or None.

    Any error that is no AMQPException is raised, as is an inconsistent state.
    """
    with Feed(data, size) as player:
        conversation = Conversation(client)
        try:
            conversation.run()
        except amqp_0_8.AMQPException as caught:
            error = caught
        else:
            error = None
        check_ended(conversation.connection, error)
        assert player.sock.fileno() == -1
    return error


def check_ended(connection, error):
    """Check that a connection is closed, and that it stays so."""
    if connection is None:
        assert isinstance(error, amqp_0_8.AMQPException)
        return
    assert connection.transport is None
    assert connection.channels is None
    connection.close()
    with contextlib.suppress(amqp_0_8.AMQPException):
        connection.channel()
        raise AssertionError('a closed connection has opened a channel')


# --- Spoiling -----------------------------------------------------------------------------------

#: Bytes that mean something: frame types, ends of frames, limits of sizes.
TELLING = (0, 1, 2, 3, 8, 10, 20, 40, 41, 50, 60, 0x7F, 0x80, 0xCE, 0xFF)


def mutated(data, chance):
    """Return the data with some bytes changed, deleted, doubled, swapped or inserted.

    chance: a random.Random.
    """
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        position = chance.randrange(len(data))
        chance.choice(MUTATIONS)(data, position, chance)
        data = data or bytearray(b'\1')
    return bytes(data)


def _set(data, position, chance):
    data[position] = chance.choice(TELLING)


def _flip(data, position, chance):
    data[position] ^= 1 << chance.randrange(8)


def _delete(data, position, chance):
    del data[position : position + chance.randint(1, 8)]


def _double(data, position, chance):
    data[position:position] = data[position : position + chance.randint(1, 60)]


def _make_up(data, position, chance):
    data[position:position] = bytes(chance.choice(TELLING) for _ in range(chance.randint(1, 8)))


def _set_number(data, position, chance):
    number = chance.choice((0, 1, 255, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20))
    data[position : position + 4] = struct.pack('>I', number)


def _exchange(data, position, chance):
    other = chance.randrange(len(data))
    size = chance.randint(1, 40)
    first, second = data[position : position + size], data[other : other + size]
    if len(first) == len(second) and abs(position - other) >= size:
        data[position : position + size], data[other : other + size] = second, first


MUTATIONS = (_set, _flip, _delete, _double, _make_up, _set_number, _exchange)


def with_other_frames(stream, chance):
    """Return a stream of frames with some of them deleted, doubled, swapped or renumbered."""
    frames = split_frames(stream)
    for _ in range(chance.randint(1, 3)):
        position = chance.randrange(len(frames))
        kind = chance.randrange(8)
        if kind == 0:
            del frames[position]
        elif kind == 1:
            frames.insert(chance.randrange(len(frames)), frames[position])
        elif kind == 2:
            other = chance.randrange(len(frames))
            frames[position], frames[other] = frames[other], frames[position]
        elif kind == 3:
            number = chance.choice((0, 1, 2, 3, 9, 65535))
            frame = frames[position]
            frames[position] = frame[:1] + struct.pack('>H', number) + frame[3:]
        else:
            payload = mutated(frames[position][FRAME.size : -1] or b'\0', chance)
            frames[position] = reframed(payload, frames[position])
        frames = frames or [stream[:8]]
    return b''.join(frames)


def reframed(payload, frame):
    """Return a frame of the same type and channel with another payload."""
    return frame[:3] + struct.pack('>I', len(payload)) + payload + b'\xce'


def split_frames(stream):
    """Return the frames of a valid stream."""
    frames, position = [], 0
    while position < len(stream):
        end = position + FRAME.unpack_from(stream, position)[2] + FRAME.size + 1
        frames.append(stream[position:end])
        position = end
    return frames
