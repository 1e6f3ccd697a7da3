"""SIGINT (Ctrl-C), SIGTERM and SIGHUP: all end the command, at once or when it is ready."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

#: Windows has no SIGHUP.
_SIGNALS = [
    getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)
]


class Interrupts:
    """Handles the signals within a with block; a signal raises KeyboardInterrupt.

    signum: the signal that came first; 0 if none has come.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._held = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:  # noqa: PYI034  (Self is of Python 3.11)
        for signum in _SIGNALS:
            # What is ignored stays ignored: Ctrl-C in the background of a shell, SIGHUP by nohup.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: object) -> None:
        first = not self.signum
        self.signum = self.signum or signum
        if not (first and self._held):
            raise KeyboardInterrupt('interrupted')

    def came(self) -> bool:
        """Return whether there was a signal."""
        return bool(self.signum)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the first signal back in the block, whose end then raises KeyboardInterrupt.

        The block should ask came() often enough. The second signal raises at once.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.signum:
            raise KeyboardInterrupt('interrupted')
