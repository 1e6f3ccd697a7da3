"""What the fault tests share: names, bounded waiting, what a thread is doing, known frames."""

import contextlib
import select
import socket
import sys
import time
import uuid
from pathlib import Path

from scripted.checks import poll

#: Seconds after which something that should happen is taken not to happen.
PATIENCE = 20.0
#: Seconds that something which happens at once may take on a busy machine.
SOON = 5.0

#: More than the systems on both sides keep of a stream that nobody reads, and as much as RabbitMQ 4
#: takes in one message.
HUGE = 16 << 20

HEARTBEAT = b'\x08\0\0\0\0\0\0\xce'

#: For a call on the client's socket, which blocks on some systems.
DO_NOT_WAIT = getattr(socket, 'MSG_DONTWAIT', 0)


def new_name():
    """Return a name that nobody else uses; all are of one length."""
    return f'amqplib-test-{uuid.uuid4()}'


def await_blocked(future):
    """Wait until a call in a thread (see in_thread) waits for its socket."""
    poll(lambda: future.done() or waits_for_socket(future.thread), 'a call that waits')
    assert not future.done(), f'the call has ended: {future.exception() or future.result()!r}'


def waits_for_socket(thread):
    """Return whether the thread is, and for a while stays, in a wait of the client."""
    seen = wait_frame(thread)
    if seen is None:
        return False
    time.sleep(0.02)
    return wait_frame(thread) is not None


def wait_frame(thread):
    frame = sys._current_frames().get(thread.ident)
    while frame is not None:
        # A poll, or a receive that waits by itself.
        if frame.f_code.co_name in {'poll_socket', '_fetch'}:
            return frame
        frame = frame.f_back
    return None


def outcome(future, within=PATIENCE):
    """Return the error that a call in a thread ended by."""
    error = future.exception(within)
    assert error is not None, f'the call returned {future.result()!r}'
    return error


def drain(channel, until):
    """Hand out what arrives on the channel until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not until():
        channel.wait(timeout=max(0.0, deadline - time.monotonic()))


def publish_until_refused(amqp, channel, queue, size=6):
    """Publish numbered messages until that raises; return how many went out, and the error."""
    accepted = 0
    try:
        while True:
            body = (b'%06d' % accepted).ljust(size)
            channel.basic_publish(amqp.Message(body), routing_key=queue)
            accepted += 1
    except amqp.AMQPException as error:
        return accepted, error


def fill(connection):
    """Send heartbeats until the system takes not one octet more.

    Returns what is still to be sent of the last one, after which anything else may follow.
    """
    sent = 0
    taken = 1
    while taken:
        time.sleep(0.1)  # the systems move what they have to where there is room
        taken = send_heartbeats(connection.transport.sock, sent % len(HEARTBEAT))
        sent += taken
    return HEARTBEAT[sent % len(HEARTBEAT) :] if sent % len(HEARTBEAT) else b''


def send_heartbeats(sock, offset):
    """Send heartbeats, the first from this offset on, while there is room; return the octets."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            octets = (HEARTBEAT * 8192)[(offset + sent) % len(HEARTBEAT) :]
            sent += sock.send(octets, DO_NOT_WAIT)
    return sent


def send_rest(connection, rest):
    """Send what `fill` has left to be sent, once there is room again."""
    sock = connection.transport.sock
    while rest:
        select.select([], [sock], [], PATIENCE)
        rest = rest[sock.send(rest) :]


def get_all(channel, queue):
    """Take all the messages out of a queue; return their bodies."""
    return [message.body for message in get_messages(channel, queue)]


def get_messages(channel, queue):
    return list(iter(lambda: channel.basic_get(queue, no_ack=True), None))


def small_send_buffer(connection):
    """Let the system keep little of what the client sends."""
    connection.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)


def write_down(node):
    """Have what was declared on disk: RabbitMQ with Mnesia writes it some time after its answer."""
    node.rabbitmqctl('eval', 'catch mnesia:sync_log().')


@contextlib.contextmanager
def suspended(node):
    """Freeze a node for the duration of the block."""
    node.suspend()
    try:
        poll(lambda: is_frozen(node.pid), 'a frozen node')
        yield
    finally:
        node.resume()


def is_frozen(pid):
    """Return whether each thread of a process has stopped, as far as the system tells.

    The signal takes effect some time after it was sent.
    """
    threads = Path(f'/proc/{pid}/task')
    return not threads.exists() or all(map(is_stopped, threads.iterdir()))


def is_stopped(thread):
    try:
        status = (thread / 'stat').read_text()
    except OSError:  # it has just ended
        return True
    return status.rpartition(') ')[2][0] in 'Tt'
