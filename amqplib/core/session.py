"""One connection on the wire: reading, waiting, writing, and the end.

The session knows its channels only as inboxes: it passes each one the methods that arrive for it
(`Inbox.arrive`), and tells each one that the session has ended (`Inbox.session_ended`). It does not
know what methods mean.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional

from amqplib.core import heartbeat, log
from amqplib.core.closed import Closed, with_blocked
from amqplib.core.deadline import NO_DEADLINE, NO_WAIT, Deadline
from amqplib.core.encoding import HEARTBEAT_FRAME, Encoder
from amqplib.core.outbox import SPOILED, OnTurn, Outbox
from amqplib.core.reader_role import ReaderRole
from amqplib.core.spec import DEFAULT_FRAME_MAX
from amqplib.exceptions import (
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ConnectionLost,
    MessageTooLarge,
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

#: Receives after the deadline of a wait, to complete a method that has arrived in part.
MAX_LATE_RECEIVES = 64

#: Limits, in seconds and bytes, for reading the broker's reason after a write has failed.
DRAIN_TIMEOUT = 0.2
MAX_DRAINED = 16 * 1024 * 1024

#: Seconds after which a waiting write checks again which thread may read the socket.
_BLOCKED_WRITE_STEP = 0.1

#: Seconds for which a write that needs input leaves the receiving to another thread.
_OTHERS_READ = 0.01

#: How many answers the broker may be owed while it reads none: two for each channel there can be.
MAX_OWED = 131072

#: Errors that are the fault of the broker, which is told of them.
_FAULTS_OF_BROKER = (MessageTooLarge, ProtocolError)


class Session:
    """A connected transport, with its reader and its writer.

    closed: whether and why the connection is closed.
    inboxes: channel number -> inbox.
    role: the role of the reader.
    outbox: the writer.
    encoder: makes the frames that it sends.
    poll_due: when a channel that only publishes should poll for input.
    blocked: why the broker takes no messages at the moment, else None. On 0-8 it does not say so.
    """

    def __init__(
        self, transport: AbstractTransport, decoder: Decoder, inboxes: dict[int, Inbox]
    ) -> None:
        self.transport = transport
        self.decoder = decoder
        self.closed = Closed()
        self.outbox = Outbox(transport, self.closed)
        self.encoder = Encoder(DEFAULT_FRAME_MAX)
        self.inboxes = inboxes
        self.role = ReaderRole()
        self.poll_due = 0.0
        self.blocked: Optional[str] = None
        # Set by the connection: function(channel, method) for a method on a channel that is not
        # open; function(error) -> frame that tells the broker of it; the signature of
        # the method that closes the connection.
        self.on_unknown_channel: Callable[[int, ArrivedMethod], None]
        self.complaint: Callable[[AMQPException], bytes]
        self.close_signature: Signature
        # Results of receives that are not decoded yet.
        self._arrived: list[Any] = []
        # Whether an interrupt now would lose received bytes.
        self._processing = False
        # The error of a write by the reader.
        self._failed_write: Optional[AMQPException] = None
        self._torn_down = False
        self._released = False
        transport.wait_writable = self._wait_until_writable
        _sessions.add(self)

    # Waiting and reading

    def wait_until(
        self, closed: Closed, ready: Callable[[], object], deadline: Deadline = NO_DEADLINE
    ) -> bool:
        """Read, or let another thread read, until ready() is true; return False at the deadline.

        closed: the state of the channel that waits; once it has ended, its cause is raised.
        ready: says whether the wait is over; called by the thread that reads.
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
        """Read for a handler that the reader itself has called."""
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
        """Call, while methods are dispatched, a handler that may call the library in turn."""
        role = self.role
        processing, self._processing = self._processing, False
        try:
            role.re_enterable = True
            handler(*args)
        finally:
            role.re_enterable = False
        self._processing = processing

    def may_wait(self) -> bool:
        """Return whether the calling thread may wait, as it is not inside a read or a write."""
        role = self.role
        return not self.outbox.is_mine() and (not role.is_mine() or role.re_enterable)

    def _read_until(
        self, closed: Closed, ready: Callable[[], object], deadline: Deadline, results: list[bool]
    ) -> None:
        """Read until ready() is true (as the reader); append whether it became true in time."""
        late = 0
        while not ready():
            if closed.cause is not None:
                closed.raise_cause()
            in_time = self._receive(deadline)
            # What has already arrived is taken, in however many portions; but methods that keep
            # arriving for others do not extend the wait.
            if in_time and (deadline is NO_DEADLINE or not deadline.expired()):
                continue
            if not ready() and closed.cause is None:
                late += 1
                if not in_time or late > MAX_LATE_RECEIVES or not self.decoder.incomplete:
                    results.append(False)
                    return
        results.append(True)

    def _receive(self, deadline: Deadline) -> bool:
        """Receive once and dispatch the complete methods (as the reader).

        Returns False if nothing arrived before the deadline. An error ends the session, after the
        methods that arrived before it have been dispatched.
        """
        failure = None
        try:
            if not self.decoder.queue:
                try:
                    receive = self._flush_and_receive if self.outbox.urgent else self._receive_bytes
                    in_time = receive(deadline)
                    if self.outbox.urgent:
                        # With TLS, a finalizer in the middle of a read cannot send at once.
                        self.outbox.flush()
                    if not in_time:
                        return False
                except AMQPConnectionException as error:
                    failure = error
            self._processing = True
            self._dispatch()
            self._processing = False
        except AMQPConnectionException as error:
            self.end(error)
        except BaseException:
            self._end_if_cut()
            raise
        finally:
            if failure is not None:
                self.end(failure)
                # Its traceback refers to this frame: only the collector could free both.
                failure = None
            if self._failed_write is not None:
                self._give_up_writing()
            if self.role.waiters:
                self.role.wake_ready()
        return True

    def _end_if_cut(self) -> None:
        """End the session if an interrupt has lost bytes that were received, or cut a frame."""
        if self._processing or self.outbox.state is SPOILED:
            self.end(ConnectionLost(0, 'reading was interrupted'))

    def _give_up_writing(self) -> None:
        """End the session, because the reader could not send an answer."""
        error, self._failed_write = self._failed_write, None
        assert error is not None
        try:
            self._drain(error)
        finally:
            self._end_after_write(error)

    def _flush_and_receive(self, deadline: Deadline) -> bool:
        """Send urgent frames and receive; return soon if frames are left to be sent."""
        self.outbox.flush()
        if not self.outbox.urgent:
            return self._receive_bytes(deadline)
        step = Deadline(_BLOCKED_WRITE_STEP)
        return self._receive_bytes(deadline.earlier(step)) or not deadline.expired()

    def _receive_bytes(self, deadline: Deadline) -> bool:
        """Receive and decode; return False if nothing arrived before the deadline.

        True may also mean that something is to be sent first.
        """
        arrived, decoder, transport = self._arrived, self.decoder, self.transport
        if not arrived:  # else an interrupt came right after the last receive
            room = None
            if decoder.open_frame is not None and transport.receives_into:
                room = decoder.room()
            if room is None:
                in_time = transport.receive(arrived, deadline)
            else:
                in_time = transport.receive_into(room, arrived, deadline)
            if not in_time:
                return transport.gave_way
        self._processing = True
        received = arrived.pop()
        if type(received) is bytes:
            decoder.take(received)
        else:
            decoder.take_room(*transport.split(received))
        self._processing = False
        return True

    def _dispatch(self) -> None:
        """Pass the decoded methods to the inboxes of their channels."""
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
        """Read what has arrived, for a channel that only sends; raise the cause if it is closed.

        Senders call this when `poll_due` has passed: not for each message, but often enough to
        notice a close soon.
        """
        self.poll_due = monotonic() + POLL_INTERVAL
        if not self.outbox.is_mine():  # with TLS, nobody reads in the middle of a write
            self._try_read(self._receive_if_open)
        if closed.cause is not None:
            closed.raise_cause()

    def _receive_if_open(self) -> None:
        if self.closed.cause is None:
            self._receive(NO_WAIT)

    def _try_read(self, work: Callable[..., object], *args: Any) -> bool:
        """Run a function that reads, unless another thread reads; return whether it was run."""
        try:
            return self.role.try_read(work, *args)
        finally:
            self._free_descriptor()

    # Writing

    def send(
        self,
        frames: Frames,
        closed: Closed,
        deadline: Deadline = NO_DEADLINE,
        on_turn: OnTurn = None,
    ) -> None:
        """Send the frames of a method for a channel; raise the cause if the channel is closed.

        Raises AMQPTimeout if nothing was sent in time, ReentrancyError as outbox.send(), or
        WriteTimeout; the latter, and ConnectionLost, end the session.
        """
        role, outbox = self.role, self.outbox
        is_reader = role.is_mine  # see Outbox.send
        try:
            # A handler must not wait for another thread's write, which may need a reader.
            if is_reader() and not (role.re_enterable and outbox.is_idle()):
                sent = outbox.send_soon(frames, closed, on_turn)
            else:
                sent = outbox.send(frames, closed, deadline, on_turn)
        except ReentrancyError:
            raise  # nothing was sent
        except AMQPException as error:
            self._write_failed(error, closed)
        except BaseException:
            if self.outbox.state is SPOILED:
                self.end(ConnectionLost(0, 'a write was interrupted'))
            raise
        finally:
            if self._torn_down:
                self._free_descriptor()
        if not sent:
            closed.raise_cause()

    def send_urgent(self, frame: bytes) -> None:
        """Send a frame without waiting for anything; a failure ends the session and is not raised.

        The reader uses it to answer the broker.
        """
        if self.closed.shut:
            return  # the broker does not listen any more
        if len(self.outbox.urgent) >= MAX_OWED:
            self.end(ConnectionLost(0, 'the broker asks for answers but reads none of them'))
            return
        try:
            # Another thread may close the connection at this moment.
            self.outbox.send_urgent(frame, self.closed)
        except AMQPException as error:
            self._drain_and_end(error)
        finally:
            self._free_descriptor()

    def _write_failed(self, error: AMQPException, closed: Closed) -> NoReturn:
        if isinstance(error, AMQPTimeout) and not isinstance(error, WriteTimeout):
            raise error  # nothing was sent
        self._drain_and_end(error)
        closed.raise_cause()

    def _drain_and_end(self, error: AMQPException) -> None:
        """End the session after a failed write; first read the broker's reason, if it sent one."""
        if self.role.is_mine():
            self._failed_write = self._failed_write or error  # the read in progress handles it
            return
        try:
            self._try_read(self._drain, error)
        finally:
            self._end_after_write(error)

    def _end_after_write(self, error: AMQPException) -> None:
        if self.blocked is not None:
            text = with_blocked(error.amqp_reply_text, self.blocked)
            error = type(error)(error.amqp_reply_code, text, *error.args[2:])
        self.end(error)

    def _drain(self, error: AMQPException) -> None:
        """Read what the broker sent before a write failed with this error."""
        if isinstance(error, OSError) and error.errno == errno.ETIMEDOUT:
            return  # there is only an end of the stream, as if the broker had closed the socket
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
        """Wait until a write can go on, and keep receiving meanwhile.

        A broker that cannot send may stop reading what this client sends.

        needs_input: whether the write needs input from the peer first.
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
                # Another thread that was woken to read may need a moment to start.
                may_read = not self.role.handed_over
            else:
                transport.is_ready(step, write=True)
                may_read = True

    def _wait_for_input(self, deadline: Deadline) -> None:
        """Receive, or let another thread receive, before the write is tried again.

        The write itself does not take the peer's other data out of the way.
        """
        if deadline.expired():
            raise AMQPTimeout(0, f'nothing could be sent within {deadline}')
        step = deadline.earlier(Deadline(_BLOCKED_WRITE_STEP)).remaining()
        if not self._try_read(self._read_ahead, step, False):
            threading.Event().wait(_OTHERS_READ)

    def _read_ahead(self, seconds: float, or_writable: bool = True) -> None:
        """Wait briefly for input, and receive it.

        or_writable: whether to stop waiting when the socket can be written.

        Methods are only queued, because dispatching them may need to write. But methods on a fast
        path may be what another thread waits for.
        """
        if not self.transport.is_ready(seconds, read=True, write=or_writable)[0]:
            return
        try:
            self._receive_bytes(NO_WAIT)
        except AMQPException:
            raise
        except BaseException:
            self._end_if_cut()
            raise
        self.role.wake_ready()
        if self.decoder.is_last(0, self.close_signature):
            # The write is pointless now; the caller finds the reason.
            raise ConnectionLost(0, 'the broker closed the connection during a write')

    # Heartbeats

    def send_heartbeat(self) -> None:
        """Send a heartbeat (called by the heartbeat thread)."""
        try:
            # If the socket is full, the peer has enough to read.
            if not self.outbox.urgent and self.transport.is_ready(0, write=True)[1]:
                self.outbox.send_urgent(HEARTBEAT_FRAME)
            else:
                self.outbox.flush()
        except AMQPException as error:
            self._drain_and_end(error)
        finally:
            self._free_descriptor()

    def went_silent(self, seconds: float) -> None:
        """End the session because nothing was received for so long (for the heartbeat thread)."""
        self.end(ConnectionLost(0, f'nothing was heard from the broker for {seconds:.1f} s'))

    # The end

    def end(self, cause: AMQPException, reported: bool = False) -> None:
        """End the session on this side; the first cause is kept.

        reported: whether the program knows the cause already.
        """
        if self.closed.end(cause, reported) and isinstance(cause, _FAULTS_OF_BROKER):
            self._complain(cause)
        self.tear_down()

    def end_as_asked(self) -> None:
        """End the session because the program closed it."""
        self.closed.end_as_asked()
        self.tear_down()

    def _complain(self, cause: AMQPException) -> None:
        """Tell the broker, if that is possible at once, what it did wrong."""
        try:
            self.outbox.send_urgent(self.complaint(cause))
        except (AMQPException, ValueError) as error:
            log.debug('the error could not be reported to the broker: %s', error)

    def tear_down(self) -> None:
        """Release everything, once the session has ended; after an interrupt, call it again."""
        if not self._torn_down:
            # Wakes the threads that wait for the socket.
            self.transport.shutdown()
            heartbeat.unwatch(self)
            for inbox in list(self.inboxes.values()):
                inbox.session_ended()
            # Breaks the reference cycle with the channels, so that no collector is needed.
            self.inboxes.clear()
            self.on_unknown_channel = self.complaint = _refuse
            self._torn_down = True
            self.role.wake_ready()
        self._free_descriptor()

    def _free_descriptor(self) -> None:
        """Free the descriptor of a session that has ended, unless another thread uses it.

        That thread then frees it when it is done.
        """
        # Otherwise its number could be reused for another file while a thread still waits for it.
        # Of two threads, each may find that the other one still uses it: so look again.
        while not self._released and self._torn_down:
            self.role.try_read(self.outbox.run_idle, self._release)
            if self._released or self.role.is_taken() or not self.outbox.is_idle():
                return

    def _release(self) -> None:
        self.transport.release()
        # Set only now: if an interrupt comes before, the release is repeated.
        self._released = True

    def forked(self) -> None:
        """In a forked child: close the descriptor and nothing else."""
        # Threads that do not exist in the child may hold the locks.
        self.role = ReaderRole()
        self.outbox = Outbox(self.transport, self.closed)
        # Closed first, so that the shutdown does not affect the parent.
        self._release()
        text = 'the connection belongs to the process that forked: connect after the fork'
        self.end(AMQPConnectionException(0, text))


def _refuse(*args: Any) -> Any:
    raise ConnectionLost(0, 'the connection is closed')


#: The sessions of this process, which a forked child discards.
_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _discard_sessions() -> None:
    heartbeat.discard_all()
    for session in list(_sessions):
        session.forked()
    _sessions.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_discard_sessions)
