"""Runs a command: from the arguments to the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from amqplib.command_line.interrupts import Interrupts
from amqplib.command_line.parser import parse
from amqplib.command_line.status import DONE, INTERRUPTED, Failure, report, status_of, text_of
from amqplib.exceptions import AMQPException


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command that the arguments ask for (None: those of the process)."""
    with Interrupts() as interrupts:
        try:
            options = parse(arguments)
            options.interrupts = interrupts
            options.run(options)
        except KeyboardInterrupt as interrupt:
            report(interrupt)
            return INTERRUPTED + interrupts.signum
        except Failure as failure:
            report(failure)
            return failure.status
        except (AMQPException, OSError, ValueError) as error:
            report(text_of(error))
            return status_of(error)
        return DONE
