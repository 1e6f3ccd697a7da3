"""What the tests do between the examples of errors.rst; CONTRIBUTING.txt says how."""

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
