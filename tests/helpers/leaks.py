"""What a test leaves behind: descriptors and threads."""

import contextlib
import os
import threading


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


def leftovers(threads, descriptors):
    """Return what exists now and did not exist then."""
    new_threads = [
        thread
        for thread in threading.enumerate()
        if thread not in threads and not thread.name.startswith('amqplib')
    ]
    return new_threads + sorted(open_descriptors() - descriptors)
