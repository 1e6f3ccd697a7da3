"""The session: methods go to inboxes, waits return whether they were in time, and it ends once."""

import os
import socket
import threading
from collections import deque

import pytest

from amqplib.core.closed import Closed
from amqplib.core.deadline import NO_DEADLINE, NO_WAIT, Deadline
from amqplib.core.encoding import HEARTBEAT_FRAME
from amqplib.core.session import Session
from amqplib.core.transport import TCPTransport
from amqplib.exceptions import (
    AMQPConnectionException,
    AMQPTimeout,
    ConnectionLost,
    NotFound,
    ProtocolError,
    ReentrancyError,
)
from tests.helpers.frames import FIRST, InboxLike, content, method, new_decoder, split
from tests.helpers.interrupts import Interrupt
from tests.helpers.threads import in_thread

SOON = Deadline(0.01)
LONG = 30
SELECT_OK, FLOW, GET_OK, CLOSE = (90, 11), (20, 20), (60, 71), (10, 60)
FRAME = method(1, FLOW, b'\x01')
COMPLAINT = method(0, CLOSE, b'wrong')


class Inbox(InboxLike):
    """Keeps what arrives.

    closed: of the channel.
    on_arrival: called with each method.
    """

    def __init__(self, closed):
        self.closed = closed
        self.arrived = []
        self.ends = 0
        self.on_arrival = None

    def arrive(self, method):
        self.arrived.append(method[0])
        if self.on_arrival is not None:
            self.on_arrival(method)

    def session_ended(self):
        self.ends += 1
        self.closed.end_with_connection()


class Wired:
    """A session, and the other end of its wire."""

    def __init__(self):
        with socket.create_server(('127.0.0.1', 0)) as server:
            host, port = server.getsockname()
            self.transport = TCPTransport(f'{host}:{port}', LONG)
            self.peer, _ = server.accept()
        self.peer.settimeout(LONG)
        self.inboxes = {}
        decoder = new_decoder(131072, self.inboxes)
        decoder.take(FIRST)
        decoder.queue.clear()
        self.session = Session(self.transport, decoder, self.inboxes)
        self.unopened = []
        self.session.on_unknown_channel = lambda number, method: self.unopened.append(
            (number, method[0])
        )
        self.complaints = []
        self.session.complaint = self.complain
        self.session.close_signature = CLOSE
        #: Of all channels, as far as the test does not say otherwise.
        self.closed = Closed(self.session.closed)
        self.inboxes.update({number: Inbox(self.closed) for number in range(3)})
        self.all_inboxes = dict(self.inboxes)

    def complain(self, error):
        self.complaints.append(error)
        return COMPLAINT

    def wait_for(self, number, count=1, deadline=None):
        """Wait until so many methods have arrived for a channel."""
        inbox = self.all_inboxes[number]
        return self.session.wait_until(
            self.closed, lambda: len(inbox.arrived) >= count, deadline or Deadline(LONG)
        )

    def until_end(self):
        """Return all that the peer receives until the end."""
        received = b''
        while True:
            data = self.peer.recv(65536)
            if not data:
                return received
            received += data

    def receive(self, size):
        received = b''
        while len(received) < size:
            received += self.peer.recv(size - len(received))
        return received

    def close(self):
        self.session.end(AMQPConnectionException(0, 'the test is over'))
        self.peer.close()


@pytest.fixture
def wired():
    wired = Wired()
    yield wired
    wired.close()


@pytest.fixture
def session(wired):
    return wired.session


# --- Reading ---


def test_methods_go_to_the_inboxes_of_their_channels(wired):
    wired.peer.sendall(method(1, SELECT_OK) + method(2, FLOW) + method(0, (10, 30)))
    assert wired.wait_for(0) is True
    assert [inbox.arrived for inbox in wired.inboxes.values()] == [[(10, 30)], [SELECT_OK], [FLOW]]


def test_method_for_a_channel_that_is_not_open_goes_to_the_connection(wired):
    wired.peer.sendall(method(7, FLOW) + method(1, SELECT_OK))
    assert wired.wait_for(1) is True
    assert wired.unopened == [(7, FLOW)]


def test_error_about_a_channel_that_is_not_open_ends_the_session(wired, session):
    def refuse(number, method):
        raise ProtocolError(504, f'not open: {number}')

    session.on_unknown_channel = refuse
    wired.peer.sendall(method(7, FLOW))
    with pytest.raises(ProtocolError, match='not open: 7'):
        wired.wait_for(1)
    assert wired.until_end() == COMPLAINT


def test_large_content_arrives_whole(wired):
    messages = []
    wired.inboxes[1].on_arrival = lambda method: messages.append(method[2])
    data = os.urandom(1_000_000)
    frames = b''.join(content(1, GET_OK, data, size=131064))
    thread = threading.Thread(target=wired.peer.sendall, args=(frames,))
    thread.start()
    assert wired.wait_for(1)
    thread.join(LONG)
    assert messages[0].body == data


def test_wait_for_what_has_arrived_reads_nothing(wired, session):
    wired.peer.sendall(method(1, SELECT_OK))
    assert session.wait_until(wired.closed, lambda: True, NO_WAIT) is True
    assert wired.inboxes[1].arrived == []


@pytest.mark.parametrize('deadline', [NO_WAIT, SOON], ids=str)
def test_wait_says_by_its_result_that_the_deadline_has_passed(wired, deadline):
    assert wired.wait_for(1, deadline=deadline) is False
    assert wired.session.closed.cause is None


def test_no_byte_is_lost_by_waits_that_end_too_soon(wired):
    for byte in split(b''.join(content(1, GET_OK, b'body')), 3):
        assert wired.wait_for(1, deadline=NO_WAIT) is False
        wired.peer.sendall(byte)
    assert wired.wait_for(1) is True
    assert wired.inboxes[1].arrived == [GET_OK]


def test_what_has_arrived_is_taken_without_time(wired):
    wired.peer.sendall(method(1, SELECT_OK))
    assert wired.transport.is_ready(LONG, read=True)[0]
    assert wired.wait_for(1, deadline=NO_WAIT) is True


def test_polling_takes_what_has_arrived_and_raises_why_the_channel_is_closed(wired, session):
    wired.inboxes[1].on_arrival = lambda method: wired.closed.end(NotFound(404, 'gone'))
    session.poll_input(wired.closed)
    wired.peer.sendall(method(1, FLOW))
    assert wired.transport.is_ready(LONG, read=True)[0]
    with pytest.raises(NotFound, match='gone'):
        session.poll_input(wired.closed)


def test_wait_of_a_channel_that_is_closed_raises_why(wired):
    wired.closed.end(NotFound(404, 'gone'))
    with pytest.raises(NotFound, match='gone'):
        wired.wait_for(1)
    assert wired.session.closed.cause is None


def test_a_close_that_arrives_ends_the_wait_of_its_channel(wired):
    wired.inboxes[1].on_arrival = lambda method: wired.closed.end(NotFound(404, 'gone'))
    wired.peer.sendall(method(1, FLOW))
    with pytest.raises(NotFound, match='gone'):
        wired.wait_for(2)


# --- Threads ---


def test_the_reader_receives_for_threads_that_wait(wired):
    results = []
    first = threading.Thread(target=lambda: results.append(wired.wait_for(1)))
    first.start()
    while not wired.session.role.is_taken():
        first.join(0.001)
    second = threading.Thread(target=lambda: results.append(wired.wait_for(2)))
    second.start()
    while not wired.session.role.waiters:
        second.join(0.001)
    wired.peer.sendall(method(2, FLOW))
    second.join(LONG)
    assert results == [True]
    wired.peer.sendall(method(1, SELECT_OK))
    first.join(LONG)
    assert results == [True, True]


def test_waiting_thread_reads_once_the_reader_has_its_reply(wired):
    threads = []
    for number in (1, 2):
        threads.append(threading.Thread(target=wired.wait_for, args=(number,)))
        threads[-1].start()
    while not wired.session.role.waiters:
        threads[-1].join(0.001)
    wired.peer.sendall(method(1, SELECT_OK))
    threads[0].join(LONG)
    assert not threads[0].is_alive()
    wired.peer.sendall(method(2, SELECT_OK))
    threads[1].join(LONG)
    assert not threads[1].is_alive()


def test_all_threads_that_wait_learn_of_the_end(wired):
    errors = []

    def wait(number):
        inbox = wired.all_inboxes[number]
        closed = inbox.closed = Closed(wired.session.closed)
        with pytest.raises(ConnectionLost) as caught:
            wired.session.wait_until(closed, inbox.arrived.__len__, NO_DEADLINE)
        errors.append(caught.value)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while len(wired.session.role.waiters) < 2:
        threads[0].join(0.001)
    wired.peer.close()
    for thread in threads:
        thread.join(LONG)
    assert len({error.args for error in errors}) == 1
    assert len(errors) == 3
    assert wired.transport.sock.fileno() == -1


# --- Calls from where methods are handed out ---


def test_wait_in_the_middle_of_reading_is_refused(wired):
    wired.inboxes[1].on_arrival = lambda method: wired.wait_for(2)
    wired.peer.sendall(method(1, FLOW))
    with pytest.raises(ReentrancyError):
        wired.wait_for(1)


def test_handler_called_by_call_handler_may_wait(wired, session):
    results = []

    def on_arrival(method):
        assert not session.may_wait()
        session.call_handler(lambda: results.append((session.may_wait(), wired.wait_for(2))))
        assert not session.may_wait()

    wired.inboxes[1].on_arrival = on_arrival
    wired.peer.sendall(method(1, FLOW) + method(2, FLOW))
    assert session.may_wait()
    assert wired.wait_for(1)
    assert results == [(True, True)]
    assert session.may_wait()


def test_wait_in_the_middle_of_a_write_is_refused(wired, session):
    def on_turn():
        assert not session.may_wait()
        with pytest.raises(ReentrancyError):
            wired.wait_for(1)

    session.send(FRAME, wired.closed, on_turn=on_turn)
    assert wired.receive(len(FRAME)) == FRAME


def test_answer_of_the_thread_that_reads_goes_out_at_once(wired, session):
    wired.inboxes[1].on_arrival = lambda method: session.send_urgent(FRAME)
    wired.inboxes[2].on_arrival = lambda method: session.send(FRAME, wired.closed)
    wired.peer.sendall(method(1, FLOW) + method(2, FLOW))
    assert wired.wait_for(2)
    assert wired.receive(2 * len(FRAME)) == FRAME * 2


# --- Sending ---


@pytest.mark.parametrize('frames', [FRAME, [FRAME[:5], FRAME[5:]]], ids=['bytes', 'pieces'])
@pytest.mark.parametrize('deadline', [NO_DEADLINE, Deadline(LONG)], ids=str)
def test_frames_are_sent(wired, session, frames, deadline):
    session.send(frames, wired.closed, deadline)
    assert wired.receive(len(FRAME)) == FRAME


def test_channel_that_is_closed_sends_nothing_and_says_why(wired, session):
    wired.closed.end(NotFound(404, 'gone'))
    with pytest.raises(NotFound, match='gone'):
        session.send(FRAME, wired.closed)
    session.end(AMQPConnectionException(320, 'over'))
    assert wired.until_end() == b''


def test_nothing_is_answered_once_the_program_closes(wired, session):
    session.closed.ask()
    session.send_urgent(FRAME)
    session.end_as_asked()
    assert wired.until_end() == b''


def test_nothing_is_answered_as_another_thread_closes(wired, session):
    """The other thread sends its close after this one has found the connection open."""

    class ClosedBefore(deque):
        def append(self, item):
            in_thread(session.send, COMPLAINT, session.closed, NO_DEADLINE, session.closed.ask)
            super().append(item)

    session.outbox.urgent = ClosedBefore()
    session.send_urgent(FRAME)
    session.end_as_asked()
    assert wired.until_end() == COMPLAINT


def test_what_the_broker_said_before_a_write_failed_is_read_first(wired, session):
    """A close that can still be read wins over the error that hid it."""
    inbox = wired.inboxes[0]
    inbox.on_arrival = lambda method: session.end(AMQPConnectionException(320, 'shut down'))
    wired.peer.sendall(method(0, CLOSE))
    assert wired.transport.is_ready(LONG, read=True)[0]

    def fail(*args):
        raise ConnectionLost(0, 'broken pipe')

    wired.transport.send = fail
    with pytest.raises(AMQPConnectionException, match='shut down'):
        session.send(FRAME, wired.closed)


def test_write_that_failed_ends_the_session(wired, session):
    def fail(*args):
        raise ConnectionLost(0, 'broken pipe')

    wired.transport.send = fail
    with pytest.raises(ConnectionLost, match='broken pipe'):
        session.send(FRAME, wired.closed)
    with pytest.raises(ConnectionLost, match='broken pipe'):
        wired.wait_for(1)


def test_interrupt_in_the_middle_of_a_write_ends_the_session(wired, session):
    def interrupt(*args):
        wired.transport.unfinished = True
        raise Interrupt

    wired.transport.send = interrupt
    with pytest.raises(Interrupt):
        session.send(FRAME, wired.closed)
    with pytest.raises(ConnectionLost, match='a write was interrupted'):
        session.send(FRAME, wired.closed)


def test_interrupt_before_a_write_changes_nothing(wired, session):
    def interrupt():
        raise Interrupt

    with pytest.raises(Interrupt):
        session.send(FRAME, wired.closed, on_turn=interrupt)
    session.send(FRAME, wired.closed)
    assert wired.receive(len(FRAME)) == FRAME


def test_heartbeat_is_sent_where_there_is_room(wired, session):
    session.send_heartbeat()
    assert wired.receive(len(HEARTBEAT_FRAME)) == HEARTBEAT_FRAME
    # A heartbeat that has been begun could not be taken back, by TLS for instance.
    wired.transport.is_ready = lambda *args, **kwargs: (False, False)
    session.send_heartbeat()
    assert not session.outbox.urgent
    del wired.transport.is_ready
    session.end(AMQPConnectionException(0, 'over'))
    assert wired.until_end() == b''


# --- The end ---


def test_first_cause_is_kept_and_each_inbox_is_notified_once(wired, session):
    session.end(AMQPConnectionException(320, 'first'))
    session.end(AMQPConnectionException(320, 'second'))
    session.tear_down()
    assert [inbox.ends for inbox in wired.all_inboxes.values()] == [1, 1, 1]
    assert not wired.inboxes
    for call in (lambda: wired.wait_for(1), lambda: session.send(FRAME, wired.closed)):
        with pytest.raises(AMQPConnectionException, match='first'):
            call()
    assert wired.until_end() == b''
    assert wired.transport.sock.fileno() == -1


def test_end_that_was_interrupted_is_finished_by_the_next_one(wired, session):
    def interrupt():
        raise Interrupt

    wired.inboxes[1].session_ended = interrupt
    with pytest.raises(Interrupt):
        session.end(AMQPConnectionException(320, 'first'))
    del wired.all_inboxes[1].session_ended
    session.end(AMQPConnectionException(320, 'second'))
    assert wired.all_inboxes[2].ends == 1
    assert session.closed.cause.args[1] == 'first'
    assert wired.transport.sock.fileno() == -1


def test_only_the_first_protocol_error_is_reported_to_the_broker(wired, session):
    session.end(ProtocolError(505, 'wrong'))
    session.end(ProtocolError(505, 'wrong again'))
    assert [error.args[1] for error in wired.complaints] == ['wrong']
    assert wired.until_end() == COMPLAINT


def test_wrong_frame_comes_after_the_methods_before_it(wired):
    wired.peer.sendall(method(1, SELECT_OK) + b'\x05\x00\x00\x00\x00\x00\x00\xce' + method(2, FLOW))
    with pytest.raises(ProtocolError, match='unknown type 5'):
        wired.wait_for(2)
    assert wired.all_inboxes[1].arrived == [SELECT_OK]
    assert wired.all_inboxes[2].arrived == []


def test_methods_that_came_before_the_broker_hung_up_are_handed_out(wired):
    wired.peer.sendall(method(1, SELECT_OK) + method(2, FLOW))
    wired.peer.close()
    assert wired.wait_for(2) is True
    with pytest.raises(ConnectionLost):
        wired.wait_for(2, count=2)


def test_methods_after_the_one_that_ended_it_are_dropped(wired, session):
    wired.inboxes[0].on_arrival = lambda method: session.end(AMQPConnectionException(320, 'over'))
    wired.peer.sendall(method(0, CLOSE) + method(1, SELECT_OK))
    with pytest.raises(AMQPConnectionException, match='over'):
        wired.wait_for(1)
    assert wired.all_inboxes[1].arrived == []


def test_interrupt_while_methods_are_handed_out_ends_it(wired, session):
    def interrupt(method):
        raise Interrupt

    wired.inboxes[1].on_arrival = interrupt
    wired.peer.sendall(method(1, FLOW))
    with pytest.raises(Interrupt):
        wired.wait_for(1, count=2)
    with pytest.raises(ConnectionLost, match='reading was interrupted'):
        wired.wait_for(1, count=2)


def test_interrupt_of_a_handler_changes_nothing(wired, session):
    def interrupt():
        raise Interrupt

    wired.inboxes[1].on_arrival = lambda method: session.call_handler(interrupt)
    wired.peer.sendall(method(1, FLOW) + method(2, FLOW))
    with pytest.raises(Interrupt):
        wired.wait_for(2)
    assert wired.wait_for(2) is True
    assert session.closed.cause is None


def test_interrupt_of_a_wait_changes_nothing(wired, session):
    def interrupt():
        raise Interrupt

    with pytest.raises(Interrupt):
        session.wait_until(wired.closed, interrupt)
    wired.peer.sendall(method(1, FLOW))
    assert wired.wait_for(1) is True


def test_descriptor_is_freed_by_the_thread_that_reads_it(wired, session):
    """Freed by another thread, its number could become that of a file, which is then read."""
    freed = []
    release = wired.transport.release

    def note():
        freed.append(threading.get_ident())
        release()

    wired.transport.release = note

    def read():
        with pytest.raises(ConnectionLost):
            wired.wait_for(1)

    reader = threading.Thread(target=read)
    reader.start()
    while not session.role.is_taken():
        reader.join(0.001)
    session.went_silent(2.0)
    reader.join(LONG)
    assert freed
    assert wired.transport.sock.fileno() == -1
    with pytest.raises(ConnectionLost, match=r'nothing was heard from the broker for 2\.0 s'):
        wired.wait_for(1)


class Ending:
    """Has another thread end the session while this one sends, and so uses the descriptor."""

    def __init__(self, wired, error=None):
        self.session, self.sock, self.error = wired.session, wired.transport.sock, error

    def __call__(self, *args):
        in_thread(self.session.end, ConnectionLost(0, 'lost meanwhile'))
        assert self.sock.fileno() != -1
        if self.error is not None:
            raise self.error
        return len(FRAME)


@pytest.mark.parametrize(
    ('raised', 'expected'),
    [(None, ConnectionLost), (AMQPTimeout(0, 'not sent'), AMQPTimeout), (Interrupt(), Interrupt)],
)
def test_descriptor_is_freed_by_the_thread_that_wanted_to_write(wired, session, raised, expected):
    with pytest.raises(expected):
        session.send(FRAME, wired.closed, on_turn=Ending(wired, raised))
    assert wired.transport.sock.fileno() == -1


def test_descriptor_is_freed_by_the_thread_that_answers(wired, session):
    wired.transport.send_some = Ending(wired)
    session.send_urgent(FRAME)
    assert wired.transport.sock.fileno() == -1


def test_forked_child_closes_its_descriptor_and_nothing_else(wired, session):
    parent = socket.socket(fileno=os.dup(wired.transport.sock.fileno()))
    with parent:
        # As the parent's threads may be in the middle of something.
        session.role.try_read(lambda: session.outbox.run_idle(lambda: in_thread(session.forked)))
        assert wired.transport.sock.fileno() == -1
        with pytest.raises(AMQPConnectionException, match='belongs to the process that forked'):
            wired.wait_for(1)
        with pytest.raises(AMQPConnectionException, match='belongs to the process that forked'):
            session.send(FRAME, wired.closed)
        parent.sendall(b'still open')
        assert wired.receive(10) == b'still open'
    assert wired.until_end() == b''
