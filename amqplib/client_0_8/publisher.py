"""Publisher, by transactions."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from amqplib.client_0_8.connection import Connection
from amqplib.core import lane, publisher
from amqplib.core.spec import TX_COMMIT

if TYPE_CHECKING:
    from amqplib.core.deadline import Deadline
    from amqplib.exceptions import AMQPChannelException, AMQPException

__all__ = ['Publisher']

#: Seconds that a transaction stays open while messages come for it.
_OPEN_SECONDS = 0.1


class TransactionLane(lane.Lane):
    """A channel whose messages are settled together, by a commit."""

    # When the last transaction was committed.
    _committed = 0.0

    def use(self, channel: Any) -> None:
        channel.tx_select()
        super().use(channel)

    def flush(self, deadline: Deadline) -> None:
        super().flush(deadline)
        if monotonic() - self._committed > _OPEN_SECONDS and self.sent:
            self._await(0, deadline)

    def _await(self, most: int, deadline: Deadline) -> None:
        self._channel.commit_by(deadline)
        self._committed = monotonic()
        self._take_returned()
        self._settle_sent(list(self.sent))

    def _fault(self, error: AMQPChannelException) -> AMQPException:
        # RabbitMQ closes the channel when a queue refuses a message of a transaction.
        if error.amqp_method_sig == TX_COMMIT.signature:
            return lane.refused_by_broker(str(error))
        return error


class Publisher(publisher.Publisher):
    __doc__ = publisher.Publisher.__doc__

    _connection_class = Connection
    _lane_class = TransactionLane
