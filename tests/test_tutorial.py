"""The programs of the tutorial print what it says, on the broker in the process and on RabbitMQ."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from amqplib import client_0_9_1
from amqplib.testing import Broker

PAGE = Path(__file__).parents[1] / 'docs' / 'tutorial.rst'
PROGRAM = re.compile(
    r'^\.\. code-block:: python\n   :caption: (\S+)\n\n((?: .*\n|\n)+)', re.MULTILINE
)
CONSOLE = re.compile(r'^\.\. code-block:: console\n\n((?: .*\n|\n)+)', re.MULTILINE)

#: Commands that run, and how; all others are for the reader's machine.
RUN = {'python': [sys.executable], 'amqplib': [sys.executable, '-m', 'amqplib']}


@pytest.fixture
def in_process():
    with Broker() as broker:
        yield broker.url


@pytest.fixture
def on_rabbitmq(address):
    return f'amqp://{address}'


def commands_of(text):
    """Return the commands that run, with what they print."""
    blocks = [textwrap.dedent(block) for block in CONSOLE.findall(text)]
    steps = [step.partition('\n') for block in blocks for step in block.split('$ ')[1:]]
    commands = [(shlex.split(line), shown.strip()) for line, _, shown in steps]
    return [
        (words, shown) for words, shown in commands if words[0] in RUN and 'broker' not in words
    ]


@pytest.mark.any_version
@pytest.mark.parametrize('broker_at', ['in_process', 'on_rabbitmq'])
def test_the_tutorial(broker_at, request, tmp_path):
    url = request.getfixturevalue(broker_at)
    name = f'amqplib-test-{uuid.uuid4()}'
    text = re.sub(
        r"(?<=')tasks(?=')|(?<=info )tasks|(?<=queue: )tasks", name, PAGE.read_text('utf-8')
    )
    for program, source in PROGRAM.findall(text):
        (tmp_path / program).write_text(textwrap.dedent(source), encoding='utf-8')
    commands = commands_of(text)
    assert [words[1] for words, _ in commands] == [
        'send.py', 'info', 'work.py', 'send.py', 'fail.py', 'work.py'
    ]  # fmt: skip
    try:
        for (first, *words), shown in commands:
            ended = subprocess.run(
                [*RUN[first], *words],
                cwd=tmp_path,
                env={**os.environ, 'AMQP_URL': url, 'PYTHONUNBUFFERED': '1'},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert ended.stdout.strip() == shown
    finally:
        with client_0_9_1.Connection.from_url(url) as conn, conn.channel() as ch:
            ch.queue_delete(name)
