"""The lanes of a Publisher: handed out to one call at a time, up to a limit."""

import threading

import pytest

from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.core.lanes import Lanes
from amqplib.exceptions import AMQPConnectionException, AMQPTimeout


class LaneLike:
    def __init__(self):
        self.outstanding = 0
        self.refused = []
        self.is_given_up = False

    def give_up(self):
        self.is_given_up = True


class LinkLike:
    def settle(self, lane, deadline):
        lane.outstanding -= 1


def new_lanes(most):
    return Lanes(LaneLike, most, LinkLike())


def test_a_lane_that_came_back_is_used_again():
    lanes = new_lanes(1)
    lane = lanes.take(NO_DEADLINE)
    lanes.put(lane)
    assert lanes.take(NO_DEADLINE) is lane


def test_there_are_not_more_than_the_limit():
    lanes = new_lanes(2)
    taken = [lanes.take(NO_DEADLINE) for _ in range(2)]
    with pytest.raises(AMQPTimeout, match=r'2 calls were in progress for 0\.01 s'):
        lanes.take(Deadline(0.01))
    lanes.put(taken.pop())
    lanes.take(Deadline(0))


@pytest.mark.parametrize('come_back', ['put', 'drop', 'leave'])
def test_a_thread_waits_for_one(come_back):
    lanes = new_lanes(1)
    lane = lanes.take(NO_DEADLINE)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(lanes.take(Deadline(20))))
    thread.start()
    while not lanes._waiters:
        pass
    getattr(lanes, come_back)(lane)
    if come_back == 'leave':
        list(lanes.settle_left(NO_DEADLINE))
    thread.join(20)
    assert len(taken) == 1


def test_one_that_an_exception_has_left_with_nobody_is_not_missed():
    lanes = new_lanes(1)
    lanes.take(NO_DEADLINE)
    assert lanes.take(NO_DEADLINE)
    lanes.wait_until_idle(NO_DEADLINE)


def test_what_is_left_over_is_settled():
    lanes = new_lanes(1)
    lane = lanes.take(NO_DEADLINE)
    lane.outstanding = 3
    lane.refused.append(('message', 'error'))
    lanes.leave(lane)
    lanes.wait_until_idle(NO_DEADLINE)
    assert list(lanes.settle_left(NO_DEADLINE)) == [('message', 'error')]
    assert lane.outstanding == 0
    assert lanes.take(NO_DEADLINE) is lane


def test_a_lane_that_is_dropped_is_given_up():
    lanes = new_lanes(1)
    lane = lanes.take(NO_DEADLINE)
    lanes.drop(lane)
    assert lane.is_given_up
    assert lanes.take(NO_DEADLINE) is not lane


def test_those_in_use_are_waited_for():
    lanes = new_lanes(2)
    lane = lanes.take(NO_DEADLINE)
    with pytest.raises(AMQPTimeout, match=r'1 calls were still in progress after 0\.01 s'):
        lanes.wait_until_idle(Deadline(0.01))
    thread = threading.Thread(target=lanes.wait_until_idle, args=(Deadline(20),))
    thread.start()
    lanes.put(lane)
    thread.join(20)
    assert not thread.is_alive()


def test_none_is_handed_out_once_it_is_closed():
    lanes = new_lanes(1)
    lanes.is_closed = True
    with pytest.raises(AMQPConnectionException, match='closed by this program'):
        lanes.take(NO_DEADLINE)
