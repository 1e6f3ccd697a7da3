"""What the tests do between the examples of client_0_9_1.rst; CONTRIBUTING.txt says how."""

# %% A window: after

assert ch.queue_purge('events') == 5000
ch.queue_delete('events')

# %% A callback for each confirm: after

to_send.extend([5, 'after'])
try:
    publish_all()
except TypeError:
    assert list(to_send) == [5, 'after'], to_send
else:
    raise AssertionError('a body cannot be a number')
to_send.popleft()
conn.transport.shutdown()
try:
    publish_all()
except amqp.ConnectionLost:
    assert list(to_send) == ['after'], to_send
else:
    raise AssertionError('the connection is lost')
with amqp.Connection() as other:
    other.channel().queue_delete('events')

# %% Negative acknowledgements: after

assert ch.basic_get('work').body == 'three'
assert ch.basic_get('work') is None
ch.queue_delete('work')

# %% Streams: after

from datetime import datetime

seen = []
for offset in ('last', 'next', 1, datetime(2020, 1, 1)):
    ch.basic_consume('history', callback=seen.append, arguments={'x-stream-offset': offset})
ch.queue_delete('history')
