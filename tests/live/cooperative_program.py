"""A program whose threads are made cooperative: python cooperative_program.py JSON

The JSON object has: library ('gevent' or 'eventlet'), patched ('before', 'after' the import of the
client, or 'after a fork' of a process that has used it), package, host, tls_host, ca_file.

It is run by test_cooperative_threads.py, and prints 'done' when all of it has worked.
"""

import contextlib
import faulthandler
import functools
import gc
import importlib
import json
import os
import sys
import time

#: Greenlets that share a connection, those that have one each, and messages for each of them.
SHARING = 60
CONNECTIONS = 20
MESSAGES = 10


def patch(library):
    if library == 'gevent':
        from gevent import monkey

        monkey.patch_all()
    else:
        import eventlet

        eventlet.monkey_patch()


def in_greenlets(works):
    """Do each of the works in a greenlet; raise what the first one of them raised."""
    import threading

    errors, done = [], []

    def run(work):
        try:
            work()
            done.append(work)
        except BaseException as error:  # noqa: BLE001  (it is raised again)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    assert done
    assert len(done) == len(works)


@contextlib.contextmanager
def ticking():
    """Check that other threads run while the block waits, by what they count."""
    import threading

    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(None)
            time.sleep(0.01)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert len(ticks) > 10, ticks


def exchange_messages(amqp, channel):
    """Publish to a queue, consume what came, and get what is there."""
    queue = channel.queue_declare(exclusive=True, auto_delete=False)[0]
    got = []
    channel.basic_consume(queue, callback=got.append)
    for number in range(MESSAGES):
        channel.basic_publish(amqp.Message(f'{queue} {number}'), routing_key=queue)
    while len(got) < MESSAGES:
        channel.wait(timeout=60)
    assert [msg.body for msg in got] == [f'{queue} {number}' for number in range(MESSAGES)]
    channel.basic_ack(0, multiple=True)
    channel.basic_publish(amqp.Message(bytes(300_000)), routing_key=queue)
    channel.wait(timeout=60)
    assert len(got[-1].body) == 300_000


def share_a_connection(amqp, dial):
    with dial() as connection:

        def work():
            with connection.channel() as channel:
                exchange_messages(amqp, channel)

        in_greenlets([work] * SHARING)


def have_connections(amqp, dial):
    def work():
        with dial() as connection, connection.channel() as channel:
            exchange_messages(amqp, channel)

    in_greenlets([work] * CONNECTIONS)


def be_idle(amqp, dial):
    """Wait where nothing comes, so that only heartbeats keep the connection alive."""
    with dial(heartbeat=1) as connection, connection.channel() as channel, ticking():
        sent = connection.transport.sent
        try:
            channel.wait(timeout=4)
        except amqp.AMQPTimeout:
            pass
        else:
            raise AssertionError('nothing should have come')
        assert connection.transport.sent > sent
        channel.queue_declare(exclusive=True)


def be_closed_by_another(amqp, dial):
    """Wait in one greenlet, and close the connection in another."""
    import threading

    errors = []
    connection = dial()
    channel = connection.channel()

    def wait():
        try:
            channel.wait()
        except amqp.AMQPConnectionException as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    connection.close()
    thread.join(20)
    assert not thread.is_alive()
    assert len(errors) == 1


def end_loops(amqp, dial):
    """Iterate over an empty queue until another greenlet sets a flag or cancels the consumer."""
    import threading

    stopping = threading.Event()
    with dial() as connection, connection.channel() as channel:
        queue = channel.queue_declare(exclusive=True, auto_delete=False)[0]
        for consumer in (channel.consume(queue, stop=stopping.is_set), channel.consume(queue)):
            end = stopping.set if not stopping.is_set() else consumer.cancel
            timer = threading.Timer(0.1, end)
            timer.start()
            assert list(consumer) == []
            timer.join()


def open_descriptors():
    return set(os.listdir('/proc/self/fd'))


def main(library, patched, package, host, tls_host, ca_file):
    if patched == 'before':
        patch(library)
    amqp = importlib.import_module(package)
    if patched == 'after':
        importlib.import_module('amqplib.core.tls')
        patch(library)
    elif patched == 'after a fork':
        amqp.Connection(host=host, heartbeat=60).close()
        child = os.fork()
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        patch(library)
    faulthandler.dump_traceback_later(100, exit=True)
    dial = functools.partial(amqp.Connection, host=host)
    dial_tls = functools.partial(amqp.Connection, host=tls_host, ssl={'ca_certs': ca_file})
    for one in dial, dial_tls:
        one().close()  # so that what is opened once, is
    before = open_descriptors()
    # At the same time, as it takes some seconds.
    in_greenlets([functools.partial(be_idle, amqp, one) for one in (dial, dial_tls)])
    for work in share_a_connection, have_connections, be_closed_by_another, end_loops:
        for one in dial, dial_tls:
            work(amqp, one)
    gc.collect()
    assert len(open_descriptors()) <= len(before), (before, open_descriptors())
    print('done')


if __name__ == '__main__':
    main(**json.loads(sys.argv[1]))
