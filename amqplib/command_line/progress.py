"""Progress on standard error: how many messages, and how many a second."""

from __future__ import annotations

import contextlib
import sys
from time import monotonic
from typing import Optional, TextIO

from amqplib.command_line.status import count

#: Seconds before the first look at the work, and between two of them.
INTERVAL = 1.0


class Progress:
    """Counts messages; shows them from the first second on, if a person is watching.

    stream: where to show it if that is a terminal; None to show nothing.
    """

    def __init__(self, stream: Optional[TextIO]) -> None:
        self.count = 0
        self._began = monotonic()
        self._due = self._began + INTERVAL if stream and stream.isatty() else float('inf')
        self._stream = stream
        self._shown = False

    def add(self, number: int = 1) -> None:
        self.count += number
        if monotonic() >= self._due:
            self._show('\r')
            self._shown = True
            self._due = monotonic() + INTERVAL

    def close(self) -> None:
        """Show the result, if anything was shown before."""
        if self._shown:
            self._show('\r', '\n')

    def _show(self, start: str, end: str = '') -> None:
        seconds = monotonic() - self._began
        text = f'{count(self.count)} in {seconds:.0f} s, {self.count / seconds:,.0f} a second'
        assert self._stream is not None
        with contextlib.suppress(OSError):  # the terminal may be gone, and the work goes on
            self._stream.write(f'{start}{text:<60}{end}')
            self._stream.flush()

    def __enter__(self) -> Progress:  # noqa: PYI034  (Self is of Python 3.11)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def for_output() -> Progress:
    """Return the progress of a command that writes messages, which a terminal shows anyway."""
    return Progress(None if sys.stdout is not None and sys.stdout.isatty() else sys.stderr)
