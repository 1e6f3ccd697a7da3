"""A TCP proxy in front of a broker that can fragment, delay, stall, close and reset connections.

    with FaultProxy(broker.address) as proxy:
        conn = amqp.Connection(host=proxy.address)
        proxy.stall(UP, DOWN)
        ...

A connection through the proxy is a link, of two lanes: UP from the client to the broker, DOWN
from the broker to the client. One thread serves them all. The verbs can be called from any other
thread, take effect before they return, and hold for all links, also for those to come. An error
in the thread is raised by the verbs, and at the end of the block; afterwards nothing is left.
"""

import contextlib
import queue
import select
import socket
import struct
import threading
import time

from tests.helpers import broker as brokers
from tests.helpers.threads import begin

UP = 'up'
DOWN = 'down'
LOOPBACK = '127.0.0.1'
#: Seconds for anything that the proxy itself has to do.
PATIENCE = 10.0
#: The most bytes that are taken at once, and so the most that wait in a lane.
MOST_TAKEN = 65536
#: Pieces that one lane sends before it is the turn of others.
MOST_PIECES = 64
FIN = 'fin'
RESET = 'reset'


class FaultProxy:
    """The proxy; see the module.

    address: 'host:port' for the client.
    links: those that have not ended.
    """

    def __init__(self, broker_address):
        self._target = brokers.parse_address(broker_address)
        self._rules = {UP: Rules(), DOWN: Rules()}
        self._buffer_size = None
        self._commands = queue.SimpleQueue()
        self._stopped = False
        self.links = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self._bell, self._bell_rope = socket.socketpair()
        self.address = f'{LOOPBACK}:{self._listener.getsockname()[1]}'
        self._end = begin(self._serve)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._stopped = True
        self._ring()
        self._end.result(PATIENCE)

    # What tests call

    def fragment(self, direction, size, delay=0.0):
        """Send at most this many bytes at a time, `delay` seconds after the ones before."""
        self._change(direction, size=size, delay=delay)

    def stall(self, *directions):
        """Neither take nor send anything, and keep the sockets."""
        for direction in directions:
            self._change(direction, stalled=True)

    def resume(self, *directions):
        """End `stall`."""
        for direction in directions:
            self._change(direction, stalled=False)

    def cut_after(self, direction, count):
        """End a link by FIN once it has passed this many bytes, counted from its beginning."""
        self._change(direction, limit=count, at_limit=FIN)

    def reset_after(self, direction, count):
        """The same by RST."""
        self._change(direction, limit=count, at_limit=RESET)

    def cut(self):
        """End every link now by FIN; what the client still sends is taken and counted."""
        self._do(lambda: self._end_all(FIN))

    def reset(self):
        """End every link now by RST."""
        self._do(lambda: self._end_all(RESET))

    def limit_buffers(self, size):
        """Give the sockets of links to come small buffers, towards both sides."""
        self._do(lambda: self._limit(size))

    def record(self, direction):
        """Return a list that will hold (moment, bytes) of all that passes from now on.

        The moment is just before the bytes are sent. What a client sends after its link was
        ended by FIN is in it too.
        """
        record = []
        self._change(direction, record=record)
        return record

    def passed(self, direction):
        """Return how many bytes its link, which is the only one, has passed."""
        counts = []
        self._do(lambda: counts.extend(link.passed(direction) for link in self.links))
        (count,) = counts
        return count

    # The thread

    def _change(self, direction, **rules):
        self._do(lambda: vars(self._rules[direction]).update(rules))

    def _do(self, command):
        """Have the thread do something, and wait until it is done."""
        done = threading.Event()
        self._commands.put((command, done))
        self._ring()
        if not done.wait(PATIENCE):
            self._end.result(0)
            raise TimeoutError('the proxy does not answer')

    def _ring(self):
        with contextlib.suppress(OSError):  # the thread has ended
            self._bell_rope.send(b'!')

    def _serve(self):
        with self._listener, self._bell, self._bell_rope:
            try:
                while not self._stopped:
                    self._step()
            finally:
                for link in self.links:
                    link.close()

    def _step(self):
        lanes = [lane for link in self.links for lane in link.lanes]
        now = time.monotonic()
        readers = {lane.source: lane for lane in lanes if lane.wants_input()}
        writers = {lane.target: lane for lane in lanes if lane.wants_output(now)}
        wait = min((lane.due - now for lane in lanes if lane.is_waiting(now)), default=None)
        readable, writable, _ = select.select(
            [self._bell, self._listener, *readers], list(writers), [], wait
        )
        if self._bell in readable:
            self._obey()
            return  # what is readable may have been closed
        for sock in writable:
            writers[sock].send()
        for sock in readable:
            if sock is self._listener:
                self._accept()
            else:
                readers[sock].take()
        for link in self.links:
            link.tidy()
        self.links = [link for link in self.links if not link.closed]

    def _obey(self):
        self._bell.recv(1)
        with contextlib.suppress(queue.Empty):
            command, done = self._commands.get_nowait()
            command()
            done.set()

    def _accept(self):
        client, _ = self._listener.accept()
        try:
            broker = socket.create_connection(self._target, timeout=PATIENCE)
        except OSError:
            close(client, RESET)
            return
        self.links.append(Link(client, broker, self._rules, self._buffer_size))

    def _limit(self, size):
        self._buffer_size = size
        # Sockets have what their listener had when the connection was made.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def _end_all(self, how):
        for link in self.links:
            link.end(how)
            link.tidy()


class Rules:
    """What holds for one direction."""

    def __init__(self):
        self.size = MOST_TAKEN
        self.delay = 0.0
        self.stalled = False
        self.limit = None
        self.at_limit = None
        self.record = None


class Lane:
    """One direction of a link.

    passed: bytes that were taken from the source and sent on, or dropped.
    end: how the source ended, None if it has not.
    refused: whether the target takes nothing any more.
    dropping: whether what comes is not sent on.
    due: the moment before which nothing may be sent.
    """

    def __init__(self, source, target, rules):
        self.source = source
        self.target = target
        self.rules = rules
        self.passed = 0
        self.end = None
        self.refused = False
        self.dropping = False
        self.due = 0.0
        self._pending = memoryview(b'')

    def wants_input(self):
        ended = self.end is not None or self.refused
        return not (ended or self._pending or self.rules.stalled)

    def wants_output(self, now):
        return self._is_sending() and now >= self.due

    def is_waiting(self, now):
        return self._is_sending() and now < self.due

    def _is_sending(self):
        return bool(self._pending) and not self.rules.stalled

    def take(self):
        try:
            data = self.source.recv(MOST_TAKEN)
        except BlockingIOError:
            return
        except OSError:
            self.end = RESET
            return
        if not data:
            self.end = FIN
        elif self.dropping:
            self._note(time.monotonic(), data)
        else:
            self._pending = memoryview(data)

    def drop(self):
        """From now on, take what comes and send it nowhere."""
        self.dropping = True
        self._pending = memoryview(b'')

    def send(self):
        """Send some pieces, as the rules have it."""
        for _ in range(MOST_PIECES):
            piece = self._pending[: self._most()]
            if not piece:
                return
            moment = time.monotonic()
            try:
                sent = self.target.send(piece)
            except BlockingIOError:
                return
            except OSError:
                self.refused = True
                self._pending = memoryview(b'')
                return
            self._note(moment, piece[:sent])
            self._pending = self._pending[sent:]
            if self.rules.delay:
                self.due = moment + self.rules.delay
                return

    def _most(self):
        if self.rules.limit is None:
            return self.rules.size
        return min(self.rules.size, self.rules.limit - self.passed)

    def _note(self, moment, data):
        self.passed += len(data)
        if self.rules.record is not None:
            self.rules.record.append((moment, bytes(data)))

    def is_over(self):
        return self.end is not None and not self._pending

    def is_at_limit(self):
        return self.rules.limit is not None and self.passed >= self.rules.limit


class Link:
    """A client's connection, and the one to the broker that was made for it."""

    def __init__(self, client, broker, rules, buffer_size):
        self._client = client
        self._broker = broker
        for sock in (client, broker):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if buffer_size is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_size)
        self._up = Lane(client, broker, rules[UP])
        self._down = Lane(broker, client, rules[DOWN])
        self.lanes = [self._up, self._down]

    @property
    def closed(self):
        return not self.lanes

    def passed(self, direction):
        """Return how many bytes the link has passed in one direction."""
        return (self._up if direction == UP else self._down).passed

    def tidy(self):
        """End it if one side has ended, or a limit is reached."""
        if self._up.dropping:
            if self._up.end is not None:
                self.close()
            return
        for lane in self.lanes:
            if lane.is_at_limit():
                self.end(lane.rules.at_limit)
                return
        if self._down.is_over():
            # A broker that ends by RST may be noticed by what is sent to it.
            self.end(RESET if self._up.refused else self._down.end)
        elif self._up.is_over() or self._down.refused:
            close(self._broker, self._up.end or RESET)
            self.close()

    def end(self, how):
        """End both sides. After a FIN the client may go on sending, until it ends its side."""
        if self.closed or self._up.dropping:
            return
        self._broker.close()
        if how == RESET:
            close(self._client, RESET)
            self.lanes = []
            return
        with contextlib.suppress(OSError):  # the client was faster
            self._client.shutdown(socket.SHUT_WR)
        self._up.drop()
        self.lanes = [self._up]

    def close(self):
        self._client.close()
        self._broker.close()
        self.lanes = []


def close(sock, how):
    """Close a socket by FIN or RST."""
    if how == RESET:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()
