"""A recorded conversation gives the same results, and the same bytes, in whatever portions."""

import random

from tests.helpers import replay

#: How many bytes there are from one cut to the next.
SPACING = 200


def test_record_has_a_bit_of_everything(recorded):
    """Without which the other tests would show little."""
    methods = {
        frame[7:11] for frame in replay.split_frames(recorded.record.stream) if frame[0] == 1
    }
    assert len(methods) >= 22
    assert len(recorded.results) >= 14


def test_record_in_its_own_portions(recorded):
    assert replay.replay(recorded.client, recorded.record) == recorded.results


def test_record_split_at_every_byte(recorded):
    """There is a cut every SPACING bytes, in each replay one byte later than in the last."""
    for first in range(1, SPACING + 1):
        cuts = range(first, len(recorded.record.stream), SPACING)
        results = replay.replay(recorded.client, recorded.record, cuts)
        assert results == recorded.results, cuts


def test_record_byte_by_byte(recorded):
    everywhere = range(len(recorded.record.stream))
    assert replay.replay(recorded.client, recorded.record, everywhere) == recorded.results


def test_record_in_random_portions(recorded):
    chance = random.Random(0)
    length = len(recorded.record.stream)
    for _ in range(200):
        cuts = sorted(chance.sample(range(1, length), chance.randint(2, 200)))
        results = replay.replay(recorded.client, recorded.record, cuts)
        assert results == recorded.results, cuts


def test_record_with_a_heartbeat_between_any_two_frames(recorded):
    """They are legal there, also in the middle of a message."""
    heartbeat = b'\x08\0\0\0\0\0\0\xce'
    frames = replay.split_frames(recorded.record.stream)
    for position in range(1, len(frames)):
        stream = b''.join([*frames[:position], heartbeat, *frames[position:]])
        assert replay.feed(recorded.client, stream) is None, position
