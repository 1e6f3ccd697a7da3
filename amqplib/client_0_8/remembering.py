"""The lru_cache of amqplib.core.memoize."""

from amqplib.core.memoize import lru_cache

__all__ = ['lru_cache']
