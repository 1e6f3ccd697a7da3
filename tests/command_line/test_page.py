"""Every command on the page about the command line, with the output that the page shows."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import amqplib
from amqplib.command_line.main import main
from amqplib.command_line.parser import COMMANDS
from amqplib.testing import Broker

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'guides' / 'command_line.rst'
BLOCK = re.compile(r'^\.\. code-block:: console\n\n((?:    .*\n|\n)+)', re.MULTILINE)

ADDRESS = '127.0.0.1:5672'
#: It goes on; a test of its own starts it.
SERVER = f'$ amqplib broker\namqp://{ADDRESS}\n'


def lines_of_page():
    """Return the lines of all blocks, which are commands and what they show."""
    blocks = [match[1] for match in BLOCK.finditer(PAGE.read_text(encoding='utf-8'))]
    text = ''.join(textwrap.dedent(block).strip('\n') + '\n' for block in blocks)
    assert SERVER in text
    return text.replace(SERVER, '').splitlines()


def with_protocol(command, protocol):
    """Return a command with --protocol, if it is one of amqplib."""
    return re.sub(r'\bamqplib \w+', rf'\g<0> --protocol {protocol}', command)


def script_of(lines, protocol):
    """Return a script that shows each command and runs it."""
    # Without the folders where other packages are, Python starts sooner.
    yield f'amqplib() {{ {shlex.quote(sys.executable)} -S -m amqplib "$@"; }}'
    for line in lines:
        if line.startswith('$ '):
            yield f"printf '%s\\n' {shlex.quote(line)}"
            yield with_protocol(line[2:], protocol)


def test_every_command_shows_what_the_page_says(tmp_path, protocol):
    lines = lines_of_page()
    with Broker() as broker:
        done = subprocess.run(
            ['sh'],
            input='\n'.join(script_of(lines, protocol)).replace(ADDRESS, broker.host),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': str(Path(amqplib.__file__).parents[1])},
            encoding='utf-8',
            timeout=100,
            check=False,
        )
    shown = done.stdout.replace(broker.host, ADDRESS).splitlines()
    # These two depend on where the page is tested.
    its_version = f'version: {amqplib.__version__}', f'protocol: {protocol}'
    assert [line for line in shown if line not in its_version] == [
        line for line in lines if not line.startswith(('version: ', 'protocol: '))
    ]


def test_every_command_is_on_the_page():
    text = PAGE.read_text(encoding='utf-8')
    for _, run, _, examples in COMMANDS:
        assert f'$ amqplib {run.__name__} ' in text or run.__name__ == 'broker', run
        assert all(line.startswith(f'  amqplib {run.__name__}') for line in examples.splitlines())


@pytest.mark.parametrize('name', [run.__name__ for _, run, _, _ in COMMANDS])
def test_the_help_of_each_command_shows_an_example(capsys, name):
    with pytest.raises(SystemExit) as end:
        main([name, '--help'])
    assert end.value.code == 0
    assert f'\nexamples:\n  amqplib {name}' in capsys.readouterr().out
