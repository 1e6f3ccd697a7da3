"""A peer that answers whatever a client asks, and checks that what it is sent is whole.

It serves any number of connections, each in a thread of its own. It records what each of them sent,
by the connection's name, so that a test can compare it with what the program meant to send.
"""

import contextlib
import socket
import struct
import threading
from collections import defaultdict

from tests.helpers.wire import LOOPBACK, delivery, method, read_method, split_frames, version_of

#: Seconds after which a client that sends nothing is given up.
SILENCE = 60


class AnsweringPeer:
    """Listens on a loopback port; use it as a context manager.

    amqp: the client package whose version of AMQP it speaks.
    deliveries: how many messages a consumer is sent, with bodies '1', '2', ...
    served: name of a connection -> the `Served` of it.
    """

    def __init__(self, amqp, deliveries=0):
        self.version = version_of(amqp)
        self.deliveries = deliveries
        self.served = {}
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.address = '{}:{}'.format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def close(self):
        """Accept no more connections."""
        # Which wakes the thread that waits for them.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # the test is over
            threading.Thread(target=Served(self, sock).run, daemon=True).start()


class Served:
    """One connection, as the peer sees it.

    published: channel -> the bodies that were published on it, in order.
    acknowledged: channel -> the delivery tags, in order.
    errors: what was wrong with what the client sent.
    ended: set when the connection is over.
    """

    def __init__(self, peer, sock):
        self.peer, self.sock = peer, sock
        self.version = peer.version
        self.published = defaultdict(list)
        self.acknowledged = defaultdict(list)
        self.opened = set()
        self.confirming = defaultdict(int)
        self.errors = []
        self.ended = threading.Event()
        self.closing = False
        self._sending = threading.Lock()
        self._content = None  # (channel, missing bytes or None, body)

    def run(self):
        try:
            self.sock.settimeout(SILENCE)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.serve()
        except OSError:
            pass  # the client hung up
        # Whatever it is, the test has to see it.
        except BaseException as error:  # noqa: BLE001
            self.errors.append(repr(error))
        finally:
            self.sock.close()
            self.ended.set()

    def serve(self):
        data = b''
        while len(data) < 8:
            arrived = self.sock.recv(8)
            if not arrived:
                return
            data += arrived
        assert data[:8] == self.version.header, data
        data = data[8:]
        self.send(0, 'connection.start', *self.version.numbers, {}, 'PLAIN', 'en_US')
        while not self.closing:
            arrived = self.sock.recv(262144)
            if not arrived:
                self.cut = data
                return
            frames, data = split_frames(data + arrived)
            for frame in frames:
                self.take(frame)

    def send(self, channel, name, *values):
        data = method(channel, name, *values, version=self.version)
        with self._sending:
            self.sock.sendall(data)

    def take(self, frame):
        kind, channel, payload = frame
        if kind == 8:
            assert self._content is None, 'a heartbeat in the middle of a content'
            return
        if self._content is not None:
            self.take_content(kind, channel, payload)
            return
        arrived = read_method(frame, self.version)
        assert arrived is not None, f'a frame that is no method: {frame[:2]}'
        name = arrived.name
        if channel and name not in ('channel.open', 'channel.close_ok'):
            assert channel in self.opened, f'{name} on channel {channel}, which is not open'
        handler = getattr(self, 'on_' + name.replace('.', '_'))
        handler(channel, arrived)

    def take_content(self, kind, channel, payload):
        at, missing, body = self._content
        assert channel == at, f'a frame of channel {channel} in the middle of a content of {at}'
        if missing is None:
            assert kind == 2, f'frame type {kind} instead of a content header'
            missing = struct.unpack('>HHQ', payload[:12])[2]
        else:
            assert kind == 3, f'frame type {kind} instead of a body'
            missing -= len(payload)
            body += payload
        assert missing >= 0
        self._content = (channel, missing, body) if missing else None
        if not missing:
            self.published[channel].append(bytes(body[:64]).rstrip(b'.').decode())
            if channel in self.confirming:
                self.confirming[channel] += 1
                self.send(channel, 'basic.ack', self.confirming[channel], False)

    def on_connection_start_ok(self, channel, arrived):
        names = arrived.client_properties
        self.peer.served[names.get('connection_name', '')] = self
        self.send(0, 'connection.tune', 2047, 131072, 0)

    def on_connection_tune_ok(self, channel, arrived):
        pass

    def on_connection_open(self, channel, arrived):
        self.send(0, 'connection.open_ok', '')

    def on_connection_close(self, channel, arrived):
        self.closing = True
        self.send(0, 'connection.close_ok')

    def on_channel_open(self, channel, arrived):
        assert channel not in self.opened, f"second 'channel.open' on {channel}"
        self.opened.add(channel)
        self.published.pop(channel, None)
        fields = self.version.methods['channel.open_ok'].fields
        self.send(channel, 'channel.open_ok', *['' for _ in fields])

    def on_channel_close(self, channel, arrived):
        self.opened.discard(channel)
        self.confirming.pop(channel, None)
        self.send(channel, 'channel.close_ok')

    def on_queue_declare(self, channel, arrived):
        self.send(channel, 'queue.declare_ok', arrived.queue, 0, 0)

    def on_confirm_select(self, channel, arrived):
        self.confirming[channel] = 0
        self.send(channel, 'confirm.select_ok')

    def on_basic_publish(self, channel, arrived):
        self._content = (channel, None, bytearray())

    def on_basic_ack(self, channel, arrived):
        self.acknowledged[channel].append(arrived.delivery_tag)

    def on_basic_consume(self, channel, arrived):
        tag = arrived.consumer_tag or 'made up'
        self.send(channel, 'basic.consume_ok', tag)
        messages = [
            delivery(channel, tag, number, str(number).encode())
            for number in range(1, self.peer.deliveries + 1)
        ]
        threading.Thread(target=self.deliver, args=(messages,), daemon=True).start()

    def deliver(self, messages):
        with contextlib.suppress(OSError):  # the client hung up
            for start in range(0, len(messages), 50):
                with self._sending:
                    self.sock.sendall(b''.join(messages[start : start + 50]))
