"""The lanes of a Publisher: handed out to one call at a time, up to a limit."""

import gc
import threading

import pytest

from amqplib.core import lanes as module
from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.core.lanes import Lanes
from amqplib.exceptions import AMQPConnectionException, AMQPTimeout, ReentrancyError
from tests.helpers.threads import in_thread


class LaneLike:
    thread = None

    def __init__(self):
        self.outstanding = 0
        self.refused = []
        self.is_given_up = False

    def give_up(self):
        self.is_given_up = True

    def requeue(self):
        pass


class LinkLike:
    room = 65535

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
    taken = in_thread(lambda: [lanes.take(NO_DEADLINE) for _ in range(2)])
    with pytest.raises(AMQPTimeout, match=r'2 calls were in progress for 0\.01 s'):
        lanes.take(Deadline(0.01))
    lanes.put(taken.pop())
    lanes.take(Deadline(0))


@pytest.mark.parametrize('wait', ['take', 'settle_all'])
def test_a_thread_does_not_wait_for_itself(wait):
    """It may be a signal handler in a publish(), or a program in a loop over publish_all()."""
    lanes = new_lanes(2)
    lane = lanes.take(NO_DEADLINE)
    others = in_thread(lanes.take, NO_DEADLINE)
    with pytest.raises(AMQPTimeout):
        getattr(lanes, wait)(Deadline(0))
    lanes.put(others)
    if wait == 'take':
        lanes.take(NO_DEADLINE)
    with pytest.raises(ReentrancyError, match='in the middle of another call'):
        getattr(lanes, wait)(NO_DEADLINE)
    lanes.put(lane)
    lanes.take(NO_DEADLINE)


def test_what_is_left_to_the_collector_is_not_waited_for():
    lanes = new_lanes(1)

    def use():
        lane = lanes.take(NO_DEADLINE)
        try:
            yield
        finally:
            lanes.put(lane)

    cycle = [use()]
    next(cycle[0])
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert lanes.take(NO_DEADLINE)
    finally:
        gc.enable()


def test_a_thread_that_waits_is_listed_once(monkeypatch):
    """If it were listed twice, lanes that come back after a long wait would wake no thread."""
    monkeypatch.setattr(module, '_WAIT_STEP', 0.001)
    lanes = new_lanes(1)
    taken = [in_thread(lanes.take, NO_DEADLINE)]
    seen = []
    monkeypatch.setattr(lanes, '_in_use', lambda: seen.append(len(lanes._waiters)) or 1)
    with pytest.raises(AMQPTimeout):
        lanes.take(Deadline(0.02))
    assert len(seen) > 2
    assert max(seen) == 0
    assert taken
    assert not lanes._waiters


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
        lanes.settle_left(NO_DEADLINE)
    thread.join(20)
    assert len(taken) == 1


def test_a_lane_that_was_lost_with_its_call_is_not_waited_for():
    lanes = new_lanes(1)
    lanes.take(NO_DEADLINE)
    assert lanes.take(NO_DEADLINE)
    assert lanes.settle_all(NO_DEADLINE) == []


def test_what_is_left_over_is_settled():
    lanes = new_lanes(1)
    lane = lanes.take(NO_DEADLINE)
    lane.outstanding = 3
    lane.refused.append(('message', 'error'))
    lanes.leave(lane)
    assert lanes.settle_all(NO_DEADLINE) == [('message', 'error')]
    assert lane.outstanding == 0
    assert lanes.take(NO_DEADLINE) is lane


def test_what_is_left_over_is_settled_where_no_other_lane_is_free():
    lanes = new_lanes(2)
    left = [lanes.take(NO_DEADLINE) for _ in range(2)]
    for lane in left:
        lane.outstanding = 3
        lane.refused.append(('message', lane))
        lanes.leave(lane)
    taken = lanes.take(Deadline(20))
    assert taken in left
    assert taken.outstanding == 0
    lanes.put(taken)
    assert lanes.settle_all(NO_DEADLINE) == [('message', left[0])]  # as close() raises the first
    assert lanes.settle_all(NO_DEADLINE) == []


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
        in_thread(lanes.settle_all, Deadline(0.01))
    thread = threading.Thread(target=lanes.settle_all, args=(Deadline(20),))
    thread.start()
    lanes.put(lane)
    thread.join(20)
    assert not thread.is_alive()


def test_what_is_left_while_it_waits_is_settled_too():
    """Another thread leaves a publish_all() when the publisher is being closed."""
    lanes = new_lanes(1)
    lane = lanes.take(NO_DEADLINE)
    lane.outstanding = 3
    lane.refused.append(('message', 'error'))
    results = []
    thread = threading.Thread(target=lambda: results.append(lanes.settle_all(Deadline(20))))
    thread.start()
    while not lanes._waiters:
        pass
    lanes.leave(lane)
    thread.join(20)
    assert results == [[('message', 'error')]]
    assert lane.outstanding == 0


def test_one_thread_at_a_time_settles_what_is_left():
    lanes = new_lanes(1)
    lane = lanes.take(NO_DEADLINE)
    lane.outstanding = 1
    lanes.leave(lane)
    settle, errors = lanes.link.settle, []

    def settle_while_others_close(lane, deadline):
        for call in (in_thread, lambda function, *args: function(*args)):
            with pytest.raises((AMQPTimeout, ReentrancyError)) as caught:
                call(lanes.settle_all, Deadline(0.01))
            errors.append(caught.type)
        settle(lane, deadline)

    lanes.link.settle = settle_while_others_close
    assert lanes.settle_all(NO_DEADLINE) == []
    assert errors == [AMQPTimeout, ReentrancyError]
    assert lane.outstanding == 0


def test_none_is_handed_out_once_it_is_closed():
    lanes = new_lanes(1)
    lanes.is_closed = True
    with pytest.raises(AMQPConnectionException, match='closed by this program'):
        lanes.take(NO_DEADLINE)
