"""A module imports only from those above it, also for type hints; no client knows the other."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import amqplib
from amqplib import client_0_8, client_0_9_1, exceptions
from amqplib.client_0_8.spec import PROTOCOL as PROTOCOL_0_8
from amqplib.client_0_9_1.spec import PROTOCOL as PROTOCOL_0_9_1
from amqplib.core.spec import Method

ROOT = Path(amqplib.__file__).parent

ORDER = [
    'amqplib.core.spec',
    'amqplib.exceptions',
    'amqplib.core.deadline',
    'amqplib.core.checks',
    'amqplib.core.memoize',
    'amqplib.core.serialization',
    'amqplib.core.streams',
    'amqplib.core.arguments',
    'amqplib.core.properties',
    'amqplib.core.text_encodings',
    'amqplib.core.message',
    'amqplib.core.encoding',
    'amqplib.core.fast_decoding',
    'amqplib.core.decoding',
    'amqplib.core.confirms',
    'amqplib.core.log',
    'amqplib.core.threads',
    'amqplib.core.addresses',
    'amqplib.core.tls',
    'amqplib.core.login',
    'amqplib.core.closed',
    'amqplib.core.locks',
    'amqplib.core.transport',
    'amqplib.core.reader_role',
    'amqplib.core.heartbeat',
    'amqplib.core.outbox',
    'amqplib.core.session',
    'amqplib.core.frames_log',
    'amqplib.core.channel_numbers',
    'amqplib.core.legacy',
    'amqplib.core.limits',
    'amqplib.core.consumer',
    'amqplib.core.unlocked_queue',
    'amqplib.core.abstract_channel',
    'amqplib.core.declarations',
    'amqplib.core.channel',
    'amqplib.core.urls',
    'amqplib.core.reconnecting',
    'amqplib.core.connection',
    'amqplib.core.raw_values',
    'amqplib.core.outgoing',
    'amqplib.core.lane',
    'amqplib.core.link',
    'amqplib.core.lanes',
    'amqplib.core.publishing',
    'amqplib.core.publisher',
]

#: The modules of each client, which come after all of those.
CLIENTS = {
    'amqplib.client_0_8': [
        'spec',
        'exceptions',
        'serialization',
        'basic_message',
        'method_framing',
        'transport',
        'abstract_channel',
        'channel',
        'connection',
        'publisher',
    ],
    'amqplib.client_0_9_1': [
        'spec',
        'exceptions',
        'serialization',
        'basic_message',
        'method_framing',
        'transport',
        'channel',
        'connection',
        'publisher',
    ],
}
OF_CLIENTS = [f'{client}.{name}' for client, names in CLIENTS.items() for name in names]

#: The modules of the broker for tests, which need the tables of the clients.
TESTING = [
    f'amqplib.testing.{name}'
    for name in (
        'checks', 'errors', 'loop', 'arguments', 'messages', 'backlog', 'memory', 'faults',
        'exchanges', 'consumers', 'queues', 'dead_letters', 'virtual_host', 'shared', 'versions',
        'inboxes', 'arrivals', 'output', 'pulse', 'client', 'stages', 'channel', 'dispatch',
        'session', 'handshake', 'direct_replies', 'topology', 'basic', 'modes', 'broker',
        'pytest_plugin',
    )
]  # fmt: skip

#: The modules of the command line, which come last of all.
COMMAND_LINE = [
    'amqplib.command_line.status',
    'amqplib.command_line.interrupts',
    'amqplib.command_line.input',
    'amqplib.command_line.output',
    'amqplib.command_line.progress',
    'amqplib.command_line.json_lines',
    'amqplib.command_line.connecting',
    'amqplib.command_line.sending',
    'amqplib.command_line.publishing',
    'amqplib.command_line.receiving',
    'amqplib.command_line.objects',
    'amqplib.command_line.serving',
    'amqplib.command_line.parser',
    'amqplib.command_line.main',
    'amqplib.__main__',
]

#: What takes long to import, and a program may never need.
RARE = {
    'datetime',
    'decimal',
    'logging',
    'queue',
    'ssl',
    'urllib.parse',
    'amqplib.core.publisher',
    'random',
    'amqplib.core.consumer',
    'amqplib.core.unlocked_queue',
    'amqplib.core.reconnecting',
    'amqplib.core.frames_log',
    'amqplib.core.tls',
    'amqplib.core.urls',
}


def path_of(module):
    return ROOT.parent.joinpath(*module.split('.')).with_suffix('.py')


def imports_of(path):
    """Return the modules of the package that a file imports, wherever and for whatever."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute'
            found |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return {name for name in found if name.split('.')[0] == 'amqplib'}


def test_the_order_lists_every_module_once():
    files = [*ROOT.glob('*.py'), *ROOT.glob('core/*.py'), *ROOT.glob('command_line/*.py')]
    modules = [path for path in files if path.stem != '__init__']
    assert sorted(map(path_of, [*ORDER, *COMMAND_LINE])) == sorted(modules)
    for client, names in CLIENTS.items():
        files = path_of(client).with_suffix('').glob('*.py')
        modules = {path.stem for path in files if path.stem != '__init__'}
        assert sorted(modules) == sorted(names)


@pytest.mark.parametrize('module', ORDER)
def test_imports_come_from_above(module):
    modules = {name for name in imports_of(path_of(module)) if path_of(name).exists()}
    assert modules <= set(ORDER[: ORDER.index(module)])


@pytest.mark.parametrize('module', OF_CLIENTS)
def test_imports_of_a_client_come_from_above_and_from_the_core(module):
    client, _, name = module.rpartition('.')
    above = CLIENTS[client][: CLIENTS[client].index(name)]
    modules = {name for name in imports_of(path_of(module)) if path_of(name).exists()}
    assert modules <= {*ORDER, *(f'{client}.{other}' for other in above)}


@pytest.mark.parametrize('module', COMMAND_LINE)
def test_imports_of_the_command_line_come_from_above(module):
    modules = {name for name in imports_of(path_of(module)) if path_of(name).exists()}
    above = COMMAND_LINE[: COMMAND_LINE.index(module)]
    assert modules <= {*ORDER, *above}


def test_the_order_of_the_broker_for_tests_lists_every_module_once():
    files = {path for path in ROOT.glob('testing/*.py') if path.stem != '__init__'}
    assert sorted(map(path_of, TESTING)) == sorted(files)


@pytest.mark.parametrize('module', TESTING)
def test_imports_of_the_broker_for_tests_come_from_above(module):
    modules = {name for name in imports_of(path_of(module)) if path_of(name).exists()}
    above = TESTING[: TESTING.index(module)]
    assert modules <= {*ORDER, *OF_CLIENTS, *above}


@pytest.mark.parametrize('module', ORDER)
def test_the_core_knows_no_client(module):
    assert not [name for name in imports_of(path_of(module)) if 'client' in name]


@pytest.mark.parametrize('module', [*OF_CLIENTS, *(f'{client}.__init__' for client in CLIENTS)])
def test_no_client_knows_the_other(module):
    (other,) = (client for client in CLIENTS if not module.startswith(f'{client}.'))
    assert not [name for name in imports_of(path_of(module)) if f'{name}.'.startswith(f'{other}.')]


def test_the_root_imports_nothing():
    assert imports_of(Path(amqplib.__file__)) == set()


def in_new_interpreter(code):
    """Run code where only the standard library is installed; return what it prints."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT.parent)}
    # -S leaves out the folders where other packages are installed.
    command = [sys.executable, '-S', '-W', 'error', '-c', code]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout


def test_nothing_but_the_standard_library_is_needed():
    in_new_interpreter('import ' + ', '.join([*ORDER, *OF_CLIENTS, *COMMAND_LINE]))


@pytest.mark.parametrize('client', CLIENTS)
def test_what_is_rarely_needed_is_not_imported_at_first(client):
    imported = set(in_new_interpreter(f'import sys, {client}; print(*sys.modules)').split())
    assert f'{client}.connection' in imported
    assert not imported & RARE


@pytest.mark.parametrize('module', [name for name in ORDER if '.core.' in name])
def test_each_module_of_the_core_has_its_test_file(module):
    assert Path(__file__).with_name(f'test_{module.rpartition(".")[2]}.py').exists()


def test_imports_are_found_at_all():
    found = imports_of(path_of('amqplib.core.message'))
    assert {'amqplib.core.properties', 'amqplib.core.spec'} <= found
    assert 'amqplib.client_0_8.channel' in imports_of(ROOT / 'client_0_8' / 'connection.py')


@pytest.mark.parametrize('module', ORDER[1:])
def test_what_a_module_knows_of_methods_is_true_of_every_version(module):
    values = vars(importlib.import_module(module)).values()
    rows = [value for value in values if isinstance(value, Method)]
    for row in rows:
        for protocol in (PROTOCOL_0_8, PROTOCOL_0_9_1):
            assert protocol.methods[row.name] is row


def test_errors_of_the_clients_are_one_tree():
    for client in (client_0_8, client_0_9_1):
        for name in client.__all__:
            if name in exceptions.__all__:
                assert getattr(client, name) is getattr(exceptions, name)
                assert getattr(client.exceptions, name) is getattr(exceptions, name)
    for name in exceptions.__all__:
        assert getattr(exceptions, name).__module__ == 'amqplib.exceptions'


@pytest.mark.parametrize('signature', [(10, 50), (10, 51), (10, 60), (10, 61)])
def test_an_id_that_differs_between_the_versions_gives_an_error_no_name(signature):
    assert exceptions.AMQPException(0, 'text', signature).args[3] == ''


def test_an_error_without_a_name_gets_it_where_the_id_is_the_same_everywhere():
    assert exceptions.AMQPException(404, 'text', (50, 10)).args[3] == 'Channel.queue_declare'
    assert exceptions.AMQPException(403, 'text', (30, 10)).args[3] == 'Channel.access_request'
    assert exceptions.AMQPException(403, 'text', (60, 20)).args[3] == 'Channel.basic_consume'
