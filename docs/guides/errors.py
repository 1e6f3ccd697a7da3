"""What the tests do between the examples of errors.rst; CONTRIBUTING.txt says how."""

# %% The connection is closed: before

from amqplib.core import reconnecting

uniform = reconnecting.uniform
reconnecting.uniform = lambda low, high: 0  # no pauses
seen = []


def work(body):
    seen.append(body)
    if len(seen) == 1:
        raise amqp.ConnectionLost(0, 'cut')


ch.queue_declare('tasks', durable=True, auto_delete=False)
for body in ('first', 'quit'):
    ch.basic_publish(amqp.Message(body), routing_key='tasks')

# %% The connection is closed: after

reconnecting.uniform = uniform
assert seen == ['first', 'first', 'quit'], seen
ch.queue_delete('tasks')

# %% Several hosts, and reconnecting: before

from amqplib.core import reconnecting

uniform = reconnecting.uniform
reconnecting.uniform = lambda low, high: 0
seen = []


def work(body):
    seen.append(body)
    if len(seen) == 1:
        raise amqp.NotFound(404, 'the node of the queue is down')
    if len(seen) == 2:
        raise amqp.ConsumerCancelled(0, 'the queue was deleted')
    stopping.set()


ch.queue_declare('tasks', durable=True, auto_delete=False)
for body in ('first', 'second'):
    ch.basic_publish(amqp.Message(body), routing_key='tasks')

# %% Several hosts, and reconnecting: after

reconnecting.uniform = uniform
assert seen == ['first'] * 3, seen
assert ch.queue_declare('tasks', passive=True)[1] == 1
ch.queue_delete('tasks')
