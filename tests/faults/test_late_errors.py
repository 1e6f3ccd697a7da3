"""How soon a program that only publishes learns that the broker has closed its channel."""

import select
import time

import pytest

from tests.helpers.checks import check_repeated
from tests.helpers.fault_proxy import DOWN
from tests.helpers.queues import new_name, publish_until_refused
from tests.helpers.waiting import PATIENCE, lasting, poll
from tests.helpers.wire import methods_in, version_of

#: Seconds, in the best of some tries: a busy machine may hold one of them up. That it is so in
#: every case is tested with a clock that the test sets, in scripted/test_closing.py.
LEARNS_WITHIN = 0.1
TRIES = 5
#: Seconds for each try.
AT_MOST = 1.0


def missing_exchange(amqp, channel):
    """Make the broker close the channel, some time after this returns."""
    channel.basic_publish(amqp.Message('x'), exchange=new_name())


def immediate(amqp, channel):
    """Make the broker close the connection, some time after this returns."""
    channel.basic_publish(amqp.Message('x'), routing_key='amqplib-test-nowhere', immediate=True)


#: What is closed -> what closes it, and the name of the error.
CLOSES = {
    'channel': (missing_exchange, 'NotFound'),
    'connection': (immediate, 'NotSupported'),
}


def closed_at(amqp, record, closed):
    """Return the moment at which the close passed the proxy."""
    data = b''
    for moment, part in record:
        data += part
        if any(found.name == f'{closed}.close' for found in methods_in(data, version_of(amqp))):
            return moment
    raise AssertionError(f'no close in {data}')


def publish_until_closed(amqp, channel, pause):
    """Publish until that raises; return the moments of those that did not, and of the error."""
    moments = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        moments.append(time.monotonic())
        try:
            channel.basic_publish(amqp.Message(b'x'), routing_key='amqplib-test-nowhere')
        except amqp.AMQPException as error:
            return moments[:-1], time.monotonic(), error
        time.sleep(pause)
    return pytest.fail(f'published for {PATIENCE} s')


@pytest.mark.parametrize('pause', [0, 0.001, 0.02])
@pytest.mark.parametrize('closed', CLOSES)
def test_publisher_learns_of_a_close_soon_after_its_arrival(
    amqp, proxy, connect, closed, pause, record_property
):
    seconds = []
    while len(seconds) < TRIES and min(seconds, default=AT_MOST) >= LEARNS_WITHIN:
        seconds.append(seconds_until_known(amqp, proxy, connect(proxy.address), closed, pause))
    record_property('seconds until it knew', seconds)
    assert max(seconds) < AT_MOST
    assert min(seconds) < LEARNS_WITHIN


def seconds_until_known(amqp, proxy, connection, closed, pause):
    """Return how long after a close a program that only publishes learns of it."""
    close, name = CLOSES[closed]
    channel = connection.channel()
    record = proxy.record(DOWN)
    close(amqp, channel)
    published, learned, error = publish_until_closed(amqp, channel, pause)
    assert type(error) is getattr(amqp, name)
    arrived = closed_at(amqp, record, closed)
    in_vain = sum(moment > arrived for moment in published)
    print(f'{closed}: after {learned - arrived:.4f} s and {in_vain} publishes')
    # From then on each publish says so, and if it is the channel, other channels go on.
    for _ in range(100):
        check_repeated(error, lambda: channel.basic_publish(amqp.Message(b'x')))
    if closed == 'channel':
        assert connection.channel().queue_declare(exclusive=True)
    else:
        check_repeated(error, connection.channel)
    return learned - arrived


@pytest.mark.parametrize('closed', CLOSES)
def test_first_publish_after_a_pause_says_that_it_is_closed(amqp, proxy, connect, closed):
    """A program that publishes now and then loses no message to a close that has arrived."""
    close, name = CLOSES[closed]
    connection = connect(proxy.address)
    channel = connection.channel()
    close(amqp, channel)
    arrived, _, _ = select.select([connection.transport.sock], [], [], PATIENCE)
    assert arrived
    time.sleep(0.1)
    with pytest.raises(getattr(amqp, name)):
        channel.basic_publish(amqp.Message(b'x'), routing_key='amqplib-test-nowhere')


def test_publisher_on_another_channel_is_not_disturbed_by_a_close(amqp, proxy, connect):
    connection = connect(proxy.address)
    failing, publishing = connection.channel(), connection.channel()
    queue = publishing.queue_declare(exclusive=True)[0]
    missing_exchange(amqp, failing)
    for number in range(100):
        publishing.basic_publish(amqp.Message(str(number)), routing_key=queue)
        time.sleep(0.001)
    poll(lambda: publishing.queue_declare(queue, passive=True)[1] == 100, 'all in the queue')
    with pytest.raises(amqp.NotFound):
        failing.basic_publish(amqp.Message(b'x'), routing_key=queue)


def test_close_of_a_large_publish_in_progress_is_raised_by_it(amqp, proxy, connect):
    """The broker says why before it hangs up, and drops what it still receives."""
    connection = connect(proxy.address)
    channel = connection.channel()
    immediate(amqp, channel)
    with lasting(most=PATIENCE):
        _, error = publish_until_refused(amqp, channel, 'amqplib-test-nowhere', 1 << 20)
    assert error.amqp_reply_code == 540
