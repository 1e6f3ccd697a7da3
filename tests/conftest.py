"""Fixtures for all tests: a real broker, and connections to it."""

import contextlib
import gc
import threading
import time
from collections import Counter

import hypothesis
import pytest

from tests.helpers import broker as brokers
from tests.helpers.authority import Authority
from tests.helpers.leaks import leftovers, open_descriptors
from tests.helpers.packages import CLIENT_0_8, PACKAGES

#: The fixtures that all others with a broker take it from.
LIVE = {'broker', 'make_node'}

#: The fixtures that are a broker which serves more than one test.
SHARED = {'broker', 'controlled', 'shared_node', 'strict_node'}

#: For tests that do not mind which version of AMQP the broker speaks.
ANY_VERSION = 'any_version'

#: How the reasons begin for which tests are left out, and what the broker of the run cannot give.
NEEDS_0_8 = 'needs AMQP 0-8: '
NEEDS_NODE = 'needs a broker of its own: '

NEEDS_RABBITMQ = 'needs RabbitMQ: '

#: The mark of tests that the broker of amqplib.testing cannot pass; its argument says why.
ONLY_RABBITMQ = 'only_rabbitmq'

#: How those are counted.
LEFT_OUT = 'left out'


# How long an example takes, and how long hypothesis takes to find one, depends on the machine.
hypothesis.settings.register_profile(
    'any pace', deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile('any pace')

#: The folders whose tests measure no coverage: they show what holds when something else happens at
#: the same time, and all the code that they run is run by tests of the other folders.
NOT_MEASURED = ('faults', 'fuzz', 'live', 'reliability')


def pytest_collection_modifyitems(items):
    """Leave out the measuring of coverage, which takes long, where it would show nothing new."""
    for item in items:
        if item.path.parent.name in NOT_MEASURED:
            item.add_marker('no_cover')


def pytest_collection_finish(session):
    """Get hold of a broker before the first test that needs one, or end the run.

    It may have to be downloaded, which no test's time limit should cover.
    """
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, 'fixturenames', ())}
    if LIVE & wanted:
        capture = session.config.pluginmanager.getplugin('capturemanager')
        with capture.global_and_fixture_disabled(), run_ends_by_broker_error():
            brokers.prepare(nodes='make_node' in wanted)


def pytest_report_teststatus(report):
    """Count what the broker cannot do apart from what is skipped for other reasons."""
    if report.skipped and what_it_needs(report):
        return LEFT_OUT, 's', 'LEFT OUT'
    return None


def pytest_terminal_summary(terminalreporter):
    """Say in a line how many tests were left out for each want of the broker, and why."""
    needs = [what_it_needs(report) for report in terminalreporter.getreports(LEFT_OUT)]
    for need, number in Counter(needs).items():
        terminalreporter.write_line(f'{number} tests were left out, as each {need}')
    if any(need.startswith((NEEDS_NODE, NEEDS_RABBITMQ)) for need in needs):
        terminalreporter.write_line(brokers.FOUR_WAYS)


def what_it_needs(report):
    """Return the reason of a skip if it begins with what the broker does not give, else ''."""
    reason = report.longrepr[2].partition('Skipped: ')[2]
    return reason if reason.startswith((NEEDS_0_8, NEEDS_NODE, NEEDS_RABBITMQ)) else ''


@pytest.fixture(scope='session')
def broker():
    """The broker that serves the whole run; a `broker.Broker`."""
    with contextlib.closing(brokers.the_broker()) as ours:
        with run_ends_by_broker_error():
            ours.start()
        yield ours


@contextlib.contextmanager
def run_ends_by_broker_error():
    try:
        yield
    except brokers.BrokerError as problem:
        pytest.exit(f'amqplib: {problem}', returncode=1)


@pytest.fixture(scope='session')
def make_node():
    """`broker.new_node`; what starts a node has it from here, and so is known to need one."""
    try:
        brokers.node_class()
    except brokers.BrokerError:  # `prepare` has said it
        pytest.skip(f'{NEEDS_NODE}neither Docker nor rabbitmq-server is at hand for one')
    return brokers.new_node


@pytest.fixture(scope='session')
def authority(tmp_path_factory):
    """An `Authority` that the tests trust."""
    return Authority(tmp_path_factory.mktemp('authority'))


@pytest.fixture(scope='session')
def shared_node(make_node, authority):
    """A node that serves the tests one after the other; it may have been left stopped."""
    tls = brokers.TLS(*authority.files('127.0.0.1', 'localhost'), authority.file)
    with make_node(tls=tls) as node:
        yield node


@pytest.fixture
def own_node(shared_node):
    """A node of our own, up and running, also with TLS; a test may freeze, stop and kill it."""
    shared_node.start()
    return shared_node


@pytest.fixture
def controlled(broker, make_node, request):
    """A broker on which rabbitmqctl can be used: the one of the run if it is ours."""
    return broker if broker.can_control else request.getfixturevalue('own_node')


@pytest.fixture(autouse=True)
def _left_out_where_0_8_is_refused(request):
    """Skip a test that needs AMQP 0-8 if a broker that it uses refuses that."""
    for name in SHARED.intersection(request.fixturenames) - set(parameters_of(request.node)):
        leave_out_if_refused(request.node, request.getfixturevalue(name))


@pytest.fixture(autouse=True)
def _left_out_without_rabbitmq(request):
    """Skip a test that needs RabbitMQ if the broker of the run is that of amqplib.testing."""
    mark = request.node.get_closest_marker(ONLY_RABBITMQ)
    if mark and isinstance(request.getfixturevalue('broker'), brokers.ProcessBroker):
        pytest.skip(NEEDS_RABBITMQ + mark.args[0])


def leave_out_if_refused(item, its_broker):
    """Skip a test if the broker refuses AMQP 0-8 and the test needs that.

    All do, but for those that are marked or that have taken another client for `amqp`.
    """
    client = parameters_of(item).get('amqp', CLIENT_0_8)
    if its_broker.refusal and client is CLIENT_0_8 and not item.get_closest_marker(ANY_VERSION):
        pytest.skip(f'{NEEDS_0_8}{its_broker.refusal}')


def parameters_of(item):
    callspec = getattr(item, 'callspec', None)
    return {} if callspec is None else callspec.params


@pytest.fixture(params=PACKAGES)
def amqp(request):
    """The client package.

    A test that takes the client from here, and nowhere else, runs once for each package.
    """
    return request.param


@pytest.fixture
def by_version(amqp):
    """A function (of_0_8, of_0_9_1) that returns what is expected of the package under test."""
    return lambda of_0_8, of_0_9_1: of_0_8 if amqp is CLIENT_0_8 else of_0_9_1


@pytest.fixture
def address(broker):
    """The broker's 'host:port'."""
    return broker.address


@pytest.fixture
def new_node(make_node, request):
    """A function (config_lines=(), tls=None, plugins=()) that starts a node.

    The node (a `broker.Node`) belongs to the test, which may stop, freeze and
    kill it; it is gone after the test.
    """
    nodes = []

    def start(config_lines=(), tls=None, plugins=()):
        node = make_node(config_lines, tls, plugins)
        nodes.append(node)
        node.start()
        leave_out_if_refused(request.node, node)
        return node

    yield start
    for node in nodes:
        node.close()


@pytest.fixture
def connection(address):
    """An open connection, closed after the test unless the test did."""
    conn = CLIENT_0_8.Connection(host=address, userid='guest', password='guest')
    yield conn
    if conn.transport is not None:
        conn.close()


@pytest.fixture
def channel(connection):
    """An open channel of `connection`, closed with it."""
    return connection.channel()


@pytest.fixture
def no_leaks():
    """Fail the test if it leaves descriptors or threads behind.

    Ask for it before the fixtures whose leftovers are to be noticed:
    `def test_x(no_leaks, connection)`. The one heartbeat thread that serves the
    whole process may appear and stay.
    """
    threads = set(threading.enumerate())
    descriptors = open_descriptors()
    yield
    deadline = time.monotonic() + 5
    while True:
        gc.collect()
        left = leftovers(threads, descriptors)
        if not left:
            return
        if time.monotonic() > deadline:
            pytest.fail(f'left behind: {left}')
        time.sleep(0.05)
