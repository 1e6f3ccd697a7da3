"""The methods of a channel that need no broker: frames that it sends, and its ends."""

import struct
from contextlib import suppress
from functools import partial

import pytest

from amqplib.core import abstract_channel
from amqplib.core import channel as channel_module
from amqplib.core.channel import MAX_NO_ACK_TAGS
from amqplib.core.message import Message
from amqplib.exceptions import (
    AMQPChannelException,
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ConnectionLost,
    NotFound,
    ReentrancyError,
)
from tests.helpers.frames import method
from tests.helpers.interrupts import each_interruption, raise_interrupt, traces_instructions
from tests.helpers.session_like import arrived, open_channel

CLOSE, CLOSE_OK = (20, 40), (20, 41)


@pytest.fixture
def session(connection):
    return connection.session


# --- Acknowledgements ---


@pytest.mark.parametrize('tag', [0, 5, 2**64 - 1])
@pytest.mark.parametrize(('bit', 'octet'), [(False, 0), (True, 1), ('yes', 1), (2, 1), (None, 0)])
@pytest.mark.parametrize(
    ('name', 'signature'), [('basic_ack', (60, 80)), ('basic_reject', (60, 90))]
)
def test_acknowledgement(channel, session, name, signature, tag, bit, octet):
    getattr(channel, name)(tag, bit)
    assert session.sent == [method(1, signature, struct.pack('>QB', tag, octet))]


@pytest.mark.parametrize(
    ('tag', 'error'),
    [(-1, ValueError), (2**64, ValueError), ('5', TypeError), (1.0, TypeError), (None, TypeError)],
)
@pytest.mark.parametrize('name', ['basic_ack', 'basic_reject'])
def test_acknowledgement_of_what_is_no_delivery_tag_is_refused(channel, session, name, tag, error):
    with pytest.raises(error, match=rf'{name.replace("_", ".")} delivery_tag: '):
        getattr(channel, name)(tag, False)
    assert session.sent == []


@pytest.fixture
def consume(channel, session):
    """A function that starts a consumer; its messages come into the list that it returns."""

    def start(tag, **options):
        messages = []
        session.to_come.append((1, arrived('basic.consume_ok', tag)))
        channel.basic_consume('queue', tag, callback=messages.append, **options)
        session.sent.clear()
        return messages

    return start


def deliver(channel, session, tag, number):
    message = Message.received(b'\0\0', b'body')
    values = (tag, number, False, '', 'queue')
    session.to_come.append((1, arrived('basic.deliver', *values, content=message)))
    channel.wait()


def test_only_what_was_delivered_without_no_ack_can_be_acknowledged(channel, session, consume):
    plain, no_ack = consume('plain'), consume('no_ack', no_ack=True)
    for number, tag in enumerate(('no_ack', 'plain', 'no_ack'), 1):
        deliver(channel, session, tag, number)
    session.to_come.append((1, arrived('basic.cancel_ok', 'no_ack')))
    channel.basic_cancel('no_ack')
    session.sent.clear()
    for message in no_ack:
        with pytest.raises(ValueError, match=r'^the message was received with no_ack'):
            message.ack()
    assert session.sent == []
    plain[0].ack()
    assert session.sent == [method(1, (60, 80), struct.pack('>QB', 2, 0))]


def test_a_tag_may_be_used_again_without_no_ack(channel, session, consume):
    consume('tag', no_ack=True)
    session.to_come.append((1, arrived('basic.cancel_ok', 'tag')))
    channel.basic_cancel('tag')
    again = consume('tag')
    deliver(channel, session, 'tag', 1)
    again[0].reject(requeue=True)
    assert session.sent == [method(1, (60, 90), struct.pack('>QB', 1, 1))]


def test_the_tags_of_consumers_are_not_remembered_without_end(channel, consume, session):
    for number in range(2 * MAX_NO_ACK_TAGS):
        consume(str(number), no_ack=True)
    consume(str(number))
    assert channel.why_settled(1, str(number)) is None
    remembered = [n for n in range(number) if channel.why_settled(1, str(n)) is not None]
    assert remembered == list(range(MAX_NO_ACK_TAGS, number))


@pytest.mark.parametrize('no_ack', [False, True])
def test_a_message_that_was_got_knows_its_channel_and_whether_it_can_be_acknowledged(
    channel, session, no_ack
):
    message = Message.received(b'\0\0', b'body')
    session.to_come.append((1, arrived('basic.get_ok', 5, False, '', 'q', 0, content=message)))
    assert channel.basic_get('q', no_ack) is message
    assert message.channel is channel
    assert 'channel' not in message.delivery_info
    session.sent.clear()
    if no_ack:
        with pytest.raises(ValueError, match='no_ack'):
            message.ack()
        assert session.sent == []
    else:
        message.ack(multiple=True)
        assert session.sent == [method(1, (60, 80), struct.pack('>QB', 5, 1))]


# --- Opening and closing ---


def test_channel_that_the_broker_refuses_to_open():
    connection, channel = open_channel()
    connection.session.to_come.append((2, arrived('channel.close', 404, 'refused', 20, 10)))
    with pytest.raises(NotFound, match='refused'):
        type(channel)(connection, 2)
    assert 2 not in connection.session.inboxes
    assert connection.session.sent[-1] == method(2, CLOSE_OK)


def test_close_waits_for_the_broker(channel, connection, session):
    session.to_come.append((1, arrived('channel.close_ok')))
    channel.close()
    assert session.sent == [method(1, CLOSE, b'\0\0\0\0\0\0\0')]
    assert (channel.is_open, channel.channel_id, channel.connection) == (False, None, None)
    assert connection.numbers.choose(10) == 1
    channel.close()
    assert len(session.sent) == 1


def test_close_that_is_not_answered_leaves_the_number_lingering(channel, connection, session):
    with pytest.raises(AMQPTimeout):
        channel.close(timeout=0)
    assert connection.numbers.choose(10) == 2
    session.inboxes[1].arrive(arrived('channel.close_ok'))
    assert connection.numbers.choose(10) == 1


def test_close_with_wrong_values_changes_nothing(channel, session):
    with pytest.raises(ValueError, match='reply_code'):
        channel.close(70_000)
    assert channel.is_open
    assert session.sent == []


def test_closes_that_cross(channel, connection, session):
    session.to_come.append((1, arrived('channel.close', 404, 'no queue', 50, 10)))
    with pytest.raises(NotFound, match='no queue'):
        channel.close()
    assert session.sent == [method(1, CLOSE, bytes(7)), method(1, CLOSE_OK)]
    assert connection.numbers.choose(10) == 2, 'the broker still confirms the one of this side'
    session.inboxes[1].arrive(arrived('channel.close_ok'))
    assert connection.numbers.choose(10) == 1


def test_close_of_the_broker_is_confirmed_before_the_number_is_free(channel, connection, session):
    channel.arrive(arrived('channel.close', 404, 'no queue', 50, 10))
    assert session.sent == [method(1, CLOSE_OK)]
    assert connection.numbers.choose(10) == 1
    assert [closed.cause.args[0] for closed in connection.closed_channels] == [404]
    with pytest.raises(NotFound, match='no queue'):
        channel.close()
    channel.close()


def test_close_from_where_it_may_not_wait_gives_the_channel_up(channel, connection, session):
    session.is_waiting_allowed = False
    channel.close()
    assert session.sent == [method(1, CLOSE, bytes(7))]
    assert not channel.is_open
    assert connection.numbers.choose(10) == 2
    with pytest.raises(AMQPChannelException, match='closed by this program'):
        channel.basic_ack(1)


def test_late_queues_are_made_once_and_only_if_they_are_looked_at(channel):
    assert 'returned_messages' not in vars(channel)
    assert channel.returned_messages is channel.returned_messages
    assert channel.returned_messages is not channel.alerts


# --- Transactions ---

SELECT, COMMIT, ROLLBACK = (90, 10), (90, 20), (90, 30)
SELECTED = (1, arrived('tx.select_ok'))
COMMITTED = (1, arrived('tx.commit_ok'))
ROLLED_BACK = (1, arrived('tx.rollback_ok'))


class OfTheBlockError(Exception):
    pass


def fail_in_a_transaction(channel, error=OfTheBlockError, before=lambda: None):
    with channel.transaction():
        before()
        raise error


def sent_in(session):
    """Return the signatures of the methods that were sent."""
    return [struct.unpack_from('>HH', frame, 7) for frame in session.sent]


def test_blocks_are_committed_after_one_select(channel, session):
    session.to_come += [SELECTED, COMMITTED, COMMITTED]
    for _ in range(2):
        with channel.transaction():
            channel.basic_ack(1)
    assert sent_in(session) == [SELECT, (60, 80), COMMIT, (60, 80), COMMIT]


def test_a_channel_on_which_tx_select_was_called_needs_no_other(channel, session):
    session.to_come += [SELECTED, COMMITTED]
    channel.tx_select()
    with channel.transaction():
        pass
    assert sent_in(session) == [SELECT, COMMIT]


@pytest.mark.parametrize('error', [OfTheBlockError, KeyboardInterrupt, AMQPTimeout(0, 'own')])
def test_a_block_that_fails_is_rolled_back(channel, session, error):
    session.to_come += [SELECTED, ROLLED_BACK, COMMITTED]
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        fail_in_a_transaction(channel, error)
    with channel.transaction():
        pass
    assert sent_in(session) == [SELECT, ROLLBACK, COMMIT]


def test_what_was_settled_in_a_block_that_fails_can_be_settled_again(channel, session, consume):
    messages = consume('t')
    for number in (1, 2, 3):
        deliver(channel, session, 't', number)
    first, second, third = messages
    session.to_come += [SELECTED, COMMITTED, ROLLED_BACK]
    with channel.transaction():
        first.ack()
    with pytest.raises(OfTheBlockError):
        fail_in_a_transaction(channel, before=lambda: third.ack(multiple=True))
    third.reject(requeue=True)
    second.ack()
    for settled in messages:
        with pytest.raises(ValueError, match='before'):
            settled.ack()


@pytest.mark.parametrize(('own', 'limit'), [(None, 10), (60, 10), (0.5, 0.5)])
def test_rolling_back_has_a_limit(channel, session, own, limit):
    """The error of the block is raised in time, although a frozen broker does not answer."""
    session.to_come += [SELECTED]
    channel.connection.rpc_timeout = own
    limits, wait_until = [], session.wait_until

    def wait(closed, ready, deadline):
        limits.append(deadline.seconds)
        return wait_until(closed, ready, deadline)

    with pytest.raises(OfTheBlockError):
        fail_in_a_transaction(channel, before=lambda: setattr(session, 'wait_until', wait))
    assert limits == [limit]


def test_a_transaction_in_a_transaction_is_refused_and_the_outer_one_goes_on(channel, session):
    session.to_come += [SELECTED, COMMITTED]
    with channel.transaction():
        with pytest.raises(AMQPException, match='already in a transaction'), channel.transaction():
            pytest.fail('the inner block was run')
        assert sent_in(session) == [SELECT]
    assert sent_in(session) == [SELECT, COMMIT]


def test_a_channel_that_the_broker_closes_in_the_block_says_so_at_the_commit(channel, session):
    session.to_come += [SELECTED, (1, arrived('channel.close', 404, 'no exchange', 60, 40))]
    with pytest.raises(NotFound, match='no exchange'), channel.transaction():
        pass
    assert sent_in(session) == [SELECT, COMMIT, CLOSE_OK]


def test_a_channel_that_is_lost_in_a_block_does_not_hide_the_error_of_the_block(channel, session):
    session.to_come.append(SELECTED)

    def die():
        channel.arrive(arrived('channel.close', 404, 'no exchange', 60, 40))

    with pytest.raises(OfTheBlockError):
        fail_in_a_transaction(channel, before=die)
    assert sent_in(session) == [SELECT, CLOSE_OK]
    with pytest.raises(NotFound, match='no exchange'), channel.transaction():
        pytest.fail('the block was run')


def test_what_cannot_be_rolled_back_is_never_committed(channel, session):
    """The channel is closed, as its next transaction would commit what this one has sent."""
    session.to_come.append(SELECTED)

    def forbid_waiting():
        session.is_waiting_allowed = False

    with pytest.raises(OfTheBlockError):
        fail_in_a_transaction(channel, before=forbid_waiting)
    assert sent_in(session) == [SELECT, CLOSE]
    assert not channel.is_open
    with pytest.raises(AMQPChannelException, match='could not be rolled back'):
        channel.basic_ack(1)
    channel.close()


def test_what_cannot_be_committed_is_rolled_back(channel, session, monkeypatch):
    session.to_come += [SELECTED, ROLLED_BACK]
    monkeypatch.setattr(channel, 'tx_commit', lambda: fail_in_a_transaction(channel))
    with pytest.raises(AMQPException, match='already in a transaction'), channel.transaction():
        pass
    assert sent_in(session) == [SELECT, ROLLBACK]


def answer_transactions(session):
    """Let a session answer what is sent for transactions."""
    answers = {SELECT: SELECTED, COMMIT: COMMITTED, ROLLBACK: ROLLED_BACK}
    send = session.send_urgent

    def send_and_answer(frame):
        send(frame)
        signature = struct.unpack_from('>HH', frame, 7)
        if signature in answers:
            session.to_come.append(answers[signature])

    session.send_urgent = send_and_answer


def do_in_a_transaction(channel, before):
    with channel.transaction():
        before()


def tags_by_commit(session):
    """Return the delivery tags of the acknowledgements that each commit includes."""
    commits, tags = [], []
    for signature, frame in zip(sent_in(session), session.sent):
        if signature == (60, 80):
            tags.append(struct.unpack_from('>Q', frame, 11)[0])
        elif signature == COMMIT:
            commits.append(tags)
        if signature in {COMMIT, ROLLBACK, CLOSE}:
            tags = []
    return commits


@traces_instructions
@pytest.mark.parametrize('fails', [False, True])
def test_what_was_interrupted_is_in_no_later_commit(fails):
    channels = []

    def prepare():
        connection, channel = open_channel()
        answer_transactions(connection.session)
        channels.append((channel, connection.session))
        run = fail_in_a_transaction if fails else do_in_a_transaction
        return partial(run, channel, before=partial(channel.basic_ack, 1)), raise_interrupt

    for _ in each_interruption(channel_module, prepare):
        channel, session = channels[-1]
        try:
            do_in_a_transaction(channel, partial(channel.basic_ack, 2))
        except AMQPException:
            if channel.is_open:  # it says that there is a transaction, and the program ends that
                channel.tx_rollback()
                do_in_a_transaction(channel, partial(channel.basic_ack, 2))
        commits = tags_by_commit(session)
        assert commits in ([[1], [2]], [[2]], [[1]], []), commits
        assert commits[-1:] == [[2]] or not channel.is_open, commits
        assert not fails or [1] not in commits


def test_a_select_that_fails_leaves_no_transaction_open(channel, session):
    session.is_waiting_allowed = False
    with pytest.raises(ReentrancyError), channel.transaction():
        pytest.fail('the block was run')
    session.is_waiting_allowed = True
    session.to_come += [SELECTED, COMMITTED]
    with channel.transaction():
        pass
    assert sent_in(session) == [SELECT, COMMIT]


@traces_instructions
def test_a_call_in_the_middle_of_the_close_by_the_broker_does_not_disturb_it():
    def prepare():
        _, channel = open_channel()

        def learn_of_it():
            with suppress(AMQPException):
                channel.basic_qos()

        close = arrived('channel.close', 404, 'gone', 0, 0)
        return partial(channel.arrive, close), learn_of_it

    for result in each_interruption(channel_module, prepare):
        assert result is None


@traces_instructions
def test_a_connection_that_is_closed_in_a_wait_for_some_methods():
    def prepare():
        connection, channel = open_channel()
        channel.arrive(arrived('basic.cancel', 'unknown', False))
        end = partial(connection.session.end, ConnectionLost(0, 'closed'), reported=True)
        return partial(channel.wait, [(60, 30)]), end

    for result in each_interruption(abstract_channel, prepare):
        assert result is None or isinstance(result, ConnectionLost), repr(result)


@pytest.mark.parametrize('of_the_connection', [False, True])
def test_a_call_that_comes_too_late_leaves_the_end_to_the_close(
    channel, session, monkeypatch, of_the_connection
):
    send = session.send
    closed = session.closed if of_the_connection else channel._closed

    def send_after_the_close(*args):
        """Send when another thread has just sent the close."""
        closed.ask()
        session.transport.sent += 1
        send(*args)

    monkeypatch.setattr(session, 'send', send_after_the_close)
    with pytest.raises(AMQPException):
        channel.basic_qos()
    closed.end_as_asked()
    channel.session_ended()
    error = AMQPConnectionException if of_the_connection else AMQPChannelException
    with pytest.raises(error, match='was closed by this program'):
        channel.basic_qos()
    channel.close()
