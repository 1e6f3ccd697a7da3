"""What the tests do between the examples of overview.rst; CONTRIBUTING.txt says how."""

# %% Iterating over messages: before

done = []
work = done.append
ch.queue_declare('tasks', durable=True, auto_delete=False)
for body in ('first', 'second'):
    ch.basic_publish(amqp.Message(body), routing_key='tasks')

# %% Iterating over messages: after

assert done == ['first', 'second'], done
assert ch.basic_get('tasks') is None

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

# %% The connection is closed: before

import socket

seen = []


def callback(msg):
    seen.append(msg.body)
    if len(seen) == 1:
        msg.channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)
        return
    msg.channel.basic_ack(msg.delivery_tag)
    if msg.body == 'quit':
        msg.channel.basic_cancel(msg.consumer_tag)


ch.queue_declare('tasks', durable=True, auto_delete=False)
for body in ('first', 'quit'):
    ch.basic_publish(amqp.Message(body), routing_key='tasks')

# %% The connection is closed: after

assert seen.count('first') == 2 and seen[-1] == 'quit', seen
ch.queue_delete('tasks')

# %% Logging: after

logging.getLogger('amqplib').setLevel(logging.NOTSET)
