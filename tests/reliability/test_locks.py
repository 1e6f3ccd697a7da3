"""No lock stays taken, whatever a signal raises, on whatever line: other threads go on.

All of it runs in a Python of its own, which is killed if it hangs.
"""

import contextlib
import random
import signal
import sys

import pytest

from tests.helpers.children import posix_only, run_in_child
from tests.helpers.interrupts import at_line, lines
from tests.helpers.packages import mostly_0_9_1
from tests.helpers.threads import Worker
from tests.helpers.waiting import PATIENCE

# There are thousands of lines; the limit is for what hangs.
pytestmark = pytest.mark.timeout(400)


class Interruption(BaseException):
    """What a signal handler raises."""


class Alarm(TimeoutError):
    """The same, by a class that sockets raise too."""


KINDS = {kind.__name__: kind for kind in (Interruption, Alarm)}

#: The second one takes as long again, and differs only where errors of the system are caught.
one_kind_always = pytest.mark.parametrize(
    'kind', ['Interruption', pytest.param('Alarm', marks=pytest.mark.soak)]
)


class Session:
    """A connection on which everything is done once."""

    def __init__(self, amqp, address):
        self.amqp, self.address = amqp, address
        self.connection = None
        self.got = []

    def connect(self):
        self.connection = self.amqp.Connection(
            host=self.address, heartbeat=30, rpc_timeout=PATIENCE, write_timeout=PATIENCE
        )

    def use(self):
        channel = self.connection.channel()
        if hasattr(channel, 'confirm_select'):
            channel.confirm_select(2)
        for body in ('x', bytes(200_000)):
            channel.basic_publish(self.amqp.Message(body), routing_key='q')
        if hasattr(channel, 'confirm_select'):
            channel.wait_for_confirms(timeout=PATIENCE)
        channel.queue_declare('q')
        channel.basic_consume('q', callback=self.take)
        channel.wait(timeout=PATIENCE)
        with contextlib.suppress(self.amqp.AMQPTimeout):
            self.connection.wait(timeout=0)
        channel.close()

    def take(self, message):
        self.got.append(message.body)
        message.delivery_info['channel'].basic_ack(message.delivery_tag)

    def close(self):
        self.connection.close()

    def step(self, name):
        getattr(self, name)()

    def goes_on(self):
        """Use and close the connection, as another thread does."""
        if self.connection is not None:
            with contextlib.suppress(self.amqp.AMQPException):
                channel = self.connection.channel()
                channel.basic_publish(self.amqp.Message('after it'), routing_key='q')
                channel.queue_declare('q')
            with contextlib.suppress(self.amqp.AMQPException):
                self.connection.close()
            assert self.connection.transport is None


def check_other_threads(session):
    """Check that other threads can use and close this connection, and a new one."""
    Worker(session.goes_on).result(PATIENCE)
    Worker(check_new, session.amqp, session.address).result(PATIENCE)


def check_new(amqp, address):
    with amqp.Connection(host=address, heartbeat=30) as connection, connection.channel():
        pass


@mostly_0_9_1
@pytest.mark.parametrize('step', ['connect', 'use', 'close'])
@one_kind_always
def test_raising_before_any_line_leaves_no_lock_taken(amqp, kind, step):
    run_in_child(raise_before_any_line, amqp, kind, step, seconds=380)


def raise_before_any_line(amqp, kind, wanted):
    from tests.helpers.answering_peer import AnsweringPeer

    sys.unraisablehook = lambda unraisable: None  # where it strikes a finalizer
    interruption = KINDS[kind]

    def strike():
        raise interruption

    with AnsweringPeer(amqp, deliveries=1) as peer:
        for line in lines():
            session = Session(amqp, peer.address)
            for step in ('connect', 'use', 'close'):
                if step == wanted:
                    break
                session.step(step)
            reached = False
            try:
                reached = at_line(line, strike, session.step, wanted)
            except interruption:
                reached = True
            except amqp.AMQPException:
                reached = True  # the error that it caused is raised instead
            check_other_threads(session)
            if not reached:
                break
    assert line.number > 100, line.number


@posix_only
@one_kind_always
def test_signals_at_any_moment_leave_no_lock_taken(amqp, kind):
    run_in_child(raise_at_random, amqp, kind, 500, 1, seconds=380)


@posix_only
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('seed', range(2))
def test_tens_of_thousands_of_signals_leave_no_lock_taken(amqp, kind, seed):
    run_in_child(raise_at_random, amqp, kind, 20_000, seed, seconds=550)


def raise_at_random(amqp, kind, times, seed):
    """Let signals raise in each step; now and then, see whether other threads can go on."""
    from tests.helpers.answering_peer import AnsweringPeer

    sys.unraisablehook = lambda unraisable: None  # where it strikes a finalizer
    interruption = KINDS[kind]
    moments = random.Random(seed)
    armed = [False]

    def strike(number, where):
        if armed[0]:
            armed[0] = False
            raise interruption

    signal.signal(signal.SIGALRM, strike)
    struck = 0
    with AnsweringPeer(amqp, deliveries=1) as peer:
        while struck < times:
            session = Session(amqp, peer.address)
            wanted = moments.choice(('connect', 'use', 'use', 'close', 'close'))
            try:
                try:
                    for step in ('connect', 'use', 'close'):
                        if step == wanted:
                            armed[0] = True
                            longest = 0.0004 if step == 'close' else 0.004
                            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.00002, longest))
                        session.step(step)
                finally:
                    armed[0] = False
            except (interruption, amqp.AMQPException):
                struck += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            if struck % 4 == 0:
                check_other_threads(session)
            elif session.connection is not None:
                end(session)


def end(session):
    with contextlib.suppress(session.amqp.AMQPException):
        session.connection.close()
