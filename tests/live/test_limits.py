"""The limits that a program sets for a connection, and what the broker makes of them."""

import pytest


def test_fewer_channels_and_smaller_frames_are_agreed_on(amqp, connect):
    connection = connect(channel_max=2, frame_max=8192)
    assert (connection.channel_max, connection.frame_max) == (2, 8192)
    channel = connection.channel()
    queue, _, _ = channel.queue_declare(exclusive=True)
    body = bytes(range(256)) * 256
    channel.basic_publish(amqp.Message(body), routing_key=queue)
    assert channel.basic_get(queue, no_ack=True).body == body
    connection.channel()
    with pytest.raises(amqp.AMQPException, match='all of the 2 channels are open'):
        connection.channel()


@pytest.mark.parametrize('by', ['basic_get', 'basic_consume'])
def test_a_message_that_is_too_large_stays_in_the_queue(amqp, connect, shared_queue, by):
    sender = connect().channel()
    for size in (99, 100, 101):
        sender.basic_publish(amqp.Message(b'x' * size), routing_key=shared_queue)
    sender.close()
    channel = connect(max_message_size=100).channel()
    channel.basic_qos(prefetch_count=1)
    sizes = []

    def callback(message):
        sizes.append(len(message.body))
        channel.basic_ack(message.delivery_tag)

    if by == 'basic_consume':
        channel.basic_consume(shared_queue, callback=callback)
    receive = {
        'basic_get': lambda: callback(channel.basic_get(shared_queue)),
        'basic_consume': lambda: channel.wait(timeout=10),
    }[by]
    receive()
    receive()
    with pytest.raises(amqp.MessageTooLarge, match='a message of 101 bytes') as caught:
        receive()
    assert sizes == [99, 100]
    assert caught.value.amqp_reply_code == 311
    left = connect().channel().basic_get(shared_queue)
    assert len(left.body) == 101
    assert left.redelivered
