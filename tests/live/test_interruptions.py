"""Exceptions of signal handlers at any line of open and close leave a consistent state."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.interrupts import Alarm, interrupt, lines
from tests.helpers.queues import await_ready
from tests.helpers.waiting import poll

#: Seconds after which a call that nobody answers has failed.
PATIENCE = 2

KINDS = [KeyboardInterrupt, Alarm]


def in_a_thread(function, amqp, address, *arguments):
    """Call it with a function that connects, in a thread of its own, where connections end too.

    What measures coverage traces this one. And where the interruption comes between the block of
    a `with` and the release of its lock, the lock stays with the thread.
    """

    def run():
        connections = []

        def connect():
            connections.append(amqp.Connection(host=address, rpc_timeout=PATIENCE))
            return connections[-1]

        try:
            function(amqp, connect, *arguments)
        finally:
            for connection in connections:
                with contextlib.suppress(amqp.AMQPException):
                    connection.close()

    with ThreadPoolExecutor(1) as executor:
        executor.submit(run).result()


@pytest.mark.parametrize('by', KINDS)
def test_closing_a_connection_leaves_it_open_or_closed(amqp, address, by):
    in_a_thread(interrupt_closing, amqp, address, by)


def interrupt_closing(amqp, connect, by):
    for line in lines():
        connection = connect()
        channel, sock = connection.channel(), connection.transport.sock
        if not interrupt(line, connection.close, by=by):
            break
        # It works, or says at once that it is closed.
        try:
            channel.queue_declare(exclusive=True)
        except amqp.AMQPConnectionException:
            assert connection.transport is None
        # And can be closed, for which the program has been interrupted once already.
        assert connection.close() is None
        assert sock.fileno() < 0
    assert line.number > 100


@pytest.mark.parametrize('by', KINDS)
def test_opening_a_channel_harms_no_other(amqp, address, by):
    in_a_thread(interrupt_opening, amqp, address, by)


def interrupt_opening(amqp, connect, by):
    connection = connect()
    other = connection.channel()
    for line in lines():
        if not interrupt(line, connection.channel, by=by):
            break
        try:
            # By the second one, the broker has answered what was sent before the first.
            other.queue_declare(exclusive=True)
            other.queue_declare(exclusive=True)
        except amqp.ConnectionLost as error:
            assert 'interrupted' in str(error)  # noqa: PT017
            connection = connect()
            other = connection.channel()
    assert line.number > 100
    # Those that were opened are closed, and their numbers free.
    poll(lambda: not connection.numbers.lingering)


@pytest.mark.parametrize('by', KINDS)
def test_closing_a_channel_ends_it_at_the_broker_too(amqp, address, shared_queue, by):
    in_a_thread(interrupt_closing_a_channel, amqp, address, shared_queue, by)


def interrupt_closing_a_channel(amqp, connect, queue, by):
    connection = connect()
    other = connection.channel()
    other.basic_publish(amqp.Message('x'), routing_key=queue)
    for line in lines():
        channel = connection.channel()
        await_ready(other, queue, 1)
        assert channel.basic_get(queue) is not None
        if not interrupt(line, channel.close, by=by):
            break
        if channel.is_open:
            channel.close()
        if connection.transport is None:
            connection = connect()
            other = connection.channel()
    assert line.number > 100
    # The message came back each time; the numbers are free.
    poll(lambda: other.queue_declare(queue, passive=True) and not connection.numbers.lingering)
