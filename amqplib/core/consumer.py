"""Consumer: the messages of a queue, to iterate over. Channel.consume() imports it.

The messages of a Consumer go to it when they arrive, and never through the channel's queue. So
whatever takes methods off that queue (a wait() inside a callback, for instance) cannot change their
order.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypeVar

from amqplib.core import log
from amqplib.core.arguments import decode_deliver
from amqplib.core.deadline import NO_WAIT, Deadline
from amqplib.core.locks import Mutex
from amqplib.core.message import CONTENT_ENCODING_FLAG, Message
from amqplib.core.spec import DELIVER
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import AMQPException, AMQPTimeout, ConsumerCancelled, ReentrancyError

if TYPE_CHECKING:
    from amqplib.core.fast_decoding import ArrivedMethod

#: Seconds after which a waiting consumer asks again whether it should stop.
_STEP = 0.25

Received = TypeVar('Received', bound=Message)


class Sorter:
    """In place of the queue of a channel that has Consumers: it passes on what arrives.

    ready: consumer tag -> the queue for the messages of that Consumer.
    """

    def __init__(self, queue: deque[ArrivedMethod]) -> None:
        self._queue = queue
        self.ready: dict[str, deque[Any]] = {}

    def append(self, method: ArrivedMethod) -> None:
        """Take a method that has arrived; raise ProtocolError if it is malformed."""
        method_sig, args, msg = method
        if msg is not None and method_sig == DELIVER.signature:
            if msg.raw_delivery is None:
                # With a reader of its own, because the method may still be dispatched.
                msg.raw_delivery = decode_deliver(AMQPReader(args.input))
            ready = self.ready.get(msg.raw_delivery[0])
            if ready is not None:
                ready.append(msg)
                return
        self._queue.append(method)

    def last_delivery_tag(self) -> int:
        """Return the tag of the last message that was not handed out; 0 if there is none."""
        # Copied, as close() may empty them in between.
        last = (msg for ready in self.ready.values() for msg in list(ready)[-1:])
        return max((msg.delivery_tag for msg in last), default=0)

    def close(self) -> None:
        """Drop the messages that were not handed out, as their channel is closed."""
        for ready in self.ready.values():
            ready.clear()


class Consumer(Generic[Received]):
    """The messages of a queue, to iterate over; Channel.consume() makes it.

    A loop ends when no message has come for `timeout` seconds, when stop() is true, and after
    cancel(). It may be left and begun again: nothing is lost in between. What arrives meanwhile for
    other consumers of the channel is not lost either: other Consumers keep theirs, and callbacks
    are called, one for each message that the loop gets.

    The loop raises what wait() raises: ConsumerCancelled, once it has handed out everything that
    came before the broker cancelled the consumer (unless there is an on_cancel, which is called
    instead); the error that closed the channel or the connection; what a callback raises.

    tag: the consumer tag.
    """

    def __init__(
        self,
        channel: Any,
        tag: str,
        no_ack: bool,
        timeout: Optional[float],
        stop: Optional[Callable[[], object]],
        on_cancel: Optional[Callable[[str], object]],
    ) -> None:
        self.tag = tag
        # The messages that were not handed out yet, which the channel's Sorter adds to.
        self.ready: deque[Received] = deque()
        # Typed as Any, because the module of Channel imports this one.
        self._channel = channel
        self._queue: deque[ArrivedMethod] = channel.method_queue
        self._no_ack = no_ack
        self._timeout = Deadline(timeout).seconds
        self._stop = stop
        self._on_cancel = on_cancel
        # Whether cancel() was called; if it could not do the rest, the loop does it.
        self._cancelled = False
        # Whether that is done: a later consumer may have the same tag.
        self._left = False
        self._leaving = Mutex()
        self._cause: Optional[ConsumerCancelled] = None
        # How many calls wait for messages, and the last loop with its thread.
        self._waits = 0
        self._loop: Callable[[], Optional[Iterator[Received]]] = _no_loop
        self._thread = 0

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.tag!r} of {self._channel!r}>'

    def __iter__(self) -> Iterator[Received]:
        messages = self._messages(self._timeout, self._stop)
        self._thread, self._loop = threading.get_ident(), weakref.ref(messages)
        return messages

    def get(self, timeout: Optional[float] = None) -> Received:
        """Return the next message.

        timeout: seconds; 0 takes only what has arrived, None waits without limit.

        Raises AMQPTimeout when the timeout expires, which loses nothing; ConsumerCancelled, also
        after cancel(); otherwise what a loop raises. The consumer's own `timeout` and `stop` are
        for loops, and do not end this call.
        """
        deadline = Deadline(timeout)
        for msg in self._messages(deadline.seconds, None):
            return msg
        if self._is_over():
            raise ConsumerCancelled(
                0, f'the consumer {self.tag!r} was cancelled', consumer_tag=self.tag
            )
        raise AMQPTimeout(0, f'no message arrived within {deadline}')

    def cancel(self) -> None:
        """End the loop, cancel the consumer, and give back what was not handed out.

        The messages go back to their queue. Those of a consumer with no_ack are lost; the log says
        how many.

        While a loop goes on in another thread, or a call waits that this one has interrupted (from
        a callback or a signal handler), the loop does the rest, within half a second.
        """
        self._cancelled = True
        elsewhere = self._thread != threading.get_ident()  # looked up, as it may be patched
        if self._waits or (elsewhere and self._loop() is not None):
            return
        try:
            self._leaving.try_run(self._leave)
        except ReentrancyError:
            log.debug("the consumer '%s' will be cancelled later", self.tag)

    def __enter__(self) -> Consumer[Received]:
        return self

    def __exit__(self, type: object, value: Optional[BaseException], traceback: object) -> None:
        self._cancelled = True
        try:
            self._leaving.try_run(self._leave)
        except AMQPException as error:
            if value is None:
                raise
            # The error that ended the block is the one to raise.
            log.warning('cancelling after an error failed: %s', error)

    def cancelled_by_broker(self, tag: str) -> None:
        """Handle the broker's basic.cancel (called by the channel)."""
        if self._on_cancel is not None:
            self._on_cancel(tag)
        else:
            self._cause = self._channel.why_cancelled(tag)

    def _messages(
        self, timeout: Optional[float], stop: Optional[Callable[[], object]]
    ) -> Iterator[Received]:
        channel, queue, ready = self._channel, self._queue, self.ready
        while True:
            if stop is not None and stop():
                return
            if (queue or not ready or self._cancelled) and not self._await(timeout, stop):
                return
            try:
                msg = ready[0]
                msg.raw_channel = channel
                if channel.auto_decode:
                    raw = msg.raw_properties
                    if raw is None or raw[0] & CONTENT_ENCODING_FLAG:
                        msg.decode_body()
                # Taken off only here: CPython handles no signal between this and the `yield`.
                if ready[0] is msg:
                    del ready[0]
                    yield msg
            except IndexError:
                continue  # another thread or a signal handler has just closed the channel

    def _await(self, timeout: Optional[float], stop: Optional[Callable[[], object]]) -> bool:
        """Wait for a message; return False if the loop is to end.

        Of the methods that have arrived for others, one is dispatched before each message.
        """
        self._waits += 1
        try:
            in_time = self._wait_in_steps(Deadline(timeout), stop)
        finally:
            self._waits -= 1
        if self._cancelled:
            self._leaving.try_run(self._leave)
            return False
        return in_time

    def _wait_in_steps(self, deadline: Deadline, stop: Optional[Callable[[], object]]) -> bool:
        channel, ready = self._channel, self.ready
        while True:
            dispatched = channel.dispatch_next()
            if self._cancelled or (stop is not None and stop()):
                return False
            if ready:
                return True
            if not dispatched:
                channel.wait_for_messages(self._can_go_on, deadline.earlier(Deadline(_STEP)))
            if ready or (self._queue and not dispatched):
                continue
            if self._is_over():
                if self._cause is not None:
                    raise self._cause.copy()
                return False
            if deadline.expired():
                # What has already arrived is taken.
                return bool(dispatched and channel.wait_for_messages(ready.__len__, NO_WAIT))

    def _can_go_on(self) -> bool:
        return bool(self.ready or self._queue or self._is_over())

    def _is_over(self) -> bool:
        """Return whether no more messages will come, as the consumer was cancelled."""
        channel = self._channel
        # In this order: a channel that is being closed is not open when its callbacks go.
        return self._cancelled or (self.tag not in channel.callbacks and channel.is_open)

    def _leave(self) -> None:
        """Cancel the consumer, and give back what was not handed out."""
        channel = self._channel
        if not self._left and channel.is_open and self.tag in channel.callbacks:
            channel.end_consumer(self.tag)
        self._left = True
        if self._no_ack:
            self._warn(len(self.ready), 'lost')
        elif channel.is_open:
            self._give_back(channel)
        self.ready.clear()

    def _give_back(self, channel: Any) -> None:
        settled_up_to = channel.settled_up_to
        tags = [msg.delivery_tag for msg in self.ready if msg.delivery_tag > settled_up_to]
        self._warn(len(self.ready) - len(tags), 'settled with a later one, but never handed out,')
        if tags:
            # Taken off when they are sent, as none may go back twice.
            channel.requeue(tags, self.ready.clear)

    def _warn(self, number: int, what: str) -> None:
        if number:
            text = "%s messages %s that were sent before the consumer '%s' was cancelled"
            log.warning(text, number, what, self.tag)


def _no_loop() -> None:
    return None
