"""A server for one client after the other, and a relay to a broker and back."""

import contextlib
import select
import socket
import threading


@contextlib.contextmanager
def serving(listener, serve):
    """Call serve(client) for one client after the other, in a thread, until the block ends."""
    with listener:

        def run():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return  # shut down
                with client:
                    serve(client)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


class Relay:
    """Listens on an address and passes everything on to the broker and back."""

    def __init__(self, family, host, target):
        self._target = target
        listener = socket.create_server((host, 0), family=family)
        self.port = listener.getsockname()[1]
        self._serving = serving(listener, self._serve)
        self.connections = 0

    def __enter__(self):
        self._serving.__enter__()
        return self

    def __exit__(self, *exc_info):
        self._serving.__exit__(*exc_info)

    def _serve(self, client):
        self.connections += 1
        with socket.create_connection(self._target) as broker:
            pass_on(client, broker)


def pass_on(one, other):
    """Pass bytes on in both directions until one side ends."""
    while True:
        readable, _, _ = select.select([one, other], [], [])
        for source in readable:
            try:
                data = source.recv(65536)
                if not data:
                    return
                (other if source is one else one).sendall(data)
            except OSError:
                return  # reset
