"""A module imports only from those above it, and from the standard library."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import amqplib
from amqplib import client_0_8

PACKAGE = 'amqplib.client_0_8'
FOLDER = Path(client_0_8.__file__).parent

ORDER = [
    'log',
    'spec',
    'exceptions',
    'remembering',
    'serialization',
    'text_encodings',
    'basic_message',
    'deadline',
    'turns',
    'threads',
    'addresses',
    'tls',
    'login',
    'transport',
    'deliveries',
    'method_framing',
    'heartbeat',
    'channel_numbers',
    'abstract_channel',
    'channel',
    'connection',
    '__init__',
]


class Imports(ast.NodeVisitor):
    """Collects the modules that are imported, wherever, but not those for type hints only."""

    def __init__(self):
        self.found = set()

    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == 'TYPE_CHECKING':
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)

    def visit_Import(self, node):
        self.found |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node):
        assert node.level == 0, 'imports are absolute'
        self.found.add(node.module)
        self.found |= {f'{node.module}.{alias.name}' for alias in node.names}


def imports_of(path):
    """Return the names of all modules that a file imports, and of what it imports from them."""
    collector = Imports()
    collector.visit(ast.parse(path.read_text(encoding='utf-8')))
    return collector.found


def test_the_order_lists_every_module_once():
    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob('*.py'))


@pytest.mark.parametrize('name', ORDER)
def test_imports_come_from_above(name):
    used = {other for other in ORDER if f'{PACKAGE}.{other}' in imports_of(FOLDER / f'{name}.py')}
    assert used <= set(ORDER[: ORDER.index(name)])


def test_imports_are_found_at_all():
    assert f'{PACKAGE}.channel' in imports_of(FOLDER / 'connection.py')
    assert f'{PACKAGE}.tls' in imports_of(FOLDER / 'transport.py'), 'inside of a function'
    assert f'{PACKAGE}.connection' not in imports_of(FOLDER / 'abstract_channel.py'), 'for hints'


def test_the_root_imports_nothing():
    assert imports_of(Path(amqplib.__file__)) <= {'__future__', '__future__.annotations'}


def test_nothing_but_the_standard_library_is_needed():
    modules = [f'{PACKAGE}.{name}' for name in ORDER if name != '__init__']
    environment = {**os.environ, 'PYTHONPATH': str(FOLDER.parent.parent)}
    # -S leaves out the folders where other packages are installed.
    command = [sys.executable, '-S', '-W', 'error', '-c', 'import ' + ', '.join(modules)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, '')


#: Modules that take long to import, and that a program may never need.
RARE = {'datetime', 'decimal', 'logging', 'queue', 'ssl', f'{PACKAGE}.tls'}


def test_what_is_rarely_needed_is_not_imported_at_first():
    code = f'import sys; import {PACKAGE}; print(*sys.modules)'
    environment = {**os.environ, 'PYTHONPATH': str(FOLDER.parent.parent)}
    # -S, as what other packages have in their folder may be imported at the start.
    command = [sys.executable, '-S', '-c', code]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    imported = set(done.stdout.split())
    assert f'{PACKAGE}.connection' in imported
    assert not imported & RARE
