"""One connection on the wire: reading, waiting, writing, and the end.

The session knows its channels as inboxes: it puts in each what arrives for it (`Inbox.arrive`), and
tells each that it has ended (`Inbox.session_ended`). What methods mean is not known here.
"""

from __future__ import annotations

import os
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional

from amqplib.core import heartbeat, log
from amqplib.core.closed import Closed
from amqplib.core.deadline import NO_DEADLINE, NO_WAIT, Deadline
from amqplib.core.encoding import HEARTBEAT_FRAME
from amqplib.core.outbox import SPOILED, Outbox
from amqplib.core.reader_role import ReaderRole
from amqplib.exceptions import (
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ConnectionLost,
    ProtocolError,
    ReentrancyError,
    WriteTimeout,
)

if TYPE_CHECKING:
    from amqplib.core.decoding import Decoder
    from amqplib.core.encoding import Frames
    from amqplib.core.fast_decoding import ArrivedMethod, Inbox
    from amqplib.core.spec import Signature
    from amqplib.core.transport import AbstractTransport

#: Seconds between two polls for input by a channel that only publishes.
POLL_INTERVAL = 0.05

#: Bytes that are read ahead while a write waits for the broker.
MAX_READ_AHEAD = 64 * 1024 * 1024

#: Receives after the deadline of a wait that may complete what has arrived before.
MAX_LATE_RECEIVES = 64

#: Seconds and bytes that are spent, after a write failed, to read why.
DRAIN_TIMEOUT = 0.2
MAX_DRAINED = 16 * 1024 * 1024

#: Seconds after which a write that waits looks again who may read the socket.
_BLOCKED_WRITE_STEP = 0.1

#: Seconds for which a write lets another thread receive what it needs before it goes on.
_OTHERS_READ = 0.01


class Session:
    """A connected transport, and what is read from it and written to it.

    closed: why it ended; its `asked` says that the program closes the connection.
    inboxes: channel number -> inbox.
    role: the role of the reader.
    outbox: the writer.
    poll_due: when a channel that only publishes should poll for input.
    blocked: why the broker takes no messages at the moment; it does not say so on 0-8.
    """

    def __init__(
        self, transport: AbstractTransport, decoder: Decoder, inboxes: dict[int, Inbox]
    ) -> None:
        self.transport = transport
        self.decoder = decoder
        self.closed = Closed()
        self.outbox = Outbox(transport, self.closed)
        self.inboxes = inboxes
        self.role = ReaderRole()
        self.poll_due = 0.0
        self.blocked: Optional[str] = None
        # What the connection knows: function(channel, method) for a channel that is not open;
        # function(ProtocolError) -> frame that tells the broker; what ends the connection.
        self.on_unknown_channel: Callable[[int, ArrivedMethod], None]
        self.complaint: Callable[[ProtocolError], bytes]
        self.last_method: Signature
        # What was received and is not decoded yet.
        self._arrived: list[Any] = []
        # Whether an interrupt now would lose bytes that were received.
        self._processing = False
        # The failure of a write by the thread that reads.
        self._failed_write: Optional[AMQPException] = None
        self._torn_down = False
        self._released = False
        transport.wait_writable = self._wait_until_writable
        _sessions.add(self)

    # Waiting and reading

    def wait_until(
        self, closed: Closed, ready: Callable[[], object], deadline: Deadline = NO_DEADLINE
    ) -> bool:
        """Read, or let another thread read, until it is ready; return False at the deadline.

        closed: of the channel that waits; raises why it is closed, once it is.
        ready: says whether what is waited for has come; called by whichever thread reads.
        """
        role = self.role
        results: list[bool] = []
        if self.outbox.is_mine():
            raise ReentrancyError.of_call()
        if role.is_mine():
            return self._read_again(closed, ready, deadline)
        try:
            while not role.try_read(self._read_until, closed, ready, deadline, results):
                in_time = role.wait_for_reader(
                    lambda: ready() or closed.cause is not None, deadline
                )
                if ready():
                    return True
                if closed.cause is not None:
                    closed.raise_cause()
                if not in_time:
                    return False
        finally:
            if self.closed.cause is not None:
                self._free_descriptor()
        return results[0]

    def _read_again(self, closed: Closed, ready: Callable[[], object], deadline: Deadline) -> bool:
        """Read within the reading of the same thread, if a handler asks for it."""
        role = self.role
        if not role.re_enterable:
            raise ReentrancyError.of_call()
        results: list[bool] = []
        try:
            role.re_enterable = False
            self._read_until(closed, ready, deadline, results)
        finally:
            role.re_enterable = True
        return results[0]

    def call_handler(self, handler: Callable[..., object], *args: Any) -> None:
        """Call what may call the library in turn, from where methods are handed out."""
        role = self.role
        digesting, self._processing = self._processing, False
        try:
            role.re_enterable = True
            handler(*args)
        finally:
            role.re_enterable = False
        self._processing = digesting

    def may_wait(self) -> bool:
        """Return whether the calling thread may wait: it is not in the middle of something here."""
        role = self.role
        return not self.outbox.is_mine() and (not role.is_mine() or role.re_enterable)

    def _read_until(
        self, closed: Closed, ready: Callable[[], object], deadline: Deadline, results: list[bool]
    ) -> None:
        """Read until it is ready (as the reader); append whether it became so in time."""
        late = 0
        while not ready():
            if closed.cause is not None:
                closed.raise_cause()
            in_time = self._receive(deadline)
            # What has arrived is taken, in however many portions; but what goes on arriving for
            # others does not prolong the wait.
            if in_time and (deadline is NO_DEADLINE or not deadline.expired()):
                continue
            if not ready() and closed.cause is None:
                late += 1
                if not in_time or late > MAX_LATE_RECEIVES or not self.decoder.incomplete:
                    results.append(False)
                    return
        results.append(True)

    def _receive(self, deadline: Deadline) -> bool:
        """Receive once and hand out what became complete (as the reader).

        Returns False if nothing arrived before the deadline. An error ends the session, after the
        methods that came before it were handed out.
        """
        failure = None
        try:
            if not self.decoder.queue:
                try:
                    receive = self._flush_and_receive if self.outbox.urgent else self._receive_bytes
                    if not receive(deadline):
                        return False
                except AMQPConnectionException as error:
                    failure = error
            self._processing = True
            self._dispatch()
            self._processing = False
        except AMQPConnectionException as error:
            self.end(error)
        except BaseException:
            if self._processing or self.outbox.state is SPOILED:
                self.end(ConnectionLost(0, 'reading was interrupted'))
            raise
        finally:
            if failure is not None:
                self.end(failure)
                # Its traceback refers to this frame, and so to all that waits for the collector.
                failure = None
            if self._failed_write is not None:
                self._give_up_writing()
            if self.role.waiters:
                self.role.wake_ready()
        return True

    def _give_up_writing(self) -> None:
        """End the session, as an answer of this thread could not be sent."""
        error, self._failed_write = self._failed_write, None
        assert error is not None
        try:
            self._drain()
        finally:
            self._end_after_write(error)

    def _flush_and_receive(self, deadline: Deadline) -> bool:
        """Send what is urgent, and receive; but come back soon, if not all could be sent."""
        self.outbox.flush()
        if not self.outbox.urgent:
            return self._receive_bytes(deadline)
        step = Deadline(_BLOCKED_WRITE_STEP)
        return self._receive_bytes(deadline.earlier(step)) or not deadline.expired()

    def _receive_bytes(self, deadline: Deadline) -> bool:
        """Have the decoder take what arrives; return False if nothing did before the deadline."""
        arrived, decoder, transport = self._arrived, self.decoder, self.transport
        if not arrived:  # else an interrupt came right after they were received
            room = None
            if decoder.open_frame is not None and transport.receives_into:
                room = decoder.room()
            if room is None:
                if not transport.receive(arrived, deadline):
                    return False
            else:
                with room:
                    if not transport.receive_into(room, arrived, deadline):
                        return False
        self._processing = True
        received = arrived.pop()
        if type(received) is bytes:
            decoder.take(received)
        else:
            decoder.take_room(*transport.split(received))
        self._processing = False
        return True

    def _dispatch(self) -> None:
        """Put the methods that were read in the inboxes of their channels."""
        queue, inboxes = self.decoder.queue, self.inboxes
        while queue:
            channel_id, method = queue.popleft()
            if self.closed.cause is not None:
                queue.clear()
                return
            inbox = inboxes.get(channel_id)
            if inbox is None:
                self.on_unknown_channel(channel_id, method)
            else:
                inbox.arrive(method)

    def poll_input(self, closed: Closed) -> None:
        """Read what has arrived, for a channel that only sends; raise what closed the channel.

        A sender calls this when `poll_due` has passed: not for each message, yet often enough to
        learn of a close soon.
        """
        self.poll_due = monotonic() + POLL_INTERVAL
        self._try_read(self._receive_if_open)
        if closed.cause is not None:
            closed.raise_cause()

    def _receive_if_open(self) -> None:
        if self.closed.cause is None:
            self._receive(NO_WAIT)

    def _try_read(self, work: Callable[..., object], *args: Any) -> bool:
        """Do work that reads, if no thread reads; return whether it was done."""
        try:
            return self.role.try_read(work, *args)
        finally:
            if self.closed.cause is not None:
                self._free_descriptor()

    # Writing

    def send(
        self,
        frames: Frames,
        closed: Closed,
        deadline: Deadline = NO_DEADLINE,
        on_turn: Optional[Callable[[], object]] = None,
    ) -> None:
        """Send the frames of a method for a channel; raise why the channel is closed.

        on_turn: called when they are the next to be sent.

        Raises AMQPTimeout if nothing was sent in time, or WriteTimeout; the latter, and
        ConnectionLost, end the session.
        """
        try:
            if self.role.is_mine() and not self.role.re_enterable:
                sent = self.outbox.send_soon(frames, closed, on_turn)
            else:
                sent = self.outbox.send(frames, closed, deadline, on_turn)
        except AMQPException as error:
            self._write_failed(error, closed)
        except BaseException:
            if self.outbox.state is SPOILED:
                self.end(ConnectionLost(0, 'a write was interrupted'))
            raise
        if not sent:
            closed.raise_cause()
        if self.closed.cause is not None:
            self._free_descriptor()

    def send_urgent(self, frame: bytes) -> None:
        """Send a frame without waiting for anything; a failure ends the session and is not raised.

        It is for the thread that reads, which answers the broker for any channel.
        """
        if self.closed.shut:
            return  # the broker does not listen any more
        try:
            self.outbox.send_urgent(frame)
        except AMQPException as error:
            self._drain_and_end(error)

    def _write_failed(self, error: AMQPException, closed: Closed) -> NoReturn:
        if isinstance(error, AMQPTimeout) and not isinstance(error, WriteTimeout):
            raise error  # nothing was sent
        self._drain_and_end(error)
        closed.raise_cause()

    def _drain_and_end(self, error: AMQPException) -> None:
        """End the session after a write failed; what the broker sent before may say why."""
        if self.role.is_mine():
            self._failed_write = self._failed_write or error  # for when it is not in the middle
            return
        try:
            self._try_read(self._drain)
        finally:
            self._end_after_write(error)

    def _end_after_write(self, error: AMQPException) -> None:
        if self.blocked is not None:
            text = f'{error.amqp_reply_text}; the broker takes no messages: {self.blocked}'
            error = type(error)(error.amqp_reply_code, text, *error.args[2:])
        self.end(error)

    def _drain(self) -> None:
        transport, deadline = self.transport, Deadline(DRAIN_TIMEOUT)
        max_received = transport.received + MAX_DRAINED
        while (
            self.closed.cause is None
            and transport.received < max_received
            and not deadline.expired()
            and self._receive(NO_WAIT)
        ):
            pass

    def _wait_until_writable(self, deadline: Deadline, needs_input: bool) -> None:
        """Wait until a write can go on, and go on receiving meanwhile.

        A broker that cannot get rid of what it sends may stop reading what this client sends.

        needs_input: whether it may also be something of the peer's that is waited for.
        """
        transport = self.transport
        if needs_input:
            self._wait_for_input(deadline)
            return
        max_received = transport.received + MAX_READ_AHEAD
        may_read = True
        while not transport.is_ready(0, write=True)[1]:
            if deadline.expired():
                raise AMQPTimeout(0, f'nothing could be sent within {deadline}')
            step = deadline.earlier(Deadline(_BLOCKED_WRITE_STEP)).remaining()
            may_read = may_read and transport.received < max_received
            if may_read and self._try_read(self._read_ahead, step):
                # A thread that was woken to read instead may need a moment to come.
                may_read = not self.role.handed_over
            else:
                transport.is_ready(step, write=True)
                may_read = True

    def _wait_for_input(self, deadline: Deadline) -> None:
        """Receive, or let another thread do so, before a write is tried again.

        It must be a receive: what the peer has sent besides does not get through a write.
        """
        if deadline.expired():
            raise AMQPTimeout(0, f'nothing could be sent within {deadline}')
        step = deadline.earlier(Deadline(_BLOCKED_WRITE_STEP)).remaining()
        if not self._try_read(self._read_ahead, step, False):
            threading.Event().wait(_OTHERS_READ)

    def _read_ahead(self, seconds: float, or_writable: bool = True) -> None:
        """Wait for a step until there is something to be received, and receive it.

        or_writable: whether to wait no longer than until the socket can be written.

        Methods are queued only, as handing out may need to write. But what takes a fast path may be
        what another thread waits for.
        """
        if not self.transport.is_ready(seconds, read=True, write=or_writable)[0]:
            return
        self._receive_bytes(NO_WAIT)
        self.role.wake_ready()
        if self.decoder.is_last(0, self.last_method):
            # It need not read any more; the caller looks up why.
            raise ConnectionLost(0, 'the broker closed the connection during a write')

    # Heartbeats

    def send_heartbeat(self) -> None:
        """Send a heartbeat (called by the heartbeat thread)."""
        try:
            # If the socket is full, the peer has more to read than a heartbeat.
            if not self.outbox.urgent and self.transport.is_ready(0, write=True)[1]:
                self.outbox.urgent.append(HEARTBEAT_FRAME)
            self.outbox.flush()
        except AMQPException as error:
            self._drain_and_end(error)
        finally:
            if self.closed.cause is not None:
                self._free_descriptor()

    def went_silent(self, seconds: float) -> None:
        """Give up, as nothing was heard for so long (called by the heartbeat thread)."""
        self.end(ConnectionLost(0, f'nothing was heard from the broker for {seconds:.1f} s'))

    # The end

    def end(self, cause: AMQPException, reported: bool = False) -> None:
        """End the session on this side; the first cause is kept.

        reported: whether the program knows the cause.
        """
        if self.closed.end(cause, reported) and isinstance(cause, ProtocolError):
            self._complain(cause)
        self.tear_down()

    def end_as_asked(self) -> None:
        """End the session as the program has asked for."""
        self.closed.end_as_asked()
        self.tear_down()

    def _complain(self, cause: ProtocolError) -> None:
        """Tell the broker what it did wrong, if that is possible at once."""
        try:
            self.outbox.send_urgent(self.complaint(cause))
        except (AMQPException, ValueError) as error:
            log.debug('the broker could not be told: %s', error)

    def tear_down(self) -> None:
        """Let go of everything, once it has ended; interrupted, it can be called again."""
        if not self._torn_down:
            # This wakes the threads that wait for the socket.
            self.transport.shutdown()
            heartbeat.unwatch(self)
            for inbox in list(self.inboxes.values()):
                inbox.session_ended()
            # Channels refer to the session, and it to them: nothing should wait for the collector.
            self.inboxes.clear()
            self.on_unknown_channel = self.complaint = _refuse
            self._torn_down = True
            self.role.wake_ready()
        self._free_descriptor()

    def _free_descriptor(self) -> None:
        """Free the descriptor, unless a thread uses it: that one will.

        Its number could be given to another file while a thread still waits for it.
        """
        if not self._released and self._torn_down:
            self.role.try_read(self.outbox.run_idle, self._release)

    def _release(self) -> None:
        self.transport.release()
        # Not before, so that an interrupt in between leaves it to be done again.
        self._released = True

    def forked(self) -> None:
        """In a forked child: close the descriptor and nothing else."""
        # The locks may be held by threads that the child does not have.
        self.role = ReaderRole()
        self.outbox = Outbox(self.transport, self.closed)
        # Closed now, it cannot be shut down under the parent.
        self._release()
        text = 'the connection belongs to the process that forked: connect after the fork'
        self.end(AMQPConnectionException(0, text))


def _refuse(*args: Any) -> Any:
    raise ConnectionLost(0, 'the connection is closed')


#: The sessions of this process that may be open, for a forked child to let go of them.
_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _discard_sessions() -> None:
    heartbeat.discard_all()
    for session in list(_sessions):
        session.forked()
    _sessions.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_discard_sessions)
