"""Messages that the broker sends back because no queue takes them (mandatory)."""

import queue as queues

import pytest

from tests.helpers.queues import new_name


@pytest.fixture
def nowhere():
    """A routing key without a queue."""
    return new_name()


def test_a_message_that_cannot_be_routed_comes_back(amqp, channel, nowhere):
    sent = amqp.Message('come back', priority=3, application_headers={'n': 1})
    channel.basic_publish(sent, 'amq.direct', nowhere, mandatory=True)
    channel.queue_declare(exclusive=True)
    returned = channel.returned_messages.get_nowait()
    assert type(returned) is tuple
    reply_code, reply_text, exchange, routing_key, message = returned
    assert (reply_code, reply_text) == (312, 'NO_ROUTE')
    assert (exchange, routing_key) == ('amq.direct', nowhere)
    assert message == sent
    assert not hasattr(message, 'delivery_info')


def test_it_is_there_before_the_reply_to_the_next_method(amqp, channel, nowhere):
    for number in range(50):
        channel.basic_publish(amqp.Message(str(number)), '', nowhere, mandatory=True)
        channel.queue_declare(exclusive=True)
        assert channel.returned_messages.get_nowait()[4].body == str(number)


def test_a_wait_for_anything_ends_when_one_comes_back(amqp, channel, nowhere):
    channel.basic_publish(amqp.Message('x'), '', nowhere, mandatory=True)
    assert channel.wait(timeout=10) is None
    assert channel.returned_messages.get_nowait()[4].body == 'x'


def test_a_wait_for_something_else_goes_on(amqp, channel, queue, nowhere):
    channel.basic_publish(amqp.Message('back'), '', nowhere, mandatory=True)
    received = []
    channel.basic_consume(queue, no_ack=True, callback=received.append)
    channel.basic_publish(amqp.Message('there'), '', queue)
    channel.wait([(60, 60)], timeout=10)
    assert received[0].body == 'there'
    assert channel.returned_messages.qsize() == 1


def test_what_can_be_routed_does_not_come_back(amqp, channel, queue):
    channel.basic_publish(amqp.Message('x'), '', queue, mandatory=True)
    channel.tx_select()
    assert channel.queue_purge(queue) == 1
    assert channel.returned_messages.empty()


def test_without_mandatory_it_is_dropped(amqp, channel, nowhere):
    channel.basic_publish(amqp.Message('x'), '', nowhere)
    channel.tx_select()
    assert channel.returned_messages.empty()


def test_they_come_back_in_order(amqp, channel, nowhere):
    for number in range(20):
        channel.basic_publish(amqp.Message(str(number)), '', nowhere, mandatory=True)
    channel.tx_select()
    bodies = [channel.returned_messages.get_nowait()[4].body for _ in range(20)]
    assert bodies == [str(number) for number in range(20)]


def test_large_ones_come_back_whole(amqp, channel, nowhere):
    body = bytes(range(256)) * 2000
    channel.basic_publish(amqp.Message(body), '', nowhere, mandatory=True)
    channel.tx_select()
    same = channel.returned_messages.get_nowait()[4].body == body
    assert same


def test_text_is_decoded_as_in_other_messages(amqp, channel, nowhere):
    channel.basic_publish(amqp.Message('größer'), '', nowhere, mandatory=True)
    channel.tx_select()
    assert channel.returned_messages.get_nowait()[4].body == 'größer'


def test_a_returned_message_can_be_published_again(amqp, channel, queue, nowhere):
    channel.basic_publish(amqp.Message('second try'), '', nowhere, mandatory=True)
    channel.tx_select()
    message = channel.returned_messages.get_nowait()[4]
    channel.basic_publish(message, '', queue)
    channel.tx_commit()
    assert channel.basic_get(queue).body == 'second try'


def test_returned_messages_are_those_of_the_channel(amqp, connection, channel, nowhere):
    other = connection.channel()
    channel.basic_publish(amqp.Message('x'), '', nowhere, mandatory=True)
    channel.tx_select()
    other.tx_select()
    assert other.returned_messages.empty()
    assert channel.returned_messages.qsize() == 1


def test_returned_messages_outlive_the_channel(amqp, channel, nowhere):
    channel.basic_publish(amqp.Message('x'), '', nowhere, mandatory=True)
    channel.tx_select()
    channel.close()
    assert isinstance(channel.returned_messages, queues.Queue)
    assert channel.returned_messages.get_nowait()[4].body == 'x'


def test_a_wait_for_returned_messages_ends_when_one_has_come(amqp, channel, nowhere):
    channel.basic_publish(amqp.Message('x'), routing_key=nowhere, mandatory=True)
    assert channel.wait([(60, 50)], timeout=10) is None
    assert channel.returned_messages.get_nowait()[4].body == 'x'
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait([(60, 50)], timeout=0.05)
