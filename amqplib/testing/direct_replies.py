"""Direct reply-to: answers that need no queue (amq.rabbitmq.reply-to)."""

from __future__ import annotations

import secrets

from amqplib.core.message import Message
from amqplib.core.raw_values import join_properties, split_properties
from amqplib.core.serialization import encode_shortstr
from amqplib.testing.channel import Channel
from amqplib.testing.errors import precondition_failed
from amqplib.testing.messages import Published

REPLY_QUEUE = 'amq.rabbitmq.reply-to'


def is_reply_key(routing_key: str) -> bool:
    """Return whether a routing key is that of somebody who waits for a reply."""
    return routing_key.startswith(f'{REPLY_QUEUE}.')


def is_reply_name(channel: Channel, queue: str) -> bool:
    """Return whether the name of a queue stands for replies that somebody waits for."""
    return queue == REPLY_QUEUE or queue in channel.vhost.reply_channels


def consume_replies(channel: Channel, tag: str, no_ack: bool) -> None:
    """Send the replies to this channel from now on."""
    if not no_ack:
        raise precondition_failed('reply consumer cannot acknowledge')
    if channel.reply_tag is not None:
        raise precondition_failed('reply consumer already set')
    channel.reply_tag = tag
    channel.reply_key = f'{REPLY_QUEUE}.{secrets.token_urlsafe(16)}'
    channel.vhost.reply_channels[channel.reply_key] = channel


def with_reply_key(channel: Channel, message: Published) -> Published:
    """Return a message with the key for its reply, if it wants a direct one."""
    if message.properties.reply_to != REPLY_QUEUE:
        return message
    if channel.reply_key is None:
        raise precondition_failed('fast reply consumer does not exist')
    properties = split_properties(message.properties.raw)
    properties['reply_to'] = encode_shortstr(channel.reply_key)
    content = Message.received(join_properties(properties), message.content.body)
    return Published(message.exchange, message.routing_key, content)


def send_reply(channel: Channel, message: Published) -> None:
    """Send a reply to the channel that waits for it; nobody keeps it if there is none."""
    receiver = channel.vhost.reply_channels.get(message.routing_key)
    if receiver is not None:
        receiver.send(
            'basic.deliver', receiver.reply_tag, receiver.skip_tag(), False, message.exchange,
            message.routing_key, content=message.content,
        )  # fmt: skip
    channel.publish(message, [], mandatory=False)
