"""lru_cache, in a form that an exception from a signal handler cannot break.

CPython's lru_cache is written in C. PyPy's is written in Python, with a lock and a linked list that
every call changes: an exception in the middle, or a fork by another thread, may leave the list
broken or the lock locked.
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
        """Do what functools.lru_cache does, but clear the cache when it is full."""

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
