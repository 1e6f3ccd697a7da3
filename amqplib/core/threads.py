"""The library's own threads, which cannot always be started."""

from __future__ import annotations

import _thread
import threading
from typing import Any, Callable, Optional

from amqplib.core import log


def start(name: str, target: Callable[..., Any], *args: Any) -> Optional[threading.Thread]:
    """Start a daemon thread and return it, or None if no thread can be started.

    None is returned while the interpreter exits, in a subinterpreter without daemon threads, and if
    the system has no thread left.

    A helper thread starts it, because signal handlers do not run there: an exception could leave
    the locks of the threading module locked.
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
    """Return whether a thread can be started, by starting one."""
    thread = start('amqplib trial', _do_nothing)
    if thread is not None:
        thread.join()
    return thread is not None


def _do_nothing() -> None:
    pass
