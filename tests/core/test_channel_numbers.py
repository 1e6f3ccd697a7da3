"""The numbers of a connection's channels: free, taken, and lingering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib.client_0_8.spec import PROTOCOL
from amqplib.core import channel_numbers
from amqplib.core.channel_numbers import ChannelNumbers, NumberTaken
from amqplib.core.encoding import method_frame
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import AMQPException, ProtocolError
from tests.helpers.frames import InboxLike, method
from tests.helpers.interrupts import each_interruption, traces_instructions

MOST = 5
OPEN_OK, FLOW, CLOSE, CLOSE_OK = (20, 11), (20, 20), (20, 40), (20, 41)
CLOSE_OK_1 = method(1, CLOSE_OK)


class SessionLike:
    """In place of a session: the inboxes, and what is sent."""

    def __init__(self):
        self.inboxes = {}
        self.sent = []
        self.closed = object()
        self.to_arrive = lambda: None

    def poll_input(self, closed):
        assert closed is self.closed
        self.to_arrive()

    def send_urgent(self, frame):
        self.sent.append(frame)


class Numbers:
    """Numbers with what they belong to: the session, and the dict of channels."""

    def __init__(self, *taken):
        self.session, self.channels = SessionLike(), {}
        self.all = ChannelNumbers(self.session, self.channels, PROTOCOL)
        for number in (0, *taken):
            assert self.all.take(number, InboxLike())

    def linger(self, number, open_pending=False):
        self.all.linger(number, self.channels[number], open_pending)

    def free(self, number):
        self.all.free(number, self.channels[number])

    def why_taken(self, number):
        return self.all.why_taken(number, self.all.holder(number))

    def arrives(self, number, signature):
        """Have a method arrive for the inbox that has the number."""
        self.session.inboxes[number].arrive((signature, AMQPReader(b''), None))


# --- Choosing ---


def test_the_lowest_free_one_is_chosen():
    assert Numbers().all.choose(MOST) == 1
    assert Numbers(1, 2, 4).all.choose(MOST) == 3


def test_no_more_than_there_may_be():
    numbers = Numbers(1, 2, 3, 4)
    numbers.all.check_room(MOST)
    numbers.linger(4)
    numbers.all.check_room(MOST)
    numbers.all.take(5, InboxLike())
    with pytest.raises(AMQPException, match='all of the 5 channels are open') as caught:
        numbers.all.check_room(MOST)
    assert caught.value.amqp_reply_code == 530


def test_what_has_arrived_may_free_a_number():
    numbers = Numbers(1, 2, 3, 4, 5)
    numbers.linger(3)
    with pytest.raises(AMQPException, match='all of the 5 channels are open'):
        numbers.all.check_room(MOST)
    numbers.session.to_arrive = lambda: numbers.arrives(3, CLOSE_OK)
    numbers.all.check_room(MOST)
    assert numbers.all.choose(MOST) == 3


def test_numbers_that_the_program_asked_for_are_not_chosen():
    """If every number up to the maximum is taken, none is free."""
    assert Numbers(7, 8, 9).all.choose(MOST) == 1
    with pytest.raises(AMQPException, match='no channel number is free'):
        Numbers(1, 2).all.choose(2)


def test_a_number_that_a_program_has_taken_out_is_free():
    numbers = Numbers(1, 2, 3)
    del numbers.channels[1]
    assert numbers.all.choose(MOST) == 1


# --- Taking and freeing ---


def test_a_number_that_is_taken_is_the_channel_s():
    numbers = Numbers()
    channel, another = InboxLike(), InboxLike()
    assert numbers.all.take(1, channel) is True
    assert numbers.all.take(1, another) is False
    assert numbers.channels[1] is numbers.session.inboxes[1] is channel
    why = numbers.why_taken(1)
    assert type(why) is NumberTaken
    assert str(why) == 'channel_id: 1 is open already'
    assert why.channel is channel


def test_a_number_that_is_freed_can_be_taken_again():
    numbers = Numbers(1, 2)
    numbers.free(1)
    assert 1 not in numbers.channels
    assert 1 not in numbers.session.inboxes
    assert numbers.all.choose(MOST) == 1
    assert numbers.all.take(1, InboxLike())


def test_a_channel_frees_its_own_number_only():
    numbers = Numbers(1)
    channel = numbers.channels[1]
    numbers.all.free(1, InboxLike())
    assert numbers.channels[1] is numbers.session.inboxes[1] is channel
    numbers.free(1)
    successor = InboxLike()
    numbers.all.take(1, successor)
    numbers.all.free(1, channel)
    numbers.all.linger(1, channel, False)
    assert numbers.channels[1] is numbers.session.inboxes[1] is successor


def test_a_channel_that_a_program_has_taken_out_is_freed_all_the_same():
    numbers = Numbers(1)
    channel = numbers.channels.pop(1)
    numbers.all.free(1, channel)
    assert 1 not in numbers.session.inboxes


def test_nothing_is_left_at_the_end():
    numbers = Numbers(1, 2)
    numbers.linger(1)
    numbers.all.clear()
    assert not numbers.channels
    assert numbers.all.take(1, InboxLike())


# --- Lingering ---


def test_one_that_lingers_is_not_free_until_the_broker_has_answered():
    numbers = Numbers(1)
    numbers.linger(1)
    assert 1 not in numbers.channels
    assert numbers.all.choose(MOST) == 2
    assert numbers.all.take(1, InboxLike()) is False
    assert 1 not in numbers.channels
    assert str(numbers.why_taken(1)) == 'channel_id: the broker has not closed 1 yet'
    numbers.arrives(1, CLOSE_OK)
    assert numbers.all.choose(MOST) == 1
    assert numbers.all.take(1, InboxLike())
    assert numbers.session.sent == []


def test_what_comes_for_one_that_lingers_is_dropped():
    numbers = Numbers(1)
    numbers.linger(1)
    inbox = numbers.session.inboxes[1]
    assert not inbox.keeps_content
    assert inbox.delivery_queue is None
    assert inbox.take_confirm is None
    for signature in (FLOW, OPEN_OK, (60, 60), (50, 11), (99, 99)):
        numbers.arrives(1, signature)
    assert numbers.session.sent == []
    assert numbers.session.inboxes[1] is inbox
    inbox.session_ended()


def test_a_close_that_crosses_is_confirmed_and_its_own_is_waited_for():
    numbers = Numbers(1)
    numbers.linger(1)
    for _ in range(2):
        numbers.arrives(1, CLOSE)
    assert numbers.session.sent == [CLOSE_OK_1] * 2
    assert numbers.all.choose(MOST) == 2
    numbers.arrives(1, CLOSE_OK)
    assert numbers.all.choose(MOST) == 1


def test_one_whose_opening_is_refused_is_free():
    numbers = Numbers(1)
    numbers.linger(1, open_pending=True)
    numbers.arrives(1, CLOSE)
    assert numbers.session.sent == [CLOSE_OK_1]
    assert numbers.all.choose(MOST) == 1
    assert 1 not in numbers.session.inboxes


def test_one_that_is_opened_too_late_is_closed_then():
    numbers = Numbers(1)
    numbers.linger(1, open_pending=True)
    numbers.arrives(1, OPEN_OK)
    (frame,) = numbers.session.sent
    assert frame == method_frame(1, bytes.fromhex('0014 0028 00c8 07') + b'gave up' + bytes(4))
    numbers.arrives(1, OPEN_OK)
    numbers.arrives(1, CLOSE)
    assert numbers.session.sent == [frame, CLOSE_OK_1]
    assert numbers.all.choose(MOST) == 2, 'the close of its own is not confirmed yet'
    numbers.arrives(1, CLOSE_OK)
    assert numbers.all.choose(MOST) == 1


# --- Channels that are not open ---


def test_close_that_comes_again_is_confirmed_again():
    numbers = Numbers()
    numbers.all.arrive_unknown(1, (CLOSE, AMQPReader(b''), None))
    assert numbers.session.sent == [CLOSE_OK_1]
    numbers.all.arrive_unknown(1, (CLOSE_OK, AMQPReader(b''), None))
    assert numbers.session.sent == [CLOSE_OK_1]


@pytest.mark.parametrize('signature', [FLOW, (60, 60), OPEN_OK])
def test_anything_else_on_a_channel_that_is_not_open_is_an_error(signature):
    with pytest.raises(ProtocolError, match='channel 7, which is not open') as caught:
        Numbers().all.arrive_unknown(7, (signature, AMQPReader(b''), None))
    assert caught.value.amqp_reply_code == 504
    assert caught.value.args[2:] == (signature, PROTOCOL.name_of(signature))


# --- In any order ---

STEPS = st.tuples(st.sampled_from(['open', 'free', 'linger', 'answer']), st.integers(1, MOST))


@given(st.lists(STEPS))
def test_what_is_chosen_is_the_lowest_that_is_free(steps):
    numbers, taken, lingering = Numbers(), set(), set()
    for step, number in steps:
        free = sorted(set(range(1, MOST + 1)) - taken - lingering)
        if step == 'open' and free:
            assert numbers.all.choose(MOST) == free[0]
            assert numbers.all.take(free[0], InboxLike())
            taken.add(free[0])
        elif step == 'free' and number in taken:
            numbers.free(number)
            taken.discard(number)
        elif step == 'linger' and number in taken:
            numbers.linger(number)
            taken.discard(number)
            lingering.add(number)
        elif step == 'answer' and number in lingering:
            numbers.arrives(number, CLOSE_OK)
            lingering.discard(number)
        assert set(numbers.channels) == {0, *taken}
        assert set(numbers.session.inboxes) == {0, *taken, *lingering}


# --- Two threads: the second comes in between any two instructions of the first ---


@traces_instructions
def test_of_two_channels_one_has_the_number():
    made, others = [], []

    def prepare():
        numbers, one, other = Numbers(), InboxLike(), InboxLike()
        made.append((numbers, one, other))
        return lambda: numbers.all.take(1, one), lambda: others.append(numbers.all.take(1, other))

    for first in each_interruption(channel_numbers, prepare):
        numbers, one, other = made[-1]
        assert first is not others[-1]
        owner = one if first else other
        assert numbers.channels[1] is numbers.session.inboxes[1] is owner
    assert {True, False} == set(others)


@traces_instructions
@pytest.mark.parametrize('first', ['choose', 'free'])
def test_a_number_that_is_freed_while_another_is_chosen_is_the_next(first):
    made = []

    def prepare():
        numbers = Numbers(1, 2)
        made.append(numbers)
        both = lambda: numbers.all.choose(MOST), lambda: numbers.free(1)
        return both if first == 'choose' else both[::-1]

    for _ in each_interruption(channel_numbers, prepare):
        assert made[-1].all.choose(MOST) == 1


@traces_instructions
@pytest.mark.parametrize('first', ['free', 'linger'])
def test_successor_keeps_a_number_that_is_freed_twice(first):
    """The reader and a thread that learns of the end may both free the number."""
    made = []

    def prepare():
        numbers, successor, results = Numbers(1), InboxLike(), []
        channel = numbers.channels[1]

        def give_up():
            if first == 'free':
                numbers.all.free(1, channel)
            else:
                numbers.all.linger(1, channel, False)

        def free_and_take():
            numbers.all.free(1, channel)
            results.append(numbers.all.take(1, successor))

        made.append((numbers, successor, results))
        return give_up, free_and_take

    for _ in each_interruption(channel_numbers, prepare):
        numbers, successor, results = made[-1]
        if results == [True]:
            assert numbers.channels[1] is successor
            assert numbers.session.inboxes[1] is successor
        else:
            assert 1 not in numbers.channels
            if first == 'linger':
                numbers.arrives(1, CLOSE_OK)
            assert numbers.all.take(1, InboxLike())


@traces_instructions
def test_one_that_lingers_is_never_given_away():
    made = []

    def prepare():
        numbers, channel = Numbers(1), InboxLike()
        results = []
        made.append((numbers, results))
        return (
            lambda: numbers.linger(1),
            lambda: results.append(numbers.all.take(1, channel)),
        )

    for _ in each_interruption(channel_numbers, prepare):
        numbers, results = made[-1]
        assert results == [False]
        assert 1 not in numbers.channels
        numbers.arrives(1, CLOSE_OK)
        assert numbers.all.take(1, InboxLike())
