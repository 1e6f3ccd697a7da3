"""What the tests do between the examples of production.rst; CONTRIBUTING.txt says how."""

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

# %% Logging: after

shown = []
frames = logging.getLogger('amqplib.frames')
frames.addFilter(lambda record: shown.append(record.getMessage()))
with amqp.Connection() as conn, conn.channel() as ch:
    assert ch.basic_get(ch.queue_declare(exclusive=True)[0]) is None
frames.filters.clear()
for name in ('amqplib', 'amqplib.frames'):
    logging.getLogger(name).setLevel(logging.NOTSET)
assert 'connected to localhost:' in shown[0]
assert any('-> channel 1: basic.get(ticket=0, queue=' in line for line in shown)
