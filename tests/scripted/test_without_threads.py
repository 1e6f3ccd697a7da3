"""Connecting where no thread can be started, as while the interpreter exits."""

import subprocess
import sys
import threading

import pytest

from tests.helpers.packages import PACKAGES
from tests.helpers.waiting import lasting

#: channel_max, frame_max, heartbeat
EVERY_MINUTE = (2047, 131072, 60)

CONNECT = """
import threading, warnings
warnings.simplefilter('error')
import {package} as amqp

def connect():
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        print('no thread')
    with amqp.Connection(host='localhost:{port}', heartbeat={heartbeat}) as connection:
        print('heartbeat', connection.heartbeat, flush=True)
        connection.channel().basic_publish(amqp.Message('x'), routing_key='q')
"""

AT_EXIT = """
import atexit
atexit.register(connect)
"""

IN_A_SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = {code!r}
one = interpreters.create()
failure = getattr(interpreters, 'exec', interpreters.run_string)(one, code)
interpreters.destroy(one)
assert failure is None, failure
"""


def usual(peer):
    peer.handshake(tune=EVERY_MINUTE)
    tuned.append(peer.tuned)
    peer.open_channel()
    peer.expect_method(1, 'basic.publish')
    peer.expect_content(1)
    peer.expect_close()


#: What the client answered to tune.
tuned = []


@pytest.fixture(params=PACKAGES)
def amqp(request):
    """The client package: `play` and `connect` take it from here."""
    return request.param


def run(amqp, broker, after, heartbeat=None):
    """Run a program that connects; return what it printed, after checking that all went well."""
    code = CONNECT.format(package=amqp.__name__, port=broker.port, heartbeat=heartbeat)
    done = subprocess.run(
        [sys.executable, '-c', after(code)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout


@pytest.mark.parametrize('heartbeat', [None, 30])
def test_at_exit(amqp, play, heartbeat):
    said = run(amqp, play(usual), lambda code: code + AT_EXIT, heartbeat)
    if said.startswith('no thread\n'):  # on Python 3.12
        assert said == 'no thread\nheartbeat 0\n'
        wanted = 0
    else:
        wanted = heartbeat or 60
        assert said == f'heartbeat {wanted}\n'
    assert tuned.pop().heartbeat == wanted


@pytest.mark.skipif(sys.implementation.name != 'cpython', reason='it has no subinterpreters')
def test_in_a_subinterpreter(amqp, play):
    def after(code):
        return IN_A_SUBINTERPRETER.format(code=f'{code}\nconnect()\n')

    assert run(amqp, play(usual), after).splitlines()[-1] == 'heartbeat 0'
    assert tuned.pop().heartbeat == 0


@pytest.mark.parametrize('heartbeat', [None, 30])
def test_where_the_system_has_no_thread_left(amqp, play, monkeypatch, heartbeat):
    broker = play(usual)

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, 'start', start)
    host = f'localhost:{broker.port}'
    with amqp.Connection(host=host, heartbeat=heartbeat, connect_timeout=10) as connection:
        assert connection.heartbeat == 0
        connection.channel().basic_publish(amqp.Message('x'), routing_key='q')
    assert tuned.pop().heartbeat == 0


def test_name_that_is_not_found_without_a_thread(amqp, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, 'start', start)
    with lasting(most=20), pytest.raises((amqp.ConnectionLost, ValueError)):
        amqp.Connection(host='no..name', connect_timeout=10)
    with lasting(most=20), pytest.raises(amqp.ConnectionLost):
        amqp.Connection(host='no-such-name.invalid', connect_timeout=10)
