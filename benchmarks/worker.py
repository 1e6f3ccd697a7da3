"""A process in which one client works and is measured:

    python worker.py CLIENT HOST PORT QUEUE

A request is a line of JSON on standard input, and its answer is a line of JSON on standard output.
An error ends the process; the last line on standard error then says what went wrong.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time

import bare
from bodies import CHECKED_BODIES, make_body
from clients import CLIENTS, ORIGINAL_FOLDER, OURS, client_class


class WrongWorkError(Exception):
    """The client did not do the work."""


class Worker:
    def __init__(self, client_name, host, port, queue):
        self.client_class = client_class(client_name)
        self.host = host
        self.port = port
        self.queue = queue

    def connect(self):
        client = self.client_class(self.host, self.port)
        client.declare(self.queue)
        return client

    def publish_one(self, client, body):
        """Publish a message, and wait until it has reached the queue."""
        client.publish_many(1, body)
        while not client.declare(self.queue):
            pass

    def answer(self, request):
        return getattr(self, 'do_' + request.pop('action'))(**request)

    def do_measure(self, work, count, size):
        """Do one kind of work on a new connection; return the seconds it took.

        It ends with the reply to a declaration, which the broker sends after all that came before.
        """
        client = self.connect()
        loop = getattr(self, 'loop_' + work)
        body = make_body(size)
        gc.collect()
        watch = Stopwatch()
        loop(client, count, body)
        client.declare(self.queue)
        seconds = watch.read()
        if work in {'consume', 'consume_ack', 'get'}:
            check('the last body', client.last_body(), body)
        client.close()
        return seconds

    def loop_publish(self, client, count, body):
        client.publish_many(count, body)

    def loop_consume(self, client, count, body):
        client.consume_many(count)

    def loop_consume_ack(self, client, count, body):
        client.consume_ack_many(count)

    def loop_get(self, client, count, body):
        client.get_many(count)

    def loop_rpc(self, client, count, body):
        queue = self.queue
        for _ in range(count):
            client.declare(queue)

    def do_check(self):
        """Send several bodies, and check that they come back unchanged."""
        for body in CHECKED_BODIES:
            for receive in ('consume_many', 'consume_ack_many', 'get_many'):
                client = self.connect()
                self.publish_one(client, body)
                getattr(client, receive)(1)
                check('the body', client.last_body(), body)
                client.close()

    def do_channels(self, count):
        """Return how many bytes of memory open channels take."""
        client = self.connect()
        client.open_channels(2)
        gc.collect()
        before = memory('VmRSS')
        client.open_channels(count)
        gc.collect()
        after = memory('VmRSS')
        client.close()
        return after - before

    def do_large(self, size):
        """Publish and get one large body.

        Returns the seconds it took, and the peak of memory as a multiple of the size; the body sent
        and the body received are part of it.
        """
        client = self.connect()
        before = memory('VmHWM')
        body = make_body(size)
        watch = Stopwatch()
        self.publish_one(client, body)
        client.get_many(1)
        seconds = watch.read()
        peak = (memory('VmHWM') - before) / size
        check('the body', client.last_body(), body)
        client.close()
        return {**seconds, 'peak': peak}

    def do_bare(self, sessions, pairs, count):
        return bare.measure(self.host, self.port, self.queue, sessions, pairs, count)


class Stopwatch:
    """Measures CPU time and wall time of this process, in seconds."""

    def __init__(self):
        self._system = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    def read(self):
        cpu = time.process_time() - self._cpu
        wall = time.perf_counter() - self._wall
        system = resource.getrusage(resource.RUSAGE_SELF).ru_stime - self._system
        return {'cpu': cpu, 'wall': wall, 'system': system}


def check(what, found, wanted):
    if found == wanted:
        return
    if isinstance(found, bytes):
        found, wanted = (f'{len(body)} bytes: {body[:20]!r}...' for body in (found, wanted))
    raise WrongWorkError(f'{what} is {found}, and should be {wanted}')


def memory(field):
    """Return the bytes that a line of /proc says: VmRSS, resident now; VmHWM, the peak so far."""
    try:
        with open('/proc/self/status', encoding='ascii') as status:
            for line in status:
                if line.startswith(field + ':'):
                    return int(line.split()[1]) * 1024
    except FileNotFoundError:  # not Linux
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == 'darwin' else most * 1024


def check_package(client_name):
    """Check that `amqplib` is the package that this process is to measure."""
    module = sys.modules.get('amqplib')
    if module is not None:
        original = str(module.__file__).startswith(str(ORIGINAL_FOLDER))
        check('original', original, client_name != OURS)


def main(client_name, host, port, queue):
    # What a client prints must not get among the answers.
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    info = CLIENTS[client_name]
    if info.folder:
        sys.path.insert(0, str(info.folder))
    worker = Worker(client_name, host, int(port), queue)
    check_package(client_name)
    for line in sys.stdin:
        request = json.loads(line)
        # The process ends in time even if nobody waits for the answer any more.
        signal.alarm(request.pop('seconds'))
        print(json.dumps(worker.answer(request)), file=answers, flush=True)
        signal.alarm(0)


if __name__ == '__main__':
    main(*sys.argv[1:])
