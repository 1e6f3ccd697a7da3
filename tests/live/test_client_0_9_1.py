"""What 0-9-1 and RabbitMQ add: negative acknowledgements, bindings of exchanges, arguments of
consumers, streams, None in tables, names of connections, new secrets.
"""

import pytest

from tests.helpers.nodes import await_connection
from tests.helpers.packages import only_0_9_1
from tests.helpers.queues import (
    await_ready,
    close_and_get_what_comes_back,
    drain,
    get,
    get_bodies,
    hand_out_the_rest,
    new_name,
    nothing_waits,
    ready_count,
)

pytestmark = only_0_9_1

with_streams = pytest.mark.only_rabbitmq('streams')


@pytest.fixture
def received():
    """A list for what a callback gets."""
    return []


def publish(amqp, channel, queue, *bodies):
    for body in bodies:
        channel.basic_publish(amqp.Message(body), '', queue)
    await_ready(channel, queue, len(bodies))


# The connection


def test_what_the_broker_can_do(connection):
    capabilities = connection.server_capabilities
    for name in ('publisher_confirms', 'basic.nack', 'exchange_exchange_bindings'):
        assert capabilities[name] is True
    assert capabilities == connection.server_properties['capabilities']


def test_the_name_of_a_connection_is_seen_by_the_broker(controlled, connect):
    name = new_name()
    connect(host=controlled.address, connection_name=name)
    await_connection(controlled, name)


def test_a_new_secret_is_taken(connection, channel):
    assert connection.update_secret('another password', 'just to see') is None
    assert channel.queue_declare(exclusive=True)


# Acknowledgements


def test_what_is_refused_comes_back(amqp, channel, queue):
    publish(amqp, channel, queue, 'again')
    assert channel.basic_nack(channel.basic_get(queue).delivery_tag) is None
    message = get(channel, queue)
    assert (message.body, message.redelivered) == ('again', True)


def test_what_is_refused_for_good_is_gone(amqp, connection, channel, queue):
    publish(amqp, channel, queue, 'gone')
    channel.basic_nack(channel.basic_get(queue).delivery_tag, requeue=False)
    assert close_and_get_what_comes_back(amqp, connection, channel, queue) == []


@pytest.mark.parametrize(('tag', 'left'), [(2, ['c']), (0, [])])
def test_several_are_refused_at_once(amqp, connection, channel, queue, tag, left):
    publish(amqp, channel, queue, *'abc')
    for _ in range(3):
        channel.basic_get(queue)
    channel.basic_nack(tag, multiple=True, requeue=False)
    assert close_and_get_what_comes_back(amqp, connection, channel, queue) == left


def test_refusing_what_was_never_delivered_fails(amqp, channel, queue):
    channel.basic_nack(17)
    with pytest.raises(amqp.PreconditionFailed, match='17') as raised:
        channel.queue_declare(queue, passive=True)
    assert raised.value.args[3] == 'Channel.basic_nack'


@pytest.mark.parametrize('tag', [-1, 1 << 64])
def test_a_delivery_tag_has_64_bits(channel, tag):
    with pytest.raises(ValueError, match='delivery_tag'):
        channel.basic_nack(tag)
    assert channel.queue_declare(exclusive=True)


def test_after_recovering_the_messages_are_back(amqp, channel, queue):
    """At once, as the reply is waited for."""
    for number in range(20):
        publish(amqp, channel, queue, str(number))
        channel.basic_get(queue)
        assert channel.basic_recover(requeue=True) is None
        assert channel.basic_get(queue, no_ack=True).body == str(number)


# Exchanges


@pytest.fixture
def two_exchanges(connect):
    """The names of two fanout exchanges."""
    keeper = connect().channel()
    names = [new_name(), new_name()]
    for name in names:
        keeper.exchange_declare(name, 'topic', auto_delete=False)
    yield names
    for name in names:
        keeper.exchange_delete(name)


def test_what_reaches_an_exchange_reaches_those_that_are_bound_to_it(
    amqp, channel, queue, two_exchanges
):
    source, destination = two_exchanges
    channel.queue_bind(queue, destination, '#')
    assert channel.exchange_bind(destination, source, 'red.*') is None
    for key in ('red.one', 'blue.one', 'red.two'):
        channel.basic_publish(amqp.Message(key), source, key)
    assert get_bodies(channel, queue, 2) == ['red.one', 'red.two']
    assert channel.exchange_unbind(destination, source, 'red.*') is None
    channel.basic_publish(amqp.Message('red.one'), source, 'red.one')
    channel.confirm_select()
    channel.basic_publish(amqp.Message('direct'), destination, 'any')
    channel.wait_for_confirms(timeout=10)
    assert get_bodies(channel, queue, 1) == ['direct']
    assert ready_count(channel, queue) == 0


def test_binding_exchanges_with_nowait_leaves_no_reply_behind(amqp, channel, queue, two_exchanges):
    source, destination = two_exchanges
    channel.queue_bind(queue, destination, '#')
    channel.exchange_bind(destination, source, 'a', nowait=True)
    channel.exchange_bind(destination, source, 'b', nowait=True)
    channel.exchange_unbind(destination, source, 'a', nowait=True)
    for key in 'ab':
        channel.basic_publish(amqp.Message(key), source, key)
    assert get_bodies(channel, queue, 1) == ['b']
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=0)


def test_arguments_of_a_binding_of_exchanges(amqp, channel, queue, new_exchange, two_exchanges):
    source, destination = new_exchange('headers'), two_exchanges[0]
    channel.queue_bind(queue, destination, '#')
    wanted = {'x-match': 'all', 'kind': queue}
    channel.exchange_bind(destination, source, arguments=wanted)
    for kind in ('other', queue):
        message = amqp.Message(kind, application_headers={'kind': kind})
        channel.basic_publish(message, source)
    assert get_bodies(channel, queue, 1) == [queue]
    channel.exchange_unbind(destination, source, arguments=wanted)


@pytest.mark.parametrize('missing', ['source', 'destination'])
def test_binding_exchanges_of_which_one_does_not_exist(amqp, channel, exchange, missing):
    names = {'source': exchange, 'destination': exchange, missing: new_name()}
    with pytest.raises(amqp.NotFound, match=names[missing]) as raised:
        channel.exchange_bind(**names)
    assert raised.value.args[3] == 'Channel.exchange_bind'


@pytest.mark.parametrize('method', ['exchange_bind', 'exchange_unbind'])
@pytest.mark.parametrize('argument', ['destination', 'source', 'routing_key'])
def test_names_that_are_too_long(channel, method, argument):
    names = {'destination': 'd', 'source': 's', argument: 'x' * 256}
    with pytest.raises(ValueError, match=argument):
        getattr(channel, method)(**names)
    assert channel.queue_declare(exclusive=True)


# None in tables


def test_none_in_arguments_of_a_binding(amqp, channel, queue, new_exchange):
    """To a headers exchange, it says that the header has to be there."""
    exchange = new_exchange('headers')
    channel.queue_bind(queue, exchange, arguments={'x-match': 'all', queue: None})
    for body, headers in (('without', {'other': 1}), ('with', {queue: 5}), ('none', {queue: None})):
        channel.basic_publish(amqp.Message(body, application_headers=headers), exchange)
    assert get_bodies(channel, queue, 2) == ['with', 'none']


def test_none_in_client_properties(connect):
    assert connect(client_properties={'nothing': None}).channel().is_open


# Consumers


def test_a_consumer_with_a_higher_priority_gets_the_messages(amqp, connect, channel, shared_queue):
    low, high = connect().channel(), connect().channel()
    got = {low: [], high: []}
    for consumer, priority in ((low, 1), (high, 10)):
        consumer.basic_consume(
            shared_queue,
            no_ack=True,
            callback=lambda m: got[m.channel].append(m.body),
            arguments={'x-priority': priority},
        )
    for number in range(20):
        channel.basic_publish(amqp.Message(str(number)), '', shared_queue)
    drain(high, lambda: len(got[high]) == 20)
    assert nothing_waits(amqp, low)
    assert got[low] == []


def test_arguments_of_a_consumer_that_the_broker_refuses(amqp, channel, queue):
    with pytest.raises(amqp.PreconditionFailed, match='x-priority'):
        channel.basic_consume(queue, arguments={'x-priority': 'high'})
    assert channel.callbacks == {}


@pytest.mark.parametrize(
    ('arguments', 'error'), [({'x': object()}, ValueError), ('x-priority', TypeError)]
)
def test_arguments_of_a_consumer_that_cannot_be_sent(channel, queue, arguments, error):
    with pytest.raises(error, match='arguments'):
        channel.basic_consume(queue, arguments=arguments)
    assert channel.queue_declare(queue, passive=True)[2] == 0


# Streams


@pytest.fixture
def stream(amqp, connect):
    """The name of a stream of 100 messages, which it keeps in chunks of at most 10."""
    keeper = connect().channel()
    name = new_name()
    arguments = {'x-queue-type': 'stream'}
    try:
        keeper.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
    except amqp.PreconditionFailed as error:
        if 'invalid_queue_type' not in error.amqp_reply_text:
            raise
        pytest.skip('RabbitMQ has streams since 3.9')
    keeper.confirm_select()
    for number in range(100):
        keeper.basic_publish(amqp.Message(str(number)), '', name)
        if number % 10 == 9:
            keeper.wait_for_confirms(timeout=30)
    yield name
    keeper.queue_delete(name)


@pytest.fixture
def read_stream(channel, stream, received):
    """A function (offset, prefetch) that consumes the stream from there; returns the tag."""

    def consume(offset, prefetch=10):
        channel.basic_qos(0, prefetch, False)
        return channel.basic_consume(
            stream, callback=received.append, arguments={'x-stream-offset': offset}
        )

    return consume


def read(channel, received, count):
    """Receive and acknowledge so many messages; return their bodies."""
    for number in range(count):
        drain(channel, lambda number=number: len(received) > number)
        channel.basic_ack(received[number].delivery_tag)
    return [message.body for message in received]


@with_streams
def test_a_stream_is_read_from_its_first_message_as_often_as_one_likes(
    channel, received, read_stream
):
    for _ in range(2):
        tag = read_stream('first')
        assert read(channel, received, 100) == [str(number) for number in range(100)]
        offsets = [message.application_headers['x-stream-offset'] for message in received]
        assert offsets == list(range(100))
        channel.basic_cancel(tag)
        received.clear()


@with_streams
def test_a_stream_is_read_from_an_offset(channel, received, read_stream):
    read_stream(90)
    assert read(channel, received, 10) == [str(number) for number in range(90, 100)]


@with_streams
def test_a_stream_is_read_from_what_comes_next(amqp, channel, stream, received, read_stream):
    read_stream('next')
    assert nothing_waits(amqp, channel)
    channel.basic_publish(amqp.Message('new'), '', stream)
    assert read(channel, received, 1) == ['new']


@with_streams
def test_a_stream_sends_no_more_than_the_prefetch_ahead(amqp, channel, received, read_stream):
    """It sends chunks as a whole, and so may go beyond by less than a chunk."""
    read_stream('first', prefetch=7)
    drain(channel, lambda: len(received) >= 7)
    hand_out_the_rest(amqp, channel)
    ahead = len(received)
    assert 7 <= ahead < 17
    channel.basic_ack(received[-1].delivery_tag, multiple=True)
    drain(channel, lambda: len(received) == ahead + 7)
    numbers = [int(message.body) for message in received]
    assert numbers == list(range(ahead + 7))


@with_streams
def test_a_stream_needs_a_prefetch(amqp, channel, stream):
    with pytest.raises(amqp.PreconditionFailed, match='prefetch'):
        channel.basic_consume(stream, callback=print)
