"""Threads made cooperative by gevent and eventlet, whenever that is done, are threads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.packages import mostly_0_9_1

PROGRAM = Path(__file__).with_name('cooperative_program.py')


@pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='gevent and eventlet are installed for CPython'
)
@mostly_0_9_1
@pytest.mark.parametrize('patched', ['before', 'after', 'after a fork'])
@pytest.mark.parametrize('library', ['gevent', 'eventlet'])
def test_program_in_greenlets(amqp, own_node, authority, library, patched):
    what = {
        'library': library,
        'patched': patched,
        'package': amqp.__name__,
        'host': own_node.address,
        'tls_host': f'localhost:{own_node.tls_port}',
        'ca_file': authority.file,
    }
    command = [sys.executable, '-W', 'error::ResourceWarning', PROGRAM, json.dumps(what)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stdout) == (0, 'done\n'), done.stderr
