"""How much memory Python objects take, and when it is freed. PyPy is different in both."""

import contextlib
import sys
from pathlib import Path

import pytest


@contextlib.contextmanager
def taking_memory(most):
    """Check how many bytes of memory the block takes at any one time."""
    with traced() as traced_memory:
        before = traced_memory()[0]
        yield
        taken = traced_memory()[1] - before
    assert taken < most, f'it took {taken} bytes'


#: Bytes of address space that a test may take beyond what the process has: the threads and
#: messages of a test need less, and a frame of 4 GiB more.
SCARCE = 512 * 1024 * 1024


@contextlib.contextmanager
def scarce_memory(room=SCARCE):
    """Limit the address space in the block, so that memory that is never used counts too.

    A size that a peer announces must not be allocated. Only Linux says what there is.
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


try:
    import tracemalloc
except ModuleNotFoundError:
    tracemalloc = None


#: For tests of nothing but memory; others leave out what they say of it.
is_measured = pytest.mark.skipif(tracemalloc is None, reason='PyPy does not trace memory')


#: For tests of what is freed without the garbage collector.
is_freed_at_once = pytest.mark.skipif(
    sys.implementation.name == 'pypy', reason='PyPy frees memory by its collector alone'
)


@contextlib.contextmanager
def traced():
    """Trace memory in the block; yields a function that says how much is taken, and was at most.

    Both are bytes since the beginning; 0 where they are not known.
    """
    if tracemalloc is None:
        yield lambda: (0, 0)
        return
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()
