"""What the demos share: the options for connecting, and how a program ends."""

import argparse
import os
import sys
from pathlib import Path

# If amqplib is not installed, take it from the checkout that this folder belongs to.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from amqplib import client_0_8, client_0_9_1

# A program of your own has one of these, as in: import amqplib.client_0_9_1 as amqp
CLIENTS = {'0-8': client_0_8, '0-9-1': client_0_9_1}


def make_parser(description, exchange):
    """Return an argument parser with the options for the connection and the exchange."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--host', default='localhost', help='NAME or NAME:PORT (%(default)s)')
    parser.add_argument('--userid', default='guest', help='who logs in (%(default)s)')
    parser.add_argument('--password', default='guest', help='the password (%(default)s)')
    parser.add_argument('--ssl', action='store_true', help='connect by TLS')
    parser.add_argument(
        '--protocol', choices=['auto', *CLIENTS], default='auto',
        help='the version of AMQP; auto is 0-8 where the broker takes it, else 0-9-1 (%(default)s)',
    )  # fmt: skip
    parser.add_argument('--exchange', default=exchange, help='where messages go (%(default)s)')
    return parser


def connect(options):
    """Return the client package, and its connection to the broker that the options name."""
    if options.protocol != 'auto':
        return connect_by(CLIENTS[options.protocol], options)
    try:
        return connect_by(client_0_8, options)
    except client_0_8.ProtocolVersionRefused:
        connected = connect_by(client_0_9_1, options)
        print('The broker refuses AMQP 0-8, so this is AMQP 0-9-1.', file=sys.stderr)
        return connected


def connect_by(amqp, options):
    connection = amqp.Connection(
        host=options.host,
        userid=options.userid,
        password=options.password,
        ssl=options.ssl,
    )
    return amqp, connection


def run(main):
    """Call main(); end with one line instead of a traceback where the user can help."""
    # Print each line at once, and any text that a message may contain.
    sys.stdout.reconfigure(line_buffering=True, errors='backslashreplace')
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # as shells report a program that was ended by Ctrl-C
    except BrokenPipeError:
        # The reader of the output has ended. Nothing more can be written to it, not at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (client_0_8.AMQPException, ValueError) as error:
        sys.exit(f'{Path(sys.argv[0]).name}: {error}')
