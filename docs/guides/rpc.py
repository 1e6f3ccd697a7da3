"""What the tests do between the examples of rpc.rst; CONTRIBUTING.txt says how."""

# %% A server and a caller: after 2

import contextlib
from threading import Thread


def serve_until_deleted(own):
    with contextlib.suppress(amqp.ConsumerCancelled):
        serve(own)


ch.queue_declare('shouting', durable=True, auto_delete=False)
server = Thread(target=serve_until_deleted, args=(conn.channel(),))
server.start()

# %% A server and a caller: after 3

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

# %% A server and a caller: after

deadline = time.monotonic() + 10
while ch.queue_declare('shouting', passive=True)[1]:
    assert time.monotonic() < deadline
    time.sleep(0.05)
ch.queue_delete('shouting')

# A queue that does not exist.
ch.basic_publish(amqp.Message('x'), routing_key='shouting', mandatory=True)
ch.queue_declare('x', exclusive=True)  # has a reply, so the message is back
assert ch.returned_messages.get_nowait()[1] == 'NO_ROUTE'

# %% Direct reply-to: after 1

from threading import Thread


def serve():
    with conn.channel() as own:
        msg = own.consume('shouting', timeout=10).get(timeout=10)
        own.basic_publish(amqp.Message(msg.body.upper()), routing_key=msg.reply_to)
        msg.ack()


ch.queue_declare('shouting', durable=True, auto_delete=False)
server = Thread(target=serve)
server.start()

# %% Direct reply-to: after

server.join()
ch.queue_delete('shouting')
