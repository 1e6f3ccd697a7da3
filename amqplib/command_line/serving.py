"""``amqplib broker``: the broker for tests, for trying things out."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from typing import NoReturn

from amqplib.command_line.output import Output
from amqplib.command_line.status import Failure


def broker(options: Namespace) -> NoReturn:
    """Serve until a signal raises KeyboardInterrupt."""
    # Imported here, as it is large and most commands do not need it.
    from amqplib.testing import Broker  # noqa: PLC0415

    try:
        ours = Broker(options.port)
    except OSError as error:
        why = os.strerror(error.errno or 0)  # the error's own text differs between versions
        raise Failure(f'port {options.port}: {why} (choose another one by --port)') from error
    with ours as served:
        output = Output()
        output.write(f'amqp://{served.host}\n'.encode())
        output.flush()
        while True:
            time.sleep(3600)
