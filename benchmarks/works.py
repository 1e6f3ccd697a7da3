"""What is measured, and the limits that amqplib must stay within."""

from __future__ import annotations

from dataclasses import dataclass

SMALL = 128
LARGE = 1024 * 1024

#: Sizes of bodies for the charts of the documentation; some are also in MAIN_WORKS.
SIZES = [16, SMALL, 1024, 16 * 1024, 128 * 1024, LARGE]

#: The most bytes that are in the queue at a time.
MAX_BYTES = 32 * 1024 * 1024

HUGE = 100_000_000

WALL_LIMIT = 1.10
BARE_LIMIT = 1.15
IMPORT_LIMIT = 0.6
PEAK_LIMIT = 2.5
DOUBLE_LIMIT = 2.3


@dataclass(frozen=True)
class Work:
    """A kind of work, with bodies of one size.

    kind: names the loop in worker.py.
    share: the number of messages in a round, as a multiple of --messages.
    repeats: the number of rounds, as a multiple of --rounds; more for short rounds, whose times
        vary more.
    limit: what amqplib may cost, as a fraction of the best pure-Python client.
    c_limit: what it may cost as a multiple of librabbitmq, from Python and in C.
    """

    name: str
    kind: str
    size: int
    share: float = 1.0
    limit: float | None = None
    c_limit: float | None = None
    repeats: int = 1

    @property
    def is_fed(self):
        """Whether it needs messages in the queue."""
        return self.kind in {'consume', 'consume_ack', 'get'}

    def count(self, messages):
        """Return the number of messages in a round."""
        return max(10, min(int(messages * self.share), MAX_BYTES // max(self.size, 1)))


MAIN_WORKS = [
    Work('publish', 'publish', SMALL, 2.0, 0.25, 2.0),
    Work('consume', 'consume', SMALL, 3.0, 0.25, 3.0),
    Work('consume and ack', 'consume_ack', SMALL, 2.0, 0.30),
    Work('get', 'get', SMALL, 0.02, 0.60, repeats=3),
    Work('publish 1 MiB', 'publish', LARGE, 1.0, 0.60, repeats=6),
    Work('consume 1 MiB', 'consume', LARGE, 1.0, 0.70, repeats=6),
    Work('round trip', 'rpc', 0, 0.02, repeats=3),
]

#: (kind, size) -> name.
_NAMES = {(work.kind, work.size): work.name for work in MAIN_WORKS}

SIZE_WORKS = [
    Work(f'{kind} {size} B', kind, size, 0.2)
    for kind in ('publish', 'consume')
    for size in SIZES
    if (kind, size) not in _NAMES
]

WORKS = MAIN_WORKS + SIZE_WORKS


def name_of(kind, size):
    """Return the name of the work of this kind with bodies of this size."""
    return _NAMES.get((kind, size), f'{kind} {size} B')


#: Measurements that are not about messages: name -> description.
EXTRAS = {
    'bare': 'round trips beside a bare socket',
    'import': 'time to import',
    'channels': 'memory of 1,000 idle channels',
    'huge': 'a body of 100 MB',
}
