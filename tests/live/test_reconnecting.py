"""Working again after a loss, with a broker."""

import socket

import pytest

from tests.helpers.broker import free_port
from tests.helpers.queues import get, new_name


@pytest.fixture
def url(address):
    return f'amqp://{address}'


def test_work_goes_on_with_a_fresh_connection(amqp, channel, queue, shared_queue, url):
    """What was not acknowledged is delivered again; what was, is not."""
    for body in 'abc':
        channel.basic_publish(amqp.Message(body), '', shared_queue)
    connections, bodies = [], []
    for attempt in amqp.reconnecting(url, first=0, heartbeat=5):
        with attempt as conn, conn.channel() as ch:
            connections.append(conn)
            while len(bodies) < 4:
                msg = get(ch, shared_queue)
                bodies.append(msg.body)
                if len(bodies) == 2:
                    conn.transport.sock.shutdown(socket.SHUT_RDWR)
                msg.ack()
    assert bodies == ['a', 'b', 'b', 'c']
    assert len(connections) == 2
    assert not any(conn.is_open for conn in connections)
    assert channel.basic_get(shared_queue) is None


def test_another_host_is_tried(amqp, url):
    for attempt in amqp.reconnecting([f'amqp://localhost:{free_port()}', url], first=1e9):
        with attempt as conn:
            assert type(conn) is amqp.Connection


def test_an_exclusive_queue_of_a_lost_connection_is_waited_for(amqp, connect, url):
    holder, name, attempts = connect(), new_name(), 0
    holder.channel().queue_declare(name, exclusive=True)
    for attempt in amqp.reconnecting(url, first=0):
        attempts += 1
        with attempt as conn, conn.channel() as ch:
            ch.queue_declare(name, exclusive=True)
        if attempts == 1:
            holder.close()
    assert attempts == 2


def test_a_mistake_of_the_program_comes_through(amqp, url):
    def work():
        for attempt in amqp.reconnecting(url):
            with attempt as conn, conn.channel() as ch:
                ch.queue_declare(new_name(), passive=True)

    with pytest.raises(amqp.NotFound):
        work()
