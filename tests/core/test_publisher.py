"""Publisher, with a broker in the process that fails on request; both clients."""

import contextlib
import gc
import os
import threading
import weakref
from functools import partial

import pytest

from amqplib.core import link, publishing
from amqplib.core import publisher as module
from amqplib.core.lane import Lane
from amqplib.exceptions import AMQPException
from amqplib.testing import Broker
from tests.helpers.memory import is_freed_at_once
from tests.helpers.packages import only_0_9_1
from tests.helpers.threads import begin, in_thread
from tests.helpers.waiting import PATIENCE, poll


@pytest.fixture
def process_broker():
    with Broker() as ours:
        yield ours


@pytest.fixture
def publisher(amqp, process_broker):
    """A function (**arguments) that makes a Publisher to a broker with the queue 'tasks'."""
    with contextlib.ExitStack() as stack:

        def make(setup=declare, **arguments):
            arguments.setdefault('timeout', PATIENCE)
            ours = amqp.Publisher(process_broker.url, setup, **arguments)
            stack.callback(close, amqp, ours)
            return ours

        yield make


def close(amqp, ours):
    with contextlib.suppress(amqp.AMQPException):
        ours.close(timeout=1)


def declare(channel):
    channel.queue_declare('tasks', durable=True, auto_delete=False)


def bodies(broker, queue='tasks'):
    return [msg.body for msg in broker.messages(queue)]


@pytest.mark.parametrize(
    ('arguments', 'error', 'text'),
    [
        ({'window': 0}, ValueError, 'window: 0 is not 1 or more'),
        ({'window': True}, TypeError, 'window: True is not an int'),
        ({'window': 2.5}, TypeError, 'window: 2.5 is not an int'),
        ({'timeout': -1}, ValueError, 'timeout: -1 is not 0 or more'),
        ({'timeout': 'x'}, TypeError, "timeout: 'x' is not a number of seconds"),
        ({'setup': 5}, TypeError, 'setup: 5 cannot be called'),
        ({'url': 'http://x'}, ValueError, 'url'),
        ({'url': []}, ValueError, 'url: there is none'),
    ],
)
def test_wrong_arguments(amqp, arguments, error, text):
    with pytest.raises(error, match=text):
        amqp.Publisher(**{'url': 'amqp://localhost', **arguments})


def test_repr_shows_no_password(amqp):
    ours = amqp.Publisher('amqp://me:secret@rabbit:1234/')
    assert repr(ours) == '<Publisher to rabbit:1234>'


def test_publish_returns_when_the_broker_has_the_message(amqp, process_broker, publisher):
    ours = publisher()
    for text in ('one', 'two'):
        assert ours.publish(amqp.Message(text), '', 'tasks') is None
        assert bodies(process_broker)[-1] == text.encode()
    ids = [msg.message_id for msg in process_broker.messages('tasks')]
    assert len(set(ids)) == 2


def test_wrong_values_are_raised_before_anything_is_sent(amqp):
    ours = amqp.Publisher('amqp://127.0.0.1:1', timeout=PATIENCE)
    with pytest.raises(TypeError, match='body'):
        ours.publish(amqp.Message(5))
    with pytest.raises(ValueError, match='exchange'):
        ours.publish(amqp.Message(b'x'), 'e' * 256)


def test_a_message_that_no_queue_takes(amqp, process_broker, publisher):
    ours = publisher()
    msg = amqp.Message(b'x')
    with pytest.raises(
        amqp.MessageReturned, match=r"312 NO_ROUTE.*exchange '', routing key 'nowhere'"
    ) as e:
        ours.publish(msg, '', 'nowhere')
    assert e.value.message is msg
    ours.publish(msg, '', 'nowhere', mandatory=False)
    ours.publish(msg, '', 'tasks')
    assert bodies(process_broker) == [b'x']


def test_an_exchange_that_is_missing(amqp, process_broker, publisher):
    ours = publisher()
    with pytest.raises(amqp.NotFound):
        ours.publish(amqp.Message(b'x'), 'missing', 'x')
    ours.publish(amqp.Message(b'y'), '', 'tasks')
    assert bodies(process_broker) == [b'y']


@only_0_9_1
def test_a_queue_that_refuses_messages(amqp, process_broker, publisher):
    def full(channel):
        arguments = {'x-max-length': 1, 'x-overflow': 'reject-publish'}
        channel.queue_declare('full', auto_delete=False, arguments=arguments)

    ours = publisher(full)
    ours.publish(amqp.Message(b'fits'), '', 'full')
    with pytest.raises(amqp.MessageNacked):
        ours.publish(amqp.Message(b'does not fit'), '', 'full')
    assert bodies(process_broker, 'full') == [b'fits']


def test_publish_all_yields_what_is_refused(amqp, process_broker, publisher):
    ours = publisher(window=7)
    items = [
        (amqp.Message(b'%d' % number), '', 'nowhere' if number % 10 == 3 else 'tasks')
        for number in range(30)
    ]
    items[15] = (amqp.Message(b'missing'), 'missing', 'x')
    refused = [(msg.body, type(error)) for msg, error in ours.publish_all(items)]
    assert sorted(refused) == [
        (b'13', amqp.MessageReturned),
        (b'23', amqp.MessageReturned),
        (b'3', amqp.MessageReturned),
        (b'missing', amqp.NotFound),
    ]
    expected = [msg.body for msg, _, key in items if key == 'tasks']
    # What was in flight with the one that closed the channel may be there twice.
    assert list(dict.fromkeys(bodies(process_broker))) == expected


def test_publish_all_without_mandatory(amqp, process_broker, publisher):
    ours = publisher()
    assert list(ours.publish_all([(amqp.Message(b'x'), '', 'nowhere')], mandatory=False)) == []


def test_threads_get_their_own_errors(amqp, process_broker, publisher):
    ours = publisher()
    results = {}

    def work(name):
        outcomes = []
        for number in range(20):
            key = ('tasks', 'nowhere')[number % 2]
            msg = amqp.Message(b'%d %d' % (name, number), message_id='all the same')
            try:
                ours.publish(msg, '' if number % 5 else 'missing', key)
                outcomes.append(None)
            except amqp.AMQPException as error:
                its_own = getattr(error, 'message', msg) is msg
                outcomes.append(type(error) if its_own else error)
        results[name] = outcomes

    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    expected = [
        amqp.NotFound if number % 5 == 0 else (None, amqp.MessageReturned)[number % 2]
        for number in range(20)
    ]
    assert results == dict.fromkeys(range(16), expected)


def test_losses_lose_nothing(amqp, process_broker, publisher):
    ours = publisher(window=10)

    def items():
        for number in range(300):
            yield amqp.Message(b'%d' % number), '', 'tasks'
            if number % 60 == 59:
                process_broker.drop_connections()
            if number % 100 == 99:
                process_broker.close_connections()

    assert list(ours.publish_all(items())) == []
    arrived = bodies(process_broker)
    assert list(dict.fromkeys(arrived)) == [b'%d' % number for number in range(300)]
    # One message, one id.
    ids = [msg.message_id for msg in process_broker.messages('tasks')]
    assert len(set(ids)) == 300


def has_messages(broker, least):
    with contextlib.suppress(LookupError):  # the queue is declared by the first call
        return len(bodies(broker)) >= least


def test_each_thread_survives_losses(amqp, process_broker, publisher):
    ours = publisher()

    def work(name):
        for number in range(30):
            ours.publish(amqp.Message(b'%d %d' % (name, number)), '', 'tasks')

    futures = [begin(work, name) for name in range(8)]
    for number in (40, 100, 160):
        poll(partial(has_messages, process_broker, number), f'{number} messages')
        process_broker.drop_connections()
    for future in futures:
        future.result(PATIENCE)
    arrived = bodies(process_broker)
    assert len(set(arrived)) == 240
    for name in range(8):
        mine = [body for body in dict.fromkeys(arrived) if body.startswith(b'%d ' % name)]
        assert mine == [b'%d %d' % (name, number) for number in range(30)]


def test_a_channel_that_is_closed_right_before_a_message_is_sent(
    amqp, process_broker, publisher, monkeypatch
):
    ours = publisher()
    ours.publish(amqp.Message(b'one'), '', 'tasks')
    gather = Lane._gather

    def lose_and_gather(lane):
        monkeypatch.undo()
        ours._lanes().link._connection._session.end(amqp.ConnectionLost(0, 'the line was cut'))
        with contextlib.suppress(amqp.ConnectionLost):
            lane._channel.queue_declare('tasks')  # has heard of it, so its connection is None
        return gather(lane)

    monkeypatch.setattr(Lane, '_gather', lose_and_gather)
    ours.publish(amqp.Message(b'two'), '', 'tasks')
    assert bodies(process_broker) == [b'one', b'two']


def test_a_broker_that_is_not_there_yet(amqp):
    with Broker() as first:
        port = first.port
    ours = amqp.Publisher(f'amqp://127.0.0.1:{port}', declare, timeout=PATIENCE)
    future = begin(ours.publish, amqp.Message(b'x'), '', 'tasks')
    with Broker(port) as second:
        future.result(PATIENCE)
        assert bodies(second) == [b'x']
        ours.close()


def test_a_broker_that_never_comes(amqp):
    with Broker() as first:
        port = first.port
    ours = amqp.Publisher(f'amqp://127.0.0.1:{port}', timeout=0.3)
    with pytest.raises(amqp.ConnectionLost):
        ours.publish(amqp.Message(b'x'))
    items = [(amqp.Message(b'%d' % number), '', 'q') for number in range(3)]
    left = iter(items)
    seen = []
    with pytest.raises(amqp.ConnectionLost):
        keep_all(ours.publish_all(left), seen)
    assert seen
    assert [msg for msg, _ in seen] + [msg for msg, _, _ in left] == [msg for msg, _, _ in items]


def keep_all(refused, seen):
    for pair in refused:
        seen.append(pair)


def test_a_login_that_is_refused_ends_it_at_once(amqp, process_broker):
    ours = amqp.Publisher(f'amqp://guest:wrong@{process_broker.host}')
    with pytest.raises(amqp.LoginRefused):
        ours.publish(amqp.Message(b'x'))


def test_a_blocked_broker(amqp, process_broker, publisher):
    ours = publisher()
    ours.publish(amqp.Message(b'before'), '', 'tasks')
    process_broker.block()
    ours.timeout = 0.3
    with pytest.raises(amqp.AMQPTimeout):
        ours.publish(amqp.Message(b'x'), '', 'tasks')
    ours.timeout = PATIENCE
    future = begin(ours.publish, amqp.Message(b'y'), '', 'tasks')
    process_broker.unblock()
    future.result(PATIENCE)
    assert bodies(process_broker)[-1] == b'y'


def test_a_full_window_is_waited_for_within_the_timeout(amqp, process_broker, publisher):
    ours = publisher(window=1)
    ours.publish(amqp.Message(b'before'), '', 'tasks')
    process_broker.delay(60)
    future = begin(ours.publish, amqp.Message(b'one'), '', 'tasks')
    poll(lambda: not ours._lanes()._idle, 'the call')
    ours.timeout = 0.1
    with pytest.raises(amqp.AMQPTimeout, match=r'1 calls were in progress for 0\.1 s'):
        ours.publish(amqp.Message(b'x'), '', 'tasks')
    process_broker.delay(0)
    process_broker.drop_connections()
    future.result(PATIENCE)


def test_timeouts_that_use_up_the_channels_pass(amqp, process_broker, publisher):
    ours = publisher(window=1, channel_max=2)
    ours.publish(amqp.Message(b'before'), '', 'tasks')
    process_broker.block()
    ours.timeout = 0.05
    for _ in range(4):
        with pytest.raises(amqp.AMQPException):
            ours.publish(amqp.Message(b'x'), '', 'tasks')
    ours.timeout = PATIENCE
    process_broker.unblock()
    ours.publish(amqp.Message(b'after'), '', 'tasks')
    assert bodies(process_broker)[-1] == b'after'


def test_more_threads_than_the_broker_allows_channels(amqp, process_broker, publisher):
    ours = publisher(channel_max=3)
    start = threading.Barrier(16)

    def work(number):
        start.wait(PATIENCE)
        for _ in range(3):
            ours.publish(amqp.Message(b'%d' % number), '', 'tasks')

    for future in [begin(work, number) for number in range(16)]:
        future.result(PATIENCE)
    expected = [b'%d' % number for number in range(16) for _ in range(3)]
    assert sorted(bodies(process_broker)) == sorted(expected)
    assert len(ours._lanes()._all) <= 3


def test_a_thread_that_has_all_channels_does_not_wait_for_itself(amqp, process_broker, publisher):
    ours = publisher(channel_max=1)

    def items():
        ours.publish(amqp.Message(b'one'), '', 'tasks')
        yield amqp.Message(b'two'), '', 'nowhere'

    _, refused = next(run := ours.publish_all(items()))
    assert type(refused) is amqp.MessageReturned
    with pytest.raises(amqp.ReentrancyError):
        ours.publish(amqp.Message(b'three'), '', 'tasks')
    run.close()
    assert bodies(process_broker) == [b'one']


def test_an_internal_error_of_the_broker_is_tried_again(amqp, process_broker, publisher):
    ours = publisher()
    ours.publish(amqp.Message(b'one'), '', 'tasks')
    process_broker.refuse(541, method='basic.publish')
    ours.publish(amqp.Message(b'two'), '', 'tasks')
    assert bodies(process_broker) == [b'one', b'two']


def test_a_message_that_breaks_the_broker_is_not_tried_for_ever(
    amqp, process_broker, publisher, monkeypatch
):
    """RabbitMQ answers with 541 to headers that it cannot decode."""
    monkeypatch.setattr(link, 'uniform', lambda low, high: 0)  # without pauses
    ours = publisher()
    for call in (ours.publish, lambda *item: list(ours.publish_all([item]))):
        process_broker.refuse(541, times=3, method='basic.publish')
        with pytest.raises(amqp.AMQPConnectionException, match='541'):
            call(amqp.Message(b'one'), '', 'tasks')
    ours.publish(amqp.Message(b'two'), '', 'tasks')
    assert bodies(process_broker) == [b'two']


def test_an_error_that_is_not_recoverable_comes_through(amqp, process_broker, publisher):
    ours = publisher()
    process_broker.refuse(501, method='basic.publish')
    with pytest.raises(amqp.AMQPConnectionException):
        ours.publish(amqp.Message(b'one'), '', 'tasks')
    ours.publish(amqp.Message(b'two'), '', 'tasks')


def test_setup_may_fail_and_is_called_again(amqp, process_broker, publisher):
    def setup(channel):
        declare(channel)
        if not mistakes:
            return
        raise mistakes.pop()

    mistakes = [KeyError('a mistake of the program')]
    ours = publisher(setup)
    with pytest.raises(KeyError):
        ours.publish(amqp.Message(b'x'), '', 'tasks')
    ours.publish(amqp.Message(b'x'), '', 'tasks')


class OfTheIterableError(Exception):
    pass


def fail_in_the_iterable():
    yield from ()
    raise OfTheIterableError


@is_freed_at_once
def test_errors_are_not_kept_alive(amqp, publisher, monkeypatch):
    """The frames that their tracebacks refer to must not refer to them."""
    # However slow the machine is, the messages that are left are sent together.
    monkeypatch.setattr(publishing, 'monotonic', lambda: 0.0)
    ours = publisher()
    ours.publish(amqp.Message(b'x'), '', 'tasks')
    nowhere = amqp.Message(b'x'), '', 'nowhere'
    left = publisher()
    next(left.publish_all([nowhere] * 3))

    calls = (
        lambda: ours.publish(*nowhere),
        lambda: list(ours.publish_all(fail_in_the_iterable())),
        left.close,
    )
    gc.collect()
    gc.disable()
    try:
        assert [weak() for weak in map(error_of, calls)] == [None] * 3
    finally:
        gc.enable()


def error_of(call):
    try:
        call()
    except (OfTheIterableError, AMQPException) as error:
        return weakref.ref(error)


# --- The end ---


def test_closing(amqp, process_broker, publisher):
    ours = publisher()
    with ours:
        ours.publish(amqp.Message(b'x'), '', 'tasks')
    ours.close()
    with pytest.raises(amqp.AMQPConnectionException, match='closed by this program'):
        ours.publish(amqp.Message(b'x'), '', 'tasks')
    with pytest.raises(amqp.AMQPConnectionException, match='closed by this program'):
        list(ours.publish_all([]))


def test_closing_waits_for_other_threads(amqp, process_broker, publisher):
    ours = publisher()
    ours.publish(amqp.Message(b'before'), '', 'tasks')
    process_broker.block()
    future = begin(ours.publish, amqp.Message(b'last'), '', 'tasks')
    poll(lambda: not ours._lanes()._idle, 'the call')
    with pytest.raises(amqp.AMQPTimeout, match='1 calls were still in progress'):
        ours.close(timeout=0.2)
    assert isinstance(future.exception(PATIENCE), amqp.AMQPConnectionException)


def test_closing_settles_what_publish_all_has_left(amqp, process_broker, publisher):
    ours = publisher(window=4)
    items = [(amqp.Message(b'%d' % number), '', 'tasks') for number in range(3)]
    items.insert(1, (amqp.Message(b'x'), '', 'nowhere'))
    items.insert(2, (amqp.Message(object()), '', 'tasks'))
    for _, error in ours.publish_all(items):
        assert isinstance(error, TypeError)
        break
    with pytest.raises(amqp.MessageReturned):
        ours.close()
    assert bodies(process_broker) == [b'0']


def test_an_error_in_the_block_is_the_one_that_is_raised(amqp, process_broker, publisher):
    def items():
        yield amqp.Message(b'x'), '', 'nowhere'
        yield amqp.Message(object()), '', 'tasks'

    def stop_at_the_first():
        with publisher() as ours:
            for _ in ours.publish_all(items()):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_at_the_first()


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_a_child_has_connections_of_its_own(amqp, process_broker, publisher):
    ours = publisher()
    ours.publish(amqp.Message(b'parent'), '', 'tasks')
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            ours.publish(amqp.Message(b'child'), '', 'tasks')
            ours.close()
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    ours.publish(amqp.Message(b'parent again'), '', 'tasks')
    assert bodies(process_broker) == [b'parent', b'child', b'parent again']
    ids = {msg.message_id[:17] for msg in process_broker.messages('tasks')}
    assert len(ids) == 2


def test_threads_of_a_child_share_its_connection(amqp, monkeypatch):
    ours = amqp.Publisher('amqp://127.0.0.1:1')
    parents = ours._lanes()
    monkeypatch.setattr(os, 'getpid', lambda: -1)  # as after a fork
    begin_one, quicker = ours._new_lanes, []

    def begin_while_another_thread_does():
        if not quicker:
            quicker.append(None)
            quicker.append(in_thread(ours._lanes))
        return begin_one()

    monkeypatch.setattr(ours, '_new_lanes', begin_while_another_thread_does)
    assert ours._lanes() is quicker[1] is ours._lanes() is not parents


def test_the_base_is_for_no_version(amqp):
    assert issubclass(amqp.Publisher, module.Publisher)
