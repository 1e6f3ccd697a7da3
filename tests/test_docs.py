"""Every example of the documentation is run against the broker, as it is printed.

The examples name brokers as a reader would: the one on this machine, by default, and one of
`example.com`. `hosts` leads these names to the broker of the tests, where amqplib looks names up.
The names of queues and exchanges get a beginning that nobody else uses (see `OwnNames`); nothing
else is changed. Each section is run by itself, with a connection `conn` and a channel `ch`, as
the guides say.

What a page does not show, such as the messages that an example finds in a queue, and the checks of
what it did, is in a file of Python beside the page: see `Unseen`.
"""

import ast
import contextlib
import re
import signal
import socket
import textwrap
import uuid
from itertools import chain, zip_longest
from pathlib import Path

import pytest
import trustme
from sybil.document import Document
from sybil.parsers.rest import DocTestParser, PythonCodeBlockParser

import amqplib
import amqplib.client_0_8 as amqp
from amqplib import client_0_9_1
from amqplib.core import transport
from tests.helpers import broker as brokers
from tests.helpers.checks import leave_out_before

# What the examples call brokers.
GUIDE_HOSTS = {'localhost', '::1', 'broker.example.com', 'broker-2.example.com'}
# There, nobody listens.
DEAD_HOST = 'broker-1.example.com'
TLS_PORT = 5671

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / 'README.txt'
DOCS = ROOT / 'docs'
# The tutorial has a test of its own.
PAGES = sorted(set(DOCS.rglob('*.rst')) - {DOCS / 'tutorial.rst'})
DEMOS = sorted((ROOT / 'demo').glob('*.py'))

# A line of text, and a line of the same length that underlines it.
TITLE = re.compile(r'^(?P<title>\S.*)\n(?P<line>[=-])(?P=line){2,}$', re.MULTILINE)
# An indented block behind a line that ends in '::', and what that line says.
BLOCK = re.compile(
    r'^(?P<intro>[^\n]*)::(?P<argument>[^\n]*)\n(?P<options>(?: +:[^\n]*\n)*)\n+'
    r'(?P<text> +[^\n]*\n(?:(?: +[^\n]*)?\n)*)',
    re.MULTILINE,
)


def parse(path, change=str):
    """Return the document, its text changed before by a function that keeps the lines."""
    document = Document(change(path.read_text(encoding='utf-8')), str(path))
    for parser in (PythonCodeBlockParser(), DocTestParser()):
        for region in parser(document):
            document.add(region)
    return document


def sections_of(path):
    """Return (title, first line, last line) of the sections that have examples."""
    text = path.read_text(encoding='utf-8')
    titles = [(match['title'], text.count('\n', 0, match.start()) + 1) for match in
              TITLE.finditer(text)]  # fmt: skip
    ends = [line - 1 for _, line in titles[1:]] + [text.count('\n') + 1]
    lines = [example.line for example in parse(path)]
    return [
        (title, first, last)
        for (title, first), last in zip(titles, ends)
        if any(first <= line <= last for line in lines)
    ]


def blocks_of(document, first, last):
    """Return the examples between two lines in lists, one for each block that a reader sees."""
    blocks = []
    end = None
    for example in document:
        if first <= example.line <= last:
            prompt = not isinstance(example.region.parsed, str)
            if prompt and end is not None and not document.text[end : example.start].strip():
                blocks[-1].append(example)
            else:
                blocks.append([example])
            end = example.end if prompt else None
    return blocks


class Unseen:
    """The code that runs between the examples of a page, from the file of Python beside it.

    A line such as `# %% The title of a section: after 2` says where what follows it runs: in that
    section, after its second block of examples. There are also `before` and `after`.
    """

    CELL = re.compile(r'^# %% (?P<title>.+): (?P<when>before|after|after \d+)$', re.MULTILINE)

    def __init__(self, page, change=str):
        self.path = page.with_suffix('.py')
        text = change(self.path.read_text(encoding='utf-8')) if self.path.exists() else ''
        self.cells = {}
        starts = list(self.CELL.finditer(text))
        for cell, following in zip_longest(starts, starts[1:]):
            key = cell['title'], cell['when']
            assert key not in self.cells, key
            end = following.start() if following else len(text)
            # With the lines before it, so that errors show the right one.
            lines = '\n' * text.count('\n', 0, cell.end())
            self.cells[key] = lines + text[cell.end() : end]

    def run(self, title, when, namespace):
        code = self.cells.get((title, when), '')
        exec(compile(code, str(self.path), 'exec'), namespace)


# Pages with what every program needs, whose examples run with both clients.
EVERYDAY = {
    'acknowledging', 'consuming', 'errors', 'production', 'publishing', 'rpc', 'threads',
}  # fmt: skip
# Sections that use what only one of them has.
ONLY_0_9_1 = {
    'A callback for each confirm', 'A window', 'Bindings between exchanges', 'Confirms',
    'Negative acknowledgements', 'Passwords that expire', 'Priorities', 'Quorum queues',
    'Refused messages', 'Streams', 'With confirms',
}  # fmt: skip


# Sections with examples that the broker of amqplib.testing cannot run, and why.
ONLY_RABBITMQ = {
    'Dead letters': 'it has no quorum queues',
    'Quorum queues': 'it has no quorum queues',
    'Retrying a few times': 'it has no quorum queues',
    'Streams': 'it has no streams',
}


# Sections with examples that need a newer RabbitMQ than others do.
SINCE = {'Dead letters': '3.10', 'Streams': '3.9', 'TLS': '3.10'}


def id_of(path, title, client):
    return f'{path.stem}: {title}' + (', 0-9-1' if client is client_0_9_1 else '')


def clients_for(path, title):
    """Return the clients that the examples of a section run with."""
    both = path.stem in EVERYDAY and title not in ONLY_0_9_1
    return [amqp, client_0_9_1] if both else [client_0_9_1]


def marks_of(title, client):
    marks = [pytest.mark.any_version] if client is client_0_9_1 else []
    if title in ONLY_RABBITMQ:
        marks.append(pytest.mark.only_rabbitmq(ONLY_RABBITMQ[title]))
    return marks


SECTIONS = [
    pytest.param(
        path,
        title,
        first,
        last,
        client,
        id=id_of(path, title, client),
        marks=marks_of(title, client),
    )
    for path in PAGES
    for title, first, last in sections_of(path)
    for client in clients_for(path, title)
]


class OptionalClientCertificates(brokers.TLS):
    """A TLS listener that lets clients with and without a certificate in."""

    def config_lines(self, address, folder):
        lines = super().config_lines(address, folder)
        return [line.replace('peer_cert = true', 'peer_cert = false') for line in lines]


@pytest.fixture
def tls_node(new_node, tmp_path, monkeypatch):
    """Return a node for broker.example.com, with the files that the guide has.

    Its authority is one of the system's, and in ca.pem; client.pem is the certificate of guest.
    """
    monkeypatch.chdir(tmp_path)
    authority = trustme.CA()
    authority.cert_pem.write_to_path('ca.pem')
    monkeypatch.setenv('SSL_CERT_FILE', 'ca.pem')
    save(authority.issue_cert('broker.example.com', 'localhost'), 'server')
    save(authority.issue_cert('guest@example.com', common_name='guest'), 'client')
    return new_node(tls=OptionalClientCertificates('server.pem', 'server.key', 'ca.pem', True))


def save(certificate, name):
    certificate.private_key_pem.write_to_path(f'{name}.key')
    for part in certificate.cert_chain_pems:
        part.write_to_path(f'{name}.pem', append=True)


@pytest.fixture
def hosts(broker, monkeypatch):
    """Lead the guide's names to the broker of the tests; a dict for those of other ports."""
    look_up = transport.look_up
    by_port = {}

    def look_up_for_tests(name, port, deadline):
        if name == DEAD_HOST:
            return look_up(*held.getsockname(), deadline)
        if name not in GUIDE_HOSTS:
            return look_up(name, port, deadline)
        return look_up(*by_port.get(port, (broker.host, broker.port)), deadline)

    monkeypatch.setattr(transport, 'look_up', look_up_for_tests)
    # It does not listen, and nobody else can.
    with socket.socket() as held:
        held.bind((brokers.LOOPBACK, 0))
        yield by_port


# Queues and exchanges of the examples, and what they call by the name of none.
README_NAMES = {'hello'}
NAMES = {
    'before', 'careful', 'counted', 'elsewhere', 'events', 'everything', 'failed', 'here',
    'history', 'jobs', 'jobs-failed', 'jobs-later', 'lost', 'myfan', 'myqueue', 'news',
    'no-such-exchange', 'no-such-queue', 'nowhere', 'orders', 'own', 'payments', 'results', 'row',
    'short-lived', 'shouting', 'small', 'some-queue', 'stays', 'tasks', 'weather', 'work',
    'work-example', 'x',
}  # fmt: skip
# Exchanges that the broker has, to which others may have bound queues.
SHARED_EXCHANGES = {'amq.direct': 'direct', 'amq.fanout': 'fanout', 'amq.topic': 'topic'}


class OwnNames:
    """Gives the names in a text a beginning of their own, and knows what was declared."""

    def __init__(self):
        self.beginning = f'amqplib-test-{uuid.uuid4()}-'
        self.queues = set()
        self.exchanges = {self.beginning + name for name in SHARED_EXCHANGES}

    def put_into(self, text, names=(*NAMES, *SHARED_EXCHANGES)):
        any_name = '|'.join(map(re.escape, names))
        # As they are in the examples, and in what these print.
        name = re.compile(rf"(?<=')(?:{any_name})(?=')|(?<= in )(?:{any_name})$", re.MULTILINE)
        return name.sub(lambda found: self.beginning + found[0], text)

    def watch(self, monkeypatch, channel_class, method, names):
        """Let a method declare nothing of another name, and add to a set what it leaves there."""
        declare = getattr(channel_class, method)

        def declare_own(channel, *args, **kwargs):
            name = args[0] if args else kwargs.get('queue', '')
            if name and not name.startswith('amq.gen-'):
                assert name.startswith(self.beginning), f'{name} is not among the NAMES'
            declared = declare(channel, *args, **kwargs)
            if not kwargs.get('exclusive'):  # those go with their connection
                names.add(declared[0] if declared else name)  # the broker may have named it
            return declared

        monkeypatch.setattr(channel_class, method, declare_own)


@pytest.fixture
def own_names(address, monkeypatch):
    """The `OwnNames` of a test, after which nothing of these is left."""
    names = OwnNames()
    with client_0_9_1.Connection(address) as conn, conn.channel() as ch:
        for name, kind in SHARED_EXCHANGES.items():
            ch.exchange_declare(names.beginning + name, kind, auto_delete=False)
    with monkeypatch.context() as patch:
        for client in (amqp, client_0_9_1):
            names.watch(patch, client.Channel, 'queue_declare', names.queues)
            names.watch(patch, client.Channel, 'exchange_declare', names.exchanges)
        yield names
    with client_0_9_1.Connection(address) as conn, conn.channel() as ch:
        for name in names.queues:
            ch.queue_delete(name)
        for name in names.exchanges:
            ch.exchange_delete(name)


@contextlib.contextmanager
def namespace(client):
    """What the examples of a section begin with; their connections are closed after them."""
    names = {'amqp': client, '__name__': '__main__'}
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        names['conn'] = stack.enter_context(client.Connection())
        names['ch'] = names['conn'].channel()
        yield names
        for value in names.values():
            if isinstance(value, (amqp.Connection, client_0_9_1.Connection)):
                stack.callback(value.close)


@pytest.mark.parametrize(('path', 'title', 'first', 'last', 'client'), SECTIONS)
def test_the_examples_of_a_section(path, title, first, last, client, hosts, own_names, request):
    document = parse(path, own_names.put_into)
    unseen = Unseen(path, own_names.put_into)
    with namespace(client) as document.namespace:
        if title in SINCE:
            leave_out_before(document.namespace['conn'], SINCE[title], 'what the examples use')
        blocks = blocks_of(document, first, last)
        if any('ssl=' in document.text[example.start : example.end] for example in chain(*blocks)):
            node = request.getfixturevalue('tls_node')
            hosts[TLS_PORT] = node.host, node.tls_port
        unseen.run(title, 'before', document.namespace)
        for number, block in enumerate(blocks, 1):
            for example in block:
                example.evaluate()
            unseen.run(title, f'after {number}', document.namespace)
        unseen.run(title, 'after', document.namespace)


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.stem)
def test_all_that_is_unseen_runs(path):
    document = parse(path)
    places = set()
    for title, first, last in sections_of(path):
        numbers = range(1, len(blocks_of(document, first, last)))
        places |= {(title, when) for when in ('before', 'after')}
        places |= {(title, f'after {number}') for number in numbers}
    unseen = Unseen(path)
    assert unseen.cells.keys() <= places
    assert not unseen.path.exists() or unseen.cells


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.stem)
def test_no_code_is_left_out(path):
    text = path.read_text(encoding='utf-8')
    run = [(region.start, region.end) for _, region in parse(path).regions]
    for block in BLOCK.finditer(text):
        if block['intro'] == '.. code-block' and block['argument'] == ' python':
            assert any(start <= block.start('text') <= end for start, end in run), block['text']
        else:
            # What is not run says that it is no Python.
            assert block['intro'].startswith('.. '), block[0]
            assert block['argument'] != ' python', block[0]
    for prompt in re.finditer('^ *>>> ', text, re.MULTILINE):
        assert any(start <= prompt.start() < end for start, end in run), prompt.start()


@pytest.mark.parametrize('path', sorted(DOCS.rglob('*.rst')), ids=lambda path: path.stem)
def test_each_page_begins_with_what_it_is_for(path):
    text = path.read_text(encoding='utf-8')
    if path.parent.name != 'reference' and path.stem not in {'index', 'changes', 'contributing'}:
        first = ' '.join(text.split('\n\n')[1].split())
        assert re.search(r'This page (is|explains) .*\bfor\b', first)


#: What people who know other clients and RabbitMQ have searched for, and the page that has it.
WORDS = {
    'contributing': ['Contributing'],
    'faq': [
        'asyncio', 'Celery', 'delay a message', 'Django', 'eventlet', 'exactly once', 'FastAPI',
        'Flask', 'gevent', 'idempotent', 'JSON', 'load balanc', 'reconnect', 'thread-safe',
        'unknown delivery tag', 'unroutable',
    ],
    'guides/acknowledging': [
        'consumer timeout', 'dead letter', 'fair dispatch', 'prefetch', 'retry', 'TTL',
        'work queue',
    ],
    'guides/coming_from': ['confirm_delivery', 'pika', 'py-amqp', 'start_consuming'],
    'guides/connecting': ['connection_name', 'URL', 'virtual host'],
    'guides/consuming': ['priority'],
    'guides/errors': ['failover', 'reconnect', 'retry'],
    'guides/production': ['container', 'gunicorn', 'SIGTERM', 'systemd'],
    'guides/publishing': ['blocked', 'publisher confirms', 'unroutable'],
    'guides/queues': ['default exchange', 'quorum queue', 'stream'],
    'guides/rabbitmq_4': ['16 MiB'],
    'guides/rpc': ['direct reply-to', 'RPC'],
    'guides/threads': ['Django', 'eventlet', 'Flask', 'fork', 'gevent', 'multiprocessing'],
    'guides/timeouts': ['heartbeat'],
}  # fmt: skip


@pytest.mark.parametrize('page', WORDS)
def test_what_readers_search_for_is_there(page):
    text = (DOCS / page).with_suffix('.rst').read_text(encoding='utf-8')
    if text.startswith('.. include:: '):
        text = (DOCS / text.split()[2]).read_text(encoding='utf-8')
    text = ' '.join(text.lower().split())
    assert [word for word in WORDS[page] if word.lower() not in text] == []


def test_the_internals_name_every_module():
    text = (DOCS / 'topics' / 'internals.rst').read_text(encoding='utf-8')
    named = set(re.findall(r'``(\w+\.py)``', text))
    core = {path.name for path in (ROOT / 'amqplib' / 'core').glob('*.py')}
    assert named >= core | {'exceptions.py'}
    assert named <= {path.name for path in (ROOT / 'amqplib').rglob('*.py')}
    for folder in ('command_line', 'testing'):
        modules = {path.name for path in (ROOT / 'amqplib' / folder).glob('[!_]*.py')}
        assert set(re.findall(rf'``{folder}/(\w+\.py)``', text)) == modules


# A test as the page on reliability names it, and a row of its tables.
NAMED_TEST = re.compile(r'``([\w/]+\.py)::(\w+)``')
ROW = re.compile(r'^   \* - (?P<row>.*(?:\n     .*)*)', re.MULTILINE)


def functions_of(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_tests_that_are_named_are_there():
    text = (DOCS / 'topics' / 'reliability.rst').read_text(encoding='utf-8')
    named = {}
    for module, name in NAMED_TEST.findall(text):
        named.setdefault(module, set()).add(name)
    for module, names in named.items():
        assert names <= functions_of(ROOT / 'tests' / module), module
    # None is written in another way, and so overlooked.
    without_files = re.sub(r'[\w/]+\.py', '', text)
    assert without_files.count('test_') == len(NAMED_TEST.findall(text))


def test_every_fault_has_a_test():
    text = (DOCS / 'topics' / 'reliability.rst').read_text(encoding='utf-8')
    rows = [match['row'] for match in ROW.finditer(text)]
    faults = [row for row in rows if not row.startswith('Fault\n')]
    assert len(faults) > 130
    for row in faults:
        assert NAMED_TEST.search(row), row


def test_the_figures_on_the_page_are_those_that_were_measured():
    page = (DOCS / 'topics' / 'performance.rst').read_text(encoding='utf-8')
    blocks = [b['text'] for b in BLOCK.finditer(page) if b['argument'] == ' text']
    measured = (ROOT / 'docs' / 'performance' / 'table.txt').read_text(encoding='utf-8')
    assert blocks
    for block in blocks:
        assert textwrap.dedent(block).strip() in measured


def docstring_examples():
    """Return the blocks of Python in the docstrings of the package."""
    for path in sorted((ROOT / 'amqplib').rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node) or ''
                assert '>>>' not in text, path  # these are found too, once there are any
                for block in BLOCK.finditer(text + '\n'):
                    with contextlib.suppress(SyntaxError):
                        ast.parse(textwrap.dedent(block['text']))
                        yield pytest.param(textwrap.dedent(block['text']), id=path.stem)


@pytest.mark.any_version
@pytest.mark.parametrize('source', list(docstring_examples()))
def test_the_examples_of_docstrings(source, hosts, own_names):
    with namespace(client_0_9_1) as names:
        exec(own_names.put_into(source), {**names, 'URL': 'amqp://localhost'})


def readme_blocks():
    return [block['text'] for block in BLOCK.finditer(README.read_text(encoding='utf-8'))]


def readme_programs():
    """Return the blocks of the README that are programs, as opposed to commands."""
    return [textwrap.dedent(text) for text in readme_blocks() if 'import amqplib.client' in text]


@pytest.mark.parametrize(
    'client', ['client_0_8', pytest.param('client_0_9_1', marks=pytest.mark.any_version)]
)
def test_the_programs_of_the_readme(client, hosts, own_names, capsys):
    """Sending three times and then receiving shows three messages; and again.

    They are printed with one import, and README says that they run with either.
    """
    programs = [text.replace('client_0_9_1', client) for text in readme_programs()]
    sources = [own_names.put_into(text, README_NAMES) for text in programs]
    send, receive = [compile(source, str(README), 'exec') for source in sources]
    for _ in range(2):
        for program in (send, send, send, receive):
            exec(program, {'__name__': '__main__'})
        shown = capsys.readouterr().out.splitlines()
        assert shown == ['received hello world'] * 3 + ['nothing more for a second']


def declarations(text):
    """Return (name, keyword arguments) of the calls that declare queues and exchanges."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name in {'queue_declare', 'exchange_declare'}:
                yield name, {one.arg: ast.unparse(one.value) for one in node.keywords}


def examples_of(path):
    """Return the code of a page, of the README or of a program, as pieces that can be parsed."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.py':
        return [text]
    if path == README:
        return readme_programs()
    return [getattr(region.parsed, 'source', region.parsed) for _, region in parse(path).regions]


@pytest.mark.parametrize('path', [README, *PAGES, *DEMOS], ids=lambda path: path.name)
def test_what_is_declared_stays_or_is_for_one_connection(path):
    """A queue with the default of auto_delete goes with its last consumer, and its messages too.

    One that is neither durable nor exclusive is refused by new brokers.
    """
    for example in examples_of(path):
        for name, options in declarations(example):
            assert (
                'passive' in options
                or (options.get('durable'), options.get('auto_delete')) == ('True', 'False')
                or (name == 'queue_declare' and options.get('exclusive') == 'True')
                or (path in DEMOS and name == 'exchange_declare')
            ), (name, options)


def test_declarations_are_found():
    """So that the test of what they say looks at some."""
    assert sum(1 for text in examples_of(README) for _ in declarations(text)) == 2
    texts = [text for page in PAGES for text in examples_of(page)]
    assert sum(1 for text in texts for _ in declarations(text)) > 30


def test_the_commands_of_the_readme_are_there():
    commands = [
        line.split()
        for text in readme_blocks()
        if 'import amqplib' not in text
        for line in text.split('\n')
        if line
    ]
    programs = [words[1] for words in commands if words[0] in {'sh', 'python'}]
    assert {'demo/run', 'docs/build', 'tests/run'} <= set(programs)
    for program in programs:
        assert program == '-m' or (ROOT / program).exists(), program


@pytest.mark.parametrize('path', [*ROOT.glob('*.txt'), *PAGES], ids=lambda path: path.name)
def test_commands_and_programs_stand_out(path):
    """A colon alone makes a quotation of what follows it, which flows like any other text."""
    text = path.read_text(encoding='utf-8')
    assert re.findall(r'^\S.*[^:\n]:\n\n {4}\S.*', text, re.MULTILINE) == []


def test_the_paths_of_the_readme_are_there():
    text = README.read_text(encoding='utf-8')
    for path in re.findall(r'\b(?:benchmarks|demo|docs|tests)/[\w./]*\w', text):
        assert (ROOT / path).exists(), path


def test_the_changes_begin_with_this_version():
    text = (ROOT / 'CHANGES.txt').read_text(encoding='utf-8')
    version, date = re.search(r'^Version (\S+), (.+)$', text, re.MULTILINE).groups()
    if date == 'not released yet':
        assert amqplib.__version__ == f'{version}.dev0'
    else:
        assert amqplib.__version__ == version
        assert re.fullmatch(r'\d{4}-\d\d-\d\d', date)
