"""A relay, which passes everything on to a broker and back."""

import select
import socket
import threading


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
