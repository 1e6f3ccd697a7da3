"""The notes on using amqplib that came with version 1.0: each of their statements holds.

The docstrings quote the statements; code in them is run as it stands there, but for names that
have to be unique, and `print`, which is a function by now. Where a broker is needed at the usual
port, the usual port is made that of the broker of the tests.
"""

import datetime
import decimal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from tests.helpers.checks import sends_nothing
from tests.helpers.packages import only_0_8
from tests.helpers.queues import (
    await_ready,
    close_and_get_what_comes_back,
    drain,
    get,
    get_bodies,
    new_name,
)
from tests.helpers.waiting import PATIENCE, poll


@pytest.fixture
def usual_port(amqp, monkeypatch, broker):
    """Make the broker's port the default, and `localhost` its host."""
    if broker.host not in ('127.0.0.1', '::1', 'localhost'):
        pytest.skip('the broker is on another machine')
    monkeypatch.setattr(amqp.transport.TCPTransport, 'default_port', broker.port)


@pytest.fixture
def fan(channel):
    """A name for an exchange, in the place of 'myfan'."""
    name = new_name()
    yield name
    if channel.is_open:
        channel.exchange_delete(name)


@pytest.fixture
def everyone(new_exchange):
    """An exchange in the place of 'amq.fanout', to which others may have bound queues."""
    return new_exchange('fanout')


@pytest.fixture
def myqueue(channel):
    """A queue in the place of 'myqueue'."""
    return channel.queue_declare(new_name(), exclusive=True, auto_delete=False)[0]


# Importing the client


def test_importing_the_client(amqp):
    """import amqplib.client_0_8 as amqp"""
    program = f'import {amqp.__name__} as amqp; print(amqp.Connection, amqp.Message)'
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, check=True)
    assert b'Connection' in done.stdout


@only_0_8
def test_the_library_supports_the_amqp_0_8_spec(connection):
    """This library currently supports the AMQP 0-8 spec."""
    assert (connection.version_major, connection.version_minor) == (8, 0)


# Connections


def test_a_connection_object_represents_a_network_connection_to_the_server(connection, broker):
    """A connection object represents a network connection to the server."""
    assert connection.transport.sock.getpeername()[1] == broker.port


@pytest.mark.parametrize('arguments', [(), ('',)])
def test_examples_for_creating_a_connection_object(amqp, usual_port, arguments):
    """conn = amqp.Connection(), conn = amqp.Connection('')"""
    conn = amqp.Connection(*arguments)
    assert conn.channel().is_open
    conn.close()


def test_example_for_creating_a_connection_with_ssl(amqp, own_node, authority, monkeypatch):
    """conn = amqp.Connection(host='', ssl=True)"""
    # The authorities of the system, which ssl=True goes by.
    monkeypatch.setenv('SSL_CERT_FILE', authority.file)
    monkeypatch.setattr(amqp.transport.SSLTransport, 'default_port', own_node.tls_port)

    conn = amqp.Connection(host='', ssl=True)
    assert isinstance(conn.transport, amqp.transport.SSLTransport)
    channel = conn.channel()
    queue, _, _ = channel.queue_declare(exclusive=True)
    channel.basic_publish(amqp.Message(bytes(1_000_000)), '', queue)
    same = get(channel, queue).body == bytes(1_000_000)
    assert same
    conn.close()


def test_example_for_creating_a_connection_as_a_user(amqp, controlled, monkeypatch):
    """conn = amqp.Connection(userid='foo', password='bar')"""
    monkeypatch.setattr(amqp.transport.TCPTransport, 'default_port', controlled.port)
    users = 'rabbit_auth_backend_internal'
    everything = ', '.join(['<<".*">>'] * 3)
    controlled.evaluate(f'{users}:add_user(<<"foo">>, <<"bar">>, <<"tests">>)')
    try:
        controlled.evaluate(
            f'{users}:set_permissions(<<"foo">>, <<"/">>, {everything}, <<"tests">>)'
        )
        conn = amqp.Connection(userid='foo', password='bar')
        channel = conn.channel()
        queue, _, _ = channel.queue_declare(exclusive=True)
        # The broker checks that a message's user_id is the user that is logged in.
        channel.basic_publish(amqp.Message('x', user_id='foo'), '', queue)
        assert get(channel, queue).user_id == 'foo'
        conn.close()
    finally:
        controlled.evaluate(f'{users}:delete_user(<<"foo">>, <<"tests">>)')


def test_connections_are_closed_with_the_close_method(amqp, connection):
    """Connections are closed with the close() method"""
    connection.close()
    assert connection.transport is None
    with pytest.raises(amqp.AMQPConnectionException):
        connection.channel()


# Channels


def test_one_or_more_channels_may_be_opened(connection):
    """Once a Connection is open, one or more Channel objects may be opened"""
    channels = [connection.channel() for _ in range(3)]
    assert all(channel.queue_declare(exclusive=True) for channel in channels)


def test_a_channel_with_a_specific_numeric_id(connection):
    """ch = # create and open channel with a specific numeric id"""
    ch = connection.channel(1)
    assert ch.channel_id == 1
    assert ch.is_open


def test_a_channel_number_assigned_by_amqplib(connection):
    """ch2 = # let amqplib assign a channel number; print 'my channel is', ch2.channel_id"""
    ch = connection.channel(1)
    ch2 = connection.channel()
    print('my channel is', ch2.channel_id)
    assert ch2.channel_id != ch.channel_id
    assert connection.channels[ch2.channel_id] is ch2


def test_another_reference_to_a_channel_that_is_open(connection):
    """ch3 = # since channel 1 is already created and open, just return another reference"""
    ch = connection.channel(1)
    with sends_nothing(connection):
        ch3 = connection.channel(1)
    assert ch3 is ch


def test_closing_a_channel_does_not_affect_other_channels(connection):
    """Channels have a close() method too, which doesn't affect other channels"""
    ch, ch2 = connection.channel(1), connection.channel()
    ch.close()
    assert not ch.is_open
    assert ch2.queue_declare(exclusive=True)
    assert connection.channel(1).is_open


@pytest.mark.parametrize('what', ['channel', 'connection'])
def test_closing_makes_sure_that_messages_are_flushed(amqp, address, channel, shared_queue, what):
    """be sure to close your channels or connection if you've been calling async methods like
    basic_publish() - to ensure your messages are actually flushed out the TCP socket before
    the program ends"""
    program = f"""
        import os
        import {amqp.__name__} as amqp
        connection = amqp.Connection({address!r})
        channel = connection.channel()
        for _ in range(1000):
            channel.basic_publish(amqp.Message(b'x' * 5000), '', {shared_queue!r})
        {what}.close()
        os._exit(0)
    """
    subprocess.run([sys.executable, '-c', textwrap.dedent(program)], check=True)
    await_ready(channel, shared_queue, 1000)


def test_connections_and_channels_close_at_the_end_of_with_statements(
    amqp, usual_port, channel, shared_queue
):
    """Connections and Channels will close automatically when used as context managers"""
    with amqp.Connection('') as conn:
        with conn.channel() as ch:
            # Do some stuff...
            ch.basic_publish(amqp.Message('blah'), '', shared_queue)
            assert ch.is_open
        # When this point is reached, the Channel will have been closed for you.
        assert not ch.is_open
        assert conn.transport is not None
    # When this point is reached, the Connection will have been closed for you.
    assert conn.transport is None
    assert get_bodies(channel, shared_queue, 1) == ['blah']


# Access tickets


def test_a_ticket_for_a_realm_and_actions(channel, fan):
    """tkt = ch.access_request('/data', active=True, write=True, read=True)
    ch.exchange_declare('myfan', 'fanout', auto_delete=True, ticket=tkt)"""
    ch = channel
    tkt = ch.access_request('/data', active=True, write=True, read=True)
    ch.exchange_declare(fan, 'fanout', auto_delete=True, ticket=tkt)
    assert isinstance(tkt, int)
    assert ch.exchange_declare(fan, 'fanout', passive=True) is None


def test_the_most_recently_requested_ticket_is_the_default(connection, channel, fan, by_version):
    """The most recently requested ticket is saved in the Channel object, and used as a default
    value for other methods that require tickets."""
    ch = channel
    ch.access_request('/data', active=True, write=True, read=True)
    ch.exchange_declare(fan, 'fanout', auto_delete=True)
    assert ch.default_ticket == by_version(1, 0)
    ch.default_ticket = 1 << 16  # a ticket that could not be sent
    with sends_nothing(connection), pytest.raises(ValueError, match='ticket'):
        ch.exchange_declare(fan, 'fanout', auto_delete=True)
    ch.default_ticket = 0


# Messages


def test_a_message_of_the_basic_content_type(amqp, channel, myqueue):
    """A Message can be created as simply as msg = amqp.Message('hello world')"""
    msg = amqp.Message('hello world')
    channel.basic_publish(msg, '', myqueue)
    assert get(channel, myqueue).body == 'hello world'


def test_unicode_bodies_are_converted_to_utf8(amqp, connection, channel, myqueue):
    """Unicode bodies are converted to UTF-8 and the 'content_encoding' property is automatically
    set to 'UTF-8'"""
    channel.auto_decode = False
    channel.basic_publish(amqp.Message('Größe'), '', myqueue)
    received = get(channel, myqueue)
    assert received.body == 'Größe'.encode()
    assert received.content_encoding == 'UTF-8'


def test_these_two_messages_are_equivalent(amqp, channel, myqueue):
    """so these two Messages are equivalent
    msg1 = amqp.Message(u'Unicode hello')
    msg2 = amqp.Message(u'Unicode hello'.encode('utf-8'), content_encoding='UTF-8')"""
    msg1 = amqp.Message('Unicode hello')
    msg2 = amqp.Message('Unicode hello'.encode('utf-8'), content_encoding='UTF-8')  # noqa: UP012
    assert msg1 == msg2
    for msg in (msg1, msg2):
        channel.basic_publish(msg, '', myqueue)
    received1, received2 = get(channel, myqueue), get(channel, myqueue)
    assert received1 == received2
    assert (received1.body, received1.properties) == (received2.body, received2.properties)
    assert msg1 == msg2


def test_headers_of_strings_numbers_times_and_dictionaries(amqp, channel, myqueue):
    """Messages may have an 'application_headers' dictionary, consisting of string keys and values
    that are strings, integers, Decimal (a bit shaky), datetime.datetime, and other dictionaries
    containing those same types."""
    values = {
        'string': 'baz',
        'integer': 7,
        'decimal': decimal.Decimal('-12.75'),
        'time': datetime.datetime(2007, 11, 18, 19, 4, 5),
    }
    headers = {**values, 'dictionary': {**values, 'deeper': values}}
    channel.basic_publish(amqp.Message('fancy', application_headers=headers), '', myqueue)
    assert get(channel, myqueue).application_headers == headers


def test_example_of_headers(amqp, channel, myqueue):
    """msg = amqp.Message('fancy', application_headers={'foo': 7, 'bar': 'baz'})"""
    msg = amqp.Message('fancy', application_headers={'foo': 7, 'bar': 'baz'})
    channel.basic_publish(msg, '', myqueue)
    received = get(channel, myqueue)
    assert received.body == 'fancy'
    assert received.application_headers == {'foo': 7, 'bar': 'baz'}


# Exchanges and queues


def test_exchanges_distribute_messages_to_queues_which_deliver_them(amqp, channel, fan):
    """publishers send messages to exchanges, which then distribute them to queues, which deliver
    them to receivers."""
    received = []
    channel.exchange_declare(fan, 'fanout')
    for _ in range(2):
        queue, _, _ = channel.queue_declare(exclusive=True)
        channel.queue_bind(queue, fan)
        channel.basic_consume(queue, no_ack=True, callback=received.append)
    channel.basic_publish(amqp.Message('to all'), fan)
    drain(channel, lambda: len(received) == 2)
    assert [message.body for message in received] == ['to all', 'to all']


@pytest.mark.parametrize('exchange', ['', 'amq.topic', 'amq.fanout'])
def test_default_exchanges_can_be_used_right_away(amqp, controlled, connect, exchange):
    """AMQP defines some default exchanges such as, '', 'amq.topic', 'amq.fanout' - which can be
    used right away."""
    channel = connect(host=controlled.address).channel()
    myqueue, _, _ = channel.queue_declare(exclusive=True)
    if exchange:
        channel.queue_bind(myqueue, exchange, myqueue)
    channel.basic_publish(amqp.Message('x'), exchange, myqueue)
    assert get(channel, myqueue).exchange == exchange


def test_sending_to_a_default_exchange(amqp, channel, myqueue, everyone):
    """ch.basic_publish(msg, 'amq.fanout')"""
    ch = channel
    ch.queue_bind(myqueue, everyone)
    msg = amqp.Message('to everyone')
    ch.basic_publish(msg, everyone)
    assert get(ch, myqueue).body == 'to everyone'


def test_declaring_an_own_exchange_and_sending_it_a_message(amqp, channel, myqueue, fan):
    """ch.exchange_declare('myfan', type='fanout')
    ch.basic_publish(msg, 'myfan')"""
    ch = channel
    ch.exchange_declare(fan, type='fanout')
    ch.queue_bind(myqueue, fan)
    msg = amqp.Message('to my fan')
    ch.basic_publish(msg, fan)
    received = get(ch, myqueue)
    assert (received.body, received.exchange) == ('to my fan', fan)


def test_a_program_declares_a_queue_and_binds_it_to_an_exchange(amqp, channel, everyone):
    """To receive messages, a program must declare a queue, and bind it to an exchange:
    ch.queue_bind('myqueue', 'amq.fanout')"""
    ch = channel
    myqueue = new_name()
    ch.queue_declare(myqueue, exclusive=True)
    ch.basic_publish(amqp.Message('before it is bound'), everyone)
    ch.queue_bind(myqueue, everyone)
    ch.basic_publish(amqp.Message('after it is bound'), everyone)
    assert get_bodies(ch, myqueue, 1) == ['after it is bound']


def test_a_unique_queue_name_is_generated_and_returned(amqp, channel, everyone):
    """If the queue name is omitted from the queue_declare() method, a unique one is generated by
    the server and returned (along with message_count and consumer_count values ...)
    qname, _, _ = ch.queue_declare()
    ch.queue_bind(qname, 'amq.fanout')"""
    ch = channel
    qname, message_count, consumer_count = ch.queue_declare(exclusive=True)
    assert ch.queue_declare(exclusive=True)[0] != qname
    assert (message_count, consumer_count) == (0, 0)
    ch.queue_bind(qname, everyone)
    ch.basic_publish(amqp.Message('x'), everyone)
    assert get(ch, qname).body == 'x'
    ch.queue_delete(qname)
    ch.queue_delete()


# Receiving


def test_received_by_polling_or_by_waiting(amqp, channel, myqueue):
    """Once a queue is bound to an exchange, messages can be received either by polling or by
    waiting on the channel."""
    channel.queue_bind(myqueue, 'amq.direct', myqueue)
    received = []
    channel.basic_publish(amqp.Message('polled'), 'amq.direct', myqueue)
    received.append(get(channel, myqueue, no_ack=True))
    channel.basic_publish(amqp.Message('waited for'), 'amq.direct', myqueue)
    channel.basic_consume(myqueue, callback=received.append, no_ack=True)
    channel.wait()
    assert [message.body for message in received] == ['polled', 'waited for']


def test_polling_returns_a_message_or_none_immediately(amqp, channel, myqueue):
    """Polling with basic_get() immediately returns either a Message object, or None if no
    messages are available"""
    start = time.monotonic()
    assert channel.basic_get(myqueue) is None
    assert time.monotonic() - start < PATIENCE
    channel.basic_publish(amqp.Message('x'), '', myqueue)
    await_ready(channel, myqueue, 1)
    msg = channel.basic_get(myqueue)
    assert isinstance(msg, amqp.Message)
    if msg is not None:
        assert msg.body == 'x'


def test_received_messages_are_acknowledged_with_basic_ack(amqp, connection, channel, myqueue):
    """Received messages are acknowledged with the Channel.basic_ack() method"""
    for body in ('acknowledged', 'not acknowledged'):
        channel.basic_publish(amqp.Message(body), '', myqueue)
    msg = get(channel, myqueue)
    get(channel, myqueue)
    channel.basic_ack(msg.delivery_tag)
    left = close_and_get_what_comes_back(amqp, connection, channel, myqueue)
    assert left == ['not acknowledged']


def test_with_no_ack_messages_are_not_acknowledged(amqp, connection, channel, myqueue):
    """unless we called basic_get() with a no_ack=True parameter."""
    channel.basic_publish(amqp.Message('x'), '', myqueue)
    get(channel, myqueue, no_ack=True)
    assert close_and_get_what_comes_back(amqp, connection, channel, myqueue) == []


def test_to_block_and_wait_for_messages(amqp, channel, other_channel, shared_queue):
    """To block and wait for messages, use basic_consume() with a callback function, and then
    wait() on the channel.  The AMQP server will deliver messages to the channel as they're
    placed into the queue."""
    ch, times = channel, []
    ch.basic_consume(shared_queue, callback=lambda msg: times.append(time.monotonic()), no_ack=True)
    with pytest.raises(amqp.AMQPTimeout):
        ch.wait(timeout=0.05)
    start = time.monotonic()

    def publish():
        other_channel.basic_publish(amqp.Message('x'), '', shared_queue)

    timer = threading.Timer(0.2, publish)
    timer.start()
    ch.wait()
    timer.join()
    assert times[0] - start > 0.19


def test_example_of_a_callback(amqp, channel, myqueue, capsys):
    """def mycallback(msg):
        print 'received', msg.body, 'from channel #', msg.channel.channel_id
    ch.basic_consume('myqueue', callback=mycallback, no_ack=True)
    while True:
        ch.wait()"""
    ch, count = channel, 0

    def mycallback(msg):
        nonlocal count
        print('received', msg.body, 'from channel #', msg.channel.channel_id)
        count += 1
        if count == 3:
            raise StopIteration

    for body in ('one', 'two', 'three'):
        ch.basic_publish(amqp.Message(body), '', myqueue)
    ch.basic_consume(myqueue, callback=mycallback, no_ack=True)

    def for_ever():
        while True:
            ch.wait()

    with pytest.raises(StopIteration):
        for_ever()
    assert capsys.readouterr().out.splitlines() == [
        f'received {body} from channel # {ch.channel_id}' for body in ('one', 'two', 'three')
    ]


def test_cancelling_with_basic_cancel_and_the_tag(amqp, channel, myqueue):
    """The above example will loop forever.  To cancel the 'consume', use basic_cancel() with a
    consumer_tag."""
    received = []
    tag = channel.basic_consume(myqueue, callback=received.append, no_ack=True)
    channel.basic_cancel(tag)
    channel.basic_publish(amqp.Message('after the consumer'), '', myqueue)
    assert get_bodies(channel, myqueue, 1) == ['after the consumer']
    assert received == []


def test_a_consumer_tag_specified_when_calling_basic_consume(amqp, channel, myqueue):
    """A consumer_tag is a string that's either specified when you call basic_consume()
    ch.basic_consume('myqueue', callback=mycallback, consumer_tag='mytag')"""
    assert channel.basic_consume(myqueue, callback=print, consumer_tag='mytag') == 'mytag'
    channel.basic_cancel('mytag')
    assert channel.queue_declare(myqueue, passive=True) == (myqueue, 0, 0)


def test_a_consumer_tag_uniquely_generated_by_the_server(channel, myqueue):
    """or uniquely generated by the server.
    tag = ch.basic_consume('myqueue', callback=mycallback)"""
    tags = {channel.basic_consume(myqueue, callback=print) for _ in range(5)}
    assert len(tags) == 5
    assert all(isinstance(tag, str) and tag for tag in tags)


def test_the_consumer_tag_is_a_property_of_delivered_messages(amqp, channel, myqueue):
    """The consumer_tag is also included as a property in any Message objects delivered through
    a callback."""
    received = []
    tag = channel.basic_consume(myqueue, callback=received.append)
    channel.basic_publish(amqp.Message('x'), '', myqueue)
    drain(channel, lambda: received)
    assert received[0].consumer_tag == tag


def test_callbacks_tells_of_outstanding_consumers(channel, myqueue):
    """A Channel object has a 'callbacks' property that can be checked to see if there are any
    outstanding basic_consume()  operations registered."""
    assert not channel.callbacks
    tag = channel.basic_consume(myqueue, callback=print)
    assert channel.callbacks == {tag: print}
    channel.basic_cancel(tag)
    assert not channel.callbacks


def test_breaking_out_of_a_waiting_loop_cleanly(amqp, channel, myqueue):
    """The demo/ script uses this to allow for breaking out of a waiting loop cleanly."""
    ch, bodies = channel, []

    def callback(msg):
        bodies.append(msg.body)
        msg.channel.basic_ack(msg.delivery_tag)
        if msg.body == 'quit':
            msg.channel.basic_cancel(msg.consumer_tag)

    for body in ('go on', 'quit'):
        ch.basic_publish(amqp.Message(body), '', myqueue)
    ch.basic_consume(myqueue, callback=callback)
    while ch.callbacks:
        ch.wait()
    assert bodies == ['go on', 'quit']
    poll(lambda: ch.queue_declare(myqueue, passive=True) == (myqueue, 0, 0))
    ch.close()
