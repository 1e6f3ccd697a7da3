"""Fixtures for all tests: a real broker, and connections to it."""

import gc
import os
import threading
import time

import broker as brokers
import pytest
from packages import CLIENT_0_8, PACKAGES

LIVE = {'broker', 'new_node'}

#: For tests that do not mind which version of AMQP the broker speaks.
ANY_VERSION = 'any_version'


def pytest_collection_finish(session):
    """Get hold of a broker before the first test that needs one.

    It may have to be downloaded, which no test's time limit should cover.
    """
    if any(LIVE.intersection(getattr(item, 'fixturenames', ())) for item in session.items):
        capture = session.config.pluginmanager.getplugin('capturemanager')
        with capture.global_and_fixture_disabled():
            try:
                brokers.prepare()
            except brokers.BrokerError as problem:
                brokers.say(str(problem))  # each live test will fail by it


@pytest.fixture(scope='session')
def broker():
    """The broker that serves the whole run; a `broker.Broker`."""
    with brokers.the_broker() as ours:
        yield ours


@pytest.fixture(autouse=True)
def _left_out_where_0_8_is_refused(request):
    """Skip a test that needs AMQP 0-8 if the broker named by AMQPLIB_BROKER refuses that.

    All that use the broker of the run do, but for those that are marked or that have taken
    another client for the parameter `amqp`.
    """
    if not os.environ.get('AMQPLIB_BROKER') or 'broker' not in request.fixturenames:
        return
    callspec = getattr(request.node, 'callspec', None)
    parameters = {} if callspec is None else callspec.params
    if 'broker' in parameters:
        return  # something of the test's own has that name
    client = parameters.get('amqp', CLIENT_0_8)
    if client is CLIENT_0_8 and not request.node.get_closest_marker(ANY_VERSION):
        refusal = request.getfixturevalue('broker').refusal
        if refusal:
            pytest.skip(f'needs AMQP 0-8: {refusal}')


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
def new_node():
    """A function (config_lines=(), tls=None, plugins=()) that starts a node.

    The node (a `broker.Node`) belongs to the test, which may stop, freeze and
    kill it; it is gone after the test.
    """
    nodes = []

    def start(config_lines=(), tls=None, plugins=()):
        node = brokers.new_node(config_lines, tls, plugins)
        nodes.append(node)
        node.start()
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


def leftovers(threads, descriptors):
    """Return what is there now and was not then."""
    new_threads = [
        thread
        for thread in threading.enumerate()
        if thread not in threads and not thread.name.startswith('amqplib')
    ]
    return new_threads + sorted(open_descriptors() - descriptors)


def open_descriptors():
    """Return 'number -> what it is' of each open descriptor, where the system tells."""
    folder = '/proc/self/fd'
    if not os.path.isdir(folder):
        return set()
    return {f'{name} -> {target}' for name, target in read_links(folder)}


def read_links(folder):
    for name in os.listdir(folder):
        try:
            yield name, os.readlink(f'{folder}/{name}')
        except FileNotFoundError:
            continue  # the one that listed the folder
