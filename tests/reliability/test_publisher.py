"""Publisher under Ctrl-C at any line, finalizers in the middle of it, and greenlets."""

import contextlib
import subprocess
import sys
import textwrap

import pytest

from amqplib.testing import Broker
from tests.helpers.interrupts import at_line, interrupt, lines
from tests.helpers.packages import mostly_0_9_1

PATIENCE = 30

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def process_broker():
    with Broker() as ours:
        yield ours


def declare(channel):
    channel.queue_declare('tasks', auto_delete=False)


def bodies(broker):
    return [msg.body for msg in broker.messages('tasks')]


def new_publisher(amqp, broker, **arguments):
    return amqp.Publisher(broker.url, declare, timeout=PATIENCE, **arguments)


@pytest.mark.parametrize('is_connected', [False, True])
def test_an_interrupt_at_any_line_of_publish_costs_nothing_but_this_call(
    amqp, process_broker, is_connected
):
    # With a single lane: if it were lost, the next call would have none.
    ours = new_publisher(amqp, process_broker, window=1)
    ours.publish(amqp.Message(b'first'), '', 'tasks')
    # The connection alone takes a thousand lines, of which all do the same here.
    for line in lines(step=1 if is_connected else 61):
        if not is_connected:
            ours.close()
            ours = new_publisher(amqp, process_broker, window=1)
        message = amqp.Message(b'interrupted %d' % line.number)
        was_interrupted = interrupt(line, ours.publish, message, '', 'tasks')
        ours.publish(amqp.Message(b'after %d' % line.number), '', 'tasks')
        assert bodies(process_broker)[-1] == b'after %d' % line.number
        if not was_interrupted:
            break
    ours.close()
    arrived = bodies(process_broker)
    assert len(arrived) == len(set(arrived))
    assert b'interrupted %d' % line.number in arrived


@mostly_0_9_1
# If it comes before the first next(), nothing is published, of which there is a warning.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_an_interrupt_in_publish_all_loses_nothing_that_was_taken(amqp, process_broker):
    taken = []

    def items():
        taken.clear()
        for number in range(5):
            taken.append(b'%d' % number)
            yield amqp.Message(taken[-1]), '', 'tasks'

    with amqp.Connection(process_broker.host) as conn, conn.channel() as keeper:
        declare(keeper)
        for line in lines(step=5, once=False):  # each message may differ
            ours = new_publisher(amqp, process_broker, window=2)
            ours.publish(amqp.Message(b'first'), '', 'tasks')
            was_interrupted = interrupt(line, list, ours.publish_all(items()))
            ours.close()
            messages = process_broker.messages('tasks')
            keeper.queue_purge('tasks')
            arrived = list(dict.fromkeys(msg.body for msg in messages))
            # The one that was just being encoded was not published.
            assert arrived in ([b'first', *taken], [b'first', *taken[:-1]]), line.number
            assert len({msg.message_id for msg in messages}) == len(arrived), line.number
            if not was_interrupted:
                break


def test_a_finalizer_at_any_line_of_publish_is_refused_or_done(amqp, process_broker):
    ours = new_publisher(amqp, process_broker)
    ours.publish(amqp.Message(b'first'), '', 'tasks')
    outcomes = set()
    for line in lines():
        number, refusals = line.number, []

        def finalize(number=number, refusals=refusals):
            try:
                ours.publish(amqp.Message(b'finalizer %d' % number), '', 'tasks')
            except amqp.ReentrancyError as error:
                refusals.append(error)

        reached = at_line(line, finalize, ours.publish, amqp.Message(b'%d' % number), '', 'tasks')
        arrived = bodies(process_broker)
        assert b'%d' % number in arrived
        assert (b'finalizer %d' % number in arrived) == (reached and not refusals), number
        outcomes.add(bool(refusals))
        if not reached:
            break
    assert outcomes == {False, True}
    ours.close()


PATCH = {
    'gevent': """
        from gevent import monkey
        monkey.patch_all()
    """,
    'eventlet': """
        import warnings
        warnings.simplefilter('ignore')
        import eventlet
        eventlet.monkey_patch()
    """,
}
PROGRAM = """
    import threading
    url, results = sys.argv[2], []

    def declare(channel):
        channel.queue_declare('tasks', auto_delete=False)

    def work(number):
        for step in range(10):
            try:
                publisher.publish(amqp.Message(str(number)), '', ('tasks', 'nowhere')[step % 2])
                results.append(number)
            except amqp.MessageReturned:
                results.append(-number)

    with amqp.Publisher(url, declare, timeout=30, window=7) as publisher:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 31)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = [number for number in range(-30, 31) if number for _ in range(5)]
    assert sorted(results) == expected, results
    print('done')
"""
IMPORT = """
    import importlib, sys
    amqp = importlib.import_module(sys.argv[1])
"""


@pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='gevent and eventlet are for CPython'
)
@pytest.mark.parametrize('is_patched_first', [True, False])
@pytest.mark.parametrize('library', PATCH)
def test_greenlets_are_threads(amqp, process_broker, library, is_patched_first):
    pytest.importorskip(library)
    parts = [PATCH[library], IMPORT] if is_patched_first else [IMPORT, PATCH[library]]
    program = ''.join(map(textwrap.dedent, [*parts, PROGRAM]))
    command = [sys.executable, '-c', program, amqp.__name__, process_broker.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, 'done\n'), done.stderr


def test_nothing_is_left_behind(amqp, process_broker, no_leaks):
    ours = new_publisher(amqp, process_broker)
    ours.publish(amqp.Message(b'x'), '', 'tasks')
    with contextlib.suppress(amqp.MessageReturned):
        ours.publish(amqp.Message(b'x'), '', 'nowhere')
    ours.close()
