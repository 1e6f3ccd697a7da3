"""Calls in threads of their own: their results, and whether they wait."""

import sys
import threading
import time
from concurrent.futures import Future

from amqplib.exceptions import AMQPException
from tests.helpers.waiting import PATIENCE, poll


def heartbeat_threads():
    """Return the threads that send heartbeats."""
    return [thread for thread in threading.enumerate() if 'heartbeats' in thread.name]


def compute(seconds):
    """Keep the interpreter busy for so long, without a call into the library."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


class Worker(threading.Thread):
    """A thread that makes one call, and keeps its result or its error."""

    def __init__(self, call, *args):
        super().__init__(daemon=True)
        self.call, self.args = call, args
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.call(*self.args)
        # What fails in a thread is for the test to judge.
        except BaseException as error:  # noqa: BLE001
            self.error = error

    def ended(self, seconds=PATIENCE):
        """Wait for the end of the call; return the error that ended it, or None."""
        self.join(seconds)
        assert not self.is_alive(), 'the call did not end'
        return self.error

    def outcome(self, seconds=PATIENCE):
        """Wait for the end of the call; return (value, error), of which one is None."""
        error = self.ended(seconds)
        if not isinstance(error, (AMQPException, type(None))):
            raise error
        return self.value, error

    def result(self, seconds=PATIENCE):
        """Wait for the end of the call; return its value or raise its error."""
        if self.ended(seconds) is not None:
            raise self.error
        return self.value


def in_thread(function, *args):
    """Call it in another thread, which must not be held up; return what it returns."""
    return Worker(function, *args).result()


def await_blocked(future):
    """Wait until a call in a thread (see `begin`) waits for its socket."""
    poll(lambda: future.done() or waits_for_socket(future.thread), 'a call that waits')
    assert not future.done(), f'the call has ended: {future.exception() or future.result()!r}'


def waits_for_socket(thread):
    """Return whether the thread is, and for a while stays, in a wait of the client."""
    seen = wait_frame(thread)
    if seen is None:
        return False
    time.sleep(0.02)
    return wait_frame(thread) is not None


def wait_frame(thread):
    frame = sys._current_frames().get(thread.ident)
    while frame is not None:
        # A poll, or a receive that waits by itself.
        if frame.f_code.co_name in {'poll_socket', '_fetch'}:
            return frame
        frame = frame.f_back
    return None


def outcome(future, within=PATIENCE):
    """Return the error that a call in a thread ended by."""
    error = future.exception(within)
    assert error is not None, f'the call returned {future.result()!r}'
    return error


def begin(function, *args):
    """Call the function in a thread of its own; return the Future of its result."""
    future = Future()

    def run():
        try:
            future.set_result(function(*args))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    future.thread = thread
    thread.start()
    return future
