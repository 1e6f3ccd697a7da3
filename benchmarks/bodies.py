"""The bodies of the messages: the same for every client."""

PATTERN = b'The quick brown fox jumps over the lazy dog. 0123456789ABCDEF...'


def make_body(size):
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


#: Bodies that have to arrive as they were sent before anything is measured.
CHECKED_BODIES = [
    b'x',
    make_body(128),
    bytes(range(256)),
    bytes(range(256)) * 513,  # two frames
    make_body(1024 * 1024),
]
