"""Channels and connections that end while other threads use them."""

import contextlib
import threading
import time
from functools import partial

import pytest

from tests.helpers.answering_peer import AnsweringPeer
from tests.helpers.children import run_in_child
from tests.helpers.interrupts import at_line, lines
from tests.helpers.threads import Worker, in_thread
from tests.helpers.waiting import PATIENCE

ROUNDS = 500
THREADS = 2


def fail_until_raised(amqp, channel, number):
    """Publish to a missing exchange until the channel raises why it is closed."""
    others = [
        lambda: channel.basic_publish(amqp.Message(b'x'), 'no such exchange'),
        lambda: channel.basic_ack(number),
        lambda: channel.basic_reject(number, True),
        lambda: channel.queue_declare('no such queue', passive=True),
    ]
    channel.basic_publish(amqp.Message(b'x'), 'no such exchange')
    try:
        while True:
            others[number % len(others)]()
            time.sleep(0)  # lets the thread go on that reads
    except (amqp.NotFound, amqp.PreconditionFailed):
        return


def test_errors_of_channels_by_the_hundred_leave_the_connection_whole(amqp, dial):
    """One thread waits, and so reads the closes; others send on the channels that are closed."""
    connection = dial()
    ended = threading.Event()
    keeper, witness = connection.channel(), connection.channel()
    queue = keeper.queue_declare(exclusive=True, auto_delete=False)[0]
    seen = []
    witness.basic_consume(queue, no_ack=True, callback=lambda message: seen.append(message.body))

    def read():
        while not ended.is_set() or len(seen) < ROUNDS:
            witness.wait(timeout=PATIENCE)

    def fail(rounds):
        other = connection.channel()
        for number in range(rounds):
            fail_until_raised(amqp, connection.channel(), number)
            other.basic_publish(amqp.Message(b'x'), '', queue)

    reader = Worker(read)
    workers = [Worker(fail, ROUNDS // THREADS) for _ in range(THREADS)]
    for worker in workers:
        worker.result(6 * PATIENCE)
    ended.set()
    keeper.basic_publish(amqp.Message(b'x'), '', queue)  # wakes the reader
    reader.result(PATIENCE)
    connection.close()


@pytest.mark.parametrize('allowed', [None, [(60, 60)]])
def test_a_wait_for_a_channel_whose_end_another_thread_reads_just_then(
    amqp, dial, monkeypatch, allowed
):
    """When the wait begins, another channel may have its number."""
    connection = dial()
    channel, other = connection.channel(), connection.channel()
    number, require_open = channel.channel_id, channel._require_open
    opened = []

    def read_end():
        while channel.is_open:
            other.queue_declare(exclusive=True)
        opened.append(connection.channel(number))

    def require_open_and_end():
        patch.undo()
        found = require_open()
        in_thread(read_end)
        return found

    channel.basic_publish(amqp.Message(b'x'), 'no such exchange')
    with monkeypatch.context() as patch:
        patch.setattr(channel, '_require_open', require_open_and_end)
        with pytest.raises(amqp.NotFound, match='no such exchange'):
            channel.wait(allowed, timeout=PATIENCE)
    assert [new.channel_id for new in opened] == [number]
    connection.close()


# --- At each line of a call -----------------------------------------------------------------------

CALLS = {
    'open': lambda amqp, connection, channel: connection.channel(),
    'open by number': lambda amqp, connection, channel: connection.channel(7),
    'find': lambda amqp, connection, channel: connection.channel(1),
    'close': lambda amqp, connection, channel: channel.close(),
    'call': lambda amqp, connection, channel: channel.queue_declare('q'),
    'publish': lambda amqp, connection, channel: channel.basic_publish(amqp.Message(b'x')),
    'acknowledge': lambda amqp, connection, channel: channel.basic_ack(1, multiple=True),
    'wait': lambda amqp, connection, channel: channel.wait(timeout=0),
    'wait for a method': lambda amqp, connection, channel: channel.wait([(60, 30)], timeout=0),
    'consume': lambda amqp, connection, channel: list(channel.consume('q', timeout=0)),
}


@pytest.mark.parametrize('call', CALLS)
def test_another_thread_may_find_the_connection_lost_at_any_line_of_a_call(amqp, call):
    run_in_child(lose_at_any_line, amqp, call)


def lose_at_any_line(amqp, call):
    with AnsweringPeer(amqp) as peer:
        for line in lines():
            connection = amqp.Connection(host=peer.address, rpc_timeout=PATIENCE)
            channel = connection.channel()
            lose = partial(connection._session.end, amqp.ConnectionLost(0, 'cut'))
            said = 'cut'
            try:
                at_line(line, partial(in_thread, lose), CALLS[call], amqp, connection, channel)
            except (amqp.ConnectionLost, amqp.AMQPTimeout) as error:
                said = error.amqp_reply_text
            assert said in ('cut', 'nothing arrived within 0 s')
            reached = connection.transport is None
            with contextlib.suppress(amqp.ConnectionLost):
                connection.close()
            assert connection.transport is None
            if not reached:
                break
    assert line.number > 5, line.number
