"""What a broker does, tested on RabbitMQ and on the broker in the process by the same assertions.

The tests in ``tests/live`` are such tests too, where AMQPLIB_BROKER=process. These ones are about
the broker more than about the client.
"""

import contextlib
import time

import pytest

import amqplib.client_0_9_1 as amqp
from amqplib.testing import Broker
from tests.helpers.checks import leave_out_before
from tests.helpers.queues import await_ready, drain, get, get_bodies, new_name, ready_count
from tests.helpers.waiting import poll

KEPT = {'durable': True, 'auto_delete': False}


@pytest.fixture(params=['process', 'rabbitmq'])
def host(request):
    """The host and port of a broker."""
    if request.param == 'rabbitmq':
        yield request.getfixturevalue('broker').address
        return
    with Broker() as broker:
        yield broker.host


@pytest.fixture
def connect(host):
    """A function (**arguments) that connects to the broker."""
    with contextlib.ExitStack() as stack:

        def open_connection(**arguments):
            connection = amqp.Connection(host, **arguments)
            stack.callback(close, connection)
            return connection

        yield open_connection


def close(connection):
    if connection.is_open:
        connection.close()


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def channel(connection):
    """A channel whose messages are confirmed."""
    channel = connection.channel()
    channel.confirm_select()
    return channel


@pytest.fixture
def declare(channel):
    """A function (**arguments of the queue) that declares a queue; returns its name."""

    def declare_queue(**arguments):
        arguments = {f'x-{name.replace("_", "-")}': value for name, value in arguments.items()}
        return channel.queue_declare(exclusive=True, auto_delete=False, arguments=arguments)[0]

    return declare_queue


@pytest.fixture
def new_exchange(connect):
    """A function (type, **arguments) that declares an exchange; returns its name."""
    keeper = connect().channel()
    names = []

    def declare_exchange(kind, **arguments):
        names.append(new_name())
        keeper.exchange_declare(names[-1], kind, **{**KEPT, **arguments})
        return names[-1]

    yield declare_exchange
    for name in names:
        keeper.exchange_delete(name)


@pytest.fixture
def graveyard(declare):
    """The name of a queue for dead letters."""
    return declare()


@pytest.fixture
def declare_mortal(declare, graveyard):
    """A function as `declare`; the dead letters of the queue go to the graveyard."""
    return lambda **arguments: declare(
        dead_letter_exchange='', dead_letter_routing_key=graveyard, **arguments
    )


def publish(channel, queue, *bodies, exchange='', **properties):
    for body in bodies:
        channel.basic_publish(amqp.Message(body, **properties), exchange, queue)


# Refusals


def refused(connection, name, *args, **kwargs):
    """Call a method of a new channel, which the broker refuses; return code and text."""
    channel = connection.channel()
    with pytest.raises(amqp.AMQPException) as raised:  # noqa: PT012
        getattr(channel, name)(*args, **kwargs)
        channel.queue_declare(exclusive=True)
    return raised.value.amqp_reply_code, raised.value.amqp_reply_text


#: What RabbitMQ has said in other words before 3.10, or has not refused.
SINCE_3_10 = [
    ({'x-max-length': 'a'}, '"expected integer, got longstr"'),
    ({'x-max-length-bytes': None}, '"expected integer, got void"'),
    ({'x-message-ttl': 1.5}, '"expected integer, got double"'),
    ({'x-message-ttl': True}, '"expected integer, got bool"'),
    ({'x-message-ttl': 1 << 40}, '{value_too_large,1099511627776}'),
    ({'x-queue-type': 'none'}, '"unsupported queue type \'none\'"'),
]


@pytest.mark.parametrize(
    ('arguments', 'end'),
    [
        *SINCE_3_10,
        ({'x-max-length': -1}, '{value_negative,-1}'),
        ({'x-expires': 0}, '{value_zero,0}'),
        ({'x-max-priority': 256}, '{max_value_exceeded,256}'),
        ({'x-overflow': 'never'}, 'invalid_overflow'),
        ({'x-overflow': 5}, '{unacceptable_type,signedint}'),
        ({'x-single-active-consumer': 5}, '{unacceptable_type,signedint}'),
        ({'x-dead-letter-routing-key': 'a'}, 'routing_key_but_no_dlx_defined'),
    ],
    ids=str,
)
def test_wrong_arguments_of_a_queue_are_refused(connection, arguments, end):
    if (arguments, end) in SINCE_3_10:
        leave_out_before(connection, '3.10', 'this text')
    name, (argument,) = new_name(), arguments
    assert refused(connection, 'queue_declare', name, exclusive=True, arguments=arguments) == (
        406,
        f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/': {end}",
    )


@pytest.mark.parametrize(
    ('changes', 'end'),
    [
        ({'durable': False}, "'durable' {}: received 'false' but current is 'true'"),
        ({'auto_delete': True}, "'auto_delete' {}: received 'true' but current is 'false'"),
        ({'x-max-length': 6}, "'x-max-length' {}: received '6' but current is '5'"),
        ({'x-max-length': '5'}, "'x-max-length' {}: received '5' but current is '5'"),
        (
            {'x-expires': 50_000},
            "'x-expires' {}: received the value '50000' of type 'signedint' but current is none",
        ),
    ],
    ids=str,
)
def test_a_queue_cannot_be_declared_otherwise(connection, channel, changes, end):
    name = new_name()
    channel.queue_declare(name, exclusive=False, arguments={'x-max-length': 5}, **KEPT)
    flags = {key: value for key, value in changes.items() if not key.startswith('x-')}
    arguments = {'x-max-length': 5, **{key: changes[key] for key in changes.keys() - flags}}
    code, text = refused(
        connection, 'queue_declare', name, arguments=arguments, **{**KEPT, **flags}
    )
    channel.queue_delete(name)
    end = end.format(f"for queue '{name}' in vhost '/'")
    assert (code, text) == (406, f'PRECONDITION_FAILED - inequivalent arg {end}')


def test_what_does_not_count_may_differ(channel):
    name = new_name()
    channel.queue_declare(name, exclusive=True, arguments={'x-max-length': 5, 'own': 1})
    same = {'x-max-length': 5, 'own': 2, 'x-queue-type': 'classic'}
    assert channel.queue_declare(name, exclusive=True, arguments=same)[0] == name


@pytest.mark.parametrize(
    ('name', 'args', 'answer'),
    [
        ('exchange_declare', ('amq.own', 'direct'), (403, "exchange name 'amq.own' contains")),
        ('exchange_declare', ('', 'direct'), (403, 'operation not permitted on the default ex')),
        ('exchange_declare', ('amq.direct', 'fanout'), (406, "inequivalent arg 'type' for exch")),
        ('exchange_delete', ('',), (403, 'operation not permitted on the default exchange')),
        ('exchange_delete', ('amq.topic',), (403, "deletion of system exchange 'amq.topic' in v")),
        ('exchange_bind', ('amq.direct', ''), (403, 'operation not permitted on the default exc')),
        ('exchange_bind', ('amq.direct', 'none'), (404, "no exchange 'none' in vhost '/'")),
        ('queue_declare', ('amq.own',), (403, "queue name 'amq.own' contains reserved prefix 'am")),
        ('queue_declare', ('none', True), (404, "no queue 'none' in vhost '/'")),
        ('queue_declare', ('amq.gen-none',), (403, "queue name 'amq.gen-none' contains reserved")),
        ('queue_purge', ('',), (404, 'no previously declared queue')),
        ('basic_get', ('none',), (404, "no queue 'none' in vhost '/'")),
        ('basic_ack', (5,), (406, 'unknown delivery tag 5')),
        ('basic_ack', (5, True), (406, 'unknown delivery tag 5')),
        ('basic_reject', (5, True), (406, 'unknown delivery tag 5')),
        ('basic_nack', (0,), (406, 'unknown delivery tag 0')),
        ('basic_qos', (5, 0, False), (540, 'prefetch_size!=0 (5)')),
        ('basic_consume', ('amq.rabbitmq.reply-to',), (406, 'reply consumer cannot acknowledge')),
        ('flow', (False,), (540, 'active=false')),
        ('tx_commit', (), (406, 'channel is not transactional')),
    ],
    ids=str,
)
def test_methods_that_are_refused(connection, name, args, answer):
    code, text = refused(connection, name, *args)
    assert code == answer[0]
    assert text.partition(' - ')[2].startswith(answer[1])


@pytest.mark.parametrize(
    ('properties', 'end'),
    [
        ({'expiration': 'soon'}, "invalid expiration 'soon': no_integer"),
        ({'expiration': '-1'}, "invalid expiration '-1': {value_negative,-1}"),
        ({'expiration': '5 '}, 'invalid expiration \'5 \': {leftover_string," "}'),
        (
            {'application_headers': {'CC': 'a'}},
            'invalid message: {unacceptable_type_in_header,"CC",longstr}',
        ),
        ({'user_id': 'me'}, "user_id property set to 'me' but authenticated user was 'guest'"),
        ({'reply_to': 'amq.rabbitmq.reply-to'}, 'fast reply consumer does not exist'),
    ],
    ids=str,
)
def test_messages_that_are_refused(connection, properties, end):
    message = amqp.Message('x', **properties)
    assert refused(connection, 'basic_publish', message) == (406, f'PRECONDITION_FAILED - {end}')


def test_an_internal_exchange_takes_no_messages_from_clients(connection, new_exchange):
    name = new_exchange('fanout', internal=True)
    text = f"ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'"
    assert refused(connection, 'basic_publish', amqp.Message(), name) == (403, text)


def test_an_exclusive_queue_belongs_to_its_connection(connect, declare):
    name, other = declare(), connect()
    for method, args in [
        ('queue_declare', (name, True)),
        ('queue_purge', (name,)),
        ('queue_delete', (name,)),
        ('queue_bind', (name, 'amq.direct')),
        ('basic_get', (name,)),
        ('basic_consume', (name,)),
    ]:
        code, text = refused(other, method, *args)
        assert code == 405
        assert f"exclusive access to locked queue '{name}' in vhost '/'. It could" in text


def test_tags_and_modes_exclude_each_other(connection, channel, declare):
    name = declare()
    channel.basic_consume(name, 'tag')
    code, text = refused(connection, 'basic_consume', name, exclusive=True)
    assert (code, text) == (403, f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use")
    confirming = connection.channel()
    confirming.confirm_select()
    with pytest.raises(amqp.PreconditionFailed, match='cannot switch from confirm to tx mode'):
        confirming.tx_select()
    with pytest.raises(amqp.NotAllowed, match="attempt to reuse consumer tag 'tag'"):
        channel.basic_consume(name, 'tag')


def test_more_channels_than_were_negotiated(connect):
    connection = connect(channel_max=2)
    connection.channel()
    connection.channel()
    connection.channel_max = 5
    with pytest.raises(amqp.NotAllowed, match=r'channels opened \(2\) has reached the neg'):
        connection.channel()


@pytest.mark.parametrize('name', ['queue_bind', 'exchange_bind'])
def test_of_two_missing_ends_of_a_binding_the_source_is_named(connection, name):
    code, text = refused(connection, name, 'no-destination', 'no-source', 'key')
    assert (code, "'no-source'" in text) == (404, True), text


def test_another_virtual_host_or_user(connect):
    with pytest.raises(amqp.NotAllowed, match='NOT_ALLOWED - vhost /none not found'):
        connect(virtual_host='/none')
    for mechanism in ('PLAIN', 'AMQPLAIN'):
        with pytest.raises(amqp.LoginRefused, match=f'using authentication mechanism {mechanism}'):
            connect(password='wrong', login_method=mechanism)


def test_ends_of_lines_are_no_part_of_names(channel):
    assert channel.queue_declare('amqplib-test-\r\nline', exclusive=True)[0] == 'amqplib-test-line'


# Routing


def taken(channel, queues):
    """Return the bodies in each queue, once nothing is on its way."""
    channel.wait_for_confirms(timeout=20)
    return {
        key: sorted(get_bodies(channel, name, ready_count(channel, name)))
        for key, name in queues.items()
    }


def test_patterns_of_topics(channel, declare, new_exchange):
    exchange = new_exchange('topic')
    expected = {
        '#': ['', 'a', 'a..b', 'a.b', 'a.b.c', 'a.x.b', 'b'],
        '*': ['a', 'b'],
        'a.*': ['a.b'],
        'a.#': ['a', 'a..b', 'a.b', 'a.b.c', 'a.x.b'],
        '#.b': ['a..b', 'a.b', 'a.x.b', 'b'],
        '*.b.*': ['a.b.c'],
        'a.#.b': ['a..b', 'a.b', 'a.x.b'],
        '': [''],
        '#.*': ['a', 'a..b', 'a.b', 'a.b.c', 'a.x.b', 'b'],
        'a..b': ['a..b'],
    }
    queues = {pattern: declare() for pattern in expected}
    for pattern, name in queues.items():
        channel.queue_bind(name, exchange, pattern)
    for key in expected['#']:
        publish(channel, key, key, exchange=exchange)
    assert taken(channel, queues) == expected


def test_bindings_by_headers(connection, channel, declare, new_exchange):
    leave_out_before(connection, '3.10', 'any-with-x and all-with-x')
    exchange = new_exchange('headers')
    bindings = [
        ({}, '012345678'),
        ({'x-match': 'any'}, ''),
        ({'a': 1, 'b': 2}, '2'),
        ({'x-match': 'any', 'a': 1, 'b': 2}, '1236'),
        ({'x-match': 'any', 'x-c': 1}, ''),
        ({'x-match': 'any-with-x', 'x-c': 1}, '4'),
        ({'x-match': 'all-with-x', 'x-c': 1, 'a': 1}, ''),
        ({'a': '1'}, '5'),
        ({'a': None}, '125678'),
        ({'a': True}, '7'),
        ({'a': [1, 'b']}, '8'),
    ]
    messages = [
        {}, {'a': 1}, {'a': 1, 'b': 2}, {'b': 2}, {'x-c': 1}, {'a': '1'}, {'a': 1, 'b': 3},
        {'a': True}, {'a': [1, 'b']},
    ]  # fmt: skip
    queues = {position: declare() for position in range(len(bindings))}
    for position, (arguments, _) in enumerate(bindings):
        channel.queue_bind(queues[position], exchange, arguments=arguments)
    for number, headers in enumerate(messages):
        publish(channel, '', str(number), exchange=exchange, application_headers=headers)
    assert taken(channel, queues) == {
        position: list(expected) for position, (_, expected) in enumerate(bindings)
    }


@pytest.mark.parametrize(
    ('how', 'text'),
    [('some', 'Invalid x-match field value <<"some">>'), (5, 'Invalid x-match fie')],
)
def test_an_unknown_way_to_match_headers_is_refused(connection, declare, how, text):
    code, said = refused(
        connection, 'queue_bind', declare(), 'amq.headers', arguments={'x-match': how}
    )
    assert code == 406
    assert text in said


def test_a_message_comes_once_to_a_queue_however_it_is_bound(channel, declare, new_exchange):
    first, second = new_exchange('fanout'), new_exchange('fanout')
    name = declare()
    channel.exchange_bind(second, first)
    channel.exchange_bind(first, second)  # in a circle
    for exchange in (first, second):
        channel.queue_bind(name, exchange)
        channel.queue_bind(name, exchange, arguments={'another': 1})
    publish(channel, '', 'x', exchange=first)
    assert taken(channel, {'': name}) == {'': ['x']}
    channel.queue_unbind(name, first)
    channel.queue_unbind(name, first, arguments={'another': 1})
    channel.exchange_unbind(second, first)
    publish(channel, '', 'y', exchange=first)
    assert taken(channel, {'': name}) == {'': []}


def test_what_is_bound_without_names_is_bound_by_its_own(channel, declare):
    name = declare()
    channel.queue_bind('', 'amq.direct')
    publish(channel, name, 'x', exchange='amq.direct')
    assert taken(channel, {'': name}) == {'': ['x']}
    channel.queue_unbind('', 'amq.direct')
    publish(channel, name, 'y', exchange='amq.direct')
    assert taken(channel, {'': name}) == {'': []}


def test_an_alternate_exchange_takes_what_is_routed_nowhere(channel, declare, new_exchange):
    alternate = new_exchange('fanout')
    exchange = new_exchange('direct', arguments={'alternate-exchange': alternate})
    name = declare()
    channel.basic_publish(amqp.Message('1'), exchange, 'key', mandatory=True)
    channel.queue_bind(name, alternate)
    channel.basic_publish(amqp.Message('2'), exchange, 'key', mandatory=True)
    channel.exchange_delete(alternate)
    channel.basic_publish(amqp.Message('3'), exchange, 'key', mandatory=True)
    channel.wait_for_confirms(timeout=20)
    assert [channel.returned_messages.get_nowait()[4].body for _ in range(2)] == ['1', '3']
    message = get(channel, name)
    assert (message.body, message.exchange, message.routing_key) == ('2', exchange, 'key')


def test_an_auto_delete_exchange_goes_with_its_last_binding(channel, connection, declare):
    source, target = new_name(), new_name()
    channel.exchange_declare(target, 'fanout', **KEPT)
    channel.exchange_declare(source, 'fanout', durable=True, auto_delete=True)
    channel.exchange_bind(target, source)
    channel.exchange_delete(target)
    code, _ = refused(connection, 'exchange_declare', source, 'fanout', passive=True)
    assert code == 404


def test_copies_go_to_more_keys_and_hidden_ones_stay_hidden(channel, declare):
    queues = {key: declare() for key in ('own', 'copy', 'hidden')}
    headers = {'CC': [queues['copy']], 'BCC': [queues['hidden'], queues['own']], 'n': 1}
    publish(channel, queues['own'], 'x', application_headers=headers)
    for name in queues.values():
        message = get(channel, name)
        assert message.routing_key == queues['own']
        assert message.application_headers == {'CC': [queues['copy']], 'n': 1}
    assert [ready_count(channel, name) for name in queues.values()] == [0, 0, 0]


def test_a_direct_reply_needs_no_queue(connect, connection, channel, declare):
    requests, replies = declare(), []
    asking = connection.channel()
    asking.basic_consume('amq.rabbitmq.reply-to', no_ack=True, callback=replies.append)
    publish(asking, requests, 'ask', reply_to='amq.rabbitmq.reply-to', correlation_id='5')
    request = get(channel, requests)
    assert request.correlation_id == '5'
    assert request.reply_to.startswith('amq.rabbitmq.reply-to.')
    answering = connect().channel()
    assert answering.queue_declare(request.reply_to, passive=True)[1:] == (0, 1)
    publish(answering, request.reply_to, 'answer')
    drain(asking, lambda: replies)
    (reply,) = replies
    assert (reply.body, reply.exchange, reply.routing_key) == ('answer', '', request.reply_to)
    assert (reply.delivery_tag, reply.redelivered) == (1, False)
    asking.close()
    with pytest.raises(amqp.NotFound):
        answering.queue_declare(request.reply_to, passive=True)


# Order, and who gets what


def test_what_comes_back_takes_its_old_place(channel, declare):
    name = declare()
    publish(channel, name, *'01234567')
    messages = [get(channel, name) for _ in range(6)]
    for position in (3, 1):
        messages[position].reject(requeue=True)
    channel.basic_nack(messages[5].delivery_tag, requeue=True)
    await_ready(channel, name, 5)
    found = [get(channel, name) for _ in range(5)]
    assert [(message.body, message.redelivered) for message in found] == [
        ('1', True), ('3', True), ('5', True), ('6', False), ('7', False)
    ]  # fmt: skip
    channel.basic_recover_sync(requeue=True)
    await_ready(channel, name, 8)
    assert get_bodies(channel, name, 8) == list('01234567')


def test_consumers_take_turns(channel, declare):
    name, found = declare(), []
    for tag in 'abc':
        channel.basic_consume(name, tag, no_ack=True, callback=found.append)
    publish(channel, name, *'012345678')
    drain(channel, lambda: len(found) == 9)
    assert [message.consumer_tag for message in found] == list('abcabcabc')


def test_consumers_of_high_priority_come_first(channel, declare):
    name, found = declare(), []
    channel.basic_qos(0, 2, False)
    for tag, priority in (('low', -1), ('normal', 0), ('high', 5)):
        arguments = {'x-priority': priority}
        channel.basic_consume(name, tag, callback=found.append, arguments=arguments)
    publish(channel, name, *'01234567')
    drain(channel, lambda: len(found) == 6)
    tags = ['high', 'high', 'normal', 'normal', 'low', 'low']
    assert [message.consumer_tag for message in found] == tags
    assert [message.body for message in found] == list('012345')
    found[2].ack()  # one of the second consumer
    drain(channel, lambda: len(found) == 7)
    assert (found[6].body, found[6].consumer_tag) == ('6', 'normal')


def test_a_single_active_consumer_gets_everything(channel, declare):
    name, found = declare(single_active_consumer=True), []
    for tag in 'ab':
        channel.basic_consume(name, tag, no_ack=True, callback=found.append)
    publish(channel, name, *'012')
    drain(channel, lambda: len(found) == 3)
    channel.basic_cancel('a')
    publish(channel, name, '3')
    drain(channel, lambda: len(found) == 4)
    assert ''.join(message.consumer_tag for message in found) == 'aaab'


def test_an_exclusive_consumer_cannot_be_a_single_active_one(connection, declare):
    name = declare(single_active_consumer=True)
    code, text = refused(connection, 'basic_consume', name, exclusive=True)
    assert (code, 'in exclusive use' in text) == (403, True), text


def test_each_consumer_has_a_limit_of_its_own(channel, declare):
    name, found = declare(), []
    publish(channel, name, *map(str, range(20)))
    await_ready(channel, name, 20)
    for tag, limit in (('a', 2), ('b', 3)):
        channel.basic_qos(0, limit, False)
        channel.basic_consume(name, tag, callback=found.append)
    drain(channel, lambda: len(found) == 5)
    assert ''.join(message.consumer_tag for message in found) == 'aabbb'
    assert ready_count(channel, name) == 15


@pytest.mark.parametrize('cancelled', [False, True])
@pytest.mark.parametrize('no_ack', [False, True])
def test_the_limit_of_a_channel_is_for_all_that_consumers_were_sent(
    connection, channel, declare, cancelled, no_ack
):
    name = declare()
    received = []
    channel.basic_qos(0, 1, True)
    tag = channel.basic_consume(name, callback=received.append)
    publish(channel, name, '1')
    drain(channel, lambda: received)
    if cancelled:
        channel.basic_cancel(tag)
    channel.basic_consume(name, no_ack=no_ack, callback=received.append)
    publish(channel, name, '2')
    channel.wait_for_confirms(timeout=20)
    skip_if_channels_have_no_limit(connection, ready_count(channel, name) == 0)
    assert ready_count(channel, name) == 1
    received[0].ack()
    drain(channel, lambda: len(received) == 2)


def skip_if_channels_have_no_limit(connection, seen):
    if seen and connection.server_properties['product'] == 'RabbitMQ':
        pytest.skip('since RabbitMQ 4.3 each consumer has the limit for itself')


def test_a_limit_for_consumers_ends_that_of_the_channel(connection, channel, declare):
    name = declare()
    received = []
    channel.basic_qos(0, 1, True)
    for _ in range(2):
        channel.basic_consume(name, callback=received.append)
    publish(channel, name, *'123')
    channel.wait_for_confirms(timeout=20)
    skip_if_channels_have_no_limit(connection, ready_count(channel, name) == 1)
    assert ready_count(channel, name) == 2
    channel.basic_qos(0, 1, False)
    drain(channel, lambda: len(received) == 3)


def test_what_consumers_give_back_at_once_comes_back_by_their_tags(channel, declare):
    name = declare()
    received = []
    for body, tag in (('1', 'b'), ('2', 'a')):
        arguments = {'x-priority': int(body)}
        channel.basic_consume(name, tag, callback=received.append, arguments=arguments)
        publish(channel, name, body)
        drain(channel, lambda body=body: len(received) == int(body))
    channel.basic_nack(received[1].delivery_tag, multiple=True, requeue=True)
    drain(channel, lambda: len(received) == 4)
    assert [(message.body, message.consumer_tag) for message in received[2:]] == [
        ('2', 'a'), ('1', 'a')
    ]  # fmt: skip


def test_messages_of_high_priority_come_first(channel, declare):
    name = declare(max_priority=5)
    for body, priority in enumerate((0, 3, 9, 5, 1)):
        publish(channel, name, str(body), priority=priority)
    await_ready(channel, name, 5)
    messages = [get(channel, name) for _ in range(5)]
    assert [message.body for message in messages] == list('23140')
    channel.basic_nack(0, multiple=True, requeue=True)
    await_ready(channel, name, 5)
    assert get_bodies(channel, name, 5) == list('23140')


# Limits and ends


def test_a_full_queue_drops_its_first_message(channel, declare):
    name = declare(max_length=2)
    publish(channel, name, *'0123')
    channel.wait_for_confirms(timeout=20)
    messages = [get(channel, name) for _ in range(2)]
    publish(channel, name, *'45')
    channel.wait_for_confirms(timeout=20)
    messages[1].reject(requeue=True)
    poll(lambda: get_bodies(channel, name, 2) == ['4', '5'])
    assert ready_count(channel, name) == 0


def test_a_full_queue_refuses_what_is_published(channel, declare):
    name = declare(max_length_bytes=3, overflow='reject-publish')
    publish(channel, name, '123')
    channel.wait_for_confirms(timeout=20)
    publish(channel, name, '4')
    with pytest.raises(amqp.MessageNacked):
        channel.wait_for_confirms(timeout=20)
    assert get_bodies(channel, name, 1) == ['123']


@pytest.mark.parametrize('overflow', ['reject-publish', 'reject-publish-dlx'])
def test_a_full_queue_that_refuses_messages_takes_back_all_of_its_own(channel, declare, overflow):
    name = declare(max_length=1, overflow=overflow)
    publish(channel, name, '1')
    message = get(channel, name)
    publish(channel, name, '2')
    channel.wait_for_confirms(timeout=20)
    message.reject(requeue=True)
    poll(lambda: ready_count(channel, name) == 2)
    assert get_bodies(channel, name, 2) == ['1', '2']


def test_what_comes_back_to_a_full_queue_is_dropped_before_it_is_delivered(channel, declare):
    name = declare(max_length=0)
    received = []
    channel.basic_consume(name, callback=received.append)
    publish(channel, name, '1')
    drain(channel, lambda: received)
    received[0].reject(requeue=True)
    publish(channel, name, '2')
    drain(channel, lambda: len(received) == 2)
    assert [message.body for message in received] == ['1', '2']


def deaths_of(message):
    """Return x-death, without the times, and the first death."""
    headers = message.application_headers
    deaths = [dict(death) for death in headers['x-death']]
    for death in deaths:
        death.pop('time').timestamp()
    return deaths, [headers[f'x-first-death-{name}'] for name in ('reason', 'queue', 'exchange')]


@pytest.mark.parametrize(
    ('arguments', 'properties', 'reason', 'more'),
    [
        ({'message_ttl': 1}, {}, 'expired', {}),
        ({}, {'expiration': '1'}, 'expired', {'original-expiration': '1'}),
        ({'max_length': 0}, {'priority': 3}, 'maxlen', {}),
        ({'max_length': 0, 'overflow': 'reject-publish-dlx'}, {}, 'maxlen', {}),
    ],
    ids=str,
)
def test_a_dead_letter_has_its_history(
    channel, declare_mortal, graveyard, arguments, properties, reason, more
):
    name = declare_mortal(**arguments)
    publish(channel, name, 'x', application_headers={'own': [1, None]}, **properties)
    message = get(channel, graveyard)
    death = {'count': 1, 'reason': reason, 'queue': name, 'exchange': '', 'routing-keys': [name]}
    assert deaths_of(message) == ([{**death, **more}], [reason, name, ''])
    assert message.application_headers['own'] == [1, None]
    assert not hasattr(message, 'expiration')
    assert getattr(message, 'priority', None) == properties.get('priority')
    assert (message.exchange, message.routing_key) == ('', graveyard)


def test_deaths_are_listed_latest_first(channel, declare, declare_mortal, graveyard):
    second = declare_mortal()
    first = declare(message_ttl=1, dead_letter_exchange='', dead_letter_routing_key=second)
    publish(channel, first, 'x')
    get(channel, second).reject(requeue=False)
    deaths, oldest = deaths_of(get(channel, graveyard))
    assert [(death['queue'], death['reason']) for death in deaths] == [
        (second, 'rejected'),
        (first, 'expired'),
    ]
    assert oldest == ['expired', first, '']


def test_a_rejected_message_may_go_in_circles_and_is_counted(channel):
    name = new_name()
    arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': name}
    channel.queue_declare(name, exclusive=True, arguments=arguments)
    publish(channel, name, 'x')
    for _ in range(3):
        get(channel, name).reject(requeue=False)
    ((death,), _) = deaths_of(get(channel, name))
    assert death['count'] == 3


def test_an_expired_message_does_not_go_in_circles(channel):
    name = new_name()
    arguments = {'x-dead-letter-exchange': '', 'x-message-ttl': 1}
    channel.queue_declare(name, exclusive=True, arguments=arguments)
    publish(channel, name, 'x')
    channel.wait_for_confirms(timeout=20)
    await_ready(channel, name, 0)


def test_a_dead_letter_keeps_its_keys_without_a_new_one(channel, declare, new_exchange):
    exchange, name = new_exchange('direct'), declare()
    channel.queue_bind(name, exchange, 'copy')
    dying = declare(message_ttl=1, dead_letter_exchange=exchange)
    publish(channel, dying, 'x', application_headers={'CC': ['copy']})
    message = get(channel, name)
    assert (message.exchange, message.routing_key) == (exchange, dying)
    assert deaths_of(message)[0][0]['routing-keys'] == [dying, 'copy']


def test_a_dead_letter_goes_where_the_message_was_hidden_from_others(
    channel, declare, new_exchange
):
    exchange, name = new_exchange('direct'), declare()
    channel.queue_bind(name, exchange, 'hidden')
    dying = declare(message_ttl=1, dead_letter_exchange=exchange)
    publish(channel, dying, 'x', application_headers={'BCC': ['hidden']})
    message = get(channel, name)
    assert deaths_of(message)[0][0]['routing-keys'] == [dying]
    assert 'BCC' not in message.application_headers


def test_a_dead_letter_with_a_new_key_goes_nowhere_else(channel, declare, new_exchange):
    exchange, new, old = new_exchange('direct'), declare(), declare()
    channel.queue_bind(new, exchange, 'new')
    for key in ('copy', 'hidden'):
        channel.queue_bind(old, exchange, key)
    arguments = {'dead_letter_exchange': exchange, 'dead_letter_routing_key': 'new'}
    dying = declare(message_ttl=1, **arguments)
    publish(channel, dying, 'x', application_headers={'CC': ['copy'], 'BCC': ['hidden']})
    message = get(channel, new)
    assert message.routing_key == 'new'
    assert deaths_of(message)[0][0]['routing-keys'] == [dying, 'copy']
    assert ready_count(channel, old) == 0


def test_messages_expire_at_the_head_of_their_queue(channel, declare):
    name = declare()
    publish(channel, name, 'stays')
    publish(channel, name, 'expires', expiration='1')
    await_ready(channel, name, 2)
    assert channel.basic_get(name, no_ack=True).body == 'stays'
    await_ready(channel, name, 0)


def test_a_consumer_gets_what_expires_at_once(channel, declare):
    name, found = declare(), []
    publish(channel, name, 'lost', expiration='0')
    channel.wait_for_confirms(timeout=20)
    await_ready(channel, name, 0)
    channel.basic_consume(name, no_ack=True, callback=found.append)
    publish(channel, name, 'found', expiration='0')
    drain(channel, lambda: found)
    assert found[0].body == 'found'


def test_what_expires_at_once_makes_no_queue_full(channel, declare):
    name = declare(max_length=1, overflow='reject-publish')
    publish(channel, name, *'x' * 200, expiration='0')
    channel.wait_for_confirms(timeout=20)


def test_what_has_expired_behind_a_message_is_not_counted_when_that_is_got(channel, declare):
    name = declare()
    publish(channel, name, '1')
    publish(channel, name, '2', expiration='1')
    publish(channel, name, '3')
    channel.wait_for_confirms(timeout=20)
    time.sleep(0.02)  # it expires
    assert get(channel, name).delivery_info['message_count'] == 1


def test_an_unused_queue_ends(channel, connection):
    name, exchange = new_name(), new_name()
    channel.exchange_declare(exchange, 'fanout', durable=True, auto_delete=True)
    channel.queue_declare(name, **KEPT, arguments={'x-expires': 50})
    channel.queue_bind(name, exchange)

    def exchange_is_gone():  # with its last binding, which asking does not keep alive
        try:
            connection.channel().exchange_declare(exchange, 'fanout', passive=True)
        except amqp.NotFound:
            return True
        return False

    poll(exchange_is_gone, 'the end of the queue')
    assert refused(connection, 'queue_declare', name, True)[0] == 404


def test_an_auto_delete_queue_goes_with_its_last_consumer(connection, channel):
    name = new_name()
    channel.queue_declare(name, durable=True, auto_delete=True)
    consuming = connection.channel()
    consuming.basic_consume(name)
    consuming.close()
    poll(lambda: is_gone(connection, name), 'the end of the queue')


def is_gone(connection, queue):
    """Whether a queue is not there."""
    try:
        connection.channel().queue_declare(queue, passive=True)
    except amqp.NotFound:
        return True
    return False


# Returns, confirms and transactions


def test_a_returned_message_comes_before_its_confirm(channel):
    events = []
    channel.on_confirm = lambda *args: events.append((channel.returned_messages.qsize(), args))
    channel.basic_publish(amqp.Message('x', priority=4), 'amq.direct', new_name(), mandatory=True)
    channel.wait_for_confirms(timeout=20)
    assert events == [(1, (1, False, True))]
    code, text, exchange, _, message = channel.returned_messages.get_nowait()
    assert (code, text, exchange) == (312, 'NO_ROUTE', 'amq.direct')
    assert (message.body, message.priority) == ('x', 4)


def test_a_transaction_takes_effect_as_a_whole(channel, connection, declare):
    name = declare()
    tx = connection.channel()
    tx.tx_select()
    publish(tx, name, *'012')
    tx.basic_publish(amqp.Message('back'), '', new_name(), mandatory=True)
    tx.basic_qos(0, 0, False)
    assert (ready_count(channel, name), tx.returned_messages.qsize()) == (0, 0)
    tx.tx_commit()
    assert (ready_count(channel, name), tx.returned_messages.qsize()) == (3, 1)
    messages = [get(tx, name) for _ in range(3)]
    tx.basic_ack(messages[0].delivery_tag)
    tx.basic_reject(messages[1].delivery_tag, True)
    tx.tx_rollback()
    assert ready_count(channel, name) == 0
    tx.basic_ack(messages[0].delivery_tag)
    tx.basic_reject(messages[1].delivery_tag, True)
    tx.tx_commit()
    await_ready(channel, name, 1)
    tx.basic_ack(messages[2].delivery_tag)
    tx.close()
    await_ready(channel, name, 2)
    assert get_bodies(channel, name, 2) == ['1', '2']


def test_a_transaction_delivers_what_it_publishes_before_what_it_gives_back(
    channel, connection, declare
):
    name = declare(max_length=1)
    received = []
    tx = connection.channel()
    tx.tx_select()
    tx.basic_consume(name, callback=received.append)
    publish(channel, name, '1')
    drain(tx, lambda: received)
    received[0].reject(requeue=True)
    publish(tx, name, *'23')
    tx.tx_commit()
    drain(tx, lambda: len(received) == 4)
    assert [message.body for message in received] == list('1231')
