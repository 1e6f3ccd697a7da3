"""Waiting for something to happen, with a limit, and how long things take."""

import contextlib
import select
import time

#: Seconds after which something that should happen is taken not to happen.
PATIENCE = 20.0
#: How many seconds longer anything may take on a busy machine. A limit that includes it has to stay
#: below those that calls have anyway: a close, for example, gives up after ten seconds.
BUSY = 5.0


def poll(found, what='what was waited for', patience=PATIENCE):
    """Call `found` until it returns something true; return that."""
    deadline = time.monotonic() + patience
    while True:
        result = found()
        if result:
            return result
        assert time.monotonic() < deadline, f'{what} did not happen within {patience} s'
        time.sleep(0.01)


@contextlib.contextmanager
def lasting(least=0.0, most=4.0):
    """Check how many seconds the block takes.

    most: on a machine that has nothing else to do; any other gets BUSY seconds more.
    """
    begun = time.monotonic()
    yield
    elapsed = time.monotonic() - begun
    assert least <= elapsed < most + BUSY, f'it took {elapsed:.3f} s'


def time_of(function, *args):
    """Return the processor time that a call takes, the least of three."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        function(*args)
        times.append(time.process_time() - begun)
    return min(times)


def await_input(connection):
    """Wait until the broker has sent something that was not read yet."""
    readable, _, _ = select.select([connection.transport.sock], [], [], PATIENCE)
    assert readable, f'the broker sent nothing within {PATIENCE} s'
