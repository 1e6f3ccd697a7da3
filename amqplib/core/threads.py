"""Threads of the library's own, and where there can be none."""

from __future__ import annotations

import _thread
import threading
from typing import Any, Callable, Optional

from amqplib.core import log


def start(name: str, target: Callable[..., Any], *args: Any) -> Optional[threading.Thread]:
    """Start a daemon thread and return it; None where there can be none.

    That is while the interpreter exits, in a subinterpreter without daemon threads, and where the
    system has no more of them.

    Another thread starts it, as no signal handler raises there: threading has locks of its own,
    which an exception could leave taken.
    """
    started = _thread.allocate_lock()
    started.acquire()
    threads: list[threading.Thread] = []

    def start_it() -> None:
        try:
            thread = threading.Thread(target=target, args=args, name=name, daemon=True)
            thread.start()
            threads.append(thread)
        except RuntimeError as error:
            log.debug('no thread for %s: %s', name, error)
        finally:
            started.release()

    try:
        _thread.start_new_thread(start_it, ())
    except RuntimeError as error:
        log.debug('no thread for %s: %s', name, error)
        return None
    started.acquire()
    return threads[0] if threads else None


def can_be_started() -> bool:
    """Return whether start() would return a thread. It is found out by trying."""
    thread = start('amqplib trial', _do_nothing)
    if thread is not None:
        thread.join()
    return thread is not None


def _do_nothing() -> None:
    pass
