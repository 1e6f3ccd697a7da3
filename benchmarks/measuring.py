"""The measurements: which client does what, in which order, and how often."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict

from clients import CLIENTS, OURS
from processes import ClientError, WorkerProcess, import_time
from works import HUGE

#: A client that takes longer for one step has failed.
STEP_SECONDS = 60

CHANNELS = 1000


class Measuring:
    """Holds a worker for each client, and collects the results.

    results: works: {work: {client: {cpu, wall, system: microseconds a message, by round}}};
    imports: {client: CPU seconds by round}; channels: {client: bytes}; huge: {client: {size:
    {cpu, wall: seconds, peak: multiple of the size, by round}}}; bare: see bare.measure;
    failures: [{client, work, error}].
    """

    def __init__(self, host, port, feeder, clients, options):
        self.feeder = feeder
        self.options = options
        self.clients = list(clients)
        self._address = (host, port, feeder.queue)
        self._workers = {client: self._new_worker(client) for client in clients}
        self.results = {'works': {}, 'failures': []}

    def _new_worker(self, client):
        return WorkerProcess(client, *self._address)

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def close(self):
        for worker in self._workers.values():
            worker.close()

    def _try(self, what, client, step, *args):
        """Return the result of a step; None if the client fails, which is recorded."""
        try:
            return step(client, *args)
        except ClientError as problem:
            self.say(f'    {client} FAILED: {problem}')
            failure = {'client': client, 'work': what, 'error': str(problem)}
            self.results['failures'].append(failure)
            return None

    def check_clients(self):
        """Leave out the clients that do not send and receive bodies unchanged."""
        for client in list(self.clients):
            self.feeder.empty()
            if self._try('check', client, self._check) is None:
                self.clients.remove(client)

    def _check(self, client):
        self._workers[client].ask('check', STEP_SECONDS)
        return True

    # Works on messages

    def measure_work(self, work):
        """Measure each client in turn, round by round; the first round is a warm-up."""
        count = work.count(self.options.messages)
        rounds = work.repeats * self.options.rounds
        found = {client: defaultdict(list) for client in self.clients}
        for number in range(rounds + 1):
            for client in in_turn(list(found), number):
                share = count if number else max(10, count // 5)
                seconds = self._try(work.name, client, self._measure_once, work, share)
                if seconds is None:
                    del found[client]
                elif number:
                    for clock, value in seconds.items():
                        found[client][clock].append(value / share * 1e6)
            if number:
                self._say_round(f'{number}/{rounds}', found)
        self.results['works'][work.name] = {
            client: {'messages': count, **times} for client, times in found.items()
        }

    def _measure_once(self, client, work, count):
        feeder = self.feeder
        feeder.empty()
        if work.is_fed:
            feeder.fill(count, work.size)
        seconds = self._workers[client].ask(
            'measure', STEP_SECONDS, work=work.kind, count=count, size=work.size
        )
        self._check_queue(work, count)
        return seconds

    def _check_queue(self, work, count):
        """Check that a client did all of its work."""
        if work.kind != 'publish':
            left = self.feeder.left()
            problem = f'{left} messages were left' if left else None
        elif self.feeder.has(count):
            problem = self.feeder.problem_of_first(work.size)
        else:
            problem = f'there are not {count} messages in the queue'
        if problem:
            raise ClientError(problem)

    def _say_round(self, number, found):
        times = '  '.join(f'{client} {times["cpu"][-1]:.1f}' for client, times in found.items())
        self.say(f'    round {number}, us CPU: {times}')

    # The rest

    def measure_import(self):
        found = defaultdict(list)
        clients = [client for client in self.clients if CLIENTS[client].import_statement]
        with tempfile.TemporaryDirectory() as cache:
            for number in range(self.options.imports + 1):
                for client in in_turn(clients, number):
                    seconds = self._try('import', client, import_time, cache)
                    if number and seconds is not None:  # the first time compiles
                        found[client].append(seconds)
        self.results['imports'] = dict(found)

    def measure_channels(self):
        found = {client: self._try('channels', client, self._channels) for client in self.clients}
        self.results['channels'] = {
            client: size for client, size in found.items() if size is not None
        }

    def _channels(self, client):
        return self._ask_fresh(client, 'channels', count=CHANNELS)

    def _ask_fresh(self, client, action, **arguments):
        """Ask a new worker, whose memory holds nothing of earlier work."""
        self.feeder.empty()
        worker = self._new_worker(client)
        try:
            return worker.ask(action, STEP_SECONDS, **arguments)
        finally:
            worker.close()

    def measure_huge(self):
        found = {client: defaultdict(lambda: defaultdict(list)) for client in self.clients}
        for number in range(self.options.huge_rounds):
            for client in in_turn(list(found), number):
                for size in (HUGE // 2, HUGE):
                    result = self._try('huge', client, self._huge, size)
                    if result is None:
                        del found[client]
                        break
                    for name, value in result.items():
                        found[client][str(size)][name].append(value)
        self.results['huge'] = found

    def _huge(self, client, size):
        return self._ask_fresh(client, 'large', size=size)

    def measure_bare(self):
        if OURS in self.clients:
            self.feeder.empty()
            found = self._try('bare', OURS, self._bare)
            if found:
                self.results['bare'] = found

    def _bare(self, client):
        return self._workers[client].ask(
            'bare', STEP_SECONDS, sessions=self.options.sessions, pairs=100, count=20
        )


def in_turn(clients, number):
    """Return the clients in the order of a round; each round starts with a different one."""
    start = number % len(clients) if clients else 0
    return clients[start:] + clients[:start]
