"""Publishing, polling for messages, and acknowledging, rejecting and recovering them."""

import os
import time

import pytest

from tests.helpers.checks import sends_nothing
from tests.helpers.queues import (
    await_ready,
    close_and_get_what_comes_back,
    get,
    get_bodies,
    new_name,
    ready_count,
)
from tests.helpers.waiting import poll


def publish(amqp, channel, queue, *bodies):
    """Publish these bodies to the queue, and wait until they are there."""
    before = ready_count(channel, queue)
    for body in bodies:
        channel.basic_publish(amqp.Message(body), '', queue)
    await_ready(channel, queue, before + len(bodies))


# Getting


def test_an_empty_queue_gives_none(channel, queue):
    assert channel.basic_get(queue) is None


def test_getting_from_a_missing_queue_is_not_found(amqp, channel):
    with pytest.raises(amqp.NotFound):
        channel.basic_get(new_name())


def test_messages_come_in_the_order_in_which_they_were_published(amqp, channel, queue):
    bodies = [str(number) for number in range(200)]
    publish(amqp, channel, queue, *bodies)
    assert get_bodies(channel, queue, 200) == bodies


def test_delivery_info_of_a_message_that_was_polled_for(amqp, channel, queue, exchange):
    channel.queue_bind(queue, exchange, 'key')
    for body in ('first', 'second'):
        channel.basic_publish(amqp.Message(body), exchange, 'key')
    await_ready(channel, queue, 2)
    message = channel.basic_get(queue)
    assert message.delivery_info == {
        'delivery_tag': 1,
        'redelivered': False,
        'exchange': exchange,
        'routing_key': 'key',
        'message_count': 1,
    }
    assert message.delivery_tag == 1
    assert message.routing_key == 'key'
    assert message.channel is channel
    assert not hasattr(message, 'consumer_tag')


def test_an_own_message_has_no_delivery_info(amqp):
    assert not hasattr(amqp.Message(), 'delivery_info')
    assert not hasattr(amqp.Message(), 'delivery_tag')


def test_what_was_published_before_closing_the_connection_arrives(amqp, connect, shared_queue):
    conn = connect()
    channel = conn.channel()
    for _ in range(2000):
        channel.basic_publish(amqp.Message(b'x' * 1000), '', shared_queue)
    conn.close()
    await_ready(connect().channel(), shared_queue, 2000)


def test_what_was_published_before_closing_the_channel_arrives(amqp, connection, shared_queue):
    with connection.channel() as channel:
        for _ in range(500):
            channel.basic_publish(amqp.Message(b'x' * 1000), '', shared_queue)
    await_ready(connection.channel(), shared_queue, 500)


# Bodies


@pytest.mark.parametrize('size', [1, 1000, 10_000, 131_072, 1_000_000])
def test_bodies_of_any_size_come_back_as_they_were(amqp, channel, queue, size):
    body = os.urandom(size)
    channel.basic_publish(amqp.Message(body), '', queue)
    assert get(channel, queue).body == body


def test_a_body_of_16_mb_comes_back_as_it_was(amqp, channel, queue):
    """RabbitMQ 4 takes no larger one, unless it is configured to."""
    body = os.urandom(1 << 20) * 16
    channel.basic_publish(amqp.Message(body), '', queue)
    message = get(channel, queue)
    # Not compared by the assert, which would explain the difference of 16 MB at length.
    same = message.body == body
    assert same


def test_the_cost_of_a_large_body_grows_with_its_size(amqp, channel, queue):
    def cost_of(megabytes):
        message = amqp.Message(bytes(megabytes << 20))
        begun = time.thread_time()
        channel.basic_publish(message, '', queue)
        assert len(get(channel, queue, no_ack=True).body) == megabytes << 20
        return time.thread_time() - begun

    costs = {size: min(cost_of(size) for _ in range(2)) for size in (4, 16)}
    # Four times as much would be right; where each part is copied again, it is sixteen times.
    assert costs[16] < 10 * costs[4] + 0.2


@pytest.mark.parametrize('frames', [1, 2])
@pytest.mark.parametrize('beside', [-1, 0, 1])
def test_bodies_that_just_fill_their_frames(amqp, connection, channel, queue, frames, beside):
    body = os.urandom(frames * (connection.frame_max - 8) + beside)
    channel.basic_publish(amqp.Message(body), '', queue)
    channel.basic_publish(amqp.Message(b'the next one'), '', queue)
    assert get_bodies(channel, queue, 2) == [body, b'the next one']


@pytest.mark.parametrize('headers', [{}, {'key': 'value'}])
@pytest.mark.parametrize('body', [b'', ''])
def test_an_empty_body_comes_back_as_an_empty_string(amqp, channel, queue, body, headers):
    channel.basic_publish(amqp.Message(body, application_headers=headers), '', queue)
    channel.basic_publish(amqp.Message(b'the next one'), '', queue)
    message = get(channel, queue)
    assert message.body == ''
    assert message.application_headers == headers
    assert get(channel, queue).body == b'the next one'


def test_an_empty_message_without_properties_comes_back(amqp, channel, queue):
    channel.basic_publish(amqp.Message(b''), '', queue)
    message = get(channel, queue)
    assert message.body == ''
    assert message.properties == {}


def test_a_message_can_be_published_again_and_again(amqp, channel, queue):
    message = amqp.Message('again', application_headers={'n': 1})
    for _ in range(3):
        channel.basic_publish(message, '', queue)
    for _ in range(3):
        assert get(channel, queue, no_ack=True) == message


def test_a_received_message_can_be_sent_on(amqp, channel, queue):
    message = amqp.Message('on', application_headers={'n': 1}, priority=3)
    channel.basic_publish(message, '', queue)
    channel.basic_publish(get(channel, queue), '', queue)
    assert get(channel, queue) == message


# Acknowledging


def test_what_is_not_acknowledged_comes_back_when_the_channel_is_closed(
    amqp, connection, channel, queue
):
    publish(amqp, channel, queue, 'unacknowledged')
    assert channel.basic_get(queue).redelivered is False
    channel.close()
    message = get(connection.channel(), queue)
    assert message.body == 'unacknowledged'
    assert message.redelivered is True


def test_what_is_acknowledged_does_not_come_back(amqp, connection, channel, queue):
    publish(amqp, channel, queue, 'first', 'second')
    channel.basic_get(queue)
    channel.basic_ack(channel.basic_get(queue).delivery_tag)
    assert close_and_get_what_comes_back(amqp, connection, channel, queue) == ['first']


def test_what_needs_no_acknowledgement_does_not_come_back(amqp, connection, channel, queue):
    publish(amqp, channel, queue, 'once')
    assert channel.basic_get(queue, no_ack=True).body == 'once'
    assert close_and_get_what_comes_back(amqp, connection, channel, queue) == []


def test_acknowledging_multiple_takes_all_up_to_that_one(amqp, connection, channel, queue):
    publish(amqp, channel, queue, *'abcd')
    messages = [channel.basic_get(queue) for _ in range(4)]
    channel.basic_ack(messages[2].delivery_tag, multiple=True)
    assert close_and_get_what_comes_back(amqp, connection, channel, queue) == ['d']


def test_acknowledging_multiple_with_0_takes_all(amqp, connection, channel, queue):
    publish(amqp, channel, queue, *'abcd')
    for _ in range(4):
        channel.basic_get(queue)
    channel.basic_ack(0, multiple=True)
    assert close_and_get_what_comes_back(amqp, connection, channel, queue) == []


@pytest.mark.parametrize('no_ack', [True, False])
def test_a_message_can_be_settled_by_itself(amqp, connection, channel, queue, no_ack):
    publish(amqp, channel, queue, *'abcdef')
    a, b, c, d, e, f = (channel.basic_get(queue) for _ in range(6))
    b.ack()
    c.ack(multiple=True)
    d.reject(requeue=False)
    e.reject(requeue=True)
    again = get(channel, queue, no_ack=no_ack)
    assert again.redelivered
    with sends_nothing(connection):
        for message in (a, b, c, d, e, *([again] if no_ack else [])):
            with pytest.raises(ValueError, match=r'^the message was '):
                message.ack()
    f.ack()
    left = [] if no_ack else ['e']
    assert close_and_get_what_comes_back(amqp, connection, channel, queue) == left


def test_a_message_of_a_closed_channel_raises_why_it_was_closed(amqp, connection, channel, queue):
    publish(amqp, channel, queue, 'x', 'y')
    first, second = channel.basic_get(queue), channel.basic_get(queue)
    with pytest.raises(amqp.NotFound):
        channel.basic_get(new_name())
    for settle in (first.ack, lambda: first.ack(multiple=True), lambda: second.reject(True)):
        with sends_nothing(connection), pytest.raises(amqp.NotFound):
            settle()


def test_acknowledging_what_was_never_delivered_fails(amqp, channel, queue):
    channel.basic_ack(17)
    with pytest.raises(amqp.PreconditionFailed, match='17') as raised:
        channel.queue_declare(queue, passive=True)
    assert raised.value.args[3] == 'Channel.basic_ack'


def test_acknowledging_twice_fails(amqp, channel, queue):
    publish(amqp, channel, queue, 'once')
    tag = channel.basic_get(queue).delivery_tag
    channel.basic_ack(tag)
    channel.basic_ack(tag)
    with pytest.raises(amqp.PreconditionFailed):
        channel.queue_declare(queue, passive=True)


# Rejecting


def test_what_is_rejected_to_be_requeued_comes_back(amqp, channel, queue):
    publish(amqp, channel, queue, 'again')
    first = channel.basic_get(queue)
    assert channel.basic_reject(first.delivery_tag, requeue=True) is None
    second = get(channel, queue)
    assert second.body == 'again'
    assert second.redelivered is True
    assert second.delivery_tag > first.delivery_tag


def test_what_is_rejected_otherwise_is_gone(amqp, connection, channel, queue):
    publish(amqp, channel, queue, 'gone')
    channel.basic_reject(channel.basic_get(queue).delivery_tag, False)
    assert close_and_get_what_comes_back(amqp, connection, channel, queue) == []


# Recovering


def test_recovering_has_messages_delivered_again(amqp, channel, queue):
    publish(amqp, channel, queue, 'again')
    channel.basic_get(queue)
    assert channel.basic_recover(requeue=True) is None
    message = get(channel, queue)
    assert message.body == 'again'
    assert message.redelivered is True


def test_recovering_leaves_no_reply_behind(amqp, channel, queue):
    channel.basic_recover(requeue=True)
    channel.basic_qos(0, 0, False)
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=0)


def test_after_recovering_synchronously_the_messages_are_back(amqp, channel, queue):
    publish(amqp, channel, queue, 'again')
    channel.basic_get(queue)
    assert channel.basic_recover_sync(requeue=True) is None
    message = get(channel, queue)
    assert message.body == 'again'
    assert message.redelivered is True


@pytest.mark.parametrize('method', ['basic_recover', 'basic_recover_sync'])
def test_recovering_without_requeue_is_not_implemented_by_the_broker(amqp, channel, method):

    def recover():
        getattr(channel, method)()
        channel.basic_qos(0, 0, False)

    with pytest.raises(amqp.AMQPConnectionException) as raised:
        recover()
    assert raised.value.amqp_reply_code == 540


# What only the arguments decide


def test_publishing_immediately_is_not_implemented_by_the_broker(amqp, channel, queue):
    channel.basic_publish(amqp.Message(), '', queue, immediate=True)
    with pytest.raises(amqp.AMQPConnectionException) as raised:
        channel.queue_declare(queue, passive=True)
    assert raised.value.amqp_reply_code == 540
    assert raised.value.args[3] == 'Channel.basic_publish'


def test_headers_that_do_not_fit_into_a_frame_are_refused(amqp, connection, channel, queue):
    message = amqp.Message('x', application_headers={'big': 'x' * connection.frame_max})
    with sends_nothing(connection), pytest.raises(ValueError, match='properties'):
        channel.basic_publish(message, '', queue)
    publish(amqp, channel, queue, 'fine')


def test_a_user_id_that_is_not_the_own_is_refused_by_the_broker(amqp, channel, queue):
    channel.basic_publish(amqp.Message(user_id='somebody else'), '', queue)
    with pytest.raises(amqp.PreconditionFailed, match='user_id'):
        channel.queue_declare(queue, passive=True)


def test_a_message_that_expires_is_gone(amqp, channel, queue):
    channel.basic_publish(amqp.Message('short-lived', expiration='1'), '', queue)
    channel.tx_select()
    poll(lambda: ready_count(channel, queue) == 0, 'the expiration of the message')
