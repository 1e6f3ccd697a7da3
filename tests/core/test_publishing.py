"""The messages of an iterable: how they are gathered, and what an error does to the others."""

import gc
import warnings
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib.client_0_9_1 import Message
from amqplib.core import publishing as module
from amqplib.core.arguments import encode_publish
from amqplib.core.deadline import NO_DEADLINE
from amqplib.core.encoding import Encoder
from amqplib.core.lane import Lane
from amqplib.core.lanes import Lanes
from amqplib.core.publishing import Publishing, publish_all
from amqplib.exceptions import ConnectionLost

LOST = ConnectionLost(0, 'lost for good')


class ChannelLike:
    channel_id = 1
    session = SimpleNamespace(encoder=Encoder(4096))

    def __init__(self):
        self.writes = []
        self.published = b''

    def session_if_open(self):
        return self.session

    def publish_gathered(self, frames, count, deadline):
        self.writes.append(count)
        self.published += frames if isinstance(frames, bytes) else b''.join(frames)
        return sum(self.writes) - count + 1

    def close(self, timeout):
        pass


class TakingLane(Lane):
    """A lane of a broker that takes everything, one message for each wait."""

    def _await(self, most, deadline):
        self._settle_sent([min(self.sent)])


class LinkLike:
    """It works until `fails` is set; then each attempt raises that."""

    fails = None
    room = 65535

    def __init__(self):
        self.channel = ChannelLike()

    def attempt(self, lane, action, deadline):
        if self.fails is not None:
            raise self.fails
        if not lane.has_channel:
            lane.use(self.channel)
        action(deadline)

    def settle(self, lane, deadline):
        self.attempt(lane, lane.step, deadline)


def new_lanes(window=1000):
    return Lanes(TakingLane, window, LinkLike())


def to(queue, *bodies, **properties):
    return [(Message(body, **properties), '', queue) for body in bodies]


def publish(lanes, items):
    return list(publish_all(lanes, items, True, None))


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that goes on only when it is told to: how much is gathered depends on the time."""
    time = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, 'monotonic', lambda: time.now)
    return time


def test_many_messages_are_sent_by_one_write():
    lanes = new_lanes()
    assert publish(lanes, to('q', *[b'x' * 128] * 600)) == []
    first, *_ = writes = lanes.link.channel.writes
    assert sum(writes) == 600
    assert 65536 / 300 < first < 65536 / 200


def test_no_more_are_in_flight_than_the_window_holds():
    lanes = new_lanes(window=10)
    most = []

    def items():
        for number in range(100):
            most.append(lane.outstanding)
            yield from to('q', b'%d' % number)

    lane = lanes._make()
    lanes._make = lambda: lane
    publish(lanes, items())
    assert max(most) == 9
    assert lane.settled == 100


def test_an_iterable_that_takes_its_time_holds_nothing_back(clock):
    def items():
        for item in to('q', *[b'x'] * 5):
            clock.now += 1
            yield item

    lanes = new_lanes()
    publish(lanes, items())
    assert lanes.link.channel.writes == [1] * 5


BODIES = [b'x', b'yy', b'', 'text', b'y' * 3900, b'z' * 5000, bytearray(b'array')]
PROPERTIES = [
    {},
    {'delivery_mode': 2},
    {'message_id': 'mine'},
    {'application_headers': {'n': 1}},
    {'message_id': 'mine', 'app_id': 'x'},
]
PLACES = [('', 'q'), ('e', 'q'), ('', 'r')]
PARTS = BODIES, PROPERTIES, PLACES


@st.composite
def kinds(draw):
    """A list of (body, properties, place), each of which differs from the one before in a part."""
    kind = [part[0] for part in PARTS]
    changes = st.one_of([st.tuples(st.just(n), st.sampled_from(PARTS[n])) for n in range(3)])
    drawn = []
    for n, value in draw(st.lists(changes, min_size=20, max_size=40)):
        kind[n] = value
        drawn.append(tuple(kind))
    return drawn


@given(kinds(), st.booleans(), st.integers(1, 6))
def test_all_kinds_of_messages_are_sent_as_by_basic_publish(kinds, mandatory, window):
    """The fast path, for messages like the one before, makes the same frames."""
    items = [(Message(body, **properties), *place) for body, properties, place in kinds]
    lanes, kept = new_lanes(window), []
    lane = lanes._make()
    lanes._make = lambda: lane
    settle = lane._settle
    lane._settle = lambda outgoing, error: (kept.append(outgoing), settle(outgoing, error))
    assert list(publish_all(lanes, items, mandatory, None)) == []
    places = {id(msg): (*place, mandatory) for msg, *place in items}
    assert {id(msg): place for msg, place, *_ in kept} == places
    assert len(kept) == len(items)
    assert lanes.link.channel.published == b''.join(map(by_basic_publish, kept))


def by_basic_publish(outgoing, channel=1):
    """Return the frames that basic_publish sends for a message with this message id."""
    msg, place, _, _, *message_id = outgoing
    properties = {**msg.properties, 'message_id': b''.join(message_id)[1:].decode()}
    payload = encode_publish(0, *place, False)
    frames = Encoder(4096).frames(channel, payload, Message(msg.body, **properties))
    return frames if isinstance(frames, bytes) else b''.join(frames)


def test_after_a_loss_the_messages_are_for_the_new_channel():
    lanes, kept = new_lanes(window=4), []
    lane, link = lanes._make(), lanes.link
    lanes._make = lambda: lane
    use = lane.use
    lane.use = lambda channel: (use(channel), kept.clear())
    settle = lane._settle
    lane._settle = lambda outgoing, error: (settle(outgoing, error), kept.append(outgoing))

    def items():
        for number, item in enumerate(to('q', *[b'x'] * 40)):
            if number == 20:
                lane.requeue()
                link.channel = ChannelLike()
                link.channel.channel_id = 7
            yield item

    publish(lanes, items())
    assert len(kept) >= 20
    assert link.channel.published == b''.join(by_basic_publish(one, 7) for one in kept)


def test_a_message_is_not_taken_for_one_like_it_whose_properties_were_read(clock):
    one, other = Message(b'1', app_id='one'), Message(b'2', app_id='other')
    assert one.properties
    assert other.properties
    lanes = new_lanes()
    publish(lanes, [(one, '', 'q'), (other, '', 'q')])
    assert b'other' in lanes.link.channel.published


def test_a_message_that_cannot_be_sent_comes_back_and_the_others_are_published():
    good, bad = to('q', b'1', b'2', b'3'), Message(object())
    items = [good[0], (bad, '', 'q'), good[1], ('no message', '', 'q'), good[2]]
    lanes = new_lanes()
    refused = publish(lanes, items)
    assert [(msg, type(error)) for msg, error in refused] == [
        (bad, TypeError),
        ('no message', TypeError),
    ]
    assert sum(lanes.link.channel.writes) == 3


@pytest.mark.parametrize(
    ('end', 'error'),
    [(iter, None), (lambda: 1 / 0, ZeroDivisionError)],
)
def test_an_error_of_the_iterable_is_raised_when_all_before_it_is_settled(end, error):
    def items():
        yield from to('q', *[b'x'] * 3)
        end() if error else None

    lanes = new_lanes()
    run = publish_all(lanes, items(), True, None)
    if error is None:
        assert list(run) == []
    else:
        with pytest.raises(error):
            list(run)
    assert sum(lanes.link.channel.writes) == 3
    assert lanes.settle_all(NO_DEADLINE) == []


@pytest.mark.parametrize('item', [Message(b'secret'), (Message(b'secret'), 'q'), None, 'secret'])
def test_an_item_that_is_no_triple_is_named_when_all_before_it_is_settled(item):
    lanes = new_lanes()
    items = iter([*to('q', b'1', b'2'), item, *to('q', b'3')])
    with pytest.raises(TypeError, match=r'^items: .* is not \(Message, exchange, r') as caught:
        publish(lanes, items)
    assert 'secret' not in str(caught.value)
    assert sum(lanes.link.channel.writes) == 2
    assert publish(lanes, items) == []  # the one after it
    assert sum(lanes.link.channel.writes) == 3


def test_a_final_error_comes_with_each_message_and_is_raised():
    lanes = new_lanes(window=4)
    lanes.link.fails = LOST
    items = iter(to('q', *map(str.encode, '123456789')))
    seen = []

    def keep_all():
        for msg, error in publish_all(lanes, items, True, None):
            seen.append((msg.body, error))

    with pytest.raises(ConnectionLost):
        keep_all()
    assert seen == [(b'%d' % number, LOST) for number in range(1, 5)]
    assert next(items)[0].body == b'5'


def test_messages_not_yielded_after_a_final_error_are_left_for_close():
    lanes = new_lanes(window=4)
    lanes.link.fails = LOST
    run = publish_all(lanes, iter(to('q', *map(str.encode, '1234'))), True, None)
    assert next(run)[0].body == b'1'
    run.close()
    with pytest.raises(ConnectionLost):
        lanes.settle_all(NO_DEADLINE)
    lanes.link.fails = None
    lanes.settle_all(NO_DEADLINE)
    assert sum(lanes.link.channel.writes) == 3


def test_close_settles_a_loop_that_was_left_before_its_end():
    lanes = new_lanes(window=4)
    items = [(Message(object()), '', 'q'), *to('q', *map(str.encode, '123'))]
    for _ in publish_all(lanes, [items[1], items[0], items[2]], True, None):
        break
    assert sum(lanes.link.channel.writes) == 1
    assert lanes.settle_all(NO_DEADLINE) == []


def test_an_interrupt_leaves_unsettled_messages_for_close():
    lanes = new_lanes()

    def items():
        yield from to('q', *[b'x'] * 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(lanes, items())
    assert lanes.link.channel.writes == []
    lanes.settle_left(NO_DEADLINE)
    assert sum(lanes.link.channel.writes) == 3


def test_forgetting_to_iterate_is_a_warning():
    lanes = new_lanes()
    runs = [Publishing(publish_all(lanes, to('q', b'x'), True, None))]

    def forget():
        runs.clear()
        gc.collect()  # PyPy needs it

    with pytest.warns(RuntimeWarning, match='nothing was published'):
        forget()
    assert lanes.link.channel.writes == []


def test_there_is_no_warning_otherwise():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        list(Publishing(publish_all(new_lanes(), to('q', b'x'), True, None)))
        Publishing(publish_all(new_lanes(), to('q', b'x'), True, None)).close()
