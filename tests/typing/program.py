"""A program as users write it; the type checker goes through it as it does through the package."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Callable, Optional, Union

import amqplib.client_0_8 as amqp_0_8
import amqplib.client_0_9_1 as amqp


def on_message(message: amqp.Message) -> None:
    text: str = message.body.decode()
    print(text, message.delivery_tag + 1, message.content_type.upper(), message.routing_key.upper())
    if message.redelivered and message.priority > 5:
        print(message.application_headers.get('x-death'), message.consumer_tag.upper())
    sent: Union[datetime, int] = message.timestamp
    if isinstance(sent, datetime):
        print(sent.year)
    message.channel.basic_ack(message.delivery_tag)
    message.ack(multiple=True)
    message.reject(requeue=False)


def work(host: str) -> None:
    with amqp.Connection(host, heartbeat=10) as connection, connection.channel() as channel:
        queue, ready, consumers = channel.queue_declare(exclusive=True)
        print(queue.upper(), ready + consumers)
        channel.confirm_select(outstanding_limit=100)
        message = amqp.Message('text', content_type='text/plain')
        message.priority = 5
        message.timestamp = datetime.now()
        message.priority = 'high'  # type: ignore[assignment]
        message.prority = 5  # type: ignore[attr-defined]
        number = channel.basic_publish(message, '', queue)
        print(number)
        channel.wait_for_confirms(timeout=10)
        tag = channel.basic_consume(queue, callback=on_message)
        while tag in channel.callbacks:
            channel.wait(timeout=1)
        with channel.consume(queue, prefetch=10, timeout=1.0, stop=lambda: False) as consumer:
            for message in consumer:
                on_message(message)
            on_message(consumer.get(timeout=1))
            print(consumer.tag.upper())
        got: Optional[amqp.Message] = channel.basic_get(queue, no_ack=True)
        if got is not None:
            print(got.body, got.properties)
        again(channel)


def again(channel: amqp.Channel) -> None:
    channel.basic_qos(prefetch_count=10)
    code, text, exchange, routing_key, returned = channel.returned_messages.get_nowait()
    message: amqp.Message = returned
    print(code + 1, text.upper(), exchange.upper(), routing_key.upper())
    callback: Optional[Callable[[amqp.Message], Any]] = channel.callbacks.get('tag')
    if callback is not None:
        callback(message)
    channel.callbacks['tag'] = on_message
    connection: Optional[amqp.Connection] = channel.connection
    if connection is not None:
        other: amqp.Channel = connection.channel()
        other.close()


def publish_all_or_nothing(channel: amqp.Channel, texts: list[str]) -> None:
    try:
        with channel.transaction():
            for text in texts:
                channel.basic_publish(amqp.Message(text), routing_key='texts')
    except amqp.NotSupported as error:
        print(error.amqp_reply_code + 1)


def connect(host: str) -> amqp.Connection:
    with amqp.Connection(
        host,
        port=5673,
        channel_max=10,
        frame_max=8192,
        max_message_size=1 << 20,
        tcp_user_timeout=2.5,
    ) as connection:
        opened: amqp.Connection = connection
        is_open: bool = opened.is_open
        print(is_open)
        return opened


def keep_working(url: str) -> None:
    for attempt in amqp.reconnecting(url, retry=(amqp.NotFound, OSError), stop=bool, heartbeat=5):
        with attempt as connection, connection.channel() as channel:
            opened: amqp.Connection = connection
            print(opened.server_capabilities, channel.is_open)


def connect_by_url() -> amqp.Connection:
    try:
        return amqp.Connection.from_url(['amqps://a', 'amqps://b'], heartbeat=5)
    except amqp.AMQPException as error:
        recoverable: bool = error.recoverable
        print(recoverable)
        raise


def work_on_0_8(host: str) -> None:
    with amqp_0_8.Connection(host) as connection:
        channel = connection.channel()
        name, _, _ = channel.queue_declare()
        channel.basic_publish(amqp_0_8.Message(b'bytes'), routing_key=name)
        channel.no_such_method()  # type: ignore[attr-defined]
