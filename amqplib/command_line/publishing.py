"""``amqplib publish``: from arguments, a file or standard input to an exchange."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Callable

from amqplib.command_line.connecting import client_of, open_channel
from amqplib.command_line.input import open_input, read_chunks, read_lines
from amqplib.command_line.json_lines import HEADERS, Entry, from_line, to_line
from amqplib.command_line.output import Output
from amqplib.command_line.progress import Progress
from amqplib.command_line.sending import SENDERS, Sender
from amqplib.command_line.status import REFUSED, USAGE, Failure, count, errors_say

#: Of plain bodies; a line of JSON has the properties of its own.
PERSISTENT = 2


def publish(options: Namespace) -> None:
    """Publish; the broker has confirmed everything when this returns."""
    _check(options)
    refused = _Refused(show=options.json)
    source = contextlib.nullcontext(-1) if options.body else open_input(options.file)
    with source as descriptor, open_channel(options) as ch:
        sender = SENDERS[options.protocol](ch, refused.add, options.mandatory)
        with errors_say(lambda: f'{count(sender.settled)} confirmed{refused.note()}'):
            _publish_all(_entries(options, descriptor, sender.settle), sender)
    refused.raise_if_any()


def _check(options: Namespace) -> None:
    if options.body and (options.json or options.lines or options.file is not None):
        raise Failure('a body on the command line excludes --json, --lines and --file', USAGE)
    if options.json:
        if options.property or options.header:
            raise Failure('with --json, properties and headers are in the lines', USAGE)
    elif options.routing_key is None and options.exchange is None:
        raise Failure('where to? Name a queue, or an --exchange', USAGE)


def _publish_all(entries: Iterator[Entry], sender: Sender) -> None:
    with Progress(sys.stderr) as progress:
        try:
            for entry in entries:
                sender.publish(entry)
                progress.add()
        except (TypeError, ValueError) as error:
            sender.settle()
            raise ValueError(f'message {sender.published + 1}: {error}') from None
        sender.settle()


def _entries(
    options: Namespace, descriptor: int, before_waiting: Callable[[], object]
) -> Iterator[Entry]:
    """Yield the messages to publish."""
    message_class = client_of(options).Message
    if options.json:
        for line in read_lines(descriptor, before_waiting):
            message, exchange, routing_key = from_line(line, message_class)
            yield Entry(message, *_target(options, exchange, routing_key))
        return
    target = _target(options, '', '')
    properties = {'delivery_mode': PERSISTENT, **dict(options.property)}
    if options.header:
        properties[HEADERS] = dict(options.header)
    for body in _bodies(options, descriptor, before_waiting):
        yield Entry(message_class(body, **properties), *target)


def _target(options: Namespace, exchange: str, routing_key: str) -> tuple[str, str]:
    """Return (exchange, routing key): those of a line, unless the options name others."""
    if options.exchange is not None:
        exchange = options.exchange
    elif options.routing_key is not None:
        exchange = ''
    return exchange, routing_key if options.routing_key is None else options.routing_key


def _bodies(
    options: Namespace, descriptor: int, before_waiting: Callable[[], object]
) -> Iterator[bytes]:
    if options.body:
        yield from map(os.fsencode, options.body)
    elif options.lines:
        yield from read_lines(descriptor, before_waiting)
    else:
        body = b''.join(read_chunks(descriptor, before_waiting))
        if not body and options.file is None:  # most likely nobody meant to send that
            raise Failure("standard input is empty; '' is an empty message")
        yield body


class _Refused:
    """The messages that no queue has taken.

    show: whether to write them to standard output as lines.
    """

    def __init__(self, show: bool) -> None:
        self._output = Output() if show else None
        self._count = 0
        self._first_reason = ''

    def add(self, entry: Entry, why: str) -> None:
        self._first_reason = self._first_reason or why
        self._count += 1
        if self._output is not None:
            self._output.write(to_line(entry))
            self._output.flush()

    def note(self) -> str:
        """Return what to add to the number of messages that are confirmed."""
        return f', {self._count:,} of them returned or refused' if self._count else ''

    def raise_if_any(self) -> None:
        if self._count:
            raise Failure(f'{count(self._count)} {self._first_reason}', REFUSED)
