"""A relay to a broker that treats the versions of AMQP as RabbitMQ 4 does.

As a command it runs until it is killed, and prints where it listens:

    python -m tests.helpers.refusing_relay HOST:PORT

To any header but that of AMQP 0-9-1 it answers with the header of AMQP 1.0 with SASL, and resets
the connection: the same bytes, and the same end, as those of RabbitMQ 4.0. Everything else is
passed on to the broker and back.
"""

import contextlib
import socket
import struct
import sys
import threading

from tests.helpers import broker as brokers
from tests.helpers.relay import pass_on

AMQP_0_8 = b'AMQP\x01\x01\x08\x00'
AMQP_0_9_1 = b'AMQP\x00\x00\x09\x01'
REFUSAL = b'AMQP\x03\x01\x00\x00'


class RefusingRelay:
    """The relay; used in a `with` block.

    accepted: the one header that it passes on.
    address: its 'host:port'.
    passed: how many connections it has passed on so far.
    """

    def __init__(self, broker_address, accepted=AMQP_0_9_1):
        self.accepted = accepted
        self.passed = 0
        self._target = brokers.parse_address(broker_address)
        self._listener = socket.create_server((brokers.LOOPBACK, 0))
        self.address = '{}:{}'.format(*self._listener.getsockname())
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets = []

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info):
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):  # it has ended by itself
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(brokers.GIVEN_SECONDS)
            assert not thread.is_alive(), 'a thread of the relay did not end'
        self._listener.close()

    def wait(self):
        """Wait until it ends, which it does not by itself."""
        self._threads[0].join()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # shut down
            self._sockets.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):  # somebody hung up
            header = client.recv(8, socket.MSG_WAITALL)
            if header != self.accepted:
                client.sendall(REFUSAL)
                # Closing resets.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                return
            self.passed += 1
            with socket.create_connection(self._target) as broker:
                broker.sendall(header)
                pass_on(client, broker)


def main(address):
    with RefusingRelay(address) as relay:
        print(relay.address, flush=True)
        relay.wait()


if __name__ == '__main__':
    main(*sys.argv[1:])
