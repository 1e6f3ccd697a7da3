"""Another thread or a signal handler that interferes with a call at the worst moment."""

import contextlib
import os
import queue
import signal
import sys
import threading

import pytest

from amqplib.core import spec
from amqplib.core.deadline import Deadline
from amqplib.core.encoding import method_frame
from tests.helpers.packages import CLIENT_0_8, CLIENT_0_9_1
from tests.helpers.threads import Worker
from tests.helpers.waiting import poll
from tests.helpers.wire import delivery

PATIENCE = 10

signals_only = pytest.mark.skipif(os.name != 'posix', reason='there are no such signals')
both = pytest.mark.parametrize('amqp', [CLIENT_0_8, CLIENT_0_9_1], ids=['0-8', '0-9-1'])


@pytest.fixture
def on_signal():
    """A function that has SIGUSR1 handled by a function without arguments."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, lambda *_: handler())
    signal.signal(signal.SIGUSR1, before)


def interrupt_main_thread():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)


# --- A queue that is looked at by two ------------------------------------------------------------


@both
def test_wait_for_a_method_outlives_the_emptying_of_its_queue(amqp, session):
    """The methods that were checked may be taken, and as many others arrive."""

    def script(peer):
        peer.send_raw(delivery(1, 'tag', 1) + delivery(1, 'tag', 2))
        peer.expect_close()

    ours = session(script)
    has_arrived = ours.channel._watch_for([spec.CANCEL.signature])
    queue = ours.channel.method_queue
    assert ours.channel._wait_until(lambda: len(queue) == 2, Deadline(PATIENCE))
    assert not has_arrived()
    queue.clear()
    assert not has_arrived()
    queue.append((spec.CANCEL.signature, None, None))
    queue.append((spec.DELIVER.signature, None, None))
    assert has_arrived()
    queue.clear()
    ours.connection.close()


# --- Closes within a close ----------------------------------------------------------------------


def answer_once_handled(ours, handled):
    """Signal when the main thread waits for an answer; have the script give it after the handler.

    handled: a list in which the handler leaves something.
    """
    ours.broker.await_mark()
    poll(lambda: ours.connection._session.role.waiters, 'the thread that waits')
    interrupt_main_thread()
    poll(lambda: handled, 'the call of the handler')
    ours.broker.cue()


@signals_only
@both
def test_handler_that_closes_what_is_being_closed_leaves_that_alone(amqp, session, on_signal):
    """Whichever of the threads reads: here it is another one."""

    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.mark()
        peer.await_cue()
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    ours = session(script)
    reader = Worker(ours.channel.wait)
    poll(ours.connection._session.role.is_taken, 'a thread that reads')
    handled = []

    def close_again():
        try:
            ours.connection.close()
        except amqp.AMQPException as error:
            handled.append(error)
        else:
            handled.append(None)

    on_signal(close_again)

    answering = Worker(answer_once_handled, ours, handled)
    ours.connection.close()
    assert handled == [None]
    answering.outcome()
    assert isinstance(reader.outcome()[1], amqp.AMQPConnectionException)


@signals_only
@both
def test_handler_that_closes_the_channel_that_is_being_closed_leaves_that_alone(
    amqp, session, on_signal
):
    def script(peer):
        peer.open_channel(2)
        peer.expect_method(1, 'channel.close')
        peer.mark()
        peer.await_cue()
        peer.send_method(1, 'channel.close_ok')
        peer.expect_method(0, 'connection.close')
        peer.send_method(0, 'connection.close_ok')
        peer.expect_end()

    ours = session(script)
    reader = Worker(ours.connection.channel().wait)
    poll(ours.connection._session.role.is_taken, 'a thread that reads')
    handled = []

    def close_again():
        try:
            ours.channel.close(timeout=0)
        except amqp.AMQPTimeout:
            handled.append('waited')
        except amqp.AMQPException as error:
            handled.append(error)
        else:
            handled.append(None)

    on_signal(close_again)

    answering = Worker(answer_once_handled, ours, handled)
    ours.channel.close()
    answering.outcome()
    assert handled == [None]
    ours.connection.close()
    reader.outcome()


# --- Calls that end while their replies arrive ---------------------------------------------------


def close_channel(ours):
    ours.channel.close()


def close_connection(ours):
    ours.connection.close()


@both
@pytest.mark.parametrize('step', ['_encode', '_ask_to_close', '_send_close'])
@pytest.mark.parametrize(
    ('of', 'inner'),
    [('channel', close_channel), ('channel', close_connection), ('connection', close_connection)],
)
def test_handler_that_closes_it_first_leaves_nothing_to_close(
    amqp, session, monkeypatch, of, inner, step
):
    """What the program wanted is done: close() has nothing to raise."""

    def script(peer):
        if inner is close_channel:
            peer.expect_method(1, 'channel.close')
            peer.send_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = session(script)
    closed = getattr(ours, of)
    original, handlers = getattr(closed, step), [inner]

    def interrupted(*args):
        if handlers:
            handlers.pop()(ours)
        return original(*args)

    monkeypatch.setattr(closed, step, interrupted)
    closed.close()
    ours.connection.close()
    assert not handlers


@both
def test_reply_that_comes_as_its_call_gives_up_harms_nobody(amqp, session, monkeypatch):
    def script(peer):
        peer.open_channel(2)
        peer.expect_method(1, 'queue.declare')
        peer.expect_method(1, 'channel.close')
        peer.send_method(1, 'channel.close_ok')
        peer.expect_close()

    ours = session(script)
    other = ours.connection.channel()
    give_up, arrived = ours.channel._give_up, []

    def reply_comes(*args, **kwargs):
        signature = ours.channel._protocol.methods['queue.declare_ok'].signature
        ours.channel.arrive((signature, amqp.serialization.AMQPReader(b''), None))
        arrived.append(signature)
        give_up(*args, **kwargs)

    monkeypatch.setattr(ours.channel, '_give_up', reply_comes)
    ours.connection.rpc_timeout = 0.05
    with pytest.raises(amqp.AMQPTimeout):
        ours.channel.queue_declare('q')
    assert arrived
    assert other.is_open
    ours.connection.rpc_timeout = None
    ours.connection.close()


@both
def test_call_that_gives_up_as_its_reply_is_looked_at_harms_nobody(amqp, session):
    """It may have left the list of calls when it should get its reply."""

    def script(peer):
        peer.expect_close()

    ours = session(script)
    channel = ours.channel
    reply = channel._protocol.methods['queue.declare_ok'].signature

    class Expected:
        def __contains__(self, signature):
            channel._calls.clear()  # as the thread that made it would
            channel._closed.end(amqp.AMQPChannelException(0, 'gave up'), True)
            return signature == reply

    channel._calls[1] = (Expected(), [])
    channel.arrive((reply, amqp.serialization.AMQPReader(b''), None))
    ours.connection.close()


@both
def test_call_has_ended_when_its_reply_is_there(amqp, session):
    """The thread that made it may make another one at once."""

    def script(peer):
        peer.expect_close()

    ours = session(script)
    channel = ours.channel
    reply = channel._protocol.methods['queue.declare_ok'].signature
    calls_then = []

    class Replies(list):
        def append(self, method):
            calls_then.append(dict(channel._calls))

    channel._calls[1] = ([reply], Replies())
    channel.arrive((reply, amqp.serialization.AMQPReader(b''), None))
    assert calls_then == [{}]
    ours.connection.close()


# --- Numbers ------------------------------------------------------------------------------------


@both
def test_number_that_is_freed_as_it_is_asked_for_is_given(amqp, session, monkeypatch):
    def script(peer):
        peer.open_channel(2)
        peer.expect_close()

    ours = session(script)
    numbers, refusals = ours.connection.numbers, []

    def take(*args):
        # The first time, it is that of a channel which another thread then closes.
        if not refusals:
            refusals.append(args)
            return False
        return take_now(*args)

    take_now = numbers.take
    monkeypatch.setattr(numbers, 'take', take)
    assert ours.connection.channel(2).channel_id == 2
    assert refusals
    ours.connection.close()


# --- Reading ahead, in the middle of a write ------------------------------------------------------


@both
def test_interrupt_of_what_is_read_ahead_ends_the_connection(amqp, session, monkeypatch):
    """Else it would be decoded again, and messages come twice."""

    def script(peer):
        peer.send_heartbeat()
        peer.stall()

    ours = session(script)
    sessions = ours.connection._session
    take = sessions.decoder.take

    def interrupted(data):
        take(data)
        raise KeyboardInterrupt

    monkeypatch.setattr(sessions.decoder, 'take', interrupted)
    with pytest.raises(KeyboardInterrupt):
        sessions._try_read(sessions._read_ahead, PATIENCE, False)
    with pytest.raises(amqp.ConnectionLost, match='interrupted'):
        ours.channel.queue_declare('q')


@both
def test_messages_before_an_error_are_not_decoded_again(amqp, session):
    """More may be read after it, to find out why a write failed."""

    def script(peer):
        peer.stall()

    ours = session(script)
    decoder = ours.connection._session.decoder
    ours.channel.callbacks['tag'] = None
    junk = method_frame(1, b'') + b'\0'
    with pytest.raises(amqp.ProtocolError):
        decoder.take(delivery(1, 'tag', 1, b'body') + junk)
    count = len(decoder.queue) + len(ours.channel.method_queue)
    assert count == 1
    with pytest.raises(amqp.ProtocolError):
        decoder.take(b'more')
    assert len(decoder.queue) + len(ours.channel.method_queue) == count


# --- The descriptor -----------------------------------------------------------------------------


@both
def test_descriptor_is_freed_by_whoever_leaves_last(amqp, session, monkeypatch):
    """Two threads may each find that the other one is still using it."""

    def script(peer):
        peer.expect_end()

    ours = session(script)
    sessions = ours.connection._session
    outbox, run_idle, found = sessions.outbox, sessions.outbox.run_idle, []

    def as_the_writer_leaves(work):
        if found:
            return run_idle(work)
        found.append(work)
        # The other thread holds the lock, so it is not idle; then it leaves, and finds this one.
        Worker(sessions._free_descriptor).outcome()
        return False

    monkeypatch.setattr(outbox, 'run_idle', as_the_writer_leaves)
    sessions.end(amqp.ConnectionLost(0, 'lost'), reported=True)
    assert found
    assert ours.sock.fileno() == -1


@both
def test_number_is_not_free_before_the_close_ok_is_on_its_way(amqp, session, monkeypatch):
    """Another thread may learn of the end before."""

    def script(peer):
        peer.send_method(1, 'channel.close', 404, 'gone', 50, 10)
        peer.expect_method(1, 'channel.close_ok')
        peer.open_channel(1)
        peer.expect_close()

    def send_urgent(frame):
        if not numbers_then:
            # Here, that thread is this one.
            with pytest.raises(amqp.NotFound):
                ours.channel.basic_ack(1)
            numbers_then.append(ours.connection.numbers.choose(10))
        send_now(frame)

    ours = session(script)
    numbers_then, sessions = [], ours.connection._session
    send_now = sessions.send_urgent
    monkeypatch.setattr(sessions, 'send_urgent', send_urgent)
    with pytest.raises(amqp.NotFound):
        ours.channel.wait(timeout=PATIENCE)
    assert numbers_then == [2]
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


@both
def test_close_that_is_said_while_the_broker_closes_is_not_sent(amqp, session, monkeypatch):
    """Its confirmation would be for a new channel of the same number."""

    def script(peer):
        peer.expect_method(1, 'channel.close_ok')
        peer.open_channel(1)
        peer.expect_close()

    ours = session(script)
    channel, ask = ours.channel, ours.channel._closed.ask

    def closed_meanwhile():
        args = amqp.serialization.AMQPWriter()
        args.write_short(404)
        args.write_shortstr('gone')
        args.write_short(50)
        args.write_short(10)
        closing = spec.CHANNEL_CLOSE.signature
        channel.arrive((closing, amqp.serialization.AMQPReader(args.getvalue()), None))
        ask()

    monkeypatch.setattr(channel._closed, 'ask', closed_meanwhile)
    with pytest.raises(amqp.NotFound):
        channel.close()
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


@both
def test_close_of_a_channel_that_another_thread_gives_up_just_now_is_answered(
    amqp, session, monkeypatch
):
    """Else the broker waits for the answer, and hears nothing of a new channel of that number."""

    def script(peer):
        peer.send_method(1, 'channel.close', 404, 'gone', 50, 10)
        peer.expect_method(1, 'channel.close')
        peer.expect_method(1, 'channel.close_ok')
        peer.send_method(1, 'channel.close_ok')
        peer.mark()
        peer.open_channel(1)
        peer.expect_close()

    ours = session(script)
    channel, arrive = ours.channel, ours.channel.arrive

    def given_up_before(method):
        channel._give_up(amqp.AMQPTimeout(0, 'too late'), reported=True)
        arrive(method)

    monkeypatch.setattr(channel, 'arrive', given_up_before)
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=PATIENCE)
    ours.broker.await_mark()
    sessions = ours.connection._session
    numbers = ours.connection.numbers
    assert sessions.wait_until(sessions.closed, lambda: not numbers.lingering, Deadline(PATIENCE))
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


@both
@pytest.mark.parametrize('before', ['the number', 'the rest'])
def test_close_ok_for_a_channel_that_another_thread_gives_up_just_now_is_taken(
    amqp, session, monkeypatch, before
):
    def script(peer):
        peer.expect_method(1, 'channel.close')
        peer.send_method(1, 'channel.close_ok')
        peer.open_channel(1)
        peer.expect_close()

    ours = session(script)
    channel, arrive, give_up = ours.channel, ours.channel.arrive, ours.channel._give_up
    too_late = amqp.AMQPTimeout(0, 'too late')

    def given_up_before(method):
        if before == 'the number':
            give_up(too_late, reported=True)
        else:
            channel._closed.end(too_late, reported=True)
        arrive(method)

    monkeypatch.setattr(channel, 'arrive', given_up_before)
    with pytest.raises(amqp.AMQPTimeout):
        channel.close()
    assert ours.connection.channel().channel_id == 1
    ours.connection.close()


@pytest.mark.parametrize('amqp', [CLIENT_0_9_1])
def test_confirm_that_a_finalizer_reports_first_is_reported_once(amqp, session):
    def script(peer):
        peer.expect_method(1, 'confirm.select')
        peer.send_method(1, 'confirm.select_ok')
        peer.expect_method(1, 'basic.publish')
        peer.expect_content(1)
        peer.send_method(1, 'basic.ack', 1, False)
        peer.expect_close()

    ours = session(script)
    channel, reported = ours.channel, []

    class Interrupted(type(channel)):
        @property
        def on_confirm(self):
            if self._has_pending_events() and finalizers:
                finalizers.pop()()
            return lambda *event: reported.append(event)

    finalizers = [lambda: channel._call_on_confirm(Deadline(PATIENCE))]
    channel.__class__ = Interrupted
    channel.confirm_select()
    channel.basic_publish(amqp.Message('x'), routing_key='q')
    channel.wait_for_confirms(timeout=PATIENCE)
    assert reported == [(1, False, True)]
    assert not finalizers
    ours.connection.close()


def test_message_that_comes_back_while_another_one_is_put_away(session):
    """A finalizer or a signal handler may call the library in the middle of Queue.put()."""

    def script(peer):
        peer.send_content(1, 'basic.return', 312, 'NO_ROUTE', '', 'q', body=b'first')
        peer.expect_method(1, 'tx.select')
        peer.send_content(1, 'basic.return', 312, 'NO_ROUTE', '', 'q', body=b'second')
        peer.send_method(1, 'tx.select_ok')
        peer.expect_close()

    ours = session(script)
    channel, returned = ours.channel, ours.channel.returned_messages
    put = returned._put

    def interrupted(message):
        put(message)
        if len(returned.queue) == 1:
            channel.tx_select()

    returned._put = interrupted
    channel.wait(timeout=5)
    assert [returned.get_nowait()[-1].body for _ in range(2)] == [b'first', b'second']
    assert isinstance(returned, queue.Queue)
    ours.connection.close()


# --- What has ended says why ---------------------------------------------------------------------


@both
@pytest.mark.parametrize('end', ['channel', 'connection', 'timeout'])
def test_channel_that_is_not_open_knows_why(amqp, session, monkeypatch, end):
    """Else a close() in another thread at that moment would not raise the error of a message."""

    def script(peer):
        if end == 'channel':
            peer.send_method(1, 'channel.close', 404, 'gone', 50, 10)
        elif end == 'timeout':
            peer.expect_method(1, 'queue.declare')
        if end == 'connection':
            peer.close()
        else:
            peer.rest()

    def recorded(function):
        def call(*args, **kwargs):
            open_before.append(ours.channel.is_open)
            return function(*args, **kwargs)

        return call

    ours = session(script)
    closed, open_before = ours.channel._closed, []
    for name in ('end', 'end_with_connection'):
        monkeypatch.setattr(closed, name, recorded(getattr(closed, name)))
    ours.connection.rpc_timeout = 0.05 if end == 'timeout' else None
    with pytest.raises(amqp.AMQPException):
        ours.channel.queue_declare('q')
    assert open_before[0]
    assert not ours.channel.is_open


# --- Large bodies -------------------------------------------------------------------------------


@both
@pytest.mark.parametrize('step', range(16))
def test_interrupt_before_a_large_receive_leaves_the_memory_of_the_body_alone(amqp, session, step):
    """Also while the program keeps the error, and with it the frames that it went through."""
    body = bytes(range(256)) * 4096
    data = delivery(1, 'tag', 1, body)

    def script(peer):
        peer.send_raw(data[:20_000])
        peer.await_cue()
        with contextlib.suppress(OSError):
            peer.send_raw(data[20_000:])
        peer.rest()

    ours = session(script)
    inner, got = ours.connection._session, []
    ours.channel.callbacks['tag'] = lambda message: got.append(message.body)
    assert ours.channel._wait_until(lambda: inner.decoder.open_frame, Deadline(PATIENCE))
    ours.broker.cue()
    receiving, left = inner._receive_bytes.__func__.__code__, step

    def trace(frame, event, arg):
        nonlocal left
        if frame.f_code is not receiving:
            return None
        if event == 'line':
            left -= 1
            if left == -1:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        ours.channel.wait(timeout=PATIENCE)
    except KeyboardInterrupt:
        sys.settrace(before)
        try:
            ours.channel.wait(timeout=PATIENCE)
        except amqp.ConnectionLost as error:
            assert 'interrupted' in str(error)  # noqa: PT017
            return
    finally:
        sys.settrace(before)
    assert got == [body]
