"""What the tests do between the examples of queues.rst; CONTRIBUTING.txt says how."""

# %% Whether a queue exists: after

assert len(conn.channels) == 2, conn.channels  # that of the connection, and ch
with amqp.Connection() as other:
    queue, _, _ = other.channel().queue_declare(exclusive=True)
    assert queue_exists(conn, queue)
ch.queue_delete('here')
ch.queue_declare('stays', durable=True, auto_delete=False)
assert queue_exists(conn, 'stays')
ch.queue_delete('stays')

# %% Streams: after

from datetime import datetime

seen = []
for offset in ('last', 'next', 1, datetime(2020, 1, 1)):
    ch.basic_consume('history', callback=seen.append, arguments={'x-stream-offset': offset})
ch.queue_delete('history')
