"""What the tests do between the examples of consuming.rst; CONTRIBUTING.txt says how."""

# %% Iterating over messages: before

done = []
work = done.append
ch.queue_declare('tasks', durable=True, auto_delete=False)
for body in ('first', 'second'):
    ch.basic_publish(amqp.Message(body), routing_key='tasks')

# %% Iterating over messages: after

assert done == ['first', 'second'], done
assert ch.basic_get('tasks') is None
