"""How much memory Python objects take, and when it is freed. PyPy is different in both."""

import contextlib
import sys

import pytest

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

    Both are octets since the beginning; 0 where they are not known.
    """
    if tracemalloc is None:
        yield lambda: (0, 0)
        return
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()
