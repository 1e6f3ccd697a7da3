"""Consumers, over a channel without a socket: order, fairness, giving back, and every end."""

import contextlib
import gc
import weakref
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqplib.core import abstract_channel, consumer
from amqplib.core import channel as channel_module
from amqplib.core.consumer import Consumer
from amqplib.core.message import Message
from amqplib.core.streams import AMQPReader
from amqplib.exceptions import (
    AMQPChannelException,
    AMQPTimeout,
    ConnectionLost,
    ConsumerCancelled,
    NotFound,
    ProtocolError,
)
from tests.helpers.interrupts import Interrupt, each_interruption, traces_instructions
from tests.helpers.memory import is_freed_at_once
from tests.helpers.session_like import arrived, open_channel
from tests.helpers.threads import in_thread
from tests.helpers.wire import methods_in

#: content_encoding, as it is on the wire.
LATIN_1 = b'\x40\x00\x07latin-1'


@pytest.fixture
def opened():
    return open_channel()


@pytest.fixture
def session(opened):
    return opened[0].session


@pytest.fixture
def channel(opened):
    return opened[1]


def start(channel, tag='t', timeout=0, **options):
    """Start a Consumer, whose loops end when there is nothing more."""
    session = channel.connection.session
    if options.get('prefetch') is not None:
        session.to_come.append((1, arrived('basic.qos_ok')))
    if not options.get('nowait'):
        session.to_come.append((1, arrived('basic.consume_ok', tag)))
    started = channel.consume('q', consumer_tag=tag, timeout=timeout, **options)
    session.sent.clear()
    return started


def delivery(number, tag='t', body=b'body', properties=b'\0\0'):
    message = Message.received(properties, body)
    return arrived('basic.deliver', tag, number, False, '', 'q', content=message)


def arrive(channel, *numbers, tag='t'):
    for number in numbers:
        channel.arrive(delivery(number, tag))


def will_be_cancelled(channel, tag='t'):
    """Let the broker confirm a basic.cancel."""
    channel.connection.session.to_come.append((1, arrived('basic.cancel_ok', tag)))


def numbers_of(messages):
    return [msg.delivery_tag for msg in messages]


def sent(session):
    """Return what was sent as (name, first value)."""
    methods = methods_in(b''.join(session.sent))
    return [(method.name, list(vars(method).values())[2]) for method in methods]


CANCEL = ('basic.cancel', 't')


def rejects(*numbers):
    return [('basic.reject', number) for number in numbers]


# --- Starting ---


def test_it_sets_the_prefetch_first(session, channel):
    session.to_come += [(1, arrived('basic.qos_ok')), (1, arrived('basic.consume_ok', 'mine'))]
    assert channel.consume('q', prefetch=7, consumer_tag='mine', no_ack=True).tag == 'mine'
    qos, consume = methods_in(b''.join(session.sent))
    assert (qos.name, qos.prefetch_count, getattr(qos, 'global')) == ('basic.qos', 7, False)
    assert (consume.name, consume.queue, consume.no_ack) == ('basic.consume', 'q', True)


def test_without_prefetch_the_setting_of_the_channel_stays(session, channel):
    session.to_come.append((1, arrived('basic.consume_ok', 't')))
    channel.consume('q', consumer_tag='t')
    assert [method.name for method in methods_in(b''.join(session.sent))] == ['basic.consume']


@pytest.mark.parametrize(
    ('options', 'error', 'name'),
    [
        ({'timeout': -1}, ValueError, 'timeout'),
        ({'timeout': '1'}, TypeError, 'timeout'),
        ({'stop': True}, TypeError, 'stop'),
        ({'on_cancel': 'x'}, TypeError, 'on_cancel'),
        ({'prefetch': -1}, ValueError, 'prefetch_count'),
        ({'prefetch': 'all'}, TypeError, 'prefetch_count'),
        ({'prefetch': 1, 'queue': 'x' * 256}, ValueError, 'queue'),
        ({'prefetch': 1, 'consumer_tag': 5}, TypeError, 'consumer_tag'),
        ({'callback': print}, TypeError, 'callback'),
    ],
)
def test_wrong_arguments_send_nothing(session, channel, options, error, name):
    with pytest.raises(error, match=name):
        channel.consume(**options)
    assert session.sent == []
    assert numbers_of(start(channel)) == []


def test_what_comes_with_the_reply_is_not_lost(session, channel):
    """This holds also if other consumers of the channel have put deliveries on the fast path."""
    session.to_come.append((1, arrived('basic.consume_ok', 'other')))
    channel.basic_consume('q', 'other', callback=print)
    session.to_come.append((1, arrived('basic.consume_ok', 't')))

    def reply_and_deliver(closed, ready, deadline):
        channel.arrive(session.to_come.pop(0)[1])
        channel.delivery_queue.append(delivery(1))
        channel.arrive(delivery(2))
        return True

    session.wait_until = reply_and_deliver
    started = channel.consume('q', consumer_tag='t')
    assert numbers_of(started.ready) == [1, 2]
    assert not channel.method_queue


def test_a_refused_consumer_leaves_nothing(session, channel):
    session.to_come.append((1, arrived('channel.close', 404, 'no queue', 60, 20)))
    with pytest.raises(NotFound):
        channel.consume('q')
    assert channel._sorter is None


# --- Messages ---


def test_messages_come_in_order_with_what_callbacks_get(channel):
    started = start(channel)
    channel.arrive(delivery(1, properties=LATIN_1, body=b'\xe4'))
    channel.delivery_queue.append(delivery(2))
    first, second = started
    assert (first.body, first.delivery_tag, first.channel) == ('ä', 1, channel)
    assert second.delivery_info['consumer_tag'] == 't'


def test_bodies_stay_bytes_without_auto_decode(channel):
    channel.auto_decode = False
    started = start(channel)
    channel.arrive(delivery(1, properties=LATIN_1, body=b'\xe4'))
    assert started.get(0).body == b'\xe4'


def test_malformed_arguments_are_found_by_the_reader(channel):
    start(channel)
    signature, args, content = delivery(1)
    cut = AMQPReader(args.input[:-1])
    with pytest.raises(ProtocolError):
        channel.arrive((signature, cut, content))


def test_arguments_can_be_read_again_after_a_consumer_has_passed_them_on(channel):
    """An old program may override the handler, and read them there."""
    start(channel)
    arrive(channel, 1, tag='other')
    ((_, args, _),) = channel.method_queue
    assert args.read_shortstr() == 'other'


def test_arguments_can_be_read_again_after_another_consumer_is_cancelled(session, channel):
    session.to_come += [(1, delivery(1)), (1, arrived('basic.cancel_ok', 'other'))]
    channel.basic_cancel('other')
    ((_, args, _),) = channel.method_queue
    assert args.read_shortstr() == 't'


def test_an_error_in_the_loop_leaves_the_rest_for_the_next_one(channel):
    started = start(channel)
    arrive(channel, 1, 2, 3)

    def fail():
        for msg in started:
            raise KeyError(msg)

    with pytest.raises(KeyError):
        fail()
    assert numbers_of(started) == [2, 3]


def test_get_returns_one_message_or_raises(channel):
    started = start(channel)
    arrive(channel, 1)
    assert started.get().delivery_tag == 1
    with pytest.raises(AMQPTimeout, match='no message arrived within 0 s'):
        started.get(0)
    arrive(channel, 2)
    assert started.get(timeout=0).delivery_tag == 2


def test_get_checks_its_timeout(channel):
    started = start(channel)
    arrive(channel, 1)
    with pytest.raises(ValueError, match='timeout'):
        started.get(-1)
    assert started.get().delivery_tag == 1


# --- Beside others ---


@pytest.fixture
def called(channel, session):
    """The numbers of the messages for which the callback of the consumer 'c' was called."""
    session.to_come.append((1, arrived('basic.consume_ok', 'c')))
    numbers = []
    channel.basic_consume('q', 'c', callback=lambda msg: numbers.append(msg.delivery_tag))
    return numbers


def test_each_consumer_keeps_its_messages(channel):
    first, second = start(channel, 'a'), start(channel, 'b')
    for number in range(0, 6, 2):
        arrive(channel, number, tag='a')
        arrive(channel, number + 1, tag='b')
    assert numbers_of(first) == [0, 2, 4]
    assert numbers_of(second) == [1, 3, 5]


def test_callbacks_have_their_turn_between_messages(channel, called):
    started = start(channel)
    arrive(channel, 1, 2, 3)
    arrive(channel, 4, 5, 6, tag='c')
    for count, _ in enumerate(started, 1):
        assert len(called) == count
    assert called == [4, 5, 6]


def test_messages_do_not_wait_for_all_callbacks(channel, called):
    started = start(channel)
    arrive(channel, *range(100), tag='c')
    arrive(channel, 100)
    assert started.get(0).delivery_tag == 100
    assert len(called) == 1


def test_an_error_of_a_callback_comes_from_the_loop_and_loses_nothing(channel, session):
    def fail(msg):
        raise KeyError(msg.delivery_tag)

    session.to_come.append((1, arrived('basic.consume_ok', 'c')))
    channel.basic_consume('q', 'c', callback=fail)
    started = start(channel)
    arrive(channel, 1)
    arrive(channel, 2, tag='c')
    with pytest.raises(KeyError):
        started.get()
    assert started.get().delivery_tag == 1


def test_wait_leaves_the_messages_of_consumers_alone(channel, called):
    started = start(channel)
    arrive(channel, 1)
    arrive(channel, 2, tag='c')
    channel.wait()
    with pytest.raises(AMQPTimeout):
        channel.wait(timeout=0)
    assert called == [2]
    assert numbers_of(started) == [1]


@traces_instructions
def test_nothing_overtakes_in_a_wait_that_is_interrupted(called, channel):
    """A handler that interrupts a wait(), at whatever instruction, gets the oldest message."""
    started = start(channel)
    count = 0

    def prepare():
        order = []
        numbers = range(count * 10, count * 10 + 4)

        def wait():
            arrive(channel, *numbers[:2])
            arrive(channel, 0, 0, tag='c')
            arrive(channel, *numbers[2:])
            channel.wait()
            order.extend(numbers_of(started))
            return order, list(numbers)

        def take():
            with contextlib.suppress(AMQPTimeout):
                order.append(started.get(0).delivery_tag)

        return wait, take

    for order, numbers in each_interruption(abstract_channel, prepare):
        assert order == numbers
        count += 1


ACTIONS = st.sampled_from(
    [('arrive', tag) for tag in 'abc']
    + [('fast', tag) for tag in 'abc']
    + [('get', tag) for tag in 'ab']
    + [('loop', 'a'), ('wait', '')]
)


@given(st.lists(ACTIONS, max_size=40))
def test_any_interleaving_keeps_the_order_and_gives_back_the_rest(actions):
    connection, channel = open_channel()
    numbers = iter(range(1, 100))
    got = {'a': [], 'b': [], 'c': []}
    came = {'a': [], 'b': [], 'c': []}
    connection.session.to_come.append((1, arrived('basic.consume_ok', 'c')))
    channel.basic_consume('q', 'c', callback=lambda msg: got['c'].append(msg.delivery_tag))
    started = {tag: start(channel, tag) for tag in 'ab'}
    for action, tag in actions:
        try:
            if action in ('arrive', 'fast'):
                came[tag].append(next(numbers))
                method = delivery(came[tag][-1], tag)
                (channel.delivery_queue.append if action == 'fast' else channel.arrive)(method)
            elif action == 'get':
                got[tag].append(started[tag].get(0).delivery_tag)
            elif action == 'loop':
                got[tag].extend(numbers_of(started[tag]))
            else:
                channel.wait(timeout=0)
        except AMQPTimeout:
            continue
    for tag, consumer_ in started.items():
        will_be_cancelled(channel, tag)
        consumer_.cancel()
        back = [value for name, value in sent(connection.session) if name == 'basic.reject']
        assert got[tag] + back == came[tag]
        connection.session.sent.clear()
    while channel.method_queue:
        channel.wait()
    assert got['c'] == came['c']
    assert channel._sorter is None


# --- The ends of a loop ---


def test_stop_is_asked_before_each_message(channel):
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 3

    started = start(channel, stop=stop)
    arrive(channel, *range(10))
    assert numbers_of(started) == [0, 1, 2]
    assert numbers_of(started) == []
    asked.clear()
    assert numbers_of(started) == [3, 4, 5]


def test_stop_is_asked_after_each_callback(channel, called):
    started = start(channel, stop=lambda: called)
    arrive(channel, 1, 2, 3, tag='c')
    assert numbers_of(started) == []
    assert called == [1]


def test_stop_is_asked_at_least_twice_a_second_if_nothing_comes(channel, session):
    limits, asked = [], []

    def wait(closed, ready, deadline):
        limits.append(deadline.seconds)
        return False

    session.wait_until = wait
    started = start(
        channel, timeout=None, nowait=True, stop=lambda: len(asked) > 5 or asked.append(1)
    )
    assert list(started) == []
    assert len(limits) == 5
    assert max(limits) < 0.5


def test_an_error_of_stop_loses_nothing(channel):
    def stop():
        raise KeyError

    started = start(channel, stop=stop)
    arrive(channel, 1)
    with pytest.raises(KeyError):
        list(started)
    assert started.get(0).delivery_tag == 1


def test_get_does_not_ask_stop(channel):
    started = start(channel, stop=lambda: True)
    arrive(channel, 1)
    assert started.get(0).delivery_tag == 1


# --- Cancelling ---


def test_leaving_the_block_gives_back_the_rest_in_order(channel, session):
    with start(channel) as started:
        will_be_cancelled(channel)
        arrive(channel, 1, 2, 3, 4)
        assert started.get().delivery_tag == 1
    assert sent(session) == [CANCEL, *rejects(2, 3, 4)]
    assert len(session.sent) == 2, 'they go out in one write'
    assert list(started) == []
    started.cancel()
    assert len(session.sent) == 2


def test_what_comes_while_it_is_cancelled_goes_back_too(channel, session):
    started = start(channel)
    arrive(channel, 1)
    session.to_come.append((1, delivery(2)))
    will_be_cancelled(channel)
    started.cancel()
    assert sent(session) == [CANCEL, *rejects(1, 2)]


def test_cancel_in_the_loop_ends_it(channel, session):
    started = start(channel)
    arrive(channel, 1, 2)
    will_be_cancelled(channel)
    for msg in started:
        assert msg.delivery_tag == 1
        started.cancel()
        assert sent(session) == [CANCEL, *rejects(2)]
    with pytest.raises(ConsumerCancelled) as caught:
        started.get()
    assert caught.value.consumer_tag == 't'


def test_what_cannot_be_given_back_is_logged(channel, session, caplog):
    started = start(channel, no_ack=True)
    arrive(channel, 1, 2)
    will_be_cancelled(channel)
    started.cancel()
    assert sent(session) == [CANCEL]
    (record,) = [record for record in caplog.records if record.levelname == 'WARNING']
    assert "2 messages lost that were sent before the consumer 't'" in record.getMessage()


@pytest.mark.parametrize('delivery_tag', [3, 0])
def test_what_was_settled_with_a_later_message_is_not_given_back(
    channel, session, caplog, delivery_tag
):
    """The broker would close the channel if a message were settled twice."""
    first, second = start(channel, 'a'), start(channel, 'b')
    arrive(channel, 1, 2, tag='a')
    arrive(channel, 3, tag='b')
    channel.basic_ack(delivery_tag, multiple=True)
    arrive(channel, 4, tag='a')
    session.sent.clear()
    will_be_cancelled(channel, 'a')
    first.cancel()
    assert sent(session) == [('basic.cancel', 'a'), *rejects(4)]
    (record,) = [record for record in caplog.records if record.levelname == 'WARNING']
    assert record.getMessage().startswith('2 messages settled with a later one')
    assert len(second.ready) == 1


def test_leaving_has_a_limit():
    limits = []

    def wait(closed, ready, deadline):
        limits.append(deadline.seconds)
        return False

    for rpc_timeout, limit in ((None, 10), (60, 10), (5, 5)):
        connection, channel = open_channel()
        connection.rpc_timeout = rpc_timeout
        started = start(channel)
        connection.session.wait_until = wait
        with pytest.raises(AMQPTimeout):
            started.cancel()
        assert limits.pop() == limit
        assert not channel.is_open


def test_cancel_in_a_callback_of_the_loop(channel, session):
    started = start(channel)
    session.to_come.append((1, arrived('basic.consume_ok', 'c')))
    channel.basic_consume('q', 'c', callback=lambda msg: started.cancel())
    session.sent.clear()
    arrive(channel, 1)
    arrive(channel, 2, tag='c')
    will_be_cancelled(channel)
    assert list(started) == []
    assert sent(session) == [CANCEL, *rejects(1)]


def test_cancel_where_nothing_can_be_sent_is_done_by_the_loop(channel, session):
    """A signal handler that has interrupted another call of the library can send nothing."""
    started = start(channel)
    arrive(channel, 1, 2)
    for msg in started:
        assert msg.delivery_tag == 1
        session.is_waiting_allowed = False
        started.cancel()
        assert session.sent == []
        session.is_waiting_allowed = True
        will_be_cancelled(channel)
    assert sent(session) == [CANCEL, *rejects(2)]


def test_cancel_from_another_thread_leaves_the_rest_to_the_loop(channel, session):
    started = start(channel)
    arrive(channel, 1, 2)
    for msg in started:
        assert msg.delivery_tag == 1
        in_thread(started.cancel)
        assert session.sent == []
        will_be_cancelled(channel)
    assert sent(session) == [CANCEL, *rejects(2)]


def test_cancel_from_another_thread_while_there_is_no_loop(channel, session):
    started = start(channel)
    arrive(channel, 1, 2)
    for _ in started:
        break
    gc.collect()  # as PyPy does not end the loop before that
    will_be_cancelled(channel)
    in_thread(started.cancel)
    assert sent(session) == [CANCEL, *rejects(2)]


def test_after_basic_cancel_the_loop_gets_what_has_arrived(channel, session):
    started = start(channel)
    arrive(channel, 1, 2)
    will_be_cancelled(channel)
    channel.basic_cancel('t')
    assert numbers_of(started) == [1, 2]
    started.cancel()
    assert sent(session) == [CANCEL]


def test_a_tag_may_be_used_again(channel, session):
    first = start(channel)
    arrive(channel, 1)
    will_be_cancelled(channel)
    first.cancel()
    session.to_come.append((1, arrived('basic.consume_ok', 't')))
    numbers = []
    channel.basic_consume('q', 't', callback=lambda msg: numbers.append(msg.delivery_tag))
    arrive(channel, 2)
    channel.wait()
    assert numbers == [2]


# --- The broker cancels ---


def broker_cancels(channel, tag='t'):
    channel.arrive(arrived('basic.cancel', tag, True))


def test_a_consumer_that_the_broker_cancels_raises_after_its_last_message(channel, session):
    started = start(channel)
    arrive(channel, 1, 2)
    broker_cancels(channel)
    numbers = []
    with pytest.raises(ConsumerCancelled) as caught:
        numbers.extend(msg.delivery_tag for msg in started)
    assert numbers == [1, 2]
    assert caught.value.consumer_tag == 't'
    for repeat in (lambda: list(started), started.get):
        with pytest.raises(ConsumerCancelled, match='the broker cancelled'):
            repeat()
    started.cancel()
    assert session.sent == []


def test_what_is_left_of_it_is_given_back_without_a_cancel(channel, session):
    with start(channel) as started:
        arrive(channel, 1, 2)
        broker_cancels(channel)
        assert started.get().delivery_tag == 1
    assert sent(session) == rejects(2)


def test_on_cancel_is_called_instead(channel):
    tags = []
    started = start(channel, on_cancel=tags.append)
    arrive(channel, 1)
    broker_cancels(channel)
    assert numbers_of(started) == [1]
    assert tags == ['t']
    assert list(started) == []


def test_only_the_consumer_that_was_cancelled_raises(channel, called):
    first, second = start(channel, 'a'), start(channel, 'b')
    arrive(channel, 1, tag='b')
    broker_cancels(channel, 'a')
    arrive(channel, 2, tag='b')
    assert numbers_of(second) == [1, 2]
    with pytest.raises(ConsumerCancelled):
        first.get()


# --- The channel or the connection ends ---


def closed_by_broker(channel):
    channel.arrive(arrived('channel.close', 406, 'no', 60, 80))


def connection_lost(channel):
    channel.connection.session.end(ConnectionLost(0, 'gone'))


@pytest.mark.parametrize('end', [closed_by_broker, connection_lost])
def test_the_loop_raises_the_cause_after_what_has_arrived(channel, end):
    started = start(channel, timeout=None)
    arrive(channel, 1)
    end(channel)
    messages = iter(started)
    assert next(messages).delivery_tag == 1
    expected = AMQPChannelException if end is closed_by_broker else ConnectionLost
    with pytest.raises(expected):
        next(messages)
    with pytest.raises(expected):
        started.get()


@pytest.mark.parametrize('end', [closed_by_broker, connection_lost])
def test_the_block_can_be_left_then(channel, session, end):
    with start(channel) as started:
        arrive(channel, 1)
        end(channel)
        session.sent.clear()
    assert session.sent == []
    assert list(started) == []


def test_nothing_is_handed_out_by_a_channel_that_the_program_closed(channel, session):
    started = start(channel)
    arrive(channel, 1, 2)
    session.to_come.append((1, arrived('channel.close_ok')))
    messages = iter(started)
    next(messages)
    channel.close()
    with pytest.raises(AMQPChannelException, match='closed by this program'):
        next(messages)


def test_an_error_while_leaving_is_raised(channel, session):
    with pytest.raises(ConnectionLost), start(channel):
        session.wait_until = lambda closed, ready, deadline: lost()


def test_an_error_of_the_block_is_the_one_that_is_raised(channel, session, caplog):
    def fail():
        with start(channel):
            session.wait_until = lambda closed, ready, deadline: lost()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert 'cancelling after an error failed: gone' in caplog.text


def lost():
    raise ConnectionLost(0, 'gone')


@is_freed_at_once
def test_a_closed_channel_is_freed_with_its_consumers(channel, session):
    started = start(channel)
    arrive(channel, 1)
    session.to_come.append((1, arrived('channel.close_ok')))
    channel.close()
    freed = weakref.ref(started)
    gc.disable()
    try:
        del started
        assert freed() is None
    finally:
        gc.enable()


# --- Interrupts ---


# On Python 3.12, one of the instructions is in a finalizer: the end of the loop that was left.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@traces_instructions
def test_an_interrupt_anywhere_loses_nothing():
    """Each message is handed out or given back, in order and once only."""

    def prepare():
        connection, channel = open_channel()
        started = start(channel)
        arrive(channel, 1, 2, 3, 4)
        will_be_cancelled(channel)
        got = []

        def run():
            try:
                with started:
                    for msg in started:
                        got.append(msg.delivery_tag)
                        if len(got) == 2:
                            break
            except Interrupt:
                started.cancel()
            return got, [value for name, value in sent(connection.session) if 'reject' in name]

        return run, raise_it

    def raise_it():
        raise Interrupt

    lost = 0
    for got, back in each_interruption(consumer, prepare):
        missing = {1, 2, 3, 4}.difference(got + back)
        assert got + back == [number for number in (1, 2, 3, 4) if number not in missing]
        # The program cannot know of one for which the `yield` was all that was missing. It goes
        # back when the channel is closed.
        assert len(missing) <= 1
        lost += len(missing)
    assert lost <= 6


@traces_instructions
def test_a_connection_that_is_closed_at_any_moment_ends_the_loop():
    """Another thread or a signal handler closes it."""

    def prepare():
        connection, channel = open_channel()
        started = start(channel, timeout=None)
        arrive(channel, 1, 2)
        session = connection.session

        def close():
            session.end(ConnectionLost(0, 'closed'), reported=True)

        def run():
            for msg in started:
                if msg.delivery_tag == 2:
                    close()

        return run, close

    for result in each_interruption(consumer, prepare):
        assert isinstance(result, ConnectionLost), repr(result)


def ending(session, reported=True):
    """Return a function that ends a connection, as another thread may do at any moment."""

    def end():
        session.to_come.clear()
        session.end(ConnectionLost(0, 'closed'), reported)

    return end


@traces_instructions
def test_a_connection_that_is_closed_while_a_loop_waits_ends_it_by_the_cause():
    def prepare():
        connection, channel = open_channel()
        end, asked = ending(connection.session), []

        def stop():
            asked.append(None)
            if len(asked) == 3:
                end()

        return partial(list, start(channel, timeout=None, stop=stop)), end

    for result in each_interruption(consumer, prepare):
        assert isinstance(result, ConnectionLost), repr(result)


#: Calls of a channel and its Consumer: the module to interrupt, the call, what arrives for it.
CALLS = [
    (channel_module, lambda ours, _: ours.basic_ack(0, multiple=True), []),
    (consumer, lambda ours, _: ours.basic_ack(0, multiple=True), []),
    (consumer, lambda _, started: started.get(timeout=0).ack(), []),
    (consumer, lambda _, started: started.cancel(), [('basic.cancel_ok', 't')]),
    (channel_module, lambda _, started: started.cancel(), [('basic.cancel_ok', 't')]),
    (channel_module, lambda ours, _: ours.basic_cancel('t'), [('basic.cancel_ok', 't')]),
    (channel_module, lambda ours, _: ours.consume('q'), [('basic.consume_ok', 'made-up')]),
    (channel_module, lambda ours, _: ours.basic_consume('q', 'u'), [('basic.consume_ok', 'u')]),
]


@traces_instructions
@pytest.mark.parametrize('reported', [True, False])
@pytest.mark.parametrize(('module', 'call', 'replies'), CALLS)
def test_a_connection_that_is_closed_in_any_call_is_no_other_error(module, call, replies, reported):
    def prepare():
        connection, channel = open_channel()
        started = start(channel)
        arrive(channel, 1, 2)
        connection.session.to_come += [(1, arrived(*reply)) for reply in replies]
        return partial(call, channel, started), ending(connection.session, reported)

    for result in each_interruption(module, prepare):
        assert isinstance(result, (Consumer, str, ConnectionLost, type(None))), repr(result)


@traces_instructions
def test_two_threads_may_learn_of_the_end_at_once():
    def prepare():
        connection, channel = open_channel()
        start(channel)
        ending(connection.session, False)()
        channel._closed.reported = True
        return channel.session_ended, channel.session_ended

    for result in each_interruption(channel_module, prepare):
        assert result is None, repr(result)
