"""A real broker behind a proxy that fragments, closes, resets and stalls connections."""

import functools
import socket
import threading
from concurrent.futures import TimeoutError as FutureTimeout

import pytest

from tests.helpers.checks import check_repeated
from tests.helpers.fault_proxy import DOWN, UP, FaultProxy
from tests.helpers.full_sockets import HEARTBEAT, HUGE, fill, send_rest, small_send_buffer
from tests.helpers.packages import only_0_8
from tests.helpers.queues import drain, get_all, get_messages, new_name
from tests.helpers.threads import await_blocked, begin, outcome
from tests.helpers.waiting import BUSY, PATIENCE, lasting, poll
from tests.helpers.wire import content, method, split_frames, version_of

#: For tests of the heartbeat thread, which knows nothing of versions, where they take seconds.
said_by_one = only_0_8

#: As small as every RabbitMQ allows: 4.3 no longer takes the 4096 of the specification.
FRAME_MAX = 8192

BODIES = [
    b'',
    b'small',
    bytes(range(256)) * 80,  # three frames
    b'\xce' * (FRAME_MAX - 8),  # one frame, and all of it
]


def small_frames(amqp):
    """Return a class of connections that have small frames, so that small messages have several."""

    class SmallFrames(amqp.Connection):
        def _x_tune_ok(self, channel_max, frame_max, heartbeat):
            self.frame_max = self.method_writer.frame_max = FRAME_MAX
            self.method_reader.body_limit = FRAME_MAX
            super()._x_tune_ok(channel_max, FRAME_MAX, heartbeat)

    return SmallFrames


class Conversation:
    """A little of everything that programs do with a broker, with the same bytes each time."""

    def __init__(self, amqp):
        self.amqp = amqp
        self.connection = None
        self.channel = None

    def run(self, address):
        """Hold it; return what came of each step."""
        queue = new_name()
        self.connection = small_frames(self.amqp)(host=address)
        self.channel = channel = self.connection.channel()
        results = [channel.queue_declare(queue, exclusive=True, auto_delete=False)[1:]]
        for number, body in enumerate(BODIES):
            message = self.amqp.Message(
                body, message_id=str(number), application_headers={'n': number}
            )
            channel.basic_publish(message, routing_key=queue)
        results.append(facts(channel.basic_get(queue, no_ack=True)))
        received = []
        tag = channel.basic_consume(queue, 'consumer', callback=received.append)
        drain(channel, lambda: len(received) == len(BODIES) - 1)
        for message in received:
            channel.basic_ack(message.delivery_tag)
        channel.basic_cancel(tag)
        results += map(facts, received)
        results.append(channel.queue_declare(queue, passive=True)[1:])
        channel.close()
        self.connection.close()
        return results


def facts(message):
    return (
        message.body,
        message.message_id,
        message.application_headers,
        message.delivery_info['delivery_tag'],
        message.delivery_info['redelivered'],
    )


@pytest.fixture
def undisturbed(amqp, address):
    """What comes of the conversation when nothing is wrong."""
    return Conversation(amqp).run(address)


# --- Broken up ----------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [1, 2, 3, 7, 64])
@pytest.mark.parametrize('directions', [[UP], [DOWN], [UP, DOWN]], ids='+'.join)
def test_conversation_in_pieces_gives_the_same_results_soon(
    amqp, proxy, undisturbed, directions, size
):
    for direction in directions:
        proxy.fragment(direction, size)
    with lasting(most=PATIENCE):
        assert Conversation(amqp).run(proxy.address) == undisturbed


def test_call_over_a_slow_line_returns_with_the_last_byte_of_its_reply(proxy, connect):
    channel = connect(proxy.address).channel()
    for direction in (UP, DOWN):
        proxy.fragment(direction, 1, delay=0.001)
    record = proxy.record(DOWN)
    for _ in range(5):
        with lasting(most=BUSY):
            channel.basic_qos(0, 1, False)
    expected = 5 * method(1, 'basic.qos_ok')
    poll(lambda: b''.join(data for _, data in record) == expected, 'five replies, no more')


def test_wait_that_ends_in_the_middle_of_a_frame_loses_none_of_it(amqp, proxy, connect):
    channel = connect(proxy.address, small_frames(amqp)).channel()
    queue = channel.queue_declare(exclusive=True)[0]
    received = []
    channel.basic_consume(queue, callback=received.append, no_ack=True)
    record = proxy.record(DOWN)
    proxy.fragment(DOWN, 97, delay=0.002)
    channel.basic_publish(amqp.Message(BODIES[2]), routing_key=queue)
    timeouts = 0
    while not received:
        before = len(record)
        try:
            channel.wait(timeout=0.01)
        except amqp.AMQPTimeout:
            timeouts += before < len(record)
        assert timeouts < 10000
    assert timeouts > 3, 'the frames came faster than the waits ended'
    assert received[0].body == BODIES[2]
    assert channel.queue_declare(queue, passive=True)[1] == 0


def test_publishing_faster_than_the_line_sends_whole_frames(amqp, proxy, connect):
    proxy.limit_buffers(4096)
    connection = connect(proxy.address, small_frames(amqp))
    small_send_buffer(connection)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True)[0]
    record = proxy.record(UP)
    proxy.fragment(UP, 4000, delay=0.0005)
    bodies = [bytes([number]) * 100_001 for number in range(5)]
    for body in bodies:
        channel.basic_publish(amqp.Message(body), routing_key=queue)
    got = [channel.basic_get(queue, no_ack=True).body for _ in bodies]
    assert got == bodies
    expected = b''.join(publishing(queue, body) for body in bodies)
    assert b''.join(data for _, data in record).startswith(expected)


def publishing(queue, body, channel=1):
    """Return the bytes of a publish, in small frames."""
    start = method(channel, 'basic.publish', 0, '', queue, False, False)
    return start + content(channel, body, frame_max=FRAME_MAX)


# --- Cut ----------------------------------------------------------------------------------------


class Places:
    """Where the conversation's bytes can be cut, by direction; see `places`."""

    def __init__(self, amqp, address):
        self.amqp = amqp
        with FaultProxy(address) as proxy:
            records = {direction: proxy.record(direction) for direction in (UP, DOWN)}
            Conversation(amqp).run(proxy.address)
        data = {name: b''.join(part for _, part in record) for name, record in records.items()}
        self.length = {name: len(whole) for name, whole in data.items()}
        header = len(version_of(amqp).header)
        self.frame_ends = {
            UP: [header, *ends(data[UP][header:], header)],
            DOWN: list(ends(data[DOWN], 0)),
        }
        # While the client knows that it logs in, and not yet that it is let in.
        self.login = {
            UP: range(header + 1, self.frame_ends[UP][1] + 1),
            DOWN: range(self.frame_ends[DOWN][0], self.frame_ends[DOWN][1]),
        }

    def some(self, direction):
        """Return where to cut: at the ends of frames, just before, and within the next one."""
        found = {0, 1}
        for end in self.frame_ends[direction]:
            found.update((end - 1, end, end + 5, end + 40))
        return sorted(place for place in found if place < self.length[direction])

    def most(self, direction):
        """Return the positions of all bytes, except inside long frames."""
        found = set()
        for start, end in zip([0, *self.frame_ends[direction]], self.frame_ends[direction]):
            found.update(range(start, min(start + 1000, end)), range(max(start, end - 20), end))
        return sorted(found)

    def errors(self, direction, place):
        """Return the classes of errors one of which ends the conversation."""
        if direction == DOWN and place == self.frame_ends[DOWN][0]:
            # If it sees this end before it logs in, no login was refused.
            return {self.amqp.LoginRefused, self.amqp.ConnectionLost}
        if place in self.login[direction]:
            return {self.amqp.LoginRefused}
        return {self.amqp.ConnectionLost}


def ends(data, offset):
    frames, rest = split_frames(data)
    assert not rest
    for _, _, payload in frames:
        offset += len(payload) + 8
        yield offset


#: Found out once.
places_at = functools.lru_cache(Places)


@pytest.fixture
def places(amqp, address):
    """The `Places` of the broker of the run."""
    return places_at(amqp, address)


@pytest.mark.parametrize('direction', [UP, DOWN])
@pytest.mark.parametrize('how', ['cut_after', 'reset_after'])
def test_conversation_cut_anywhere_ends_in_one_error(amqp, proxy, places, direction, how):
    for place in places.some(direction):
        check_cut(amqp, proxy, places, direction, how, place)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize('direction', [UP, DOWN])
@pytest.mark.parametrize('how', ['cut_after', 'reset_after'])
def test_conversation_cut_at_most_bytes_ends_in_one_error(amqp, proxy, places, direction, how):
    for place in places.most(direction):
        check_cut(amqp, proxy, places, direction, how, place)


def check_cut(amqp, proxy, places, direction, how, place):
    """Hold the conversation until it is cut; check the error, and that it stays the error."""
    getattr(proxy, how)(direction, place)
    conversation = Conversation(amqp)
    with lasting(most=5), pytest.raises(amqp.AMQPException) as caught:
        conversation.run(proxy.address)
    error = caught.value
    assert type(error) in places.errors(direction, place), f'{error!r} at {place}'
    assert error.amqp_reply_text
    connection, channel = conversation.connection, conversation.channel
    if connection is None:
        return
    assert connection.transport is None
    check_repeated(error, connection.channel)
    check_repeated(error, lambda: connection.wait(timeout=1))
    if channel is not None and not closed_by_itself(amqp, channel):
        check_repeated(error, lambda: channel.queue_declare('q'))
        check_repeated(error, lambda: channel.basic_publish(amqp.Message('x'), routing_key='q'))
        check_repeated(error, lambda: channel.basic_ack(1))
        check_repeated(error, lambda: channel.wait(timeout=1))
        channel.close()
    connection.close()


def closed_by_itself(amqp, channel):
    with pytest.raises(amqp.AMQPException) as caught:
        channel.basic_qos(0, 1, False)
    return type(caught.value) is amqp.AMQPChannelException


def test_reset_between_two_publishes_is_raised_by_the_second(amqp, proxy, connect):
    connection = connect(proxy.address)
    channel = connection.channel()
    channel.basic_publish(amqp.Message(b'before'), routing_key='amqplib-test-nowhere')
    proxy.reset()
    with pytest.raises(amqp.ConnectionLost) as caught:
        channel.basic_publish(amqp.Message(b'after'), routing_key='amqplib-test-nowhere')
    check_repeated(caught.value, lambda: channel.basic_publish(amqp.Message(b'x')))
    check_repeated(caught.value, connection.channel)


def test_cut_between_two_publishes_is_raised_soon(amqp, proxy, connect):
    channel = connect(proxy.address).channel()
    channel.basic_publish(amqp.Message(b'before'), routing_key='amqplib-test-nowhere')
    proxy.cut()
    with lasting(most=BUSY), pytest.raises(amqp.ConnectionLost):
        publish_for_ever(amqp, channel)


# --- Ended while a call is in progress ----------------------------------------------------------


def publish_huge(amqp, channel):
    channel.basic_publish(amqp.Message(bytes(HUGE)), routing_key='amqplib-test-nowhere')


def publish_for_ever(amqp, channel):
    while True:
        channel.basic_publish(amqp.Message(bytes(1000)), routing_key='amqplib-test-nowhere')


def acknowledge_for_ever(channel):
    while True:
        channel.basic_ack(0, multiple=True)


CALLS = {
    'publish': lambda amqp, connection, channel: publish_huge(amqp, channel),
    'publish again and again': lambda amqp, connection, channel: publish_for_ever(amqp, channel),
    'acknowledge': lambda amqp, connection, channel: acknowledge_for_ever(channel),
    'wait': lambda amqp, connection, channel: channel.wait(),
    'wait of the connection': lambda amqp, connection, channel: connection.wait(),
    'declare': lambda amqp, connection, channel: channel.queue_declare(exclusive=True),
    'open a channel': lambda amqp, connection, channel: connection.channel(),
    'close the channel': lambda amqp, connection, channel: channel.close(timeout=None),
    'close': lambda amqp, connection, channel: connection.close(timeout=None),
}


@pytest.mark.parametrize('call', CALLS)
@pytest.mark.parametrize('how', ['cut', 'reset'])
def test_end_of_the_connection_ends_the_call_at_once(amqp, proxy, connect, call, how):
    proxy.limit_buffers(4096)
    connection = connect(proxy.address)
    small_send_buffer(connection)
    channel = connection.channel()
    proxy.stall(UP, DOWN)
    calling = begin(CALLS[call], amqp, connection, channel)
    await_blocked(calling)
    getattr(proxy, how)()
    with lasting(most=BUSY):
        error = outcome(calling)
    assert type(error) is amqp.ConnectionLost
    check_repeated(error, connection.channel)
    check_repeated(error, lambda: channel.basic_qos(0, 1, False))


def test_reset_ends_the_calls_of_all_threads_at_once(amqp, proxy, connect):
    proxy.limit_buffers(4096)
    connection = connect(proxy.address)
    small_send_buffer(connection)
    channels = [connection.channel() for _ in range(6)]
    proxy.stall(UP, DOWN)
    callings = [
        begin(channels[0].wait),
        begin(channels[1].wait),
        begin(channels[2].queue_declare),
        begin(channels[3].queue_declare),
        begin(publish_huge, amqp, channels[4]),
    ]
    await_blocked(callings[-1])
    # This one waits until the other has sent its message.
    callings.append(begin(publish_huge, amqp, channels[5]))
    proxy.reset()
    with lasting(most=BUSY):
        errors = [outcome(calling) for calling in callings]
    assert {type(error) for error in errors} == {amqp.ConnectionLost}
    assert len({error.args for error in errors}) == 1


# --- Stalled ------------------------------------------------------------------------------------


def test_calls_over_a_stalled_line_end_by_their_deadlines(amqp, proxy, connect):
    connection = connect(proxy.address, rpc_timeout=0.3)
    one, two, three = (connection.channel() for _ in range(3))
    proxy.stall(UP, DOWN)
    with lasting(0.2, BUSY), pytest.raises(amqp.AMQPTimeout):
        one.wait(timeout=0.2)
    with lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout, match=r'queue_declare') as caught:
        two.queue_declare(exclusive=True)
    check_repeated(caught.value, two.queue_declare)
    with lasting(0.2, BUSY), pytest.raises(amqp.AMQPTimeout):
        three.close(timeout=0.2)
    with lasting(0.2, BUSY), pytest.raises(amqp.AMQPTimeout):
        connection.close(timeout=0.2)
    assert connection.transport is None
    with lasting(most=0.2):
        connection.close()


DEADLINES = {
    'declare': lambda connection, channel: channel.queue_declare(exclusive=True),
    'open a channel': lambda connection, channel: connection.channel(),
    'close the channel': lambda connection, channel: channel.close(timeout=0.3),
    'close': lambda connection, channel: connection.close(timeout=0.3),
}


@pytest.fixture
def reset_at_the_end(proxy, connect):
    """Reset the connections after the test, so that closing them does not wait."""
    yield
    proxy.reset()


@pytest.mark.parametrize('call', DEADLINES)
def test_deadline_holds_for_sending_too(amqp, proxy, connect, reset_at_the_end, call):
    """Where the line is full, and sending itself has no limit."""
    connection = connect(proxy.address)
    channel = connection.channel()
    proxy.stall(UP)
    fill(connection)
    connection.rpc_timeout = 0.3
    calling = begin(DEADLINES[call], connection, channel)
    with lasting(0.2, BUSY):
        error = outcome(calling, BUSY)
    assert isinstance(error, amqp.AMQPTimeout)


@pytest.mark.parametrize('call', DEADLINES)
def test_deadline_holds_while_another_thread_sends(amqp, proxy, connect, reset_at_the_end, call):
    connection = connect(proxy.address)
    publishing, channel = connection.channel(), connection.channel()
    proxy.stall(UP)
    connection.rpc_timeout = 0.3
    blocked = begin(publish_huge, amqp, publishing)
    await_blocked(blocked)
    calling = begin(DEADLINES[call], connection, channel)
    with lasting(0.2, BUSY):
        error = outcome(calling, BUSY)
    assert type(error) is amqp.AMQPTimeout
    if call == 'close':
        assert isinstance(outcome(blocked, BUSY), amqp.AMQPException)
        return
    # The other thread's message is not harmed.
    assert not blocked.done()
    proxy.resume(UP)
    blocked.result(PATIENCE)
    connection.rpc_timeout = PATIENCE
    assert publishing.queue_declare(exclusive=True)


def test_call_without_a_deadline_waits_until_another_thread_has_sent(
    amqp, proxy, connect, reset_at_the_end
):
    connection = connect(proxy.address)
    publishing, channel = connection.channel(), connection.channel()
    proxy.stall(UP)
    blocked = begin(publish_huge, amqp, publishing)
    await_blocked(blocked)
    calling = begin(lambda: channel.queue_declare(exclusive=True))
    with pytest.raises(FutureTimeout):
        calling.result(0.2)
    proxy.resume(UP)
    blocked.result(PATIENCE)
    assert calling.result(PATIENCE)


def test_channel_without_a_timeout_goes_on_after_a_stall(amqp, proxy, connect):
    connection = connect(proxy.address)
    waiting, calling = connection.channel(), connection.channel()
    queue = waiting.queue_declare(exclusive=True)[0]
    received = []
    waiting.basic_consume(queue, callback=received.append, no_ack=True)
    proxy.stall(DOWN)
    connection.rpc_timeout = 0.3
    waiting.basic_publish(amqp.Message(b'late'), routing_key=queue)
    with pytest.raises(amqp.AMQPTimeout):
        calling.queue_declare(exclusive=True)
    with pytest.raises(amqp.AMQPTimeout):
        waiting.wait(timeout=0.1)
    proxy.resume(DOWN)
    connection.rpc_timeout = PATIENCE
    drain(waiting, lambda: received)
    assert received[0].body == b'late'
    assert waiting.queue_declare(queue, passive=True)[1:] == (0, 1)
    assert connection.channel().queue_declare(exclusive=True)


@said_by_one
@pytest.mark.parametrize('directions', [[DOWN], [UP, DOWN]], ids='+'.join)
def test_heartbeats_notice_a_stall(amqp, proxy, connect, directions):
    connection = connect(proxy.address, heartbeat=1)
    channel = connection.channel()
    proxy.stall(*directions)
    with lasting(0.9, 6), pytest.raises(amqp.ConnectionLost, match='nothing was heard') as caught:
        channel.wait(timeout=PATIENCE)
    assert connection.transport is None
    check_repeated(caught.value, connection.channel)
    with lasting(most=0.5):
        connection.close()


def test_heartbeats_notice_a_stall_during_a_publish(amqp, proxy, connect):
    connection = connect(proxy.address, heartbeat=1)
    channel = connection.channel()
    proxy.stall(UP, DOWN)
    with lasting(0.9, 6), pytest.raises(amqp.ConnectionLost, match='nothing was heard'):
        publish_huge(amqp, channel)


@said_by_one
def test_heartbeats_keep_a_connection_alive_during_a_long_callback(amqp, proxy, connect):
    connection = connect(proxy.address, heartbeat=1)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True)[0]
    record = proxy.record(UP)

    def compute(message):
        # RabbitMQ gives up after three seconds.
        threading.Event().wait(4)

    channel.basic_consume(queue, callback=compute, no_ack=True)
    channel.basic_publish(amqp.Message(b''), routing_key=queue)
    channel.wait(timeout=PATIENCE)
    assert channel.queue_declare(queue, passive=True)[1:] == (0, 1)
    sent = b''.join(data for _, data in record)
    frame_types = [frame_type for frame_type, _, _ in split_frames(sent)[0]]
    assert 4 <= frame_types.count(8) <= 12


# --- Cut short by its own deadline --------------------------------------------------------------


def test_nothing_follows_a_write_that_was_cut_by_write_timeout(amqp, proxy, connect):
    """Not another method, not a heartbeat, not a close: only the end of the stream."""
    connection = connect(proxy.address, small_frames(amqp), write_timeout=0.3, heartbeat=1)
    channel, other = connection.channel(), connection.channel()
    record = proxy.record(UP)
    proxy.stall(UP)
    body = b'\x01' * HUGE
    with lasting(0.3, 5), pytest.raises(amqp.WriteTimeout) as caught:
        channel.basic_publish(amqp.Message(body), routing_key='amqplib-test-nowhere')
    for ours in (channel, other):
        check_repeated(caught.value, lambda ours=ours: ours.basic_publish(amqp.Message('x')))
        check_repeated(caught.value, lambda ours=ours: ours.basic_qos(0, 1, False))
        ours.close()
    connection.close()
    proxy.resume(UP)
    poll(lambda: not proxy.links, 'the end of the stream')
    sent = without_heartbeats(b''.join(data for _, data in record))
    expected = publishing('amqplib-test-nowhere', body)
    assert sent == expected[: len(sent)]
    assert 0 < len(sent) < len(expected)


def without_heartbeats(data):
    """Leave out what the stream begins with, if that is heartbeats."""
    while data.startswith(HEARTBEAT):
        data = data[len(HEARTBEAT) :]
    return data


def test_publish_that_had_no_room_at_all_leaves_the_connection_usable(amqp, proxy, connect):
    proxy.limit_buffers(4096)
    connection = connect(proxy.address, write_timeout=0.3)
    small_send_buffer(connection)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True)[0]
    channel.basic_publish(amqp.Message('before'), routing_key=queue)
    proxy.stall(UP)
    rest = fill(connection)
    with lasting(0.3, BUSY), pytest.raises(amqp.AMQPTimeout) as caught:
        channel.basic_publish(amqp.Message('refused'), routing_key=queue)
    assert type(caught.value) is amqp.AMQPTimeout
    proxy.resume(UP)
    send_rest(connection, rest)
    channel.basic_publish(amqp.Message('after'), routing_key=queue)
    assert get_all(channel, queue) == ['before', 'after']


# --- Acknowledgements in flight -----------------------------------------------------------------


@pytest.mark.parametrize('how', ['cut_after', 'reset_after'])
@pytest.mark.parametrize('in_flight', [0, 1, 2.5, 17, 39.9])
def test_only_what_was_not_acknowledged_comes_again(amqp, proxy, connect, address, how, in_flight):
    count, confirmed = 100, 40
    keeper = connect(address).channel()
    queue = new_name()
    keeper.queue_declare(queue, durable=True, auto_delete=False)
    for number in range(count):
        keeper.basic_publish(amqp.Message(str(number)), routing_key=queue)
    channel = connect(proxy.address).channel()
    received = []
    channel.basic_consume(queue, callback=received.append)
    drain(channel, lambda: len(received) == count)
    acknowledge(channel, received[:confirmed])
    passed = proxy.passed(UP)
    acknowledgement = len(method(1, 'basic.ack', 1, False))
    getattr(proxy, how)(UP, passed + int(acknowledgement * in_flight))
    with pytest.raises(amqp.ConnectionLost):
        acknowledge(channel, received[confirmed : confirmed + 40])
    poll(lambda: keeper.queue_declare(queue, passive=True)[2] == 0, 'the end of the consumer')
    again = get_messages(keeper, queue)
    numbers = [int(message.body) for message in again]
    assert numbers == list(range(numbers[0], count))
    assert confirmed <= numbers[0] <= confirmed + int(in_flight)
    assert all(message.redelivered for message in again)
    keeper.queue_delete(queue)


def acknowledge(channel, messages):
    for message in messages:
        channel.basic_ack(message.delivery_tag)
    channel.basic_qos(0, 0, False)  # its reply says that these have been dealt with


# --- Deliveries and publishes at once -----------------------------------------------------------


def test_callback_that_publishes_goes_on_while_deliveries_flood(amqp, proxy, connect):
    count, size = 200, 100_000
    proxy.limit_buffers(50_000)
    connection = connect(proxy.address)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.transport.sock.setsockopt(socket.SOL_SOCKET, option, 50_000)
    channel = connection.channel()
    source, target = (channel.queue_declare(exclusive=True, auto_delete=False)[0] for _ in '12')
    for number in range(count):
        body = b'%06d' % number + bytes(size)
        channel.basic_publish(amqp.Message(body), routing_key=source)
    passed_on = []

    def pass_on(message):
        channel.basic_publish(message, routing_key=target)
        passed_on.append(int(message.body[:6]))

    channel.basic_consume(source, callback=pass_on, no_ack=True)
    drain(channel, lambda: len(passed_on) == count)
    assert passed_on == list(range(count))
    arrived = [int(body[:6]) for body in get_all(channel, target)]
    assert arrived == passed_on


def test_close_does_not_wait_for_deliveries_that_nobody_took(amqp, proxy, connect):
    connection = connect(proxy.address)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True)[0]
    for _ in range(10_000):
        channel.basic_publish(amqp.Message(bytes(100)), routing_key=queue)
    record = proxy.record(DOWN)
    channel.basic_consume(queue, no_ack=True)
    poll(lambda: sum(len(data) for _, data in record) > 10_000, 'deliveries')
    with lasting(most=PATIENCE):
        connection.close()
