"""Senders whose connection is gone."""

import pytest

from amqplib.command_line.json_lines import Entry
from amqplib.command_line.sending import SENDERS
from amqplib.exceptions import ConnectionLost
from amqplib.testing import Broker
from tests.command_line.conftest import CLIENTS


def test_a_sender_says_why_it_cannot_settle(protocol):
    amqp = CLIENTS[protocol]
    with Broker() as broker, amqp.Connection.from_url(broker.url) as conn:
        channel = conn.channel()
        sender = SENDERS[protocol](channel, pytest.fail, mandatory=False)
        sender.publish(Entry(amqp.Message(b'x'), '', 'q'))
        broker.drop_connections()
        # A call that hears of it before, in a signal handler for instance.
        with pytest.raises(ConnectionLost):
            channel.queue_declare('q')
        with pytest.raises(ConnectionLost):
            sender.settle()
