"""The one writer of a connection: whole methods, one after the other.

Everything is sent under one lock, and whether a frame may be sent is checked under the same lock.
Some senders must not wait for the lock: the reader when it answers the broker, and a finalizer in
the middle of a write of its own thread. Their frames go to the queue of urgent frames, and the
thread that holds the lock sends them. It drops those whose channel has closed meanwhile.

The stream is always in one of three states:

clean: everything that was begun has been sent, except urgent frames.
writing: the thread that holds the lock is sending.
spoiled: a write ended in the middle. The broker would take anything that follows for the rest of
    it, so nothing is sent any more.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Optional, Union

from amqplib.core.deadline import NO_DEADLINE, NO_WAIT, Deadline
from amqplib.core.locks import Mutex
from amqplib.exceptions import (
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ConnectionLost,
    ReentrancyError,
    WriteTimeout,
)

if TYPE_CHECKING:
    from amqplib.core.closed import Closed
    from amqplib.core.encoding import Frames
    from amqplib.core.transport import AbstractTransport

#: Frames, the state of their channel (None: they are sent in any case), and whether they close it.
Urgent = tuple[Union[bytes, memoryview], Optional['Closed'], bool]
#: Called when frames are the next to be sent.
OnTurn = Optional[Callable[[], object]]

CLEAN, WRITING, SPOILED = 'clean', 'writing', 'spoiled'


class Outbox:
    """Sends frames over a transport.

    connection_closed: the state of the connection; once it is shut, nothing is sent.
    write_timeout: seconds that a write may take; None for no limit.
    state: CLEAN, WRITING or SPOILED.
    is_mine: function() -> whether the calling thread is in the middle of a write.
    is_idle: function() -> whether no thread is in the middle of a write.
    urgent: frames that the thread holding the lock sends; the first may be partly sent.
    """

    def __init__(self, transport: AbstractTransport, connection_closed: Closed) -> None:
        self.transport = transport
        self._connection_closed = connection_closed
        self.write_timeout: Optional[float] = None
        self.state = CLEAN
        self.urgent: deque[Urgent] = deque()
        self._mutex = Mutex()
        self.is_mine = self._mutex.is_mine
        self.is_idle = self._mutex.is_free
        # The channel for which the thread that holds the lock sends.
        self._sending_for: Optional[Closed] = None
        # The error that spoiled the stream; None also after an interrupt.
        self._spoiled_by: Optional[AMQPException] = None

    def send(
        self,
        frames: Frames,
        closed: Closed,
        deadline: Deadline = NO_DEADLINE,
        on_turn: OnTurn = None,
    ) -> bool:
        """Send the frames of one method as one uninterrupted write.

        closed: the state of the channel; once it is shut, nothing is sent.

        A finalizer may call this in the middle of a write of the same thread. The frames are then
        queued after that write; but with on_turn and for the same channel, ReentrancyError is
        raised.

        Returns False if the channel is shut. Raises AMQPTimeout if nothing was sent in time, or
        ConnectionLost, of which a WriteTimeout is one; the stream is spoiled then.
        """
        is_mine = self.is_mine  # before Python 3.12, a call by a local name takes less time
        if is_mine():
            return self._enqueue(frames, closed, on_turn)
        if self.write_timeout is not None:
            deadline = deadline.earlier(Deadline(self.write_timeout))
        if deadline is NO_DEADLINE:
            try:
                # As Mutex.run() does, without a call more for each message.
                with self._mutex.lock:
                    sent = self._send(frames, closed, deadline, on_turn)
            except BaseException:
                self._mutex.release_if_mine()
                raise
        else:
            sent = self._send_in_time(frames, closed, deadline, on_turn)
        if self.urgent:
            self._send_late(deadline)
        return sent

    def send_soon(self, frames: Frames, closed: Closed, on_turn: OnTurn = None) -> bool:
        """Send frames without waiting for anything; otherwise like send().

        The next thread that writes or reads sends what the socket does not take at once.
        """
        queued = self._enqueue(frames, closed, on_turn)
        self.flush()
        return queued

    def send_urgent(self, frame: bytes, closed: Optional[Closed] = None) -> None:
        """Send a frame before everything else, without waiting for anything.

        closed: the frame is dropped once this has ended; None to send it in any case.
        """
        self.urgent.append((frame, closed, False))
        self.flush()

    def flush(self) -> None:
        """Send urgent frames as far as the socket takes them, unless another thread is sending.

        Raises ConnectionLost.
        """
        blocked: list[bool] = []
        # If another thread holds the lock, it sends them.
        while self.urgent and not blocked:
            if not self._mutex.try_run(self._send_urgent, NO_WAIT, blocked):
                return

    def run_idle(self, work: Callable[..., object]) -> bool:
        """Run a function while no thread writes; return False if one does."""
        return self._mutex.try_run(work)

    def _enqueue(self, frames: Frames, closed: Closed, on_turn: OnTurn) -> bool:
        if closed.shut or self._connection_closed.shut:
            return False
        if on_turn is not None:
            if self.is_mine() and self._sending_for is closed:
                # It would be unknown which of the two the broker gets first.
                raise ReentrancyError.of_call()
            on_turn()
            if closed.cause is not None:
                return False
        data = frames if isinstance(frames, bytes) else b''.join(frames)
        # Another thread may close the channel at this moment: _send_urgent() looks again.
        self.urgent.append((data, closed, on_turn == closed.ask))
        return True

    def _send_in_time(
        self, frames: Frames, closed: Closed, deadline: Deadline, on_turn: OnTurn
    ) -> bool:
        results: list[bool] = []

        def send() -> None:
            results.append(self._send(frames, closed, deadline, on_turn))

        if not self._mutex.run_in_time(deadline, send):
            raise AMQPTimeout(0, f'other threads were sending for {deadline}')
        return results[0]

    def _send(self, frames: Frames, closed: Closed, deadline: Deadline, on_turn: OnTurn) -> bool:
        """Send frames while holding the lock."""
        self._sending_for = closed
        # A channel.open, for instance, must not overtake the close-ok that freed its number.
        if self.urgent:
            self._send_urgent(deadline)
        if closed.shut or self._connection_closed.shut:
            return False
        if self.state is not CLEAN:
            raise self._why_spoiled()
        if on_turn is not None:
            on_turn()
            if closed.cause is not None:
                return False  # it has ended meanwhile
            closed.close_sent = on_turn == closed.ask
        transport = self.transport
        try:
            self.state = WRITING
            if isinstance(frames, bytes):
                transport.send(frames, deadline)
            else:
                transport.send_pieces(frames, deadline)
            self.state = CLEAN
        except AMQPTimeout as error:
            raise self._timed_out(error) from None
        except BaseException as error:
            self.state = SPOILED if transport.unfinished else CLEAN
            self._note(error)
            raise
        return True

    def _send_late(self, deadline: Deadline) -> None:
        """Send the urgent frames that came during a write; wait for the socket, but in time."""
        with suppress(AMQPTimeout):
            # If another thread holds the lock, it sends them.
            while self.urgent and self._mutex.try_run(self._send_urgent, deadline):
                pass

    def _send_urgent(self, deadline: Deadline, blocked: Optional[list[bool]] = None) -> None:
        """Send the urgent frames (while holding the lock); raise AMQPTimeout at the deadline.

        blocked: if given, do not wait for the socket; append True if frames are left.
        """
        urgent, transport = self.urgent, self.transport
        while urgent:
            if self.state is not CLEAN:
                # The thread that spoiled the stream first reads the broker's reason, then raises.
                urgent.clear()
                return
            frames, closed, closes = urgent[0]
            if closed is not None and closed.refuses(closes):
                urgent.popleft()
                continue
            try:
                self.state = WRITING
                if closed is not None and closes:
                    closed.close_sent = True
                count = transport.send_some(frames)
                if count == len(frames):
                    urgent.popleft()
                elif count:
                    urgent[0] = memoryview(frames)[count:], None, False
                self.state = CLEAN
            except BaseException as error:
                self.state = SPOILED
                self._note(error)
                raise
            if not count:
                if blocked is not None:
                    blocked.append(True)
                    return
                transport.wait_to_send(deadline, transport.needs_input)

    def _timed_out(self, error: AMQPTimeout) -> AMQPTimeout:
        """Return the error for a write that timed out, depending on whether any of it was sent."""
        if not self.transport.unfinished:
            self.state = CLEAN
            return error
        self.state = SPOILED
        text = f'{error.amqp_reply_text}, in the middle of a write: the outcome is unknown'
        self._spoiled_by = WriteTimeout(error.amqp_reply_code, text)
        return WriteTimeout(*self._spoiled_by.args)

    def _note(self, error: BaseException) -> None:
        """Remember the error that spoiled the stream, if that is what it did."""
        if self.state is SPOILED and isinstance(error, AMQPConnectionException):
            self._spoiled_by = error.copy()

    def _why_spoiled(self) -> AMQPException:
        """Return the error for a write after the one that spoiled the stream.

        It is the same error if another thread comes here before the first one has reported it.
        """
        if self._spoiled_by is not None:
            return self._spoiled_by.copy()
        return ConnectionLost(0, 'a write was cut short: nothing more can be sent')
