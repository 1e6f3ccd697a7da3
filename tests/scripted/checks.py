"""What must hold after something went wrong."""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import memory
import pytest

import amqplib
import amqplib.client_0_8 as amqp

#: Seconds after which something that should happen is taken not to happen.
PATIENCE = 20.0
#: Seconds that anything may take longer on a machine with other work to do. A limit with it has to
#: stay below those that a call has in any case: a close, for one, gives up after ten seconds.
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


class Caller(threading.Thread):
    """A thread that makes one call and keeps what came of it."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self.call = call
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.call()
        except amqp.AMQPException as error:
            self.error = error

    def outcome(self):
        """Return (value, error), once the call has ended."""
        self.join(10)
        assert not self.is_alive(), 'the call did not end'
        return self.value, self.error


class Alarm(TimeoutError):
    """What handlers of signals like to raise."""


def interrupt(line, call, *arguments, by=KeyboardInterrupt):
    """Make a call, and interrupt it before this line of the library; return if it came so far."""
    folder = str(Path(amqplib.__file__).parent)

    def trace(frame, event, arg):
        nonlocal line
        if not frame.f_code.co_filename.startswith(folder) or frame.f_code.co_name == '__del__':
            return None  # what is raised in a finalizer goes nowhere
        if event == 'line':
            line -= 1
        if line < 0:
            raise by
        return trace

    traced_before = sys.gettrace()
    sys.settrace(trace)
    try:
        call(*arguments)
    except by:
        return True
    finally:
        sys.settrace(traced_before)
    return False


def open_descriptors():
    """Return 'number -> what it is' of each open descriptor, where the system tells."""
    folder = '/proc/self/fd'
    if not os.path.isdir(folder):
        return set()
    found = set()
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            found.add(f'{name} -> {os.readlink(f"{folder}/{name}")}')
    return found


@contextlib.contextmanager
def lasting(least=0.0, most=4.0):
    """Check how many seconds the block takes.

    most: on a machine that has nothing else to do; any other gets BUSY seconds more.
    """
    begun = time.monotonic()
    yield
    elapsed = time.monotonic() - begun
    assert least <= elapsed < most + BUSY, f'it took {elapsed:.3f} s'


@contextlib.contextmanager
def taking_memory(most):
    """Check how many octets of memory the block takes at any one time."""
    with memory.traced() as traced_memory:
        before = traced_memory()[0]
        yield
        taken = traced_memory()[1] - before
    assert taken < most, f'it took {taken} octets'


#: Octets of address space that a test may take beyond what the process has: the threads and
#: messages of a test need less, and a frame of 4 GiB more.
SCARCE = 512 * 1024 * 1024


@contextlib.contextmanager
def scarce_memory(room=SCARCE):
    """Let the system refuse memory in the block; also what is only asked for, and never used.

    What a peer announces and does not send must not matter. Only Linux says what there is.
    """
    if sys.platform != 'linux':
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refused(broker, kind, most=5.0, **arguments):
    """Fail to connect; return the error, after checking that nothing else came of it.

    The descriptors are counted while the error, and so all that it refers to, is alive.
    """
    arguments.setdefault('connect_timeout', 10)
    arguments.setdefault('host', broker.address)
    before = open_descriptors()
    with lasting(most=most), pytest.raises(amqp.AMQPException) as caught:
        amqp.Connection(**arguments)
    error = caught.value
    assert type(error) is kind, repr(error)
    broker.finish()
    # The scripted broker's own were counted too, and are gone.
    assert open_descriptors() <= before
    return error


def check_closed(connection, sock, error, channels=()):
    """Check the state of a connection that `error` has closed, and that it stays so.

    sock: the socket that it had.
    channels: its channels.
    """
    assert sock.fileno() == -1
    assert connection.transport is None
    assert connection.channels is None
    assert connection.connection is None
    check_repeated(error, connection.channel)
    check_repeated(error, lambda: connection.wait(timeout=1))
    for channel in channels:
        check_dead_channel(channel, error)
    for _ in range(2):
        assert connection.close() is None
    assert connection.transport is None


def check_dead_channel(channel, error):
    """Check that a channel is closed by `error`, and that each of its calls says so."""
    assert not channel.is_open
    for call in (
        lambda: channel.basic_publish(amqp.Message('x'), routing_key='q'),
        lambda: channel.queue_declare('q'),
        lambda: channel.basic_get('q'),
        lambda: channel.basic_ack(1),
        lambda: channel.basic_cancel('tag'),
        lambda: channel.wait(timeout=1),
    ):
        check_repeated(error, call)
    assert not channel.is_open
    assert channel.channel_id is None
    assert channel.connection is None
    assert channel.callbacks == {}
    for _ in range(2):
        assert channel.close() is None


def check_repeated(error, call, name=''):
    """Check that a call raises the first cause again, at once."""
    with lasting(most=1), pytest.raises(amqp.AMQPException) as caught:
        call()
    assert type(caught.value) is type(error), name
    assert caught.value.args == error.args
    assert caught.value is not error


def until_raised(call, kind=amqp.AMQPException):
    """Make a call again and again until it raises an error of this kind; return the error."""
    while True:
        try:
            call()
        except kind as error:
            return error


class HeldLock:
    """A lock that one thread may take only when it is let go; the others take it as ever.

    That thread has looked by then at all that it looks at before it takes the lock.
    """

    def __init__(self, lock):
        self._lock = lock
        self._is_owned = lock._is_owned
        self._held = None
        self._asked, self._let_go = threading.Event(), threading.Event()

    def hold(self, call):
        """Make a call in a thread until it asks for the lock; return the `Caller`."""

        def held():
            self._held = threading.get_ident()
            return call()

        caller = Caller(held)
        assert self._asked.wait(PATIENCE), 'the call never asked for the lock'
        return caller

    def let_go(self):
        """Let the thread that is held have the lock."""
        self._let_go.set()

    def acquire(self, *args, **kwargs):
        if threading.get_ident() == self._held:
            self._asked.set()
            assert self._let_go.wait(PATIENCE)
        return self._lock.acquire(*args, **kwargs)

    def release(self):
        self._lock.release()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *exc_info):
        self.release()


@contextlib.contextmanager
def held_before_writing(connection, call):
    """Hold a call, made in a thread, from before it takes the lock of the writer until the end."""
    mutex = connection._session.outbox._mutex
    lock = mutex.lock = HeldLock(mutex.lock)
    try:
        yield lock.hold(call)
    finally:
        lock.let_go()
