"""``amqplib get`` and ``amqplib consume``: from a queue to standard output.

A message is acknowledged after it was written and flushed, never before.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sized
from itertools import islice
from typing import Any, Callable

from amqplib.command_line.connecting import open_channel
from amqplib.command_line.json_lines import Entry, to_line
from amqplib.command_line.output import Output
from amqplib.command_line.progress import Progress, for_output
from amqplib.command_line.status import NOTHING, Failure, count, errors_say

#: Messages, and bytes of output, that are acknowledged together at most.
BATCH, BATCH_BYTES = 100, 1 << 20


def get(options: Namespace) -> None:
    """Write what is in the queue now, up to --count messages."""
    _receive(options, _write_what_is_there)


def consume(options: Namespace) -> None:
    """Write what arrives, until there were --count messages or it is --idle for that long."""
    _receive(options, _write_what_arrives)


def _receive(options: Namespace, write: Callable[[Any, _Writer, Namespace], None]) -> None:
    with open_channel(options) as ch, for_output() as progress:
        writer = _Writer(ch, options, progress)
        with errors_say(lambda: f'{count(progress.count)} written'), options.interrupts.held():
            write(ch, writer, options)
    if not progress.count:
        raise Failure(f'no message in {options.queue!r}', NOTHING)


def _write_what_is_there(ch: Any, writer: _Writer, options: Namespace) -> None:
    came = options.interrupts.came
    writer.write(iter(lambda: None if came() else ch.basic_get(options.queue), None), at_hand=())


def _write_what_arrives(ch: Any, writer: _Writer, options: Namespace) -> None:
    prefetch = min(options.prefetch, options.count or options.prefetch)
    with ch.consume(options.queue, prefetch, options.idle, options.interrupts.came) as consumer:
        writer.write(consumer, at_hand=consumer.ready)


class _Writer:
    """Writes messages, and acknowledges them after that."""

    def __init__(self, channel: Any, options: Namespace, progress: Progress) -> None:
        self._channel = channel
        self._options = options
        self._progress = progress
        self._output = Output(options.interrupts.came)

    def write(self, messages: Iterable[Any], at_hand: Sized) -> None:
        """Write messages, up to --count of them.

        at_hand: those that need not be waited for, and so can be acknowledged together.
        """
        number = 0
        for msg in islice(messages, self._options.count):
            self._output.write(self._to_bytes(msg))
            number += 1
            if not at_hand or number >= BATCH or self._output.size >= BATCH_BYTES:
                self._finish(msg.delivery_tag, number)
                number = 0
        if number:
            self._finish(msg.delivery_tag, number)

    def _finish(self, last_tag: int, number: int) -> None:
        self._output.flush()
        self._progress.add(number)
        if not self._options.keep:
            self._channel.basic_ack(last_tag, multiple=True)

    def _to_bytes(self, msg: Any) -> bytes:
        if self._options.json:
            return to_line(Entry(msg, msg.exchange, msg.routing_key), msg.redelivered)
        body: bytes = msg.body or b''
        return body + bytes(self._options.end)
