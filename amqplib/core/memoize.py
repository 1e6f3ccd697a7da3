"""lru_cache, in a form that an exception from a signal handler cannot break.

The one of CPython is written in C. The one of PyPy is written in Python, with a lock and a list
that is linked anew for each call: an exception in the middle of it leaves the list broken or the
lock taken, and so may a fork by another thread.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

__all__ = ['lru_cache']

if TYPE_CHECKING or sys.implementation.name != 'pypy':
    from functools import lru_cache
else:
    from functools import wraps
    from types import SimpleNamespace

    _UNKNOWN = object()

    def lru_cache(maxsize, typed=False):
        """Do what functools.lru_cache does, but empty a cache that is full."""

        def decorate(function):
            known = {}

            @wraps(function)
            def remembered(*args, **kwargs):
                key = args, tuple(kwargs.items())
                if typed:
                    key += tuple(map(type, args)), tuple(map(type, kwargs.values()))
                result = known.get(key, _UNKNOWN)
                if result is _UNKNOWN:
                    result = function(*args, **kwargs)
                    if len(known) >= maxsize:
                        known.clear()
                    known[key] = result
                return result

            remembered.cache_clear = known.clear
            remembered.cache_info = lambda: SimpleNamespace(maxsize=maxsize, currsize=len(known))
            return remembered

        return decorate
