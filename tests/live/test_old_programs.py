"""Programs as they were written for amqplib 1.0.2, line for line where it matters."""

# They would be written differently today:
# ruff: noqa: BLE001, C901, RET503, SIM105, UP031

import errno
import logging
import socket
import time
from unittest import mock

import pytest

from amqplib.client_0_8.serialization import AMQPReader
from tests.helpers.packages import only_0_8
from tests.helpers.queues import await_ready, get_bodies, new_name, ready_count

# --- A messaging framework that reads the connection itself (as kombu up to version 3 did) --------


def framework(amqp):
    """Return the classes Connection and Channel of the framework."""

    class Connection(amqp.Connection):
        connected = True

        def _do_close(self, *args, **kwargs):
            try:
                super()._do_close(*args, **kwargs)
            except OSError:
                pass

        def drain_events(self, timeout=None):
            """Wait for an event on any channel."""
            chanmap = self.channels
            chanid, method_sig, args, content = self._wait_multiple(chanmap, None, timeout=timeout)
            channel = chanmap[chanid]
            if content and channel.auto_decode and hasattr(content, 'content_encoding'):
                try:
                    content.body = content.body.decode(content.content_encoding)
                except Exception:
                    pass
            amqp_method = channel._METHOD_MAP.get(method_sig, None)
            if amqp_method is None:
                raise Exception('Unknown AMQP method (%d, %d)' % method_sig)
            if content is None:
                return amqp_method(channel, args)
            return amqp_method(channel, args, content)

        def read_timeout(self, timeout=None):
            if timeout is None:
                return self.method_reader.read_method()
            sock = self.transport.sock
            prev = sock.gettimeout()
            sock.settimeout(timeout)
            try:
                return self.method_reader.read_method()
            finally:
                sock.settimeout(prev)

        def _wait_multiple(self, channels, allowed_methods, timeout=None):
            for channel_id, channel in channels.items():
                method_queue = channel.method_queue
                for queued_method in method_queue:
                    method_sig = queued_method[0]
                    if (
                        allowed_methods is None
                        or method_sig in allowed_methods
                        or method_sig == (20, 40)
                    ):
                        method_queue.remove(queued_method)
                        method_sig, args, content = queued_method
                        return channel_id, method_sig, args, content
            while 1:
                channel, method_sig, args, content = self.read_timeout(timeout)
                if channel in channels and (
                    allowed_methods is None
                    or method_sig in allowed_methods
                    or method_sig == (20, 40)
                ):
                    return channel, method_sig, args, content
                channels[channel].method_queue.append((method_sig, args, content))
                if channel == 0:
                    self.wait()

        def channel(self, channel_id=None):
            try:
                return self.channels[channel_id]
            except KeyError:
                return Channel(self, channel_id)

    class Channel(amqp.Channel):
        def __init__(self, *args, **kwargs):
            self.no_ack_consumers = set()
            super().__init__(*args, **kwargs)

        def prepare_message(self, body, priority=None, headers=None, properties=None):
            return amqp.Message(
                body,
                priority=priority,
                content_type=None,
                content_encoding='utf-8',
                application_headers=headers,
                **(properties or {}),
            )

        def close(self):
            try:
                super().close()
            finally:
                self.connection = None

        def basic_consume(self, *args, **kwargs):
            consumer_tag = super().basic_consume(*args, **kwargs)
            if kwargs['no_ack']:
                self.no_ack_consumers.add(consumer_tag)
            return consumer_tag

        def basic_cancel(self, consumer_tag, **kwargs):
            self.no_ack_consumers.discard(consumer_tag)
            return super().basic_cancel(consumer_tag, **kwargs)

    return Connection, Channel


@pytest.fixture
def framework_connection(amqp, address):
    cls, _ = framework(amqp)
    conn = cls(
        host=address,
        userid='guest',
        password='guest',
        login_method='AMQPLAIN',
        virtual_host='/',
        insist=False,
        ssl=False,
        connect_timeout=5,
    )
    yield conn
    conn.close()


def drain_until(conn, done):
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        conn.drain_events(timeout=10)


def test_a_framework_drains_events_of_several_channels(framework_connection):
    conn = framework_connection
    received = []
    channels = [conn.channel() for _ in range(2)]
    for channel in channels:
        queue, _, _ = channel.queue_declare(exclusive=True)
        channel.basic_consume(queue, no_ack=False, callback=received.append)
        for number in range(10):
            message = channel.prepare_message(f'größer {number}', headers={'n': number})
            channel.basic_publish(message, exchange='', routing_key=queue)
    drain_until(conn, lambda: len(received) == 20)
    for channel in channels:
        mine = [message for message in received if message.channel is channel]
        assert [message.body for message in mine] == [f'größer {n}' for n in range(10)]
        for message in mine:
            channel.basic_ack(message.delivery_tag)
        channel.close()


def test_a_framework_limits_its_wait_by_the_timeout_of_the_socket(framework_connection):
    conn = framework_connection
    channel = conn.channel()
    queue, _, _ = channel.queue_declare(exclusive=True)
    received = []
    channel.basic_consume(queue, no_ack=True, callback=received.append)
    start = time.monotonic()
    with pytest.raises(socket.timeout):
        conn.drain_events(timeout=0.1)
    assert 0.05 < time.monotonic() - start < 5
    channel.basic_publish(channel.prepare_message('after the timeout'), '', queue)
    drain_until(conn, lambda: received)
    assert received[0].body == 'after the timeout'


def test_a_framework_gets_an_error_of_a_channel_from_the_handler(amqp, framework_connection):
    conn = framework_connection
    channel, other = conn.channel(), conn.channel()
    channel.basic_publish(channel.prepare_message('x'), exchange=new_name())
    with pytest.raises(amqp.AMQPChannelException) as raised:
        conn.drain_events(timeout=10)
    assert raised.value.amqp_reply_code == 404
    assert other.queue_declare(exclusive=True)


def test_a_framework_overrides_do_close(amqp, address):
    cls, _ = framework(amqp)
    calls = []

    class Noting(cls):
        def _do_close(self, *args, **kwargs):
            calls.append(self.channel_id)
            super()._do_close(*args, **kwargs)

    Noting(host=address).close()
    assert calls
    assert set(calls) == {0}


def test_a_framework_overrides_methods_of_channels(framework_connection):
    channel = framework_connection.channel()
    queue, _, _ = channel.queue_declare(exclusive=True)
    tag = channel.basic_consume(queue, no_ack=True, callback=print)
    assert channel.no_ack_consumers == {tag}
    channel.basic_cancel(tag)
    assert channel.no_ack_consumers == set()
    channel.close()
    assert channel.connection is None


@only_0_8  # where the header can be replaced
def test_a_framework_brings_its_own_transport(amqp, address, monkeypatch):
    made = []

    class OwnTransport(amqp.transport.TCPTransport):
        def __init__(self, host, connect_timeout):
            made.append(host)
            amqp.transport._AbstractTransport.__init__(self, host, connect_timeout)

        def __del__(self):
            try:
                self.close()
            except Exception:
                pass
            finally:
                self.sock = None

    monkeypatch.setattr(amqp.transport, 'TCPTransport', OwnTransport)
    monkeypatch.setattr(amqp.transport, 'AMQP_PROTOCOL_HEADER', b'AMQP\x01\x01\x09\x01')
    with amqp.Connection(address) as conn:
        assert isinstance(conn.transport, OwnTransport)
        assert conn.channel().queue_declare(exclusive=True)
    assert made == [address]


def test_a_framework_asks_the_socket_if_the_connection_is_alive(framework_connection):
    sock = framework_connection.method_reader.source.sock
    prev = sock.gettimeout()
    sock.settimeout(0.0001)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except socket.timeout:
        pass
    finally:
        sock.settimeout(prev)
    assert framework_connection.channel().is_open


def test_a_framework_catches_errors_by_the_classes_of_old(amqp, address, monkeypatch):
    """Of connections: the library's, socket.error, IOError, OSError, AttributeError."""
    connection_errors = (amqp.AMQPConnectionException, socket.error, IOError, OSError)
    conn = amqp.Connection(address)
    conn.transport.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(connection_errors):
        conn.channel()
    with pytest.raises(connection_errors):
        conn.channel()
    assert conn.transport is None


# --- A handler for logging (as graypy 2.1.0) ------------------------------------------------------


class ExcludeFilter(logging.Filter):
    """Keeps the records of amqplib out of what is sent by it."""

    def filter(self, record):
        return not record.name.startswith(self.name)


def test_a_logging_handler_publishes_records(amqp, address, shared_queue, channel):
    cn_args = {
        'host': address,
        'userid': 'guest',
        'password': 'guest',
        'virtual_host': '/',
        'insist': False,
    }
    with pytest.warns(UserWarning, match='connection_timeout'):
        conn = amqp.Connection(connection_timeout=1, **cn_args)
    records = conn.channel()
    ExcludeFilter('amqplib').filter(logging.makeLogRecord({'name': 'amqplib'}))
    msg = amqp.Message(b'{"version": "1.0"}', delivery_mode=2)
    records.basic_publish(msg, exchange='', routing_key=shared_queue)
    try:
        conn.close()
    except Exception:
        raise AssertionError from None
    assert get_bodies(channel, shared_queue, 1) == [b'{"version": "1.0"}']


def test_the_logger_is_amqplib_and_silent_unless_asked(amqp, address, caplog):
    with caplog.at_level(logging.DEBUG, logger='amqplib'):
        amqp.Connection(address, password='guest').close()
    assert {record.name for record in caplog.records} == {'amqplib'}
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert logging.getLogger('amqplib').handlers


# --- Scripts --------------------------------------------------------------------------------------


def test_unpacking_what_queue_declare_returns(amqp, channel, shared_queue):
    channel.basic_publish(amqp.Message('x'), '', shared_queue)
    await_ready(channel, shared_queue, 1)
    _, n, _ = channel.queue_declare(shared_queue, durable=True, auto_delete=False)
    assert n == 1


def test_reading_delivery_info_as_a_dict_and_as_attributes(amqp, channel, queue):
    seen = []

    def callback(msg):
        seen.append((msg.delivery_info['routing_key'], msg.routing_key))
        seen.append((msg.delivery_info['delivery_tag'], msg.delivery_tag))
        seen.append((msg.delivery_info['channel'], msg.channel))
        msg.channel.basic_ack(msg.delivery_tag)
        msg.channel.basic_cancel(msg.consumer_tag)

    channel.basic_publish(amqp.Message('x'), '', queue)
    channel.basic_consume(queue, callback=callback)
    while channel.callbacks:
        channel.wait()
    assert seen == [(queue, queue), (1, 1), (channel, channel)]


def test_dumping_a_message_as_the_demo_receiver_did(amqp, channel, queue):
    lines = []

    def callback(msg):
        for key, val in msg.properties.items():
            lines.append(f'{key}: {val}')
        for key, val in sorted(msg.delivery_info.items()):
            lines.append(f'> {key}: {val}')
        lines.append(msg.body)
        channel.basic_ack(msg.delivery_tag)
        if msg.body == 'quit':
            channel.basic_cancel(msg.consumer_tag)

    message = amqp.Message(
        'quit', content_type='text/plain', application_headers={'foo': 7, 'bar': 'baz'}
    )
    channel.basic_publish(message, '', queue)
    channel.basic_consume(queue, callback=callback)
    while channel.callbacks:
        channel.wait()
    assert 'content_type: text/plain' in lines
    assert f'> routing_key: {queue}' in lines
    assert lines[-1] == 'quit'


def test_polling_with_a_sleep(amqp, channel, queue):
    channel.basic_publish(amqp.Message('x'), '', queue)
    for _ in range(1000):
        msg = channel.basic_get(queue)
        if msg is not None:
            channel.basic_ack(msg.delivery_tag)
            break
        time.sleep(0.01)
    assert msg.body == 'x'


def test_a_socket_timeout_to_leave_wait(channel):
    """As there was no timeout of wait(), programs set one on the socket."""
    channel.connection.transport.sock.settimeout(0.1)
    with pytest.raises(socket.timeout) as raised:
        channel.wait()
    assert isinstance(raised.value, OSError)
    channel.connection.transport.sock.settimeout(None)
    assert channel.queue_declare(exclusive=True)


def test_positional_arguments_in_the_old_order(amqp, address):
    conn = amqp.Connection(
        address, 'guest', 'guest', 'AMQPLAIN', None, '/', 'en_US', None, False, False, None
    )
    ch = conn.channel(1)
    exchange, queue = new_name(), new_name()
    ch.access_request('/data', False, False, True, True, True)
    ch.exchange_declare(exchange, 'direct', False, False, True, False, False, None, None)
    ch.queue_declare(queue, False, False, True, True, False, None, None)
    ch.queue_bind(queue, exchange, 'key', False, None, None)
    ch.basic_qos(0, 1, False)
    ch.basic_publish(amqp.Message('x', None, delivery_mode=1), exchange, 'key', True, False, None)
    ch.tx_select()
    assert ch.basic_get(queue, True, None).body == 'x'
    tag = ch.basic_consume(queue, '', False, False, False, False, lambda msg: None, None)
    ch.basic_cancel(tag, False)
    conn.close(0, '', (0, 0))


def test_a_connection_that_is_replaced_by_a_mock(amqp):
    with mock.patch(f'{amqp.__name__}.Connection') as connection:
        assert amqp.Connection('host').channel() is connection.return_value.channel.return_value


def test_old_except_clauses(amqp, channel):
    try:
        channel.queue_declare('no such queue', passive=True)
    except amqp.AMQPChannelException as error:
        code, text, signature, name = error.args
    assert (code, signature, name) == (404, (50, 10), 'Channel.queue_declare')
    assert 'no such queue' in text


def test_a_refused_connect_is_a_socket_error(amqp):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    with pytest.raises(socket.error, match=str(port)) as raised:
        amqp.Connection(f'127.0.0.1:{port}')
    assert raised.value.errno == errno.ECONNREFUSED


def test_whether_a_connection_is_closed_is_asked_of_its_transport(connection):
    assert connection.transport is not None
    connection.close()
    assert connection.transport is None


def test_sending_methods_by_hand(amqp, channel, queue):
    """As subclasses did for methods that the library did not know."""
    args = amqp.serialization.AMQPWriter()
    args.write_short(0)
    args.write_shortstr(queue)
    args.write_bit(False)
    channel._send_method((50, 30), args)
    assert channel.wait(allowed_methods=[(50, 31)]) == 0
    assert ready_count(channel, queue) == 0


# --- What subclasses change ---------------------------------------------------------------------


def test_a_subclass_opens_the_virtual_host_in_its_own_way(amqp, connect):
    class Connection(amqp.Connection):
        def _x_open(self, virtual_host, capabilities='', insist=False):
            self.opened = virtual_host
            return amqp.Connection._x_open(self, virtual_host, capabilities, insist)

    connection = connect(cls=Connection)
    assert connection.opened == '/'
    assert connection.channel().is_open


def test_a_subclass_opens_the_virtual_host_by_methods_of_its_own(amqp, connect):
    from amqplib.client_0_8.serialization import AMQPWriter

    class Connection(amqp.Connection):
        def _x_open(self, virtual_host, capabilities='', insist=False):
            args = AMQPWriter()
            args.write_shortstr(virtual_host)
            args.write_shortstr(capabilities)
            args.write_bit(insist)
            self._send_method((10, 40), args)
            return self.wait(allowed_methods=[(10, 41), (10, 50)])

    assert connect(cls=Connection).channel().is_open


def test_a_subclass_waits_for_methods_in_its_own_way(amqp, connect):
    """Its function has no timeout, as in amqplib 1.0.2."""

    class Connection(amqp.Connection):
        waits = ()

        def _wait_method(self, channel_id, allowed_methods):
            self.waits += ((channel_id, allowed_methods),)
            return amqp.Connection._wait_method(self, channel_id, allowed_methods)

    connection = connect(cls=Connection)
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True)[0]
    got = []
    channel.basic_consume(queue, callback=got.append, no_ack=True)
    channel.basic_publish(amqp.Message('x'), '', queue)
    channel.wait()
    assert [message.body for message in got] == ['x']
    assert connection.waits == ((channel.channel_id, None),)


def test_a_subclass_tunes_other_values(amqp, connect):
    class Connection(amqp.Connection):
        def _x_tune_ok(self, channel_max, frame_max, heartbeat):
            amqp.Connection._x_tune_ok(self, 5, 8192, 0)

    connection = connect(cls=Connection, heartbeat=1)
    assert (connection.channel_max, connection.frame_max, connection.heartbeat) == (5, 8192, 0)
    # Nobody watches, so silence does not matter.
    channel = connection.channel()
    with pytest.raises(amqp.AMQPTimeout):
        channel.wait(timeout=2.5)
    body = b'x' * 50_000
    queue = channel.queue_declare(exclusive=True)[0]
    channel.basic_publish(amqp.Message(body), '', queue)
    await_ready(channel, queue, 1)
    assert channel.basic_get(queue, no_ack=True).body == body


def test_what_the_map_of_a_subclass_lacks_is_handled_as_ever(amqp, connect):
    heard = []

    class Channel(amqp.Channel):
        def _mine(self, args, msg):
            heard.append(msg.body)
            return amqp.Channel._basic_deliver(self, args, msg)

        _METHOD_MAP = {(60, 60): _mine}  # noqa: RUF012

    channel = Channel(connect())
    queue = channel.queue_declare(exclusive=True, auto_delete=False)[0]
    cancelled = []
    channel.basic_consume(queue, on_cancel=cancelled.append, callback=lambda msg: None)
    channel.basic_publish(amqp.Message(b'x'), '', queue)
    while not heard:
        channel.wait(timeout=10)
    channel.queue_delete(queue)
    while not cancelled:
        channel.wait(timeout=10)
    assert heard == [b'x']
    assert channel.queue_declare(exclusive=True)[0]


@pytest.mark.parametrize(
    'name',
    [
        *('_basic_cancel_ok', '_basic_get_empty', '_basic_qos_ok'),
        *('_exchange_declare_ok', '_exchange_delete_ok', '_queue_bind_ok', '_queue_unbind_ok'),
        *('_tx_select_ok', '_tx_commit_ok', '_tx_rollback_ok'),
    ],
)
def test_handlers_have_their_old_names(amqp, channel, name):
    data = {'_basic_cancel_ok': b'\x03tag', '_basic_get_empty': b'\0'}.get(name, b'')
    assert getattr(channel, name)(AMQPReader(data)) is None


def test_a_subclass_adds_properties(amqp):
    class Message(amqp.Message):
        PROPERTIES = amqp.Message.PROPERTIES + [('extra', 'shortstr')]  # noqa: RUF005

    message = Message('x', extra='y', type='z')
    assert (message.extra, message.type) == ('y', 'z')
