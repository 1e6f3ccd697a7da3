"""What the tests do between the examples of publishing.rst; CONTRIBUTING.txt says how."""

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

# %% A Publisher: after

assert ch.queue_purge('orders') == 1001
