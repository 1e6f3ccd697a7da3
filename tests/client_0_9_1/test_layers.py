"""A module imports only from those above it, from client_0_8, and from the standard library."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import amqplib.client_0_8
from amqplib import client_0_9_1

PACKAGE = 'amqplib.client_0_9_1'
FOLDER = Path(client_0_9_1.__file__).parent

ORDER = ['spec', 'exceptions', 'basic_message', 'confirms', 'channel', 'connection', '__init__']


def imports_of(path):
    """Return the names of all modules that a file imports, but not those for type hints only."""
    found = set()
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, 'id', '') == 'TYPE_CHECKING':
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute'
            found.add(node.module)
            found |= {f'{node.module}.{alias.name}' for alias in node.names}
    return found


def test_the_order_lists_every_module_once():
    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob('*.py'))


@pytest.mark.parametrize('name', ORDER)
def test_imports_come_from_above(name):
    used = {other for other in ORDER if f'{PACKAGE}.{other}' in imports_of(FOLDER / f'{name}.py')}
    assert used <= set(ORDER[: ORDER.index(name)])


def test_imports_are_found_at_all():
    assert f'{PACKAGE}.channel' in imports_of(FOLDER / 'connection.py')
    assert f'{PACKAGE}.connection' not in imports_of(FOLDER / 'channel.py'), 'for hints'


def test_the_other_package_does_not_know_this_one():
    for path in Path(amqplib.client_0_8.__file__).parent.glob('*.py'):
        assert not any(name.startswith(PACKAGE) for name in imports_of(path)), path.name


def test_nothing_but_the_standard_library_is_needed():
    modules = [f'{PACKAGE}.{name}' for name in ORDER if name != '__init__']
    environment = {**os.environ, 'PYTHONPATH': str(FOLDER.parent.parent)}
    # -S leaves out the folders where other packages are installed.
    command = [sys.executable, '-S', '-W', 'error', '-c', 'import ' + ', '.join(modules)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, '')
