"""``python -m amqplib.testing [PORT]``: a broker for trying things out, until Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import threading

from amqplib.testing import Broker


def main(arguments: list[str]) -> None:
    """Serve until the program is interrupted."""
    port = int(arguments[0]) if arguments else 0
    with Broker(port) as broker:
        print(broker.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == '__main__':
    main(sys.argv[1:])
