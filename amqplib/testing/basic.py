"""Handlers of the basic class: publishing, consuming, getting and acknowledging."""

from __future__ import annotations

import secrets
from typing import Any, Callable, Optional

from amqplib.core.message import Message
from amqplib.core.spec import ACCESS_REFUSED, NOT_ALLOWED
from amqplib.testing.arguments import priority_of
from amqplib.testing.channel import Channel
from amqplib.testing.direct_replies import (
    REPLY_QUEUE,
    consume_replies,
    is_reply_key,
    send_reply,
    with_reply_key,
)
from amqplib.testing.errors import Refusal, not_implemented, precondition_failed
from amqplib.testing.messages import MAX_MESSAGE, Published
from amqplib.testing.queues import Queue
from amqplib.testing.topology import Reply, queue_of


def publish(
    channel: Channel,
    content: Message,
    ticket: int,
    exchange: str,
    routing_key: str,
    mandatory: bool,
    immediate: bool,
) -> None:
    if immediate:
        raise not_implemented('immediate=true')
    target = channel.vhost.exchange(exchange)
    if target.internal:
        what = channel.vhost.describe('exchange', exchange)
        raise Refusal(ACCESS_REFUSED, f'cannot publish to internal {what}')
    message = with_reply_key(channel, Published(exchange, routing_key, content))
    _check_message(channel, message)
    if not exchange and is_reply_key(routing_key):
        send_reply(channel, message)
    else:
        channel.publish(message, channel.vhost.route(target, message), mandatory)


def _check_message(channel: Channel, message: Published) -> None:
    properties = message.properties
    if message.size > MAX_MESSAGE:
        text = f'message size {message.size} is larger than configured max size {MAX_MESSAGE}'
        raise precondition_failed(text)
    if properties.user_id not in (None, channel.session.client.user):
        raise precondition_failed(
            f"user_id property set to '{properties.user_id}' but authenticated user was "
            f"'{channel.session.client.user}'"
        )
    if properties.delivery_mode not in (None, 1, 2):
        raise precondition_failed(
            f'invalid message: {{delivery_mode_unknown,{properties.delivery_mode}}}'
        )
    _ = properties.time_to_live  # refuses a wrong one


def limit_prefetch(
    channel: Channel, prefetch_size: int, prefetch_count: int, global_: bool
) -> Reply:
    if prefetch_size:
        raise not_implemented(f'prefetch_size!=0 ({prefetch_size})')
    if not global_:
        channel.prefetch = prefetch_count
    # A limit for consumers ends that of the channel.
    channel.channel_prefetch = prefetch_count if global_ else 0
    channel.wake_queues()
    return ()


def consume(
    channel: Channel,
    ticket: int,
    queue: str,
    consumer_tag: str,
    no_local: bool,
    no_ack: bool,
    exclusive: bool,
    nowait: bool,
    arguments: Optional[dict[str, Any]] = None,
) -> Reply:
    if consumer_tag in channel.consumers:
        raise Refusal(NOT_ALLOWED, f"attempt to reuse consumer tag '{consumer_tag}'")
    tag = consumer_tag or f'amq.ctag-{secrets.token_urlsafe(16)}'
    if queue == REPLY_QUEUE:
        consume_replies(channel, tag, no_ack)
    else:
        found = queue_of(channel, queue)
        priority = priority_of(found.name, channel.vhost.name, arguments or {})
        channel.consume(found, tag, no_ack, exclusive, priority)
    return (tag,)


def cancel(channel: Channel, consumer_tag: str, nowait: bool) -> Reply:
    channel.cancel(consumer_tag)
    return (consumer_tag,)


def get(channel: Channel, ticket: int, queue: str, no_ack: bool) -> Optional[Reply]:
    found = queue_of(channel, queue)
    entry = found.get()
    if entry is None:
        channel.reply('basic.get_empty', '')
        return None
    if no_ack:
        found.settle(entry)
        tag = channel.skip_tag()
    else:
        tag = channel.next_tag(found, entry, None)
    message = entry.message
    channel.send(
        'basic.get_ok', tag, entry.redelivered, message.exchange, message.routing_key,
        len(found.backlog), content=message.content,
    )  # fmt: skip
    return None


def acknowledge(channel: Channel, delivery_tag: int, multiple: bool) -> None:
    channel.settle(channel.take_deliveries(delivery_tag, multiple), Queue.acknowledge)


def reject(channel: Channel, delivery_tag: int, requeue: bool) -> None:
    negative_acknowledge(channel, delivery_tag, False, requeue)


def negative_acknowledge(
    channel: Channel, delivery_tag: int, multiple: bool, requeue: bool
) -> None:
    taken = channel.take_deliveries(delivery_tag, multiple)
    channel.settle(taken, Queue.requeue if requeue else Queue.reject)


def recover(channel: Channel, requeue: bool) -> Reply:
    if not requeue:
        raise not_implemented('requeue=false')
    channel.requeue_all()
    return ()


def recover_async(channel: Channel, requeue: bool) -> None:
    recover(channel, requeue)


HANDLERS: dict[str, Callable[..., Any]] = {
    'basic.publish': publish,
    'basic.qos': limit_prefetch,
    'basic.consume': consume,
    'basic.cancel': cancel,
    'basic.get': get,
    'basic.ack': acknowledge,
    'basic.reject': reject,
    'basic.nack': negative_acknowledge,
    'basic.recover': recover,
    'basic.recover_async': recover_async,
}
