"""amqplib broker: it serves both versions until a signal."""

import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from amqplib import client_0_8, client_0_9_1
from amqplib.command_line.main import main


@pytest.mark.parametrize(('signum', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_broker_serves_until_a_signal(ctrl_c, signum, status):
    program = subprocess.Popen(
        [sys.executable, '-m', 'amqplib', 'broker', '--port', '0'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        url = program.stdout.readline().decode().strip()
        for amqp in (client_0_8, client_0_9_1):
            with amqp.Connection.from_url(url) as conn:
                conn.channel().queue_declare('tasks', durable=True, auto_delete=False)
        program.send_signal(signum)
        assert program.communicate(timeout=60) == (b'', b'amqplib: interrupted\n')
        assert program.returncode == status
    finally:
        program.kill()
        program.communicate()


def test_a_port_that_is_taken_is_an_error(capsys):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        assert main(['broker', '--port', str(port)]) == 1
    assert capsys.readouterr() == (
        '',
        f'amqplib: port {port}: {os.strerror(errno.EADDRINUSE)} (choose another one by --port)\n',
    )


@pytest.mark.parametrize('port', ['-1', '65536', 'amqp'])
def test_what_is_no_port_is_wrong_usage(port, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['broker', f'--port={port}'])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert (
        err
        == f"amqplib: argument --port: invalid port value: '{port}' (see amqplib broker --help)\n"
    )
