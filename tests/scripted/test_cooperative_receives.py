"""Sockets that gevent and eventlet have replaced, which wait in spite of flags that say not to."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.packages import PACKAGES

PROGRAM = """
import importlib, sys

library, package = sys.argv[1:]
if library == 'gevent':
    from gevent import monkey
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()

from tests.helpers.receiving import receive_at_most
from tests.helpers.scripted_broker import ScriptedBroker
from tests.helpers.wire import delivery, version_of

amqp = importlib.import_module(package)
data = delivery(1, 'tag', body=b'x')


def script(peer):
    peer.handshake()
    peer.open_channel()
    peer.await_cue()
    peer.send_raw(data)
    peer.expect_close()


with ScriptedBroker(script, version=version_of(amqp)) as broker:
    with amqp.Connection(host=broker.address) as connection:
        channel, got = connection.channel(), []
        channel.callbacks['tag'] = got.append
        # There may be more behind a receive of this size.
        receive_at_most(len(data))
        broker.cue()
        channel.wait(timeout=10)
        assert len(got) == 1
        for timeout in 0, 0.1:
            try:
                channel.wait(timeout=timeout)
            except amqp.AMQPTimeout:
                print('in time')
"""


@pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='gevent and eventlet are installed for CPython'
)
@pytest.mark.parametrize('package', PACKAGES)
@pytest.mark.parametrize('library', ['gevent', 'eventlet'])
def test_nothing_is_waited_for_behind_a_full_receive(library, package):
    command = [sys.executable, '-c', PROGRAM, library, package.__name__]
    folder = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (0, 'in time\nin time\n'), done.stderr
