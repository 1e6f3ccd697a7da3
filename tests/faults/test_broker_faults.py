"""A real broker that freezes, crashes, stops, restarts, and disconnects its clients."""

import pytest

from tests.helpers.checks import check_repeated
from tests.helpers.full_sockets import HUGE
from tests.helpers.nodes import close_connection, close_connections, suspended, write_down
from tests.helpers.packages import only_0_8
from tests.helpers.queues import drain, get_all, get_messages, new_name
from tests.helpers.threads import await_blocked, begin, outcome
from tests.helpers.waiting import BUSY, PATIENCE, lasting, poll

#: How long a program waits where nothing should come.
QUIET = 0.2


def publish_for_ever(amqp, channel, size=1000):
    while True:
        channel.basic_publish(amqp.Message(bytes(size)), routing_key='amqplib-test-nowhere')


def declare_for_ever(channel):
    while True:
        channel.queue_delete(channel.queue_declare(exclusive=True)[0])


def consume_for_ever(amqp, channel):
    """Send messages round, through a queue and back."""
    queue = channel.queue_declare(exclusive=True)[0]

    def send_round(message):
        channel.basic_ack(message.delivery_tag)
        channel.basic_publish(message, routing_key=queue)

    channel.basic_consume(queue, callback=send_round)
    for _ in range(10):
        channel.basic_publish(amqp.Message(bytes(1000)), routing_key=queue)
    while True:
        channel.wait()


CALLS = {
    'wait': lambda amqp, channel: channel.wait(),
    'publish': publish_for_ever,
    'publish large messages': lambda amqp, channel: publish_for_ever(amqp, channel, 1 << 20),
    'declare': lambda amqp, channel: declare_for_ever(channel),
    'consume': consume_for_ever,
}


@pytest.fixture
def busy(amqp, node, connect):
    """Programs that are in the middle of something: name -> Future of the error they end by.

    Each has a connection and a thread of its own. One that holds an idle connection is there too,
    as 'idle': it asks for something when its error is asked for.
    """
    channels = {name: connect(node.address).channel() for name in [*CALLS, 'idle']}
    futures = {name: begin(work, amqp, channels[name]) for name, work in CALLS.items()}
    await_blocked(futures['wait'])
    poll(
        lambda: all(
            channels[name].connection.transport.sent > 20 for name in CALLS if name != 'wait'
        ),
        'some work',
    )

    def errors():
        with lasting(most=PATIENCE):
            found = {name: outcome(future) for name, future in futures.items()}
        with pytest.raises(amqp.AMQPException) as caught:
            channels['idle'].queue_declare(exclusive=True)
        found['idle'] = caught.value
        for name, error in found.items():
            check_repeated(error, lambda name=name: channels[name].basic_qos(0, 1, False))
        return found

    return errors


def durable_queue(channel, *messages):
    """Make a durable queue of these messages, which are on disk when this returns."""
    queue = new_name()
    channel.queue_declare(queue, durable=True, auto_delete=False)
    channel.tx_select()
    for message in messages:
        channel.basic_publish(message, routing_key=queue)
    channel.tx_commit()
    return queue


def persistent(amqp, body):
    return amqp.Message(body, delivery_mode=2)


# --- Frozen -------------------------------------------------------------------------------------


def test_connecting_to_a_frozen_broker_ends_by_connect_timeout(amqp, node):
    with suspended(node), lasting(0.5, BUSY), pytest.raises(amqp.AMQPTimeout, match=r'0\.5 s'):
        amqp.Connection(host=node.address, connect_timeout=0.5)


def test_calls_to_a_frozen_broker_end_by_their_deadlines(amqp, node, connect):
    connection = connect(node.address)
    one, two, three = (connection.channel() for _ in range(3))
    with suspended(node):
        connection.rpc_timeout = 0.3
        with lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout, match='queue_declare') as caught:
            one.queue_declare(exclusive=True)
        check_repeated(caught.value, one.queue_declare)
        with lasting(0.2, BUSY), pytest.raises(amqp.AMQPTimeout):
            two.wait(timeout=0.2)
        with lasting(0.2, BUSY), pytest.raises(amqp.AMQPTimeout):
            three.close(timeout=0.2)
    # Its late replies are for channels that have been given up.
    connection.rpc_timeout = PATIENCE
    assert two.queue_declare(exclusive=True)
    assert connection.channel().queue_declare(exclusive=True)


def test_close_of_a_connection_to_a_frozen_broker_ends_by_its_timeout(amqp, node, connect):
    connection = connect(node.address)
    with suspended(node), lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout):
        connection.close(timeout=0.3)
    assert connection.transport is None
    connection.close()


@only_0_8  # the heartbeat thread, for which this takes seconds, is the same
def test_frozen_broker_is_noticed_by_heartbeats_in_a_wait(amqp, node, connect):
    connection = connect(node.address, heartbeat=1)
    channel = connection.channel()
    with suspended(node):
        with lasting(0.9, 6), pytest.raises(amqp.ConnectionLost, match='nothing was heard'):
            channel.wait(timeout=PATIENCE)
        with lasting(most=0.5):
            connection.close()


def test_frozen_broker_is_noticed_by_heartbeats_in_a_publish(amqp, node, connect):
    connection = connect(node.address, heartbeat=1)
    channel = connection.channel()
    with suspended(node):
        with lasting(0.9, 6), pytest.raises(amqp.ConnectionLost, match='nothing was heard'):
            channel.basic_publish(amqp.Message(bytes(HUGE)), routing_key='amqplib-test-nowhere')
        with lasting(most=0.5):
            connection.close()


def test_large_publish_to_a_frozen_broker_ends_by_write_timeout(amqp, node, connect):
    connection = connect(node.address, write_timeout=0.3)
    channel = connection.channel()
    with suspended(node):
        with lasting(0.3, 5), pytest.raises(amqp.WriteTimeout) as caught:
            channel.basic_publish(amqp.Message(bytes(HUGE)), routing_key='amqplib-test-nowhere')
        check_repeated(caught.value, lambda: channel.basic_publish(amqp.Message('x')))
        check_repeated(caught.value, connection.channel)
        with lasting(most=0.5):
            connection.close()


def test_everything_goes_on_when_the_broker_does(amqp, node, connect):
    connection = connect(node.address)
    waiting, publishing = connection.channel(), connection.channel()
    queue = waiting.queue_declare(exclusive=True)[0]
    bodies = []
    waiting.basic_consume(queue, callback=lambda message: bodies.append(message.body), no_ack=True)
    with suspended(node):
        for number in range(100):
            publishing.basic_publish(amqp.Message(str(number)), routing_key=queue)
        large = begin(publishing.basic_publish, amqp.Message(bytes(HUGE)), '', queue)
        await_blocked(large)
        with pytest.raises(amqp.AMQPTimeout):
            waiting.wait(timeout=QUIET)
    drain(waiting, lambda: len(bodies) == 101)
    large.result(PATIENCE)
    assert bodies == [str(number) for number in range(100)] + [bytes(HUGE)]


# --- Ended --------------------------------------------------------------------------------------


def test_crash_ends_every_call_and_keeps_what_was_committed(amqp, node, connect, busy):
    keeper = connect(node.address).channel()
    queue = durable_queue(keeper, persistent(amqp, 'taken'), persistent(amqp, 'waiting'))
    assert keeper.basic_get(queue).body == 'taken'  # and not acknowledged
    write_down(node)
    node.kill()
    errors = busy()
    assert {name: type(error) for name, error in errors.items()} == dict.fromkeys(
        errors, amqp.ConnectionLost
    )
    with lasting(most=BUSY), pytest.raises(amqp.ConnectionLost) as caught:
        amqp.Connection(host=node.address)
    assert isinstance(caught.value, ConnectionError)
    node.start()
    channel = connect(node.address).channel()
    assert sorted(get_all(channel, queue)) == ['taken', 'waiting']
    channel.queue_delete(queue)


def test_stopping_broker_says_so_and_keeps_durable_messages(amqp, node, connect, busy):
    keeper = connect(node.address).channel()
    first, second, transient = (
        persistent(amqp, 'first'),
        persistent(amqp, 'second'),
        amqp.Message('transient'),
    )
    queue = durable_queue(keeper, first, second, transient)
    keeper.tx_rollback()
    keeper.basic_ack(keeper.basic_get(queue).delivery_tag)
    keeper.tx_commit()
    assert keeper.basic_get(queue).body == 'second'
    node.stop()
    errors = busy()
    for name, error in errors.items():
        assert type(error) is amqp.ConnectionForced, f'{name}: {error!r}'
        assert error.amqp_reply_code == 320
        assert 'shutdown' in error.amqp_reply_text
    with pytest.raises(amqp.ConnectionLost):
        amqp.Connection(host=node.address)
    node.start()
    channel = connect(node.address).channel()
    assert channel.queue_declare(queue, passive=True)[0] == queue
    left = get_messages(channel, queue)
    assert [(message.body, message.redelivered) for message in left] == [('second', True)]
    channel.queue_delete(queue)


# --- Disconnected -------------------------------------------------------------------------------


def test_reason_of_an_operator_who_closes_all_connections_is_raised(amqp, node, busy):
    close_connections(node, 'time for bed')
    for name, error in busy().items():
        assert type(error) is amqp.ConnectionForced, f'{name}: {error!r}'
        assert error.amqp_reply_code == 320
        assert 'time for bed' in error.amqp_reply_text
    # The broker is still there.
    amqp.Connection(host=node.address).close()


def test_operator_who_closes_one_connection_leaves_the_others(amqp, node, connect):
    closed = connect(node.address, client_properties={'connection_name': 'the one'})
    other = connect(node.address).channel()
    waiting = begin(closed.channel().wait)
    close_connection(node, 'the one', 'only you')
    error = outcome(waiting)
    assert type(error) is amqp.ConnectionForced
    assert 'only you' in error.amqp_reply_text
    assert closed.transport is None
    with pytest.raises(amqp.ConnectionForced, match='only you'):
        closed.channel()
    assert other.queue_declare(exclusive=True)


DELETION = 'rabbit_vhost:delete(<<"{}">>, <<"tests">>)'


@pytest.fixture
def virtual_host(node):
    """The name of a virtual host of its own."""
    name = new_name()
    node.evaluate(f'rabbit_vhost:add(<<"{name}">>, <<"tests">>)')
    permit(node, name, '.*', '.*', '.*')
    yield name
    # A test may have deleted it.
    node.evaluate(f'catch {DELETION.format(name)}')


def permit(node, virtual_host, *patterns):
    """Set what a guest may configure, write and read: regular expressions; none for no access."""
    do = 'set_permissions' if patterns else 'clear_permissions'
    values = ', '.join(f'<<"{value}">>' for value in ('guest', virtual_host, *patterns, 'tests'))
    node.evaluate(f'rabbit_auth_backend_internal:{do}({values})')


def test_deleted_virtual_host_ends_its_connections_and_no_others(amqp, node, connect, virtual_host):
    waiting = connect(node.address, virtual_host=virtual_host).channel()
    publishing_connection = connect(node.address, virtual_host=virtual_host)
    publishing = publishing_connection.channel()
    other = connect(node.address).channel()
    futures = [begin(waiting.wait), begin(publish_for_ever, amqp, publishing)]
    node.evaluate(DELETION.format(virtual_host))
    error = outcome(futures[0])
    assert type(error) is amqp.ConnectionForced
    assert virtual_host in error.amqp_reply_text
    # The exchange may be gone before the connection is.
    assert type(outcome(futures[1])) in (amqp.NotFound, amqp.ConnectionForced)
    check_repeated(error, waiting.queue_declare)
    with lasting(most=PATIENCE), pytest.raises(amqp.ConnectionForced):
        publishing_connection.channel()
    assert other.queue_declare(exclusive=True)
    with pytest.raises(amqp.AMQPConnectionException) as caught:
        amqp.Connection(host=node.address, virtual_host=virtual_host)
    assert caught.value.amqp_reply_code == 530


def test_next_call_after_permissions_are_revoked_is_refused(amqp, node, connect, virtual_host):
    connection = connect(node.address, virtual_host=virtual_host)
    declaring, publishing = connection.channel(), connection.channel()
    declaring.queue_declare('mine', durable=True)
    permit(node, virtual_host, '^$', '^$', '.*')
    with pytest.raises(amqp.AccessRefused, match='refused') as caught:
        declaring.queue_declare('not mine', durable=True)
    assert caught.value.amqp_reply_code == 403
    with lasting(most=PATIENCE), pytest.raises(amqp.AccessRefused):
        publish_to(amqp, publishing, 'amq.direct')
    assert connection.channel().basic_get('mine') is None
    permit(node, virtual_host)
    with pytest.raises(amqp.AMQPConnectionException) as caught:
        amqp.Connection(host=node.address, virtual_host=virtual_host)
    assert caught.value.amqp_reply_code == 530


def publish_to(amqp, channel, exchange):
    while True:
        channel.basic_publish(amqp.Message(b'x'), exchange)


# --- Queues that go -------------------------------------------------------------------------------


def consume_two(connection, **arguments):
    """Consume from a queue that goes and from one that stays; return channel and the names."""
    channel = connection.channel()
    names = [channel.queue_declare(durable=True, auto_delete=False)[0] for _ in range(2)]
    channel.basic_consume(names[0], 'goes', **arguments)
    channel.basic_consume(names[1], 'stays')
    return channel, names


@pytest.mark.parametrize('told', ['by wait', 'by on_cancel'])
def test_consumer_whose_queue_is_deleted_is_notified(amqp, address, connect, told):
    cancelled = []
    arguments = {'on_cancel': cancelled.append} if told == 'by on_cancel' else {}
    channel, names = consume_two(connect(address), **arguments)
    waiting = begin(channel.wait)
    await_blocked(waiting)
    other = connect(address).channel()
    other.queue_delete(names[0])
    with lasting(most=BUSY):
        if told == 'by on_cancel':
            waiting.result(PATIENCE)
            assert cancelled == ['goes']
        else:
            error = outcome(waiting)
            assert type(error) is amqp.ConsumerCancelled
            assert error.consumer_tag == 'goes'
    assert list(channel.callbacks) == ['stays']
    received = []
    channel.callbacks['stays'] = received.append
    other.basic_publish(amqp.Message('for the other'), routing_key=names[1])
    drain(channel, lambda: received)
    channel.queue_delete(names[1])
