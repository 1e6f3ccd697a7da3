"""Every command on the page about the command line, with the output that the page shows."""

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

#: What only a shell can do: pipes, files, the next command.
SHELL = re.compile(r'[|<>&;$]')
#: Without the folders where other packages are, Python starts sooner.
FUNCTION = f'amqplib() {{ {shlex.quote(sys.executable)} -S -m amqplib "$@"; }}'


def lines_of_page():
    """Return the lines of all blocks, which are commands and what they show."""
    blocks = [match[1] for match in BLOCK.finditer(PAGE.read_text(encoding='utf-8'))]
    text = ''.join(textwrap.dedent(block).strip('\n') + '\n' for block in blocks)
    assert SERVER in text
    return text.replace(SERVER, '').splitlines()


def with_protocol(command, protocol):
    """Return a command with --protocol, if it is one of amqplib."""
    return re.sub(r'\bamqplib \w+', rf'\g<0> --protocol {protocol}', command)


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The file to which commands write; they run in an empty folder of their own."""
    (tmp_path / 'folder').mkdir()
    monkeypatch.chdir(tmp_path / 'folder')
    monkeypatch.setenv('PYTHONPATH', str(Path(amqplib.__file__).parents[1]))
    with open(tmp_path / 'shown', 'w+', encoding='utf-8') as file:
        yield file


def run_line(command, shown, monkeypatch):
    """Run a command: in this process, unless it needs a shell."""
    words = shlex.split(command)
    if words[0] != 'amqplib' or SHELL.search(command):
        subprocess.run(
            ['sh'], input=f'{FUNCTION}\n{command}', stdout=shown, stderr=shown,
            encoding='utf-8', timeout=100, check=False,
        )  # fmt: skip
        return
    with monkeypatch.context() as patch:
        patch.setattr(sys, 'stdout', shown)
        patch.setattr(sys, 'stderr', shown)
        assert main(words[1:]) == 0


def test_every_command_shows_what_the_page_says(shown, protocol, monkeypatch):
    lines = lines_of_page()
    with Broker() as broker:
        monkeypatch.setenv('AMQP_URL', broker.url)  # as `export` does on the page
        for line in lines:
            if line.startswith('$ '):
                print(line, file=shown, flush=True)
                command = line[2:].replace(ADDRESS, broker.host)
                run_line(with_protocol(command, protocol), shown, monkeypatch)
    shown.seek(0)
    # These two depend on where the page is tested.
    its_version = f'version: {amqplib.__version__}', f'protocol: {protocol}'
    assert [line for line in shown.read().splitlines() if line not in its_version] == [
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
