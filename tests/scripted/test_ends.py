"""The end of channels and connections: when it takes effect, and that nothing follows it."""

import contextlib
import math
import struct
from collections import deque

import pytest

from tests.helpers.checks import until_raised
from tests.helpers.held_lock import held_before_writing
from tests.helpers.memory import taking_memory
from tests.helpers.packages import CLIENT_0_8, PACKAGES, only_0_9_1
from tests.helpers.threads import Worker
from tests.helpers.waiting import poll
from tests.helpers.wire import content, delivery, method, method_payload

#: The arguments of channel.close for a message to an exchange that is not there.
NO_EXCHANGE = (404, "NOT_FOUND - no exchange 'gone'", 60, 40)


@pytest.fixture(params=PACKAGES)
def amqp(request):
    """The client package: all of this holds for both."""
    return request.param


# --- Nothing of a channel follows its end ---------------------------------------------------------

#: What a thread may be about to do on a channel: all the ways to send frames.
CALLS = {
    'publish': lambda amqp, channel: channel.basic_publish(amqp.Message(b'x'), 'gone'),
    'large publish': lambda amqp, channel: channel.basic_publish(amqp.Message(bytes(99999)), 'x'),
    'acknowledge': lambda amqp, channel: channel.basic_ack(1),
    'reject': lambda amqp, channel: channel.basic_reject(1, True),
    'cast': lambda amqp, channel: channel.queue_bind('q', 'x', nowait=True),
    'call': lambda amqp, channel: channel.queue_declare('q'),
    'get': lambda amqp, channel: channel.basic_get('q'),
    'close': lambda amqp, channel: channel.close(),
}


@pytest.mark.parametrize('limit', [None, 30], ids=['unlimited', 'limited'])
@pytest.mark.parametrize('call', CALLS)
def test_no_frame_follows_the_answer_to_the_close_of_a_channel(amqp, channels, call, limit):
    """One thread has checked that the channel is open when another one reads its close.

    The number then belongs to another channel before the first thread goes on: the broker would
    take what it sends for methods of that channel.
    """

    def script(peer):
        peer.await_cue()
        peer.send_method(1, 'channel.close', *NO_EXCHANGE)
        peer.expect_method(1, 'channel.close_ok')
        peer.send_raw(delivery(2, 'tag'))
        peer.open_channel(1)
        peer.await_cue()
        peer.expect_method(1, 'tx.select')
        peer.send_method(1, 'tx.select_ok')
        peer.expect_close()

    broker, connection, (first, second) = channels(2, script, write_timeout=limit)
    got = []
    second.callbacks['tag'] = got.append
    with held_before_writing(connection, lambda: CALLS[call](amqp, first)) as caller:
        broker.cue()
        second.wait(timeout=10)  # which reads the close before that
        another = connection.channel(1)
    value, error = caller.outcome()
    assert (value, type(error)) == (None, amqp.NotFound)
    assert error.args[:3] == (*NO_EXCHANGE[:2], NO_EXCHANGE[2:])
    broker.cue()
    another.tx_select()
    connection.close()
    assert len(got) == 1


@only_0_9_1
@pytest.mark.parametrize('call', ['publish', 'nack'])
def test_no_confirmed_publish_follows_the_answer_to_the_close(amqp, channels, call):
    def script(peer):
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        peer.await_cue()
        peer.send_method(1, 'channel.close', *NO_EXCHANGE)
        peer.expect_method(1, 'channel.close_ok')
        peer.send_raw(delivery(2, 'tag'))
        peer.open_channel(1)
        peer.expect_close()

    broker, connection, (first, second) = channels(2, script)
    first.confirm_select()
    second.callbacks['tag'] = print
    calls = {**CALLS, 'nack': lambda amqp, channel: channel.basic_nack(1)}
    with held_before_writing(connection, lambda: calls[call](amqp, first)) as caller:
        broker.cue()
        second.wait(timeout=10)
        connection.channel(1)
    assert type(caller.outcome()[1]) is amqp.NotFound
    connection.close()


@pytest.mark.parametrize('call', CALLS)
def test_no_frame_follows_the_close_of_the_connection(amqp, channels, call):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.mark()
        peer.await_cue()
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    broker, connection, (first,) = channels(1, script)
    with held_before_writing(connection, lambda: CALLS[call](amqp, first)) as caller:
        closer = Worker(connection.close)
        broker.await_mark()
    if call != 'close':  # which waits for the broker, as the close of the connection does
        error = caller.outcome()[1]
        assert type(error) is amqp.AMQPConnectionException
        assert error.amqp_reply_text == 'the connection was closed by this program'
    broker.cue()
    assert closer.outcome() == (None, None)
    if call == 'close':
        assert caller.outcome() == (None, None)


def test_no_channel_is_opened_after_the_close_of_the_connection(amqp, channels):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.mark()
        peer.await_cue()
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    broker, connection, _ = channels(1, script)
    with held_before_writing(connection, connection.channel) as caller:
        closer = Worker(connection.close)
        broker.await_mark()
    assert type(caller.outcome()[1]) is amqp.AMQPConnectionException
    broker.cue()
    assert closer.outcome() == (None, None)


@pytest.mark.parametrize('call', CALLS)
def test_no_frame_follows_the_answer_to_the_close_of_the_connection(
    amqp, channels, call, monkeypatch
):
    """Another thread learns of the end as soon as the answer is sent."""

    def script(peer):
        peer.await_cue()
        peer.send_method(0, 'connection.close', 320, 'stopping', 0, 0)
        peer.expect_method(0, 'connection.close_ok')
        peer.expect_end()

    broker, connection, (first, second) = channels(2, script)
    connection._session.poll_due = math.inf
    callers = []

    def answer_and_call(frame):
        answer(frame)
        callers.append(Worker(CALLS[call], amqp, first))
        waiters = connection._session.role.waiters
        poll(lambda: waiters or not callers[0].is_alive(), 'the end of the call')

    answer = connection._session.outbox.send_urgent
    monkeypatch.setattr(connection._session.outbox, 'send_urgent', answer_and_call)
    broker.cue()
    with pytest.raises(amqp.ConnectionForced):
        second.wait(timeout=10)
    assert type(callers[0].outcome()[1]) is amqp.ConnectionForced


# --- What arrives takes effect when it arrives ----------------------------------------------------


def junk(peer):
    peer.send_raw(method(0, 'connection.close_ok', version=peer.version) + b'junk' * 4)
    peer.rest()


def confirm_and(verb):
    def end(peer):
        peer.send_method(0, 'connection.close_ok')
        getattr(peer, verb)()

    return end


@pytest.mark.parametrize(
    'end', [confirm_and('close'), confirm_and('reset'), junk], ids=['close', 'reset', 'junk']
)
@pytest.mark.parametrize('patient', [False, True], ids=['alone', 'beside one that waits'])
def test_what_comes_after_the_close_ok_changes_nothing(amqp, channels, end, patient):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        end(peer)

    _, connection, (first,) = channels(1, script)
    waiting = Worker(lambda: first.wait(timeout=10)) if patient else None
    connection.close()
    connection.close()
    with pytest.raises(amqp.AMQPConnectionException) as caught:
        connection.channel()
    assert caught.value.args[:2] == (0, 'the connection was closed by this program')
    if patient:
        error = waiting.outcome()[1]
        assert type(error) is amqp.AMQPConnectionException
        assert error.args == caught.value.args


@only_0_9_1
def test_close_ok_is_no_answer_to_another_threads_call(amqp, channels):
    def script(peer):
        peer.expect_method(0, 'connection.update_secret')
        peer.mark()
        peer.expect_close()

    broker, connection, _ = channels(0, script)
    asking = Worker(lambda: connection.update_secret('new'))
    broker.await_mark()
    connection.close()
    _, error = asking.outcome()
    assert type(error) is amqp.AMQPConnectionException
    assert error.amqp_reply_text == 'the connection was closed by this program'


@only_0_9_1
def test_answers_to_two_threads_calls_of_the_connection(amqp, channels):
    def script(peer):
        for _ in range(2):
            peer.expect_method(0, 'connection.update_secret')
        peer.send_raw(method(0, 'connection.update_secret_ok', version=peer.version) * 2)
        peer.expect_close()

    _, connection, _ = channels(0, script)
    asking = [Worker(lambda: connection.update_secret('new')) for _ in range(2)]
    assert [caller.outcome() for caller in asking] == [(None, None)] * 2
    connection.close()


def test_close_after_an_interrupted_close_does_nothing(amqp, channels, monkeypatch):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.rest()

    def interrupt(*args):
        raise KeyboardInterrupt

    _, connection, _ = channels(0, script)
    monkeypatch.setattr(connection.transport, 'receive', interrupt)
    with pytest.raises(KeyboardInterrupt):
        connection.close()
    assert connection.close() is None


@pytest.mark.parametrize('channel', [0, 1, 9])
def test_errors_name_methods_of_the_version_that_is_spoken(amqp, channels, channel):
    """By its number, the method is connection.redirect on 0-8, and connection.close on 0-9-1."""

    def script(peer):
        peer.send_frame(1, channel, struct.pack('>HH', 10, 50) + struct.pack('>HBHH', 1, 0, 0, 0))
        peer.rest()

    _, _, (first,) = channels(1, script)
    with pytest.raises(amqp.AMQPConnectionException) as caught:
        first.wait(timeout=10)
    names = ['Connection.redirect'] if amqp is CLIENT_0_8 else ['Connection.close', '']
    assert caught.value.args[3] in names


# --- Contents that nobody wants -------------------------------------------------------------------

#: In frames, more than anything may hold that is not wanted.
LARGE = 48 << 20


@pytest.mark.parametrize('number', [2, 9, 65535])
def test_content_for_a_channel_that_is_not_open_is_refused_at_its_beginning(amqp, channels, number):
    def script(peer):
        peer.send_raw(method(number, 'basic.deliver', 'tag', 1, False, '', 'q'))
        peer.send_raw(content(number, size=1 << 40))
        peer.rest()

    _, _, (first,) = channels(1, script)
    with pytest.raises(amqp.ProtocolError) as caught:
        first.wait(timeout=10)
    assert caught.value.amqp_reply_code == 504


@pytest.mark.parametrize('part', [0, 200, 200000])
def test_content_for_a_channel_that_was_given_up_is_dropped_as_it_arrives(amqp, channels, part):
    """part: so many bytes have come before."""
    data = memoryview(delivery(1, 'tag', body=bytes(LARGE)))

    def script(peer):
        peer.expect_method(1, 'tx.select')
        peer.send_raw(data[:part])
        peer.expect_method(1, 'channel.close')
        peer.send_raw(data[part:])
        peer.send_method(1, 'channel.close_ok')
        peer.send_raw(delivery(2, 'tag', 7))
        peer.open_channel(1)
        peer.expect_close()

    _, connection, (first, second) = channels(2, script, rpc_timeout=0.3)
    with pytest.raises(amqp.AMQPTimeout):
        first.tx_select()
    connection.rpc_timeout = 20
    got = []
    second.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    with taking_memory(LARGE // 4):
        second.wait(timeout=20)
    assert got == [7]
    assert connection.channel(1).is_open
    connection.close()


# --- Consumers, calls and replies -----------------------------------------------------------------


def test_consumer_that_the_program_has_cancelled_is_not_reported(amqp, channels):
    """The broker has cancelled it too, as its queue was deleted."""

    def script(peer):
        peer.expect_method(1, 'basic.consume')
        peer.send_method(1, 'basic.consume_ok', 'tag')
        peer.send_method(1, 'basic.cancel', 'tag', True)
        peer.expect_method(1, 'basic.cancel')
        peer.send_method(1, 'basic.cancel_ok', 'tag')
        peer.send_raw(delivery(1, 'other', 7))
        peer.expect_close()

    _, connection, (first,) = channels(1, script)
    got, cancelled = [], []
    first.callbacks['other'] = got.append
    first.basic_consume('q', 'tag', callback=got.append, on_cancel=cancelled.append)
    first.basic_cancel('tag')
    while not got:
        first.wait(timeout=10)
    assert cancelled == []
    connection.close()


def test_what_a_finalizer_takes_as_a_consumer_is_cancelled_is_missed_by_nobody(
    amqp, channels, monkeypatch
):
    def script(peer):
        peer.expect_method(1, 'basic.cancel')
        for number in range(1, 5):
            peer.send_raw(delivery(1, 'tag' if number == 2 else 'other', number))
        peer.send_method(1, 'basic.cancel_ok', 'tag')
        peer.expect_close()

    _, connection, (first,) = channels(1, script)
    got, finalizers = [], [lambda: first.wait(timeout=0)]
    first.callbacks.update(tag=None, other=lambda message: got.append(message.delivery_tag))
    is_for = first._is_for

    def interrupted(*args):
        if finalizers:
            finalizers.pop()()
        return is_for(*args)

    monkeypatch.setattr(first, '_is_for', interrupted)
    first.basic_cancel('tag')
    for _ in range(2):
        first.wait(timeout=10)
    assert got == [1, 3, 4]
    connection.close()


def test_consumer_that_is_cancelled_without_waiting_is_not_reported(amqp, channels):
    def script(peer):
        peer.expect_method(1, 'basic.consume')
        peer.send_method(1, 'basic.consume_ok', 'tag')
        peer.expect_method(1, 'basic.cancel')
        peer.send_method(1, 'basic.cancel', 'tag', True)
        peer.expect_close()

    _, connection, (first,) = channels(1, script)
    first.basic_consume('q', 'tag', callback=print)
    first.basic_cancel('tag', nowait=True)
    assert first.wait(timeout=10) is None
    connection.close()


def test_what_was_sent_before_a_consumer_is_cancelled_is_dropped_in_one_line(
    amqp, channels, caplog
):
    def script(peer):
        peer.expect_method(1, 'basic.consume')
        peer.send_method(1, 'basic.consume_ok', 'tag')
        peer.expect_method(1, 'basic.cancel')
        peer.send_raw(delivery(1, 'tag', 1) + delivery(1, 'other', 2) + delivery(1, 'tag', 3))
        peer.send_method(1, 'basic.cancel_ok', 'tag')
        peer.expect_close()

    _, connection, (first,) = channels(1, script)
    got = []
    first.callbacks['other'] = lambda message: got.append(message.delivery_tag)
    first.basic_consume('q', 'tag', callback=got.append)
    with caplog.at_level('WARNING', 'amqplib'):
        first.basic_cancel('tag')
        first.wait(timeout=10)
    assert got == [2]
    (line,) = caplog.messages
    assert line.startswith('2 messages dropped')
    connection.close()


def test_a_number_that_two_threads_open_is_one_channel(amqp, channels):
    def script(peer):
        peer.expect_method(5, 'channel.open')
        peer.mark()
        peer.await_cue()
        peer.confirm_channel(5)
        peer.expect_close()

    broker, connection, _ = channels(0, script)
    callers = [Worker(lambda: connection.channel(5))]
    broker.await_mark()
    callers.append(Worker(lambda: connection.channel(5)))
    callers[1].join(0.2)
    assert callers[1].is_alive()  # as it may not be used yet
    broker.cue()
    (first, _), (second, _) = (caller.outcome() for caller in callers)
    assert first is second
    assert first.is_open
    connection.close()


def test_a_number_that_is_open_is_not_opened_again(amqp, channels):
    def script(peer):
        peer.expect_close()

    _, connection, (first,) = channels(1, script)
    with pytest.raises(ValueError, match='1 is open'):
        amqp.Channel(connection, 1)
    assert connection.channel(1) is first
    connection.close()


class Disturbed(dict):
    """Channels by number; the first look-up of one calls a function."""

    def __init__(self, channels, happen):
        super().__init__(channels)
        self.happen = happen

    def get(self, number, default=None):
        answer = super().get(number, default)
        if self.happen is not None:
            happen, self.happen = self.happen, None
            happen()
        return answer


def test_a_number_that_another_thread_opens_just_now_is_not_opened_again(amqp, channels):
    def script(peer):
        peer.open_channel(5)
        peer.expect_close()

    _, connection, _ = channels(0, script)
    others = []

    def open_it():
        others.append(Worker(lambda: connection.channel(5)).outcome()[0])

    connection.channels = Disturbed(connection.channels, open_it)
    assert [connection.channel(5)] == others
    connection.close()


@only_0_9_1
def test_wait_for_confirms_on_a_closed_channel_raises_why(amqp, channels):
    def script(peer):
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        peer.expect_method(1, 'basic.publish')
        peer.expect_content(1)
        peer.send_raw(method(1, 'basic.ack', 1, False, version=peer.version))
        peer.send_method(1, 'channel.close', *NO_EXCHANGE)
        peer.expect_method(1, 'channel.close_ok')
        peer.expect_close()

    _, connection, (first,) = channels(1, script)
    first.confirm_select()
    first.basic_publish(amqp.Message(b'x'), '', 'q')
    assert type(until_raised(lambda: first.wait(timeout=10))) is amqp.NotFound
    for _ in range(2):
        with pytest.raises(amqp.NotFound):
            first.wait_for_confirms(timeout=10)
    connection.close()
    with pytest.raises(amqp.NotFound):
        first.wait_for_confirms(timeout=10)


def replied(name, *values, call):
    return pytest.param(name, values, call, id=name)


EMPTY_REPLIES = [
    replied('channel.close_ok', call=lambda connection, channel: channel.close()),
    replied('connection.close_ok', call=lambda connection, channel: connection.close()),
    replied('tx.select_ok', call=lambda connection, channel: channel.tx_select()),
    replied('tx.commit_ok', call=lambda connection, channel: channel.tx_commit()),
    replied('tx.rollback_ok', call=lambda connection, channel: channel.tx_rollback()),
    replied('basic.qos_ok', call=lambda connection, channel: channel.basic_qos(0, 1, False)),
    replied('basic.cancel_ok', 'tag', call=lambda connection, channel: channel.basic_cancel('tag')),
    replied('basic.get_empty', '', call=lambda connection, channel: channel.basic_get('q')),
    replied('basic.recover_ok', call=lambda connection, channel: channel.basic_recover_sync(True)),
    replied(
        'exchange.declare_ok',
        call=lambda connection, channel: channel.exchange_declare('x', 'direct'),
    ),
    replied('exchange.delete_ok', call=lambda connection, channel: channel.exchange_delete('x')),
    replied('queue.bind_ok', call=lambda connection, channel: channel.queue_bind('q', 'x')),
    replied('queue.unbind_ok', call=lambda connection, channel: channel.queue_unbind('q', 'x')),
]
EMPTY_REPLIES_0_9_1 = [
    replied('exchange.bind_ok', call=lambda connection, channel: channel.exchange_bind('x', 'y')),
    replied(
        'exchange.unbind_ok', call=lambda connection, channel: channel.exchange_unbind('x', 'y')
    ),
    replied('confirm.select_ok', call=lambda connection, channel: channel.confirm_select()),
    replied(
        'connection.update_secret_ok',
        call=lambda connection, channel: connection.update_secret('x'),
    ),
]


def check_junk_after(amqp, channels, name, values, call):
    def script(peer):
        number = peer.expect_frame()[1]
        payload = method_payload(name, *values, version=peer.version) + b'\0'
        peer.send_frame(1, number, payload)
        peer.rest()

    _, connection, (first,) = channels(1, script)
    with pytest.raises(amqp.ProtocolError) as caught:
        call(connection, first)
    assert caught.value.amqp_reply_code == 502
    assert connection.transport is None


@pytest.mark.parametrize(('name', 'values', 'call'), EMPTY_REPLIES)
def test_junk_after_an_empty_reply_is_an_error(amqp, channels, name, values, call):
    check_junk_after(amqp, channels, name, values, call)


@only_0_9_1
@pytest.mark.parametrize(('name', 'values', 'call'), EMPTY_REPLIES_0_9_1)
def test_junk_after_an_empty_reply_of_0_9_1_is_an_error(amqp, channels, name, values, call):
    check_junk_after(amqp, channels, name, values, call)


def test_junk_after_the_open_ok_of_a_channel_is_an_error(amqp, channels):
    def script(peer):
        peer.expect_method(1, 'channel.open')
        fields = ['' for _ in peer.version.methods['channel.open_ok'].fields]
        payload = method_payload('channel.open_ok', *fields, version=peer.version)
        peer.send_frame(1, 1, payload + b'\0')
        peer.rest()

    _, connection, _ = channels(0, script)
    with pytest.raises(amqp.ProtocolError) as caught:
        connection.channel()
    assert caught.value.amqp_reply_code == 502


@only_0_9_1
def test_junk_after_unblocked_is_an_error(amqp, channels):
    def script(peer):
        payload = method_payload('connection.unblocked', version=peer.version)
        peer.send_frame(1, 0, payload + b'\0')
        peer.rest()

    _, _, (first,) = channels(1, script)
    with pytest.raises(amqp.ProtocolError) as caught:
        first.wait(timeout=10)
    assert caught.value.amqp_reply_code == 502


# --- Waiting for one kind of method ---------------------------------------------------------------


class Unindexed(deque):
    """A queue in which nothing is looked up by its place, as that takes longer the longer it is."""

    def __getitem__(self, position):
        raise AssertionError('it is looked at by position')


CANCEL = (60, 30)


def test_wait_for_a_method_after_many_others_goes_through_them_once(amqp, channels):
    count = 3000

    def script(peer):
        peer.await_cue()  # else some would be on the queue that is replaced
        peer.send_raw(b''.join(delivery(1, 'tag', number) for number in range(count)))
        peer.send_raw(delivery(2, 'tag'))
        peer.await_cue()
        peer.send_raw(b''.join(delivery(1, 'tag', number) for number in range(count)))
        peer.send_method(1, 'basic.cancel', 'tag', True)
        peer.expect_close()

    broker, connection, (first, second) = channels(2, script)
    first.method_queue = Unindexed()
    first.callbacks['tag'] = second.callbacks['tag'] = print
    broker.cue()
    second.wait(timeout=10)
    with pytest.raises(amqp.AMQPTimeout):
        first.wait([CANCEL], timeout=0)
    broker.cue()
    with pytest.raises(amqp.ConsumerCancelled):
        first.wait([CANCEL], timeout=10)
    assert len(first.method_queue) == 2 * count
    connection.close()


def test_wait_for_a_method_while_another_thread_reads_many(amqp, channels):
    count = 30000

    def script(peer):
        peer.await_cue()
        peer.send_raw(b''.join(delivery(1, 'tag', number) for number in range(count)))
        peer.send_method(1, 'basic.cancel', 'tag', True)
        peer.send_raw(delivery(2, 'tag'))
        peer.expect_close()

    broker, connection, (first, second) = channels(2, script)
    first.callbacks['tag'] = second.callbacks['tag'] = print
    reading = Worker(lambda: second.wait(timeout=20))
    broker.cue()
    error = until_raised(lambda: wait_briefly(amqp, first))
    assert type(error) is amqp.ConsumerCancelled
    assert len(first.method_queue) == count
    assert reading.outcome()[1] is None
    connection.close()


def wait_briefly(amqp, channel):
    with contextlib.suppress(amqp.AMQPTimeout):
        channel.wait([CANCEL], timeout=0)
