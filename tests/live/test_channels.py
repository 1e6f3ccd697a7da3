"""Several channels of a connection, their numbers, and their state before and after the end."""

import queue as queues
import threading

import pytest

from tests.helpers.checks import sends_nothing
from tests.helpers.packages import only_0_9_1
from tests.helpers.queues import await_ready, drain, get_bodies

# Numbers


def test_a_channel_gets_the_number_that_is_asked_for(connection):
    channel = connection.channel(7)
    assert channel.channel_id == 7
    assert connection.channels[7] is channel


def test_without_a_number_it_gets_the_lowest_free_one(connection):
    first, second, third = (connection.channel() for _ in range(3))
    assert [first.channel_id, second.channel_id, third.channel_id] == [1, 2, 3]
    second.close()
    assert connection.channel().channel_id == 2
    assert connection.channel().channel_id == 4


def test_numbers_are_taken_again_from_the_lowest_on(connection):
    channels = [connection.channel() for _ in range(6)]
    for number in (5, 2, 4):
        channels[number - 1].close()
    connection.channel(4)
    assert [connection.channel().channel_id for _ in range(3)] == [2, 5, 7]


def test_the_number_of_a_channel_that_the_broker_closed_is_taken_again(amqp, connection):
    first, second = connection.channel(), connection.channel()
    with pytest.raises(amqp.NotFound):
        first.basic_get('no such queue')
    assert connection.channel().channel_id == 1
    second.close()
    assert connection.channel().channel_id == 2


def test_the_number_of_a_channel_that_was_taken_out_of_the_dict_can_be_taken(connection):
    connection.channel_max = 3
    for _ in range(3):
        connection.channel()
    del connection.channels[2]
    assert connection._get_free_channel_id() == 2


def test_a_subclass_can_choose_the_numbers(amqp, address):
    class Own(amqp.Connection):
        def _get_free_channel_id(self):
            return 9

    with Own(address) as connection:
        assert connection.channel().channel_id == 9
        connection.channel_max = 1
        with pytest.raises(amqp.AMQPException, match='all of the 1 channels are open'):
            connection.channel()


def test_the_number_of_an_open_channel_gives_that_channel(connection):
    channel = connection.channel(5)
    with sends_nothing(connection):
        assert connection.channel(5) is channel


def test_the_number_of_a_closed_channel_gives_a_new_one(connection):
    channel = connection.channel(5)
    channel.close()
    again = connection.channel(5)
    assert again is not channel
    assert again.queue_declare(exclusive=True)


def test_channel_0_is_the_connection(connection):
    assert connection.channel(0) is connection


def test_the_highest_number_can_be_used(connection):
    assert connection.channel(65535).queue_declare(exclusive=True)


def test_more_channels_than_the_broker_allows_are_refused(amqp, connection):
    connection.channel_max = 3
    for _ in range(3):
        connection.channel()
    with sends_nothing(connection), pytest.raises(amqp.AMQPException, match='3') as raised:
        connection.channel()
    assert raised.value.amqp_reply_code == 530
    connection.channel(3).close()
    assert connection.channel().channel_id == 3


def test_a_closed_connection_gives_no_channels(amqp, connection):
    connection.close()
    for number in (None, 0, 1):
        with pytest.raises(amqp.AMQPConnectionException, match='closed'):
            connection.channel(number)


# Attributes


def test_attributes_of_an_open_channel(amqp, connection, channel):
    assert isinstance(channel, amqp.Channel)
    assert channel.connection is connection
    assert channel.channel_id == 1
    assert channel.is_open is True
    assert channel.active is True
    assert channel.auto_decode is True
    assert channel.default_ticket == 0
    assert channel.callbacks == {}
    assert isinstance(channel.alerts, queues.Queue)
    assert isinstance(channel.returned_messages, queues.Queue)
    assert list(channel.method_queue) == []


def test_attributes_of_a_closed_channel(connection, channel, queue, by_version):
    channel.access_request('/data')
    channel.basic_consume(queue)
    alerts, returned_messages, callbacks = (
        channel.alerts,
        channel.returned_messages,
        channel.callbacks,
    )
    assert channel.close() is None
    assert channel.is_open is False
    assert channel.channel_id is None
    assert channel.connection is None
    assert channel.callbacks == {}
    assert channel.callbacks is not callbacks
    assert channel not in connection.channels.values()
    assert channel.default_ticket == by_version(1, 0)
    assert channel.active is True
    assert channel.auto_decode is True
    assert channel.alerts is alerts
    assert channel.returned_messages is returned_messages
    assert list(channel.method_queue) == []


def test_the_queues_of_a_closed_channel_can_be_looked_at_first_when_it_is_closed(channel):
    channel.close()
    for name in ('alerts', 'returned_messages'):
        queue = getattr(channel, name)
        assert isinstance(queue, queues.Queue)
        assert queue.empty()
        assert getattr(channel, name) is queue


def test_each_channel_has_queues_of_its_own(connection):
    one, other = connection.channel(), connection.channel()
    found = [one.alerts, other.alerts, one.returned_messages, other.returned_messages]
    assert len(set(map(id, found))) == 4


def test_a_program_may_put_other_queues_there(connection, channel):
    ours = channel.returned_messages = queues.Queue(maxsize=1)
    assert channel.returned_messages is ours
    assert connection.channel().returned_messages is not ours


def test_closing_a_channel_twice_is_fine(connection, channel):
    channel.close()
    with sends_nothing(connection):
        assert channel.close() is None


def test_a_channel_can_be_closed_with_a_code_and_a_text(connection, channel):
    assert channel.close(200, 'good bye', (60, 40)) is None
    assert connection.channel(1).is_open


def test_calls_on_a_closed_channel_say_that_it_is_closed(amqp, channel):
    channel.close()
    for call in (channel.queue_declare, channel.wait, channel.tx_select):
        with pytest.raises(amqp.AMQPChannelException, match='closed'):
            call()


def test_closing_the_connection_closes_its_channels(amqp, connection, channel):
    connection.close()
    assert channel.is_open is False
    assert (channel.channel_id, channel.connection, channel.callbacks) == (None, None, {})
    assert channel.close() is None
    with pytest.raises(amqp.AMQPConnectionException, match='closed'):
        channel.queue_declare()


def test_a_channel_can_be_made_without_the_connections_help(amqp, connection):
    channel = amqp.Channel(connection, 9, auto_decode=False)
    assert channel.auto_decode is False
    assert connection.channel(9) is channel
    assert channel.queue_declare(exclusive=True)


# Several at once


def test_two_channels_deliver_each_its_own(amqp, connection, channel, queue):
    other = connection.channel()
    other_queue, _, _ = other.queue_declare(exclusive=True)
    heard = {channel: [], other: []}

    def note(message):
        heard[message.channel].append(message.body)

    channel.basic_consume(queue, no_ack=True, callback=note)
    other.basic_consume(other_queue, no_ack=True, callback=note)
    numbers = [str(number) for number in range(50)]
    for number in numbers:
        channel.basic_publish(amqp.Message(f'other {number}'), '', other_queue)
        other.basic_publish(amqp.Message(number), '', queue)
    drain(channel, lambda: len(heard[channel]) == 50)
    assert heard == {channel: numbers, other: []}
    drain(other, lambda: len(heard[other]) == 50)
    assert heard[other] == [f'other {number}' for number in numbers]


def test_what_arrives_for_one_channel_does_not_end_the_wait_of_another(
    amqp, connection, channel, queue
):
    other = connection.channel()
    channel.basic_consume(queue, callback=print)
    channel.basic_publish(amqp.Message('x'), '', queue)
    with pytest.raises(amqp.AMQPTimeout):
        other.wait(timeout=0.1)


def test_delivery_tags_are_those_of_the_channel(amqp, connection, channel, queue):
    other = connection.channel()
    for body in 'ab':
        channel.basic_publish(amqp.Message(body), '', queue)
    channel.tx_select()
    tags = [one.basic_get(queue).delivery_tag for one in (channel, other)]
    assert tags == [1, 1]


def test_closing_one_channel_does_not_affect_the_other(amqp, connection, channel, queue):
    other = connection.channel()
    other.close()
    channel.basic_publish(amqp.Message('x'), '', queue)
    assert get_bodies(channel, queue, 1) == ['x']


def test_many_channels_at_once(amqp, connection, channel, queue):
    channels = [connection.channel() for _ in range(100)]
    for number, one in enumerate(channels):
        one.basic_publish(amqp.Message(str(number)), '', queue)
        one.close()
    await_ready(channel, queue, 100)


def test_threads_can_share_a_connection_each_with_its_own_channel(amqp, connection):
    problems = []

    def publish_and_consume(name):
        try:
            channel = connection.channel()
            queue, _, _ = channel.queue_declare(exclusive=True)
            received = []
            channel.basic_consume(queue, no_ack=True, callback=received.append)
            bodies = [f'{name} {number}' for number in range(100)]
            for body in bodies:
                channel.basic_publish(amqp.Message(body), '', queue)
            drain(channel, lambda: len(received) == 100)
            assert [message.body for message in received] == bodies
            channel.close()
        except BaseException as problem:  # noqa: BLE001 - told to the main thread
            problems.append(problem)

    threads = [threading.Thread(target=publish_and_consume, args=(name,)) for name in 'abcd']
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


# Access tickets


def test_requesting_access_returns_the_ticket_and_keeps_it(channel, by_version):
    channel.default_ticket = 7
    ticket = channel.access_request('/data', active=True, write=True, read=True)
    assert isinstance(ticket, int)
    assert channel.default_ticket == ticket == by_version(1, 0)


@only_0_9_1
def test_requesting_access_asks_nobody(connection, channel):
    with sends_nothing(connection):
        assert channel.access_request('/data', active=True, write=True, read=True) == 0


def test_all_kinds_of_access_can_be_asked_for(channel, by_version):
    kinds = dict.fromkeys(('exclusive', 'passive', 'active', 'write', 'read'), True)
    assert channel.access_request('/any realm', **kinds) == by_version(1, 0)
    assert channel.queue_declare(exclusive=True)
