"""What the tests do between the examples of recipes.rst; CONTRIBUTING.txt says how."""

# %% Stopping on a signal: before

import os
import time
from threading import Timer

done = []


def send_signal():
    os.kill(os.getpid(), signal.SIGTERM)


def work(body):
    if body == 'second':
        send_signal()
    done.append(body)


ch.queue_declare('tasks', durable=True, auto_delete=False)
for body in ('first', 'second', 'third', 'fourth'):
    ch.basic_publish(amqp.Message(body), routing_key='tasks')
ch.close()
ch = conn.channel()

# %% Stopping on a signal: after

assert done == ['first', 'second'], done
for body in ('third', 'fourth'):
    deadline = time.monotonic() + 10
    while (msg := ch.basic_get('tasks', no_ack=True)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert msg.body == body
assert ch.basic_get('tasks', no_ack=True) is None

# Without any message.
stopping.clear()
began = time.monotonic()
timer = Timer(0.3, send_signal)
timer.start()
try:
    work_until_stopped()
    assert 0.3 <= time.monotonic() - began < 10
finally:
    timer.cancel()
    timer.join()


# An error of the work comes through.
def work(body):
    raise amqp.AMQPTimeout(0, 'no reply to a call of work')


stopping.clear()
ch.basic_publish(amqp.Message('last'), routing_key='tasks')
timer = Timer(10, send_signal)
timer.start()
try:
    work_until_stopped()
except amqp.AMQPTimeout as error:
    assert 'of work' in str(error)
else:
    raise AssertionError('it was swallowed')
finally:
    timer.cancel()
    timer.join()
ch.queue_delete('tasks')

# %% Several hosts, and reconnecting: before

import socket

seen = []


def callback(msg):
    seen.append(msg.body)
    if len(seen) == 1:
        msg.channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)
        return
    if msg.body == 'first':
        ch.queue_delete('tasks')
        ch.queue_declare('tasks', durable=True, auto_delete=False)
        ch.basic_publish(amqp.Message('quit'), routing_key='tasks')
        return
    msg.channel.basic_ack(msg.delivery_tag)
    if msg.body == 'quit':
        msg.channel.basic_cancel(msg.consumer_tag)


ch.queue_declare('tasks', durable=True, auto_delete=False)
ch.basic_publish(amqp.Message('first'), routing_key='tasks')

# %% Several hosts, and reconnecting: after

assert seen == ['first', 'first', 'quit'], seen
ch.queue_delete('tasks')


# How the pause grows, and when it does not.
class Clock:
    def __init__(self):
        self.now = 0
        self.pauses = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        if len(self.pauses) == 10:
            raise KeyboardInterrupt


def receive_until_quit():
    time.now += 100 if len(time.pauses) == 7 else 10
    connect()


HOSTS = HOSTS[:1]
time = Clock()
try:
    keep_receiving()
except KeyboardInterrupt:
    pass
assert time.pauses == [1, 2, 4, 8, 16, 30, 30, 1, 2, 4], time.pauses

# A broker that hung up during the login is tried again, one that refused it is not.
for cause, tries in ((amqp.ConnectionLost(0, 'hung up'), 10), (None, 1)):
    came = []

    def receive_until_quit():
        came.append(1)
        raise amqp.LoginRefused(403, 'wrong password') from cause

    time = Clock()
    try:
        keep_receiving()
    except (KeyboardInterrupt, amqp.LoginRefused):
        assert len(came) == tries, came

# Without any host.
HOSTS = []
try:
    connect()
except ValueError as error:
    assert str(error) == 'HOSTS is empty'
else:
    raise AssertionError('connected to no host')

# %% Request and reply: after 2

import contextlib
from threading import Thread


def serve_until_deleted(own):
    with contextlib.suppress(amqp.ConsumerCancelled):
        serve(own)


ch.queue_declare('shouting', durable=True, auto_delete=False)
server = Thread(target=serve_until_deleted, args=(conn.channel(),))
server.start()

# %% Request and reply: after 3

# A late reply to another request, and one without an id.
for late in (amqp.Message('late', correlation_id='another'), amqp.Message('anonymous')):
    ch.basic_publish(late, routing_key=caller.queue)
# Requests without an id, and without anybody to reply to.
ch.basic_publish(amqp.Message('x', reply_to=caller.queue), routing_key='shouting')
ch.basic_publish(amqp.Message('x'), routing_key='shouting')
for text in ('again', 'and again'):
    assert caller.ask(text, timeout=10) == text.upper()
ch.queue_delete('shouting')
server.join()

ch.queue_declare('shouting', durable=True, auto_delete=False)

# %% Request and reply: after

deadline = time.monotonic() + 10
while ch.queue_declare('shouting', passive=True)[1]:
    assert time.monotonic() < deadline
    time.sleep(0.05)
ch.queue_delete('shouting')

# A queue that does not exist.
ch.basic_publish(amqp.Message('x'), routing_key='shouting', mandatory=True)
ch.queue_declare('x', exclusive=True)  # has a reply, so the message is back
assert ch.returned_messages.get_nowait()[1] == 'NO_ROUTE'

# %% Dead letters: after 4

import time

ch.basic_cancel(tag)
ch.basic_publish(amqp.Message('x', expiration='1'), routing_key='orders')
kept = []
tag = ch.basic_consume('failed', callback=kept.append, no_ack=True)
ch.wait(timeout=10)
(death,) = kept[0].application_headers['x-death']
assert sorted(death) == [
    'count',
    'exchange',
    'original-expiration',
    'queue',
    'reason',
    'routing-keys',
    'time',
], death
assert (death['count'], death['exchange'], death['routing-keys']) == (1, '', ['orders']), death
assert death['original-expiration'] == '1'
assert 'expiration' not in kept[0].properties
assert kept[0].routing_key == 'orders'

# The latest first.
ch.queue_declare(
    'before',
    durable=True,
    auto_delete=False,
    arguments={
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': 'orders',
        'x-message-ttl': 1,
    },
)
ch.basic_consume('orders', callback=lambda m: ch.basic_reject(m.delivery_tag, requeue=False))
ch.basic_publish(amqp.Message('x'), routing_key='before')
ch.wait(timeout=10)
ch.wait(timeout=10)
deaths = kept[1].application_headers['x-death']
assert [death['queue'] for death in deaths] == ['orders', 'before'], deaths
ch.queue_delete('before')

# No room.
ch.queue_declare(
    'small',
    durable=True,
    auto_delete=False,
    arguments={
        'x-dead-letter-exchange': 'failed',
        'x-max-length': 1,
    },
)
for body in ('one', 'two'):
    ch.basic_publish(amqp.Message(body), routing_key='small')
ch.wait(timeout=10)
assert kept[2].body == 'one'
assert kept[2].application_headers['x-death'][0]['reason'] == 'maxlen'
ch.queue_delete('small')

# An exchange that is not there.
ch.queue_declare(
    'lost',
    durable=True,
    auto_delete=False,
    arguments={
        'x-dead-letter-exchange': 'nowhere',
    },
)
ch.basic_publish(amqp.Message('x'), routing_key='lost')
ch.basic_reject(ch.basic_get('lost').delivery_tag, requeue=False)
assert ch.queue_delete('lost') == 0
assert ch.is_open

# What expires behind another one.
ch.queue_declare('row', durable=True, auto_delete=False)
ch.basic_publish(amqp.Message('stays'), routing_key='row')
ch.basic_publish(amqp.Message('expires', expiration='1'), routing_key='row')
time.sleep(0.3)
assert ch.queue_delete('row') == 2

# A key of the queue's own.
ch.queue_declare(
    'own',
    durable=True,
    auto_delete=False,
    arguments={
        'x-dead-letter-exchange': 'failed',
        'x-dead-letter-routing-key': 'chosen',
        'x-message-ttl': 1,
    },
)
ch.basic_publish(amqp.Message('y'), routing_key='own')
ch.wait(timeout=10)
assert kept[3].routing_key == 'chosen'
ch.queue_delete('own')

# A quorum queue that waits until they have arrived.
ch.queue_declare(
    'careful',
    durable=True,
    auto_delete=False,
    arguments={
        'x-queue-type': 'quorum',
        'x-overflow': 'reject-publish',
        'x-dead-letter-exchange': 'failed',
        'x-dead-letter-strategy': 'at-least-once',
    },
)
ch.basic_publish(amqp.Message('z', expiration='1'), routing_key='careful')
ch.wait(timeout=10)
assert kept[4].body == 'z'
ch.queue_delete('careful')

# %% Dead letters: after

ch = conn.channel()
ch.queue_delete('orders')
ch.queue_delete('failed')
ch.exchange_delete('failed')

# %% Whether a queue exists: after

assert len(conn.channels) == 2, conn.channels  # that of the connection, and ch
with amqp.Connection() as other:
    queue, _, _ = other.channel().queue_declare(exclusive=True)
    assert queue_exists(conn, queue)
ch.queue_delete('here')
ch.queue_declare('stays', durable=True, auto_delete=False)
assert queue_exists(conn, 'stays')
ch.queue_delete('stays')

# %% Retrying a few times: before

tries = []


def work(body):
    tries.append(body)
    if body == 'hopeless' or body == 'late' and tries.count(body) == 1:
        raise OSError('not now')


# %% Retrying a few times: after

for body in ('hopeless', 'late', 'good'):
    ch.basic_publish(amqp.Message(body, delivery_mode=2), routing_key='jobs')
for _ in range(4 + 2 + 1):
    ch.wait(timeout=10)
assert [tries.count(body) for body in ('hopeless', 'late', 'good')] == [4, 2, 1], tries
ch.tx_select()  # has a reply, so all is done
msg = ch.basic_get('jobs-failed', no_ack=True)
assert msg.body == 'hopeless' and msg.delivery_mode == 2
assert times_rejected(msg) == 3
death = {**msg.application_headers['x-death'][0], 'queue': 'another', 'reason': 'rejected'}
assert times_rejected(amqp.Message('x', application_headers={'x-death': [death]})) == 0
assert ch.basic_get('jobs-failed') is None
for queue in ('jobs', 'jobs-later', 'jobs-failed'):
    assert ch.queue_delete(queue) == 0

ch = conn.channel()
ch.queue_declare(
    'counted',
    durable=True,
    auto_delete=False,
    arguments={
        'x-queue-type': 'quorum',
        'x-delivery-limit': 2,
        'x-dead-letter-exchange': 'amq.fanout',
    },
)
queue, _, _ = ch.queue_declare(exclusive=True)
ch.queue_bind(queue, 'amq.fanout')
dead, came = [], []
ch.basic_consume(queue, callback=dead.append, no_ack=True)
ch.basic_publish(amqp.Message('deadly'), routing_key='counted')
for _ in range(3):
    with conn.channel() as lost:
        lost.basic_consume('counted', callback=came.append)
        lost.wait(timeout=10)
ch.wait(timeout=10)
assert [msg.body for msg in came + dead] == ['deadly'] * 4
assert dead[0].application_headers['x-death'][0]['reason'] == 'delivery_limit'
ch.queue_delete('counted')

# %% Publishing until it is confirmed: after

import socket

plain_batch = publish_batch
lost = []


def publish_batch(ch, queue, messages):
    if not lost and messages[0].body == '4':
        # All is sent, and the connection is lost before it is confirmed.
        lost.extend(messages)
        for msg in messages:
            ch.basic_publish(msg, routing_key=queue)
        ch.connection.transport.sock.shutdown(socket.SHUT_RDWR)
    return plain_batch(ch, queue, messages)


def received(queue):
    return list(iter(lambda: own.basic_get(queue, no_ack=True), None))


with amqp.Connection() as another:
    own = another.channel()
    BATCH = 4
    publish_all('orders', [str(number) for number in range(10)])
    messages = received('orders')
    assert {msg.body for msg in messages} == {str(number) for number in range(10)}
    assert len({msg.message_id for msg in messages}) == 10
    assert {msg.delivery_mode for msg in messages} == {2}
    assert [msg.body for msg in lost] == ['4', '5', '6', '7']
    for body in '012389':
        assert [msg.body for msg in messages].count(body) == 1
    own.queue_delete('orders')

    # What is refused is published again.
    limits = {'x-max-length': 2, 'x-overflow': 'reject-publish'}
    own.queue_declare('small', durable=True, auto_delete=False, arguments=limits)
    own.confirm_select()
    refused = plain_batch(own, 'small', [amqp.Message(body) for body in 'abcd'])
    assert [msg.body for msg in refused] == ['c', 'd']
    own.queue_delete('small')

    own.queue_declare('small', durable=True, auto_delete=False)
    held = ['b', 'a']

    def publish_batch(ch, queue, messages):
        refused = plain_batch(ch, queue, [m for m in messages if m.body not in held])
        assert refused == []
        return [msg for msg in messages if msg.body in held and held.remove(msg.body) is None]

    publish_all('small', 'abcdef')
    assert [msg.body for msg in received('small')] == ['c', 'd', 'a', 'b', 'e', 'f']
    own.queue_delete('small')


# A broker that takes no messages is waited for, and nothing is published again.
class Stub:
    blocked = 'low on memory'
    published = waits = 0

    def basic_publish(self, msg, routing_key):
        self.published += 1
        return self.published

    def wait_for_confirms(self, timeout):
        self.waits += 1
        if self.waits < 3 or self.blocked is None:
            raise amqp.AMQPTimeout(0, 'not confirmed in time')
        raise amqp.MessageNacked(0, 'refused', sequence_numbers=(2,))


stub = Stub()
stub.connection = stub
assert plain_batch(stub, 'orders', 'abc') == ['b']
assert (stub.published, stub.waits) == (3, 3)
stub.blocked = None
try:
    plain_batch(stub, 'orders', 'abc')
except amqp.AMQPTimeout:
    assert stub.waits == 4
else:
    raise AssertionError('it waits for ever')
