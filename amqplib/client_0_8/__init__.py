"""AMQP 0-8: ``import amqplib.client_0_8 as amqp``."""

from amqplib.client_0_8.basic_message import Message
from amqplib.client_0_8.channel import Channel
from amqplib.client_0_8.connection import Connection
from amqplib.client_0_8.exceptions import (
    AccessRefused,
    AMQPChannelException,
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ConnectionForced,
    ConnectionLost,
    ConsumerCancelled,
    LoginRefused,
    NotFound,
    PreconditionFailed,
    ProtocolError,
    ProtocolVersionRefused,
    ReentrancyError,
    ResourceLocked,
    WriteTimeout,
)

__all__ = [
    'AMQPChannelException',
    'AMQPConnectionException',
    'AMQPException',
    'AMQPTimeout',
    'AccessRefused',
    'Channel',
    'Connection',
    'ConnectionForced',
    'ConnectionLost',
    'ConsumerCancelled',
    'LoginRefused',
    'Message',
    'NotFound',
    'PreconditionFailed',
    'ProtocolError',
    'ProtocolVersionRefused',
    'ReentrancyError',
    'ResourceLocked',
    'WriteTimeout',
]
