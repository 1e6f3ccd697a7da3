"""``amqplib broker``: the broker for tests, for trying things out."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import NoReturn

from amqplib.command_line.output import Output


def broker(options: Namespace) -> NoReturn:
    """Serve until a signal raises KeyboardInterrupt."""
    # Imported here, as it is large and most commands do not need it.
    from amqplib.testing import Broker  # noqa: PLC0415

    with Broker(options.port) as served:
        output = Output()
        output.write(f'amqp://{served.host}\n'.encode())
        output.flush()
        while True:
            time.sleep(3600)
