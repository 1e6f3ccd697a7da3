"""Lanes: which message the broker's answers are about, in any order, over any losses.

A model of a broker stands in for the channel: a test decides what happens to each message, and in
which order the broker reports it.
"""

from contextlib import suppress
from queue import Queue
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib.client_0_8.publisher import TransactionLane
from amqplib.client_0_9_1 import Message
from amqplib.client_0_9_1.publisher import ConfirmLane
from amqplib.core import lane as lane_module
from amqplib.core.confirms import Confirms
from amqplib.core.deadline import NO_DEADLINE, Deadline
from amqplib.core.encoding import Encoder
from amqplib.core.outgoing import MessageIds, encode
from amqplib.exceptions import (
    AMQPChannelException,
    AMQPTimeout,
    ConnectionLost,
    MessageNacked,
    MessageReturned,
    NotFound,
    PreconditionFailed,
    ProtocolError,
)
from tests.helpers.interrupts import (
    Interrupt,
    each_interruption,
    raise_interrupt,
    traces_instructions,
)

IDS = MessageIds()
LOST = ConnectionLost(0, 'the line was cut')


class ModelChannel:
    """In place of a channel with confirms.

    published: what arrived at the broker, as it is on the wire.
    script: functions that are called, one for each wait, to let the broker say something.
    """

    def __init__(self, script=(), frame_max=4096, number=1):
        self.channel_id = number
        self.session = SimpleNamespace(encoder=Encoder(frame_max), blocked=None)
        self.returned_messages = Queue()
        self.confirms = Confirms()
        self.published = []
        self.writes = []
        self.script = list(script)
        self.is_closed = False

    def confirm_select(self):
        pass

    tx_select = confirm_select

    def session_if_open(self):
        return self.session

    def publish_gathered(self, frames, number, deadline):
        self.writes.append(number)
        taken = []
        self.confirms.assign_numbers(taken, number)
        self.published.append(frames if isinstance(frames, bytes) else b''.join(frames))
        return taken[0]

    def confirm_state(self):
        return self.confirms

    def wait_for_room(self, most, deadline):
        while self.confirms.outstanding > most:
            if not self.script:
                return False
            self.script.pop(0)(self)
        return True

    def commit_by(self, deadline):
        self.script.pop(0)(self)

    def close(self, timeout):
        self.is_closed = True


def ack(number, multiple=False):
    return lambda channel: channel.confirms.confirm(number, multiple, True)


def nack(number, multiple=False):
    return lambda channel: channel.confirms.confirm(number, multiple, False)


def give_back(msg, exchange='', routing_key='q', message_id=None):
    """The broker returns a message."""
    back = Message(msg.body, message_id=message_id or msg.properties.get('message_id'))
    return lambda channel: channel.returned_messages.put(
        (312, 'NO_ROUTE', exchange, routing_key, back)
    )


def fail(error):
    def raise_it(channel):
        raise error

    return raise_it


def message(number, message_id=None):
    return Message(b'%d' % number, message_id=message_id or f'id-{number}')


def lane_with(messages, script, lane_class=ConfirmLane, **channel):
    lane = lane_class()
    for msg in messages:
        lane.unsent.append(encode(msg, ('', 'q', True), IDS))
    ours = ModelChannel(script, **channel)
    lane.use(ours)
    return lane, ours


def bodies(refused):
    return [(msg.body, type(error)) for msg, error in refused]


def test_confirmed_messages_are_settled():
    lane, channel = lane_with(map(message, range(3)), [ack(3, True)])
    lane.step(NO_DEADLINE)
    assert (lane.outstanding, lane.settled, list(lane.refused)) == (0, 3, [])
    assert channel.writes == [3]


def test_refused_and_returned_messages_come_with_their_errors():
    messages = [message(number) for number in range(4)]
    script = [nack(2), give_back(messages[2]), ack(4, True)]
    lane, _ = lane_with(messages, script)
    lane.step(NO_DEADLINE)
    assert lane.outstanding == 0
    (returned, error), (refused, nacked) = sorted(
        lane.refused, key=lambda pair: type(pair[1]).__name__, reverse=True
    )
    assert returned is messages[2] is error.message
    assert (error.amqp_reply_code, error.amqp_reply_text) == (312, 'NO_ROUTE')
    assert (error.exchange, error.routing_key) == ('', 'q')
    assert refused is messages[1]
    assert type(nacked) is MessageNacked


def test_a_returned_message_that_is_refused_too_was_returned():
    msg = message(1)
    lane, _ = lane_with([msg], [give_back(msg), nack(1)])
    lane.step(NO_DEADLINE)
    assert bodies(lane.refused) == [(b'1', MessageReturned)]


def test_messages_that_a_returned_one_could_be_are_not_in_flight_together():
    twins = [message(number, 'the same') for number in range(3)]
    script = [
        ack(1),
        give_back(twins[1], message_id='the same'),
        ack(2),
        ack(3),
    ]
    lane, channel = lane_with(twins, script)
    while lane.outstanding:
        lane.step(NO_DEADLINE)
    assert channel.writes == [1, 1, 1]
    assert bodies(lane.refused) == [(b'1', MessageReturned)]


def test_messages_with_the_same_id_for_different_places_are_in_flight_together():
    lane, channel = ConfirmLane(), ModelChannel([ack(2, True)])
    for place in (('', 'q', True), ('', 'other', True)):
        lane.unsent.append(encode(message(1), place, IDS))
    lane.use(channel)
    lane.step(NO_DEADLINE)
    assert channel.writes == [2]


def test_a_returned_message_that_is_not_in_flight_is_an_error_of_the_broker():
    lane, _ = lane_with([message(1)], [give_back(message(2)), ack(1)])
    with pytest.raises(ProtocolError, match='not in flight'):
        lane.step(NO_DEADLINE)


def test_a_message_too_large_for_the_connection_is_refused_and_no_other():
    huge = Message(b'x', application_headers={'a': 'b' * 5000})
    lane, channel = lane_with([message(1), huge, message(2)], [ack(2, True)])
    while lane.outstanding:
        lane.step(NO_DEADLINE)
    assert channel.writes == [1, 1]
    assert [(msg, type(error)) for msg, error in lane.refused] == [(huge, ValueError)]


@traces_instructions
def test_an_interrupt_loses_no_answer():
    """No message that was returned or refused counts as published, wherever the interrupt comes."""

    def prepare():
        messages = [message(number) for number in range(4)]

        def answer(channel):
            for step in (give_back(messages[1]), nack(3), ack(4, True)):
                step(channel)

        lane, _ = lane_with(messages, [answer])

        def run():
            try:
                lane.step(NO_DEADLINE)
            except Interrupt:
                lane.requeue()
            return lane

        return run, raise_interrupt

    for lane in each_interruption(lane_module, prepare):
        refused = {msg.body: type(error) for msg, error in lane.refused}
        for body, error in ((b'1', MessageReturned), (b'2', MessageNacked)):
            is_kept = body in [outgoing[0].body for outgoing in lane.unsent]
            assert is_kept or refused.get(body) is error


def test_more_refusals_than_a_channel_keeps_for_a_program():
    lane, channel = lane_with(map(message, range(3)), [nack(3, True)])
    channel.confirms.most_refused = 1
    lane.use(channel)
    lane.step(NO_DEADLINE)
    assert not channel.confirms.too_many_refused
    assert len(lane.refused) == 3


def test_refusals_are_known_before_the_window_is_full():
    lane, channel = lane_with([message(1)], [])
    lane.flush(NO_DEADLINE)
    nack(1)(channel)
    lane.flush(NO_DEADLINE)
    assert bodies(lane.refused) == [(b'1', MessageNacked)]


def test_a_loss_keeps_what_is_not_settled_in_order():
    messages = [message(number) for number in range(6)]
    script = [ack(2), give_back(messages[3]), fail(LOST)]
    lane, channel = lane_with(messages, script)
    with pytest.raises(ConnectionLost):
        lane.step(NO_DEADLINE)
    lane.requeue()
    # Of what was returned before, no more is to come.
    assert bodies(lane.refused) == [(b'3', MessageReturned)]
    assert [outgoing[0].body for outgoing in lane.unsent] == [b'0', b'2', b'4', b'5']
    assert channel.is_closed
    again = ModelChannel([ack(4, True)], number=2)
    lane.use(again)
    lane.step(NO_DEADLINE)
    assert lane.outstanding == 0
    assert len(lane.refused) == 1


def test_a_timeout_says_how_many_messages_and_why():
    lane, channel = lane_with(map(message, range(2)), [])
    channel.session.blocked = 'low on memory'
    with pytest.raises(AMQPTimeout, match=r'2 of the .* within 5 s.*low on memory'):
        lane.step(Deadline(5))


def test_progress_within_the_deadline_is_no_timeout():
    lane, _ = lane_with(map(message, range(2)), [ack(1)])
    lane.step(Deadline(5))
    assert lane.settled == 1


def missing(channel):
    raise NotFound(404, 'no exchange', (60, 40))


def blame_all(lane, channels):
    """Publish on one channel after the other until all is settled; all but the last fail."""
    for channel in channels:
        lane.use(channel)
        error = None
        try:
            while lane.outstanding:
                lane.step(NO_DEADLINE)
        except AMQPChannelException as raised:
            error = raised
        lane.requeue()
        assert error is None or lane.blame(error)
    assert lane.outstanding == 0


def test_the_message_for_which_the_channel_is_closed_is_found_one_by_one():
    lane, _ = lane_with(map(message, range(5)), [])
    channels = [
        ModelChannel([ack(1), missing]),
        ModelChannel([ack(1), ack(2), missing]),
        ModelChannel([ack(1)]),
    ]
    blame_all(lane, channels)
    assert bodies(lane.refused) == [(b'3', NotFound)]
    assert [channel.writes for channel in channels] == [[5], [1, 1, 1], [1]]


def test_a_message_that_was_not_in_flight_is_not_blamed():
    lane, _ = lane_with([message(1)], [])
    lane.requeue()
    assert not lane.blame(NotFound(404, 'no exchange'))
    assert lane.outstanding == 1


def test_was_idle_says_whether_the_channel_had_worked_and_was_idle():
    lane, _ = lane_with([message(1)], [ack(1)])
    lane.step(NO_DEADLINE)
    lane.requeue()
    assert lane.was_idle
    lane.use(ModelChannel())
    lane.requeue()
    assert not lane.was_idle


# --- Transactions ---


def test_a_commit_settles_all():
    messages = [message(number) for number in range(3)]
    lane, _ = lane_with(messages, [give_back(messages[1])], TransactionLane)
    lane.step(NO_DEADLINE)
    assert (lane.outstanding, lane.settled) == (0, 3)
    assert bodies(lane.refused) == [(b'1', MessageReturned)]


def test_what_is_returned_without_a_commit_is_published_again():
    def returned_then_lost(channel):
        give_back(message(1))(channel)
        raise LOST

    lane, _ = lane_with([message(1)], [returned_then_lost], TransactionLane)
    with pytest.raises(ConnectionLost):
        lane.step(NO_DEADLINE)
    lane.requeue()
    assert not lane.refused
    assert lane.outstanding == 1


def test_a_commit_that_the_broker_refuses_is_a_refused_message():
    error = PreconditionFailed(406, 'partial tx completion', (90, 20))
    lane, _ = lane_with(map(message, range(2)), [], TransactionLane)
    nothing = lambda channel: None  # noqa: E731
    blame_all(lane, [ModelChannel([fail(error)]), ModelChannel([nothing, fail(error)])])
    assert bodies(lane.refused) == [(b'1', MessageNacked)]


# --- All interleavings ---

#: What becomes of a message.
TAKEN, REFUSED, RETURNED = 'taken', 'refused', 'returned'
EXPECTED = {REFUSED: MessageNacked, RETURNED: MessageReturned}


#: The fates of messages, with their message ids (None: one that no other message has).
FATES = st.lists(
    st.tuples(st.sampled_from([TAKEN, REFUSED, RETURNED]), st.sampled_from([None, 'a', 'b'])),
    min_size=1,
    max_size=12,
)


@given(FATES, st.integers(0, 2**32))
def test_every_message_gets_its_own_answer(run, seed):
    fates, choose = [fate for fate, _ in run], Random(seed)
    messages = [message(number, message_id) for number, (_, message_id) in enumerate(run)]
    lane = ConfirmLane()
    lane.unsent.extend(encode(msg, ('', 'q', True), IDS) for msg in messages)
    while lane.outstanding:
        channel = ModelChannel(number=choose.choice([1, 2]))
        channel.script = Speech(channel, lane, fates, choose)
        lane.use(channel)
        with suppress(ConnectionLost):
            while lane.outstanding:
                lane.step(NO_DEADLINE, most=choose.choice([0, 3]))
        lane.requeue()
    found = {id(msg): type(error) for msg, error in lane.refused}
    expected = {id(msg): EXPECTED[fate] for msg, fate in zip(messages, fates) if fate in EXPECTED}
    assert found == expected
    assert len(lane.refused) == len(expected)


class Speech:
    """An endless script of what a broker sends on a channel, one method for each wait.

    It returns messages in order, each before it confirms it; it confirms in any order, one or
    several at once; now and then the line is cut.
    """

    def __init__(self, channel, lane, fates, choose):
        self.channel, self.lane, self.fates, self.choose = channel, lane, fates, choose
        self.returned = set()

    def pop(self, place):
        return self.say

    def open(self):
        confirms = self.channel.confirms
        first, late = confirms.open_numbers()
        return sorted(late) + list(range(first, confirms.last_sequence_number + 1))

    def say(self, channel):
        if self.choose.random() < 0.1:
            raise LOST
        numbers = self.open()
        number, multiple = self.choose.choice(numbers), self.choose.random() < 0.5
        confirmed = [one for one in numbers if one <= number] if multiple else [number]
        if len({self.fate(one) == REFUSED for one in confirmed}) > 1:
            multiple, confirmed = False, [number]
        # Some of those after it may be returned by then too.
        returned_up_to = self.choose.choice([number, *numbers[numbers.index(number) :]])
        for one in numbers:
            if one <= returned_up_to:
                self.give_back(one)
        channel.confirms.confirm(number, multiple, self.fate(number) != REFUSED)

    def fate(self, number):
        return self.fates[int(self.lane.sent[number][0].body)]

    def give_back(self, number):
        if self.fate(number) == RETURNED and number not in self.returned:
            self.returned.add(number)
            give_back(self.lane.sent[number][0])(self.channel)
