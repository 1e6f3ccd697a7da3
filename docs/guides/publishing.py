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

# %% Publishing until it is confirmed: after

import socket

plain_batch = publish_batch
lost = []


def publish_batch(ch, queue, messages):
    if not lost and messages[0].body == '4':
        # All is sent, and the connection is lost before it is confirmed.
        lost.extend(messages)
        for msg in messages:
            ch.basic_publish(msg, routing_key=queue)
        ch.connection.transport.sock.shutdown(socket.SHUT_RDWR)
    return plain_batch(ch, queue, messages)


def received(queue):
    return list(iter(lambda: own.basic_get(queue, no_ack=True), None))


with amqp.Connection() as another:
    own = another.channel()
    BATCH = 4
    publish_all('orders', [str(number) for number in range(10)])
    messages = received('orders')
    assert {msg.body for msg in messages} == {str(number) for number in range(10)}
    assert len({msg.message_id for msg in messages}) == 10
    assert {msg.delivery_mode for msg in messages} == {2}
    assert [msg.body for msg in lost] == ['4', '5', '6', '7']
    for body in '012389':
        assert [msg.body for msg in messages].count(body) == 1
    own.queue_delete('orders')

    # What is refused is published again.
    limits = {'x-max-length': 2, 'x-overflow': 'reject-publish'}
    own.queue_declare('small', durable=True, auto_delete=False, arguments=limits)
    own.confirm_select()
    refused = plain_batch(own, 'small', [amqp.Message(body) for body in 'abcd'])
    assert [msg.body for msg in refused] == ['c', 'd']
    own.queue_delete('small')

    own.queue_declare('small', durable=True, auto_delete=False)
    held = ['b', 'a']

    def publish_batch(ch, queue, messages):
        refused = plain_batch(ch, queue, [m for m in messages if m.body not in held])
        assert refused == []
        return [msg for msg in messages if msg.body in held and held.remove(msg.body) is None]

    publish_all('small', 'abcdef')
    assert [msg.body for msg in received('small')] == ['c', 'd', 'a', 'b', 'e', 'f']
    own.queue_delete('small')


# A broker that takes no messages is waited for, and nothing is published again.
class Stub:
    blocked = 'low on memory'
    published = waits = 0

    def basic_publish(self, msg, routing_key):
        self.published += 1
        return self.published

    def wait_for_confirms(self, timeout):
        self.waits += 1
        if self.waits < 3 or self.blocked is None:
            raise amqp.AMQPTimeout(0, 'not confirmed in time')
        raise amqp.MessageNacked(0, 'refused', sequence_numbers=(2,))


stub = Stub()
stub.connection = stub
assert plain_batch(stub, 'orders', 'abc') == ['b']
assert (stub.published, stub.waits) == (3, 3)
stub.blocked = None
try:
    plain_batch(stub, 'orders', 'abc')
except amqp.AMQPTimeout:
    assert stub.waits == 4
else:
    raise AssertionError('it waits for ever')
