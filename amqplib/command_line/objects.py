"""The commands that create, connect, empty, delete and describe queues and exchanges."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from amqplib.command_line.connecting import open_channel, open_connection
from amqplib.command_line.output import Output
from amqplib.command_line.status import USAGE, Failure, count


def declare(options: Namespace) -> None:
    """Create a queue or an exchange, unless it exists."""
    arguments = dict(options.argument)
    flags = {'durable': not options.transient, 'auto_delete': options.auto_delete}
    with open_channel(options) as ch:
        if options.exchange is None:
            name = ch.queue_declare(options.name, arguments=arguments, **flags)[0]
            if not options.name:  # the broker has chosen one
                _show(Output(), name)
        else:
            ch.exchange_declare(options.name, options.exchange, arguments=arguments, **flags)


def bind(options: Namespace) -> None:
    """Bind a queue or an exchange to an exchange."""
    arguments = dict(options.argument)
    if options.exchange and options.protocol == '0-8':
        raise Failure('AMQP 0-8 cannot bind an exchange to an exchange', USAGE)
    with open_channel(options) as ch:
        call = ch.exchange_bind if options.exchange else ch.queue_bind
        call(options.name, options.source, options.routing_key, arguments=arguments)


def delete(options: Namespace) -> None:
    """Delete a queue or an exchange."""
    if options.exchange and options.if_empty:
        raise Failure('an exchange is always empty: --if-empty is for queues', USAGE)
    output = Output()
    with open_channel(options) as ch:
        _check_exists(ch, options.name, options.exchange)  # brokers delete nothing without an error
        if options.exchange:
            ch.exchange_delete(options.name, if_unused=options.if_unused)
        else:
            number = ch.queue_delete(options.name, options.if_unused, options.if_empty)
            _show(output, f'{count(number)} deleted')


def purge(options: Namespace) -> None:
    """Remove the messages of a queue that are not delivered."""
    output = Output()
    with open_channel(options) as ch:
        _show(output, f'{count(ch.queue_purge(options.queue))} deleted')


def info(options: Namespace) -> None:
    """Show what is known of a queue, an exchange or the broker."""
    if options.name is not None:
        facts = _facts(options)
    elif options.exchange:
        raise Failure('which exchange? Name one', USAGE)
    else:
        facts = _broker_facts(options)
    if options.json:
        _show(Output(), json.dumps(facts))
    else:
        _show(Output(), '\n'.join(f'{name}: {value}' for name, value in facts.items()))


def _facts(options: Namespace) -> dict[str, Any]:
    with open_channel(options) as ch:
        declared = _check_exists(ch, options.name, options.exchange)
    if options.exchange:  # AMQP tells no more of it
        return {'exchange': options.name}
    return dict(zip(('queue', 'messages', 'consumers'), declared))


def _check_exists(channel: Any, name: str, exchange: bool) -> Any:
    """Return what the broker says of a queue or an exchange; raise NotFound if there is none."""
    if exchange:  # its type is not looked at
        return channel.exchange_declare(name, 'direct', passive=True)
    return channel.queue_declare(name, passive=True)


def _broker_facts(options: Namespace) -> dict[str, Any]:
    with open_connection(options) as conn:
        properties = {
            name: value for name, value in conn.server_properties.items() if isinstance(value, str)
        }
        limits = {name: getattr(conn, name) for name in ('channel_max', 'frame_max', 'heartbeat')}
        return {**properties, 'protocol': options.protocol, **limits}


def _show(output: Output, text: str) -> None:
    output.write(text.encode('utf-8', 'backslashreplace') + b'\n')
    output.flush()
