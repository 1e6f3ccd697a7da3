"""``python -m amqplib``: the command line."""

import sys

from amqplib.command_line.main import main

if __name__ == '__main__':
    sys.exit(main())
