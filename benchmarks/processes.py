"""Starts processes for the clients, and sends them requests."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from clients import CLIENTS

WORKER = Path(__file__).with_name('worker.py')
ROOT = WORKER.parent.parent
PACKAGES = sysconfig.get_path('purelib')

#: Times a statement in a fresh interpreter: CPU seconds.
TIME_IMPORT = """\
import sys, time
sys.path[:0] = sys.argv[1:]
begin = time.process_time()
{}
print(time.process_time() - begin)
"""


class ClientError(Exception):
    """A client failed; the text is its error."""


class WorkerProcess:
    """A worker of one client, started when it is first asked, and again after a failure."""

    def __init__(self, client, host, port, queue):
        self.client = client
        self._command = [sys.executable, str(WORKER), client, host, str(port), queue]
        self._process = None
        self._errors = None

    def ask(self, action, seconds, **arguments):
        """Return the answer to a request; ClientError if there is none within the seconds."""
        if self._process is None:
            self._start()
        request = {'action': action, 'seconds': seconds, **arguments}
        try:
            self._process.stdin.write(json.dumps(request) + '\n')
            self._process.stdin.flush()
            # The worker's own alarm comes first.
            if select.select([self._process.stdout], [], [], seconds + 5)[0]:
                line = self._process.stdout.readline()
                if line:
                    return json.loads(line)
        except BrokenPipeError:
            pass
        raise ClientError(self._end(seconds))

    def _start(self):
        self._errors = tempfile.TemporaryFile('w+', errors='replace')  # noqa: SIM115
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding='utf-8',
        )

    def _end(self, seconds):
        """End the process; return why it gave no answer."""
        process, errors = self._process, self._errors
        try:
            status = process.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        self.close()
        if status in {None, -14}:  # SIGALRM
            return f'not done within {seconds} s'
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line.strip()]
        return lines[-1].strip() if lines else f'ended with status {status}'

    def close(self):
        if self._process is not None:
            self._process.kill()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None


def import_time(client, cache):
    """Return the CPU seconds of importing a client in a new interpreter.

    With -S, the interpreter does not import what packages of this environment import at startup.

    cache: folder for compiled modules; from the second time on, all clients find theirs there.
    """
    info = CLIENTS[client]
    code = TIME_IMPORT.format(info.import_statement)
    folders = [str(info.folder or ROOT), PACKAGES]
    command = [sys.executable, '-S', '-W', 'ignore', '-c', code, *folders]
    environ = {**os.environ, 'PYTHONPYCACHEPREFIX': cache}
    environ.pop('PYTHONDONTWRITEBYTECODE', None)
    done = subprocess.run(
        command, env=environ, capture_output=True, encoding='utf-8', timeout=60, check=False
    )
    if done.returncode:
        raise ClientError(done.stderr.splitlines()[-1])
    return float(done.stdout)
