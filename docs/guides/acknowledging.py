"""What the tests do between the examples of acknowledging.rst; CONTRIBUTING.txt says how."""

# %% Acknowledging: after

done = []


def work(body):
    if body == 'bad':
        raise ValueError
    if body == 'busy' and 'busy' not in done:
        done.append('busy')
        raise OSError
    done.append(body)


ch.queue_declare('work-example', exclusive=True)
ch.basic_consume('work-example', callback=callback)
for body in ('good', 'bad', 'busy'):
    ch.basic_publish(amqp.Message(body), routing_key='work-example')
for _ in range(4):
    ch.wait(timeout=10)
assert done == ['good', 'busy', 'busy'], done

# %% Negative acknowledgements: after

assert ch.basic_get('work').body == 'three'
assert ch.basic_get('work') is None
ch.queue_delete('work')

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
