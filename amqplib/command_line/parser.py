"""The arguments of the commands."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any, Callable, NoReturn, Optional

import amqplib
from amqplib.command_line import connecting, objects, publishing, receiving, serving
from amqplib.command_line.json_lines import HEADERS, from_json
from amqplib.command_line.status import USAGE, report
from amqplib.core.message import Message
from amqplib.core.spec import BASIC_PROPERTIES

DESCRIPTION = """\
Publish, consume and look after messages in an AMQP broker.

The broker is that of --url, else of the environment variable AMQP_URL, else
amqp://localhost. Exit status: 0 done, 1 failed, 2 wrong usage, 3 nothing there,
4 a message was returned or refused, 130 interrupted by Ctrl-C (143 by SIGTERM).
After --, no argument is an option: amqplib get -- --odd-name
"""

PREFETCH, MAX_PREFETCH = 500, 65535

#: The properties that --property sets; the others are text.
NUMBERS = {'delivery_mode', 'priority', 'timestamp'}
PROPERTIES = [name for name, _ in BASIC_PROPERTIES if name != HEADERS]


#: The options that are not those of a command.
_WITHOUT_COMMAND = ('-h', '--help', '--version')

#: Begins the arguments after '--' that look like options; no argument of a process can have it.
_ESCAPE = '\0'


class Parser(argparse.ArgumentParser):
    """Complains in one line, in which a password is not shown."""

    def error(self, message: str) -> NoReturn:
        report(f'{message.replace(_ESCAPE, "")} (see {self.prog} --help)')
        raise SystemExit(USAGE)


class CommandParser(Parser):
    """Takes positional arguments between options too: publish QUEUE --header A=1 BODY."""

    _intermixed = False

    def parse_known_args(self, *args: Any) -> Any:  # type: ignore[override]
        if self._intermixed:
            return super().parse_known_args(*args)
        self._intermixed = True  # as the other method calls this one
        options, unknown = self.parse_known_intermixed_args(*args)
        if unknown:
            self.error(f'unrecognized arguments: {" ".join(unknown)}')
        return options, unknown


def parse(arguments: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Return the options for the arguments (None: those of the process), with the function `run`.

    Raises SystemExit after the help, or if the arguments are wrong.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = make_parser()
    first = ''.join(given[:1]).partition('=')[0]
    if first.startswith('-') and not any(one.startswith(first) for one in _WITHOUT_COMMAND):
        parser.error(f'{first}: options come after COMMAND')
    options = parser.parse_args(_escape(given))
    for name, value in vars(options).items():
        setattr(options, name, _unescape(value))
    return options


def _escape(arguments: list[str]) -> list[str]:
    """Return the arguments without '--', which argparse loses on its way to the command."""
    if '--' not in arguments:
        return arguments
    end = arguments.index('--')
    others = (f'{_ESCAPE}{one}' if one.startswith('-') else one for one in arguments[end + 1 :])
    return [*arguments[:end], *others]


def _unescape(value: Any) -> Any:
    if isinstance(value, list):
        return [_unescape(one) for one in value]
    return value.lstrip(_ESCAPE) if isinstance(value, str) else value


def make_parser() -> Parser:
    """Return the parser; the options that it returns have the command's function as `run`."""
    parser = Parser(
        prog='amqplib', description=DESCRIPTION, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('--version', action='version', version=f'amqplib {amqplib.__version__}')
    commands = parser.add_subparsers(
        dest='command', metavar='COMMAND', required=True, parser_class=CommandParser
    )
    for add_arguments, run, text, examples in COMMANDS:
        command = commands.add_parser(
            run.__name__,
            help=text,
            description=f'{text[0].upper()}{text[1:]}.',
            epilog=f'examples:\n{examples}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(command)
        if run is not serving.broker:
            _add_connection(command)
        command.set_defaults(run=run)
    return parser


def _add_connection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('the connection')
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        '--url',
        help='amqp://user:password@host:port/vhost; else that of AMQP_URL in the environment, else'
        ' amqp://localhost (others can see an argument, but not a file)',
    )
    where.add_argument('--url-file', metavar='FILE', help='a file with the URL')
    group.add_argument(
        '--protocol', choices=connecting.PROTOCOLS, default=connecting.DEFAULT_PROTOCOL,
        help=f'the version of AMQP ({connecting.DEFAULT_PROTOCOL})',
    )  # fmt: skip
    group.add_argument(
        '--timeout', type=_seconds, metavar='SECONDS',
        help=f'for connecting, and for each answer of the broker ({connecting.TIMEOUT:.0f})',
    )  # fmt: skip


# --- Values ---------------------------------------------------------------------------------------


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError
    return seconds


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError
    return port


def _prefetch(text: str) -> int:
    number = _number(text)
    if number > MAX_PREFETCH:
        raise ValueError
    return number


_seconds.__name__, _port.__name__ = 'number of seconds', 'port'
_number.__name__ = _prefetch.__name__ = 'number of messages'


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not (name and equals):
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=VALUE')
    return name, value


def _table_entry(text: str) -> tuple[str, Any]:
    """Return (name, value) of NAME=VALUE; the value is JSON, or else text."""
    name, value = _pair(text)
    try:
        parsed = json.loads(value)
    except ValueError:
        return name, value
    try:
        return name, from_json(parsed)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f'{name}: {error}') from None


def _property(text: str) -> tuple[str, Any]:
    name, value = _pair(text)
    if name not in PROPERTIES:
        raise argparse.ArgumentTypeError(f'{name!r} is not one of: {", ".join(PROPERTIES)}')
    try:
        parsed: Any = int(value) if name in NUMBERS else value
    except ValueError:
        raise argparse.ArgumentTypeError(f'{name}: {value!r} is not a number') from None
    try:
        Message(**{name: parsed}).encode_properties()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name, parsed


# --- The arguments of each command ----------------------------------------------------------------


def _add_table(parser: argparse.ArgumentParser, option: str, help: str) -> None:
    parser.add_argument(
        option, type=_table_entry, action='append', default=[], metavar='NAME=VALUE',
        help=f'{help}; VALUE is JSON, or else text; may be given several times',
    )  # fmt: skip


def _publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'routing_key', nargs='?', metavar='QUEUE',
        help='a queue; with --exchange, the routing key',
    )  # fmt: skip
    parser.add_argument(
        'body', nargs='*', metavar='BODY',
        help='a message each; without any, standard input is one message',
    )  # fmt: skip
    parser.add_argument(
        '--exchange', metavar='NAME', help='publish to this exchange; else straight to the queue'
    )
    parser.add_argument('--file', metavar='FILE', help='read this instead of standard input')
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument('--lines', action='store_true', help='each line is a message')
    forms.add_argument(
        '--json', action='store_true',
        help='each line is a message as consume --json writes it, for where it came from unless'
        ' QUEUE or --exchange is given; what is returned or refused is written in the same form',
    )  # fmt: skip
    _add_table(parser, '--header', 'a header')
    parser.add_argument(
        '--property', type=_property, action='append', default=[], metavar='NAME=VALUE',
        help=f'one of {", ".join(PROPERTIES)}; delivery_mode is 2, persistent, by default',
    )  # fmt: skip
    parser.add_argument(
        '--no-mandatory', dest='mandatory', action='store_false',
        help='messages that no queue takes are dropped silently',
    )  # fmt: skip


def _receive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('queue', metavar='QUEUE')
    parser.add_argument(
        '--json', action='store_true', help='a line of JSON for each message, for publish --json'
    )
    parser.add_argument(
        '--no-newline', dest='end', action='store_const', const=b'', default=b'\n',
        help='write bodies as they are, without a newline after each',
    )  # fmt: skip


def _get(parser: argparse.ArgumentParser) -> None:
    _receive(parser)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        '--count', type=_number, default=1, metavar='N', help='so many messages at most (1)'
    )
    amount.add_argument(
        '--all', dest='count', action='store_const', const=None, help='until the queue is empty'
    )
    parser.add_argument('--keep', action='store_true', help='leave the messages in the queue')


def _consume(parser: argparse.ArgumentParser) -> None:
    _receive(parser)
    parser.set_defaults(keep=False)
    parser.add_argument(
        '--prefetch', type=_prefetch, default=PREFETCH, metavar='N',
        help=f'messages that the broker sends ahead, and that take memory ({PREFETCH})',
    )  # fmt: skip
    parser.add_argument('--count', type=_number, metavar='N', help='end after so many messages')
    parser.add_argument(
        '--idle', type=_seconds, metavar='SECONDS',
        help='end when nothing has arrived for so long; else it goes on until Ctrl-C',
    )  # fmt: skip


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', metavar='NAME')
    parser.add_argument(
        '--exchange', metavar='TYPE',
        help='an exchange rather than a queue: direct, fanout, topic, headers',
    )  # fmt: skip
    parser.add_argument('--transient', action='store_true', help='gone when the broker restarts')
    parser.add_argument(
        '--auto-delete', action='store_true', help='gone with its last consumer or binding'
    )
    _add_table(parser, '--argument', 'an argument such as x-queue-type=quorum')


def _bind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', metavar='QUEUE', help='what gets the messages')
    parser.add_argument('source', metavar='EXCHANGE', help='where they come from')
    parser.add_argument('routing_key', nargs='?', default='', metavar='ROUTING_KEY')
    parser.add_argument(
        '--exchange', action='store_true', help='QUEUE is the name of an exchange (0-9-1 only)'
    )
    _add_table(parser, '--argument', 'an argument such as x-match=any')


def _delete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', metavar='NAME')
    parser.add_argument('--exchange', action='store_true', help='an exchange rather than a queue')
    parser.add_argument('--if-unused', action='store_true', help='fail if it has consumers')
    parser.add_argument('--if-empty', action='store_true', help='fail if it has messages')


def _purge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('queue', metavar='QUEUE')


def _info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', nargs='?', metavar='NAME', help='without it: of the broker')
    parser.add_argument(
        '--exchange', action='store_true',
        help='an exchange rather than a queue: only whether it is there',
    )  # fmt: skip
    parser.add_argument('--json', action='store_true', help='as an object in JSON')


def _broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--port', type=_port, default=5672, help='0 chooses one; the first line says which (5672)'
    )


#: (adds the arguments, runs the command, what it does, examples)
Row = tuple[Callable[[argparse.ArgumentParser], None], Callable[[Any], Optional[int]], str, str]

COMMANDS: list[Row] = [
    (_publish, publishing.publish, 'publish messages, and wait until the broker has them', """\
  amqplib publish tasks 'first task' 'second task'
  amqplib publish --exchange news weather.rain 'It rains' --header lang=en
  amqplib publish tasks --file picture.png --property content_type=image/png
  amqplib publish tasks --json --file saved.jsonl"""),
    (_get, receiving.get, 'take messages off a queue, if there are any', """\
  amqplib get tasks
  amqplib get tasks --all --json > saved.jsonl
  amqplib get tasks --keep"""),
    (_consume, receiving.consume, 'write the messages of a queue as they arrive', """\
  amqplib consume tasks
  amqplib consume tasks --json --idle 2 > saved.jsonl
  amqplib consume old --json --idle 2 | amqplib publish new --json"""),
    (_declare, objects.declare, 'create a queue or an exchange', """\
  amqplib declare tasks
  amqplib declare tasks --argument x-queue-type=quorum
  amqplib declare news --exchange topic"""),
    (_bind, objects.bind, 'let an exchange send messages to a queue', """\
  amqplib bind tasks news 'weather.*'"""),
    (_delete, objects.delete, 'delete a queue or an exchange', """\
  amqplib delete tasks --if-empty
  amqplib delete news --exchange"""),
    (_purge, objects.purge, 'delete the messages in a queue', """\
  amqplib purge tasks"""),
    (_info, objects.info, 'show how many messages a queue has, or what the broker is', """\
  amqplib info
  amqplib info tasks
  amqplib info news --exchange"""),
    (_broker, serving.broker, 'be a broker for trying things out, not for production', """\
  amqplib broker
  amqplib broker --port 5673"""),
]  # fmt: skip
