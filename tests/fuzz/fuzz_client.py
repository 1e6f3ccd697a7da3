"""Fuzzing guided by coverage, with atheris, which is not among the requirements of the tests.

    python tests/fuzz/fuzz_client.py -max_total_time=600

Arguments are those of libFuzzer; what fails is left as a file, to be given as an argument. The
first byte of an input chooses what is fuzzed: a whole conversation of one of the two clients,
whose seed is recorded with a real broker at the start, or one of the parts in fuzz_targets.py.
"""

import contextlib
import os
import random
import struct
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import atheris

with atheris.instrument_imports(include=['amqplib']):
    import amqplib.client_0_8 as amqp_0_8
    from amqplib import client_0_9_1

from tests.helpers import broker as brokers
from tests.helpers import replay
from tests.helpers.fuzz_targets import TARGETS

CLIENTS = [amqp_0_8, client_0_9_1]
PARTS = list(TARGETS.values())
KINDS = len(CLIENTS) + len(PARTS)


def fuzz(data):
    """Take one input."""
    if not data:
        return
    chosen, data = data[0] % KINDS, data[1:]
    if chosen < len(CLIENTS):
        replay.feed(CLIENTS[chosen], data)
    else:
        PARTS[chosen - len(CLIENTS)](data)


def mutate(data, max_size, seed):
    """Change an input: that of a conversation often by whole frames, to get far into it."""
    chance = random.Random(seed)
    if len(data) > 8 and data[0] % KINDS < len(CLIENTS) and chance.random() < 0.7:
        with contextlib.suppress(struct.error, IndexError):  # it is no stream of frames any more
            return data[:1] + replay.with_other_frames(data[1:], chance)[: max_size - 1]
    return atheris.Mutate(data, max_size)


def write_seeds(folder):
    """Leave the sound conversations in a folder, each as a seed."""
    with brokers.the_broker() as broker:
        for number, client in enumerate(CLIENTS):
            played, _ = replay.record(client, broker.address)
            Path(folder, f'conversation-{number}').write_bytes(bytes([number]) + played.stream)
            for position, frame in enumerate(replay.split_frames(played.stream)):
                for part in range(len(PARTS)):
                    seed = bytes([len(CLIENTS) + part]) + frame[7:-1]
                    Path(folder, f'{number}-{position}-{part}').write_bytes(seed)


def main():
    brokers.prepare()
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(folder)
        options = ['-timeout=20', '-max_len=6000', '-rss_limit_mb=1000', '-close_fd_mask=0']
        inputs = [] if any(os.path.isfile(name) for name in sys.argv[1:]) else [folder]
        arguments = [sys.argv[0], *options, *sys.argv[1:], *inputs]
        atheris.Setup(arguments, fuzz, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == '__main__':
    main()
