"""Threads that share a connection: one of the waiting threads reads for all of them."""

import threading
from types import SimpleNamespace

import pytest

import amqplib.client_0_8 as amqp
from tests.helpers.checks import check_closed
from tests.helpers.threads import Worker
from tests.helpers.waiting import PATIENCE, lasting, poll
from tests.helpers.wire import delivery


def test_each_thread_gets_its_own_reply(channels):
    count = 8

    def script(peer):
        asked = [peer.expect_frame()[1] for _ in range(count)]
        assert sorted(asked) == list(range(1, count + 1))
        for number in reversed(asked):
            peer.send_method(number, 'queue.declare_ok', f'queue {number}', number, 0)
        peer.expect_close()

    _, connection, ours = channels(count, script)
    callers = [Worker(lambda channel=channel: channel.queue_declare('q')) for channel in ours]
    for number, caller in enumerate(callers, 1):
        assert caller.outcome() == ((f'queue {number}', number, 0), None)
    connection.close()


def test_each_thread_gets_its_own_messages_in_order(channels):
    count, messages = 3, 200

    def script(peer):
        peer.await_cue()
        for number in range(messages):
            peer.send_raw(b''.join(delivery(at, 'tag', number) for at in range(1, count + 1)))
        peer.expect_close()

    broker, connection, ours = channels(count, script)
    got = {channel: [] for channel in ours}

    def consume(channel):
        channel.callbacks['tag'] = lambda message: got[channel].append(
            (message.delivery_info['channel'], message.delivery_tag)
        )
        while len(got[channel]) < messages:
            channel.wait(timeout=5)

    callers = [Worker(lambda channel=channel: consume(channel)) for channel in ours]
    broker.cue()
    for caller in callers:
        assert caller.outcome() == (None, None)
    for channel in ours:
        assert got[channel] == [(channel, number) for number in range(messages)]
    connection.close()


def test_second_thread_on_a_channel_is_told_so(channels):
    def script(peer):
        peer.expect_method(1, 'tx.select')
        peer.mark()
        peer.await_cue()
        peer.send_method(1, 'tx.select_ok')
        peer.expect_close()

    broker, connection, (shared,) = channels(1, script)
    caller = Worker(shared.tx_select)
    broker.await_mark()
    with pytest.raises(amqp.ReentrancyError, match='have a channel of its own') as caught:
        shared.queue_declare('q')
    assert caught.value.args[2:] == ((50, 10), 'Channel.queue_declare')
    broker.cue()
    assert caller.outcome() == (None, None)
    connection.close()


@pytest.mark.parametrize('first', [0, 1])
def test_reader_that_reaches_its_deadline_hands_the_reading_over(channels, first):
    def script(peer):
        peer.await_cue()
        peer.send_raw(delivery(1, 'tag', 7))
        peer.expect_close()

    broker, connection, (patient, hasty) = channels(2, script)
    got = []
    patient.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    calls = [lambda: patient.wait(timeout=8), lambda: hasty.wait(timeout=0.1)]
    callers = [None, None]
    for position in (first, 1 - first):
        callers[position] = Worker(calls[position])
    _, error = callers[1].outcome()
    assert type(error) is amqp.AMQPTimeout
    broker.cue()
    with lasting(most=2):
        assert callers[0].outcome() == (None, None)
    assert got == [7]
    assert hasty.is_open
    connection.close()


def test_what_arrives_for_another_does_not_end_a_wait(channels):
    def script(peer):
        peer.await_cue()
        peer.send_raw(delivery(2, 'tag', 1) * 50)
        peer.mark()
        peer.await_cue()
        peer.send_raw(delivery(1, 'tag', 2))
        peer.expect_close()

    broker, connection, (first, second) = channels(2, script)
    got = []
    first.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    second.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    caller = Worker(lambda: first.wait(timeout=8))
    broker.cue()
    broker.await_mark()
    assert got == []
    broker.cue()
    assert caller.outcome() == (None, None)
    assert got == [2]
    for _ in range(50):
        second.wait(timeout=0)
    assert got == [2] + [1] * 50
    connection.close()


@pytest.mark.parametrize('how', ['close', 'reset', 'reason', 'fault'])
def test_loss_wakes_all_waiting_threads_with_the_cause(channels, how):
    count = 6

    def script(peer):
        for _ in range(count // 2):
            peer.expect_frame()
        if how == 'reason':
            peer.send_method(0, 'connection.close', 320, 'bye', 0, 0)
            peer.rest()
        elif how == 'fault':
            peer.send_frame(7, 0, b'')
            peer.rest()
        else:
            getattr(peer, how)()

    broker, connection, ours = channels(count, script)
    sock = connection.transport.sock
    half = count // 2
    callers = [Worker(lambda channel=channel: channel.wait(timeout=8)) for channel in ours[:half]]
    callers += [Worker(lambda channel=channel: channel.basic_get('q')) for channel in ours[half:]]
    errors = [caller.outcome()[1] for caller in callers]
    kind = {
        'reason': amqp.ConnectionForced,
        'fault': amqp.ProtocolError,
    }.get(how, amqp.ConnectionLost)
    assert {type(error) for error in errors} == {kind}
    assert len({error.args for error in errors}) == 1
    assert len(set(map(id, errors))) == count  # each thread has a traceback of its own
    broker.finish()
    check_closed(connection, sock, errors[0], ours)


def test_close_by_one_thread_wakes_the_others(channels):
    def script(peer):
        peer.await_cue()
        peer.mark()
        peer.expect_close()

    broker, connection, ours = channels(3, script)
    sock = connection.transport.sock
    callers = [Worker(lambda channel=channel: channel.wait(timeout=8)) for channel in ours]
    broker.cue()
    broker.await_mark()
    with lasting(most=2):
        connection.close()
        errors = [caller.outcome()[1] for caller in callers]
    for error in errors:
        assert type(error) is amqp.AMQPConnectionException
        assert 'closed by this program' in error.amqp_reply_text
    assert sock.fileno() == -1


def until(happened):
    """Wait until a function returns something true."""
    with lasting(most=5):
        while not happened():
            threading.Event().wait(0.001)


def until_writing(connection):
    """Wait until another thread is in the middle of a write."""
    until(lambda: not connection._session.outbox.run_idle(bool))


def test_reader_is_not_kept_waiting_by_a_write_that_is_stuck(channels):
    count = 50

    def script(peer):
        for number in range(count):
            peer.await_cue()
            peer.send_raw(delivery(2, 'tag', number))
        peer.await_cue()
        peer.rest()

    broker, connection, (writing, waiting) = channels(2, script)
    got = []
    waiting.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    body = bytes(24 << 20)
    writer = Worker(lambda: writing.basic_publish(amqp.Message(body), routing_key='q'))
    until_writing(connection)
    until(connection._session.role.is_taken)
    with lasting(most=8):
        for _ in range(count):
            broker.cue()
            waiting.wait(timeout=5)
    assert got == list(range(count))
    assert writer.is_alive()
    connection.transport.close()
    assert isinstance(writer.outcome()[1], amqp.ConnectionLost)
    broker.cue()


def test_reader_that_cannot_answer_a_close_at_once_goes_on(channels):
    """Another thread is in the middle of a write that the broker does not take."""
    body = bytes(24 << 20)

    def script(peer):
        peer.await_cue()
        peer.send_method(3, 'channel.close', 404, 'gone', 60, 20)
        peer.send_raw(delivery(2, 'tag', 7))
        peer.await_cue()
        peer.expect_method(1, 'basic.publish')
        assert len(peer.expect_content(1)[1]) == len(body)
        # Behind what was being written, and before anything else.
        peer.expect_method(3, 'channel.close_ok')
        peer.open_channel(3)
        peer.expect_close()

    broker, connection, (writing, waiting, closed) = channels(3, script)
    got = []
    waiting.callbacks['tag'] = lambda message: got.append(message.delivery_tag)
    writer = Worker(lambda: writing.basic_publish(amqp.Message(body), routing_key='q'))
    until_writing(connection)
    # Who waits for room to write reads meanwhile; it must not keep that from who waits to read.
    until(connection._session.role.is_taken)
    broker.cue()
    with lasting(most=2):
        waiting.wait(timeout=8)
    assert got == [7]
    with lasting(most=2), pytest.raises(amqp.NotFound):
        closed.queue_declare('q')
    assert writer.is_alive()
    broker.cue()
    assert writer.outcome() == (None, None)
    assert connection.channel(3).is_open
    connection.close()


def test_close_does_not_wait_longer_than_asked_for_that_of_another_thread(channels):
    def script(peer):
        peer.expect_method(0, 'connection.close')
        peer.mark()
        peer.expect_end()

    broker, connection, ours = channels(1, script)
    sock = connection.transport.sock
    patient = Worker(lambda: connection.close(timeout=None))
    broker.await_mark()
    with lasting(0.25, 2), pytest.raises(amqp.AMQPTimeout, match='another thread') as caught:
        connection.close(timeout=0.3)
    assert isinstance(patient.outcome()[1], amqp.AMQPException)
    check_closed(connection, sock, caught.value, ours)


def test_close_of_a_channel_by_the_broker_ends_only_its_wait(channels):
    def script(peer):
        peer.await_cue()
        peer.send_method(1, 'channel.close', 404, 'gone', 60, 20)
        peer.expect_method(1, 'channel.close_ok')
        peer.send_raw(delivery(2, 'tag', 1))
        peer.expect_close()

    broker, connection, (first, second) = channels(2, script)
    got = []
    second.callbacks['tag'] = got.append
    callers = [
        Worker(lambda channel=channel: channel.wait(timeout=8)) for channel in (first, second)
    ]
    broker.cue()
    assert type(callers[0].outcome()[1]) is amqp.NotFound
    assert callers[1].outcome() == (None, None)
    assert len(got) == 1
    connection.close()


def test_a_handler_does_not_wait_for_the_write_of_another_thread(channels):
    """That write may wait for the broker, which waits for a reader: the thread of the handler."""
    large = 24 << 20  # more than what the systems on both sides keep of a stream

    def script(peer):
        peer.await_cue()
        peer.send_content(1, 'basic.return', 312, 'NO_ROUTE', '', 'key', body=b'x')
        peer.await_cue()
        peer.send_raw(delivery(1, 'tag', 1, b'x' * large))
        for number in (2, 1):
            peer.expect_method(number, 'basic.publish')
            peer.expect_content(number)
        peer.expect_close()

    broker, connection, (ours, other) = channels(2, script)
    inside, got = threading.Event(), []

    def put(returned):
        inside.set()
        poll(lambda: not connection._session.outbox.is_idle())
        broker.cue()
        ours.basic_publish(amqp.Message('small'), routing_key='q')

    def consume():
        while not got:
            ours.wait(timeout=PATIENCE)

    ours.callbacks['tag'] = got.append
    ours.returned_messages = SimpleNamespace(put=put)
    reader = Worker(consume)
    broker.cue()
    assert inside.wait(PATIENCE)
    with lasting(most=10):
        other.basic_publish(amqp.Message(b'y' * large), routing_key='q')
        assert reader.outcome() == (None, None)
    connection.close()
