"""``python -m amqplib``, and the script ``amqplib``: the command line."""

import signal
import sys


def run() -> int:
    """Run the command of the process's arguments; return the exit status."""
    # From here on, Ctrl-C ends the program without a traceback, until the command handles it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Imported here, as this takes most of the time that a command needs to start.
    from amqplib.command_line.main import main  # noqa: PLC0415

    return main()


if __name__ == '__main__':
    sys.exit(run())
