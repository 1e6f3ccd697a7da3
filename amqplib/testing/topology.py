"""Handlers of the classes access, exchange and queue."""

from __future__ import annotations

from typing import Any, Callable, Optional

from amqplib.core.spec import NOT_FOUND
from amqplib.testing.arguments import Arguments
from amqplib.testing.channel import Channel
from amqplib.testing.direct_replies import is_reply_name
from amqplib.testing.errors import Refusal, precondition_failed
from amqplib.testing.queues import Queue
from amqplib.testing.virtual_host import check_not_default

Reply = tuple[Any, ...]


def on_one_line(name: str) -> str:
    """Return a name without ends of lines, which RabbitMQ takes out."""
    return name.replace('\r', '').replace('\n', '')


def name_of(channel: Channel, name: str) -> str:
    """Return the name of a queue; '' stands for the one that was declared last."""
    name = on_one_line(name) or channel.last_queue
    if not name:
        raise Refusal(NOT_FOUND, 'no previously declared queue')
    return name


def queue_of(channel: Channel, name: str) -> Queue:
    """Return the queue of this name; '' stands for the one that was declared last."""
    return channel.vhost.queue(name_of(channel, name), channel.session)


def request_access(
    channel: Channel,
    realm: str,
    exclusive: bool,
    passive: bool,
    active: bool,
    write: bool,
    read: bool,
) -> Reply:
    return (1,)


def declare_exchange(
    channel: Channel,
    ticket: int,
    exchange: str,
    type: str,
    passive: bool,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    nowait: bool,
    arguments: Arguments,
) -> Reply:
    vhost, name = channel.vhost, on_one_line(exchange)
    if passive:
        check_not_default(name)
        vhost.exchange(name)
    else:
        vhost.declare_exchange(name, type, durable, auto_delete, internal, arguments)
    return ()


def delete_exchange(
    channel: Channel, ticket: int, exchange: str, if_unused: bool, nowait: bool
) -> Reply:
    channel.vhost.delete_exchange(on_one_line(exchange), if_unused)
    return ()


def bind_exchange(
    channel: Channel,
    ticket: int,
    destination: str,
    source: str,
    routing_key: str,
    nowait: bool,
    arguments: dict[str, Any],
) -> Reply:
    check_not_default(destination)
    exchange = channel.vhost.source(on_one_line(source))
    exchange.bind(channel.vhost.exchange(on_one_line(destination)), routing_key, arguments)
    return ()


def unbind_exchange(
    channel: Channel,
    ticket: int,
    destination: str,
    source: str,
    routing_key: str,
    nowait: bool,
    arguments: dict[str, Any],
) -> Reply:
    check_not_default(destination)
    to = channel.vhost.exchanges.get(on_one_line(destination))
    channel.vhost.unbind(on_one_line(source), to, routing_key, arguments)
    return ()


def declare_queue(
    channel: Channel,
    ticket: int,
    queue: str,
    passive: bool,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    nowait: bool,
    arguments: Arguments,
) -> Reply:
    session, name = channel.session, on_one_line(queue)
    if is_reply_name(channel, name):
        return name, 0, 1
    if passive:
        declared = channel.vhost.queue(name, session)
        declared.note_use()
    else:
        owner = session if exclusive else None
        declared = channel.vhost.declare_queue(
            name, durable, owner, session, auto_delete, arguments
        )
    channel.last_queue = declared.name
    return declared.name, len(declared.backlog), len(declared.consumers)


def _default_key(queue: str, routing_key: str, bound: str) -> str:
    """Return the key of a binding: without a name of a queue, it is the name by default."""
    return routing_key or ('' if queue else bound)


def bind_queue(
    channel: Channel,
    ticket: int,
    queue: str,
    exchange: str,
    routing_key: str,
    nowait: bool,
    arguments: dict[str, Any],
) -> Reply:
    name = name_of(channel, queue)
    source = channel.vhost.source(on_one_line(exchange))
    key = _default_key(queue, routing_key, name)
    source.bind(channel.vhost.queue(name, channel.session), key, arguments)
    return ()


def unbind_queue(
    channel: Channel,
    ticket: int,
    queue: str,
    exchange: str,
    routing_key: str,
    arguments: dict[str, Any],
) -> Reply:
    name = name_of(channel, queue)
    key = _default_key(queue, routing_key, name)
    bound = channel.vhost.queues.get(name)
    channel.vhost.unbind(on_one_line(exchange), bound, key, arguments)
    return ()


def purge_queue(channel: Channel, ticket: int, queue: str, nowait: bool) -> Reply:
    return (queue_of(channel, queue).purge(),)


def delete_queue(
    channel: Channel, ticket: int, queue: str, if_unused: bool, if_empty: bool, nowait: bool
) -> Reply:
    found = _queue_if_there(channel, queue)
    if found is None:
        return (0,)
    what = channel.vhost.describe('queue', found.name)
    if if_unused and found.consumers:
        raise precondition_failed(f'{what} in use')
    if if_empty and found.backlog:
        raise precondition_failed(f'{what} not empty')
    return (channel.vhost.delete_queue(found),)


def _queue_if_there(channel: Channel, name: str) -> Optional[Queue]:
    if name and on_one_line(name) not in channel.vhost.queues:
        return None
    return queue_of(channel, name)


HANDLERS: dict[str, Callable[..., Any]] = {
    'access.request': request_access,
    'exchange.declare': declare_exchange,
    'exchange.delete': delete_exchange,
    'exchange.bind': bind_exchange,
    'exchange.unbind': unbind_exchange,
    'queue.declare': declare_queue,
    'queue.bind': bind_queue,
    'queue.unbind': unbind_queue,
    'queue.purge': purge_queue,
    'queue.delete': delete_queue,
}
