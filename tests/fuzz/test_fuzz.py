"""Spoiled conversations and random bytes end in values or an AMQPException, and they end.

Those of the usual run are the same each time. `-m soak` runs new ones for some minutes; the
seed of one that fails is in the report.
"""

import os
import random
import time

import pytest

from tests.helpers import replay
from tests.helpers.fuzz_targets import TARGETS

SPOIL = [replay.mutated, replay.with_other_frames]

#: Seconds that a soak of each kind runs.
SOAK = float(os.environ.get('AMQPLIB_SOAK_SECONDS', '60'))


def spoil_and_feed(recorded, spoil, seed):
    chance = random.Random(seed)
    data = spoil(recorded.record.stream, chance)
    # Byte by byte takes far longer than the others.
    (size,) = chance.choices([1, 7, 1000, 131072], weights=[1, 4, 4, 4])
    try:
        replay.feed(recorded.client, data, size)
    except Exception as error:
        raise AssertionError(f'seed {seed}: {error!r}') from error


@pytest.mark.parametrize('spoil', SPOIL)
def test_spoiled_conversation_ends_in_values_or_one_error(recorded, spoil):
    for seed in range(600):
        spoil_and_feed(recorded, spoil, seed)


def test_record_cut_at_every_byte_ends_in_one_error(recorded):
    amqp, stream = recorded.client, recorded.record.stream
    for position in range(len(stream)):
        error = replay.feed(amqp, stream[:position])
        # An end while it logs in reads as a refusal.
        assert isinstance(error, (amqp.ConnectionLost, amqp.LoginRefused)), (position, error)


def test_noise_behind_a_sound_beginning_ends_in_one_error(recorded):
    amqp = recorded.client
    frames = replay.split_frames(recorded.record.stream)
    for seed in range(300):
        chance = random.Random(seed)
        beginning = b''.join(frames[: chance.randrange(len(frames))])
        noise = bytes(chance.choice(replay.TELLING) for _ in range(chance.randint(1, 200)))
        error = replay.feed(amqp, beginning + noise)
        assert isinstance(error, amqp.AMQPException), seed


@pytest.mark.parametrize('target', TARGETS)
def test_random_input_of_the_parts(target):
    for seed in range(1500):
        chance = random.Random(seed)
        data = bytes(
            chance.choice(replay.TELLING) if chance.random() < 0.7 else chance.randrange(256)
            for _ in range(chance.randint(0, 80))
        )
        TARGETS[target](data)


@pytest.mark.soak
@pytest.mark.timeout(SOAK + 60)
@pytest.mark.parametrize('spoil', SPOIL)
def test_spoiled_conversations_for_minutes(recorded, spoil):
    seed, end = time.time_ns(), time.monotonic() + SOAK
    while time.monotonic() < end:
        spoil_and_feed(recorded, spoil, seed)
        seed += 1
