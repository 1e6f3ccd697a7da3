"""A RabbitMQ broker for the tests and the demos, wherever one can be had.

As a command it runs another command beside a broker, with AMQPLIB_BROKER set
to its host:port, and ends with that command's status:

    python tests/helpers/broker.py COMMAND [ARGUMENT...]

The broker is the first of these that works:

1. the one named in the environment: AMQPLIB_BROKER=host:port (user guest,
   password guest), or AMQPLIB_BROKER=process for that of amqplib.testing;
2. a container, where a Docker daemon answers: of the image that is named by
   AMQPLIB_IMAGE, else of rabbitmq:3.13, which speaks both AMQP 0-8 and 0-9-1,
   else of any rabbitmq that is there or can be fetched;
3. a private node of the rabbitmq-server on this machine;
4. the same, as root on a Debian system, after installing rabbitmq-server;
5. that of amqplib.testing, in each process that needs one, unless the environment
   has AMQPLIB_RABBITMQ: then there is no broker, and that is an error.

If it refuses AMQP 0-8, as RabbitMQ 4 does, the tests that need that are left
out, and the end of the run says how many those are.

What is started here listens on the loopback interface only, keeps its files in
a temporary folder, and is stopped when the process that wanted it ends, even if
that is by a kill -9 (see `Watchdog`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

IMAGE = 'rabbitmq:3.13'  # the last series that speaks AMQP 0-8 too
NEWEST_IMAGE = 'rabbitmq:latest'
PROCESS = 'process'  # as AMQPLIB_BROKER: the broker of amqplib.testing
INSIST = 'AMQPLIB_RABBITMQ'  # in the environment: without RabbitMQ there is no broker
LOOPBACK = '127.0.0.1'
GIVEN_SECONDS = 10  # until a broker that should be there answers
START_SECONDS = 90  # until a broker that was just started answers
START_TRIES = 3  # of a node whose port others take meanwhile
MAX_CALLS = 25  # of erl_call, until it is connected
STOP_SECONDS = 20  # from SIGTERM to SIGKILL

FOUR_WAYS = """\
Any one of these provides RabbitMQ:
  - set AMQPLIB_BROKER=host:port to use a running broker
  - start a Docker daemon (the image rabbitmq:3.13 is used, if it can be had)
  - install rabbitmq-server, of which a private node is started
  - on Debian or Ubuntu, run this as root, and rabbitmq-server gets installed"""


class BrokerError(RuntimeError):
    """A broker cannot be had, started or controlled; the text says why."""


class NotConnectedError(BrokerError):
    """A program that controls a node got no connection to it, and so did nothing."""


class PortTakenError(BrokerError):
    """Somebody listens on a port that was free a moment ago."""


def say(text):
    print(f'amqplib: {text}', file=sys.stderr, flush=True)


# --- Brokers ---------------------------------------------------------------


@dataclass(frozen=True)
class TLS:
    """Files (PEM) for a node's TLS listener.

    With `client_certificates`, clients must present a certificate signed by
    `cafile`, and may log in with it: mechanism EXTERNAL, as the user named by
    its common name.
    """

    certfile: str
    keyfile: str
    cafile: str
    client_certificates: bool = False

    def copy_to(self, folder):
        folder.mkdir(exist_ok=True)
        for source in (self.certfile, self.keyfile, self.cafile):
            # Readable by all: in a container the broker is another user.
            shutil.copy(source, folder)
            (folder / Path(source).name).chmod(0o644)

    def config_lines(self, address, folder):
        yes_or_no = str(self.client_certificates).lower()
        lines = [
            f'listeners.ssl.1 = {address}',
            f'ssl_options.certfile = {folder}/{Path(self.certfile).name}',
            f'ssl_options.keyfile = {folder}/{Path(self.keyfile).name}',
            f'ssl_options.cacertfile = {folder}/{Path(self.cafile).name}',
            f'ssl_options.verify = {"verify_peer" if self.client_certificates else "verify_none"}',
            f'ssl_options.fail_if_no_peer_cert = {yes_or_no}',
        ]
        if self.client_certificates:
            lines += [
                'auth_mechanisms.1 = PLAIN',
                'auth_mechanisms.2 = AMQPLAIN',
                'auth_mechanisms.3 = EXTERNAL',
                'ssl_cert_login_from = common_name',
            ]
        return lines

    def plugins(self):
        return ['rabbitmq_auth_mechanism_ssl'] if self.client_certificates else []


class Broker:
    """A broker that somebody else runs: it can be talked to, and that is all."""

    can_control = False
    start_seconds = GIVEN_SECONDS
    refusal = ''  # once it is started: what it answers to AMQP 0-8, if it does not speak that
    pid = None  # of the Erlang machine, where that runs on this machine
    tls_port = None

    def __init__(self, host, port):
        self.host = host
        self.port = port

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        return f'<{type(self).__name__} {self.address}>'

    @property
    def address(self):
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'{host}:{self.port}'

    @property
    def tls_address(self):
        return f'{self.host}:{self.tls_port}'

    def start(self):
        """Return once an AMQP handshake has succeeded; BrokerError if none does.

        `refusal` then says if it was one of AMQP 0-9-1, as the broker refuses 0-8.
        """
        deadline = time.monotonic() + self.start_seconds
        while True:
            self.check_running()
            try:
                self.refusal = handshake(self.address) or ''
                if self.tls_port:  # RabbitMQ opens it after the other one
                    socket.create_connection((self.host, self.tls_port), timeout=1).close()
                return
            except OSError as problem:
                if time.monotonic() > deadline:
                    raise BrokerError(f'no AMQP broker at {self.address}: {problem}') from problem
            time.sleep(0.1)

    def check_running(self):
        """Raise BrokerError if it is known that it no longer runs."""

    def close(self):
        """Stop it for good and remove its files, if it is ours."""

    def rabbitmqctl(self, *args):
        """Run a command of rabbitmqctl on it; return what that printed."""
        raise BrokerError(f'the broker at {self.address} is not ours to control')

    def evaluate(self, expression):
        """Evaluate an expression of Erlang on it; return the result as Erlang prints it."""
        return self.rabbitmqctl('eval', f'{expression}.')


class ProcessBroker(Broker):
    """The broker of `amqplib.testing`, in a thread of this process."""

    def __init__(self):
        from amqplib import testing

        self._broker = testing.Broker()
        super().__init__(LOOPBACK, self._broker.port)

    def start(self):
        self._broker.start()

    def close(self):
        self._broker.close()


class Node(Broker):
    """A broker of our own, which a test may configure, stop, freeze and kill.

    config_lines: lines for rabbitmq.conf
    tls: a `TLS`, for a listener at `tls_address` too
    plugins: names of plugins to enable

    It is not started yet: call `start`, or use it as a context manager. It
    keeps its ports, and what it has stored, when it is stopped and started.
    """

    can_control = True
    start_seconds = START_SECONDS

    def __init__(self, config_lines=(), tls=None, plugins=()):
        self._reserved = contextlib.ExitStack()
        super().__init__(LOOPBACK, self._reserve_port())
        self.tls_port = self._reserve_port() if tls else None
        self.name = f'amqplib-{self.port}'
        self.folder = Path(tempfile.mkdtemp(prefix='amqplib-broker-'))
        self._watchdog = Watchdog(self._clean_up_command())
        self._write_config(config_lines, tls, plugins)

    def _reserve_port(self):
        """Return a port that is the node's until it is closed, also while it does not run."""
        return self._reserved.enter_context(reserve_port()).getsockname()[1]

    def _write_config(self, config_lines, tls, plugins):
        lines = [f'listeners.tcp.1 = {self._listen(self.port, 5672)}', *config_lines]
        plugins = list(plugins)
        if tls:
            tls.copy_to(self.folder / 'tls')
            tls_listen = self._listen(self.tls_port, 5671)
            lines += tls.config_lines(tls_listen, f'{self._config_folder()}/tls')
            plugins += tls.plugins()
        (self.folder / 'rabbitmq.conf').write_text('\n'.join(lines) + '\n')
        (self.folder / 'enabled_plugins').write_text(f'[{",".join(plugins)}].\n')

    def restart(self):
        self.stop()
        self.start()

    def close(self):
        self.kill()
        self._watchdog.release()
        self._reserved.close()

    @contextlib.contextmanager
    def memory_alarm(self):
        """For the duration of the block, let the broker refuse to be published to."""
        self.evaluate('vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1})')
        try:
            # What answers this is what tells the connections of an alarm, and it has told them.
            give_up = time.monotonic() + self.start_seconds
            while 'memory' not in self.evaluate('rabbit_alarm:get_alarms()'):
                if time.monotonic() > give_up:
                    raise BrokerError('the broker does not raise the alarm')
            yield
        finally:
            self.evaluate('vm_memory_monitor:set_vm_memory_high_watermark(0.4)')

    def stop(self):
        """Shut it down in good order: clients are told so."""
        raise NotImplementedError

    def kill(self):
        """End it at once, as a crash would; nothing if it does not run."""
        raise NotImplementedError

    def suspend(self):
        """Freeze it: connections stay up, and nothing answers."""
        raise NotImplementedError

    def resume(self):
        """End `suspend`."""
        raise NotImplementedError

    def _listen(self, port, usual_port):
        """Return where to listen, for the configuration."""
        raise NotImplementedError

    def _config_folder(self):
        """Return the folder of the configuration as the node sees it."""
        raise NotImplementedError

    def _clean_up_command(self):
        """Return the shell command that removes every trace of the node."""
        raise NotImplementedError


class PrivateNode(Node):
    """A node of the rabbitmq-server that is installed on this machine.

    It has an epmd (Erlang's port mapper) of its own: the usual one would be
    started by the first node that needs it, and would outlive it.
    """

    def __init__(self, config_lines=(), tls=None, plugins=()):
        super().__init__(config_lines, tls, plugins)
        self._epmd_port = self._reserve_port()
        self._dist_port = None  # one for each start: only epmd has to know it
        self._epmd = None
        self._server = None

    @property
    def pid(self):
        return self._server.pid if self._server else None

    def start(self):
        for tries_left in reversed(range(START_TRIES)):
            if self._server is None:
                self._start_server()
            try:
                super().start()
                return
            except PortTakenError:
                self.kill()
                if not tries_left:
                    raise

    def _start_server(self):
        self._dist_port = free_port()
        self._start_epmd()
        with open(self._log, 'ab') as log:
            self._log_begin = log.tell()
            command = [program('rabbitmq-server'), '-noinput']
            self._server = self._spawn('server', command, log)

    def check_running(self):
        if self._server.poll() is not None:
            log = self._log.read_bytes()[self._log_begin :].decode(errors='replace')
            end = '\n'.join(log.splitlines()[-100:])
            kind = PortTakenError if 'dist_port_already_used' in log else BrokerError
            raise kind(
                f'rabbitmq-server ended with status {self._server.returncode}; '
                f'the end of its log:\n{end}'
            )

    def stop(self):
        if self._server is not None:
            self.resume()  # a frozen process would not see the signal
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(STOP_SECONDS)
            self.kill()

    def kill(self):
        if self._server is not None:
            self._end('server', self._server)
            self._server = None

    def close(self):
        self.kill()
        if self._epmd is not None:
            self._end('epmd', self._epmd)
            self._epmd = None
        super().close()

    def suspend(self):
        self._server.send_signal(signal.SIGSTOP)
        # Its threads may go on for a moment.
        os.waitid(os.P_PID, self._server.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self):
        self._server.send_signal(signal.SIGCONT)

    def rabbitmqctl(self, *args):
        return output_of([program('rabbitmqctl'), '--quiet', *args], self._environ())

    def evaluate(self, expression):
        erl_call = find_program('erl_call')
        if erl_call is None:
            return super().evaluate(expression)
        # rabbitmqctl takes seconds, as it starts an Erlang of its own.
        result = self._call([erl_call, '-n', f'{self.name}@localhost', '-e'], f'{expression}.\n')
        if not result.startswith('{ok, '):
            raise BrokerError(f'{expression}: {result}')
        return result

    def _call(self, command, text):
        """Run erl_call, which on a busy machine may not get through to the node at first."""
        for _ in range(MAX_CALLS - 1):
            with contextlib.suppress(NotConnectedError):
                return output_of(command, self._environ(), text)
            time.sleep(0.2)
        return output_of(command, self._environ(), text)

    @property
    def _log(self):
        return self.folder / 'log'

    def _listen(self, port, usual_port):
        return f'{LOOPBACK}:{port}'

    def _config_folder(self):
        return self.folder

    def _clean_up_command(self):
        # A file NAME.pid is there for as long as we have not waited for that
        # process, and so its number cannot have gone to another one.
        folder = shlex.quote(str(self.folder))
        return (
            f'for file in {folder}/*.pid; do [ -f "$file" ] && kill -9 "$(cat "$file")"; done; '
            f'rm -rf {folder} || {{ sleep 1; rm -rf {folder}; }}'
        )

    def _environ(self):
        """Return an environment that shares nothing with another node."""
        foreign = ('RABBITMQ_', 'ERL_')
        environ = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        loopback_only = '-kernel inet_dist_use_interface {127,0,0,1}'
        return {
            **environ,
            'HOME': str(self.folder),  # where Erlang keeps its cookie
            'LC_ALL': 'C.UTF-8',  # else rabbitmqctl complains
            'ERL_CRASH_DUMP_BYTES': '0',
            'ERL_EPMD_ADDRESS': LOOPBACK,
            'ERL_EPMD_PORT': str(self._epmd_port),
            'RABBITMQ_ALLOW_INPUT': '1',  # else the script stays, as a parent of the node
            'RABBITMQ_NODENAME': f'{self.name}@localhost',
            'RABBITMQ_DIST_PORT': str(self._dist_port),
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': loopback_only,
            'RABBITMQ_CTL_ERL_ARGS': loopback_only,
            'RABBITMQ_CONF_ENV_FILE': str(self.folder / 'none'),
            'RABBITMQ_CONFIG_FILE': str(self.folder / 'rabbitmq'),
            'RABBITMQ_ADVANCED_CONFIG_FILE': str(self.folder / 'none'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(self.folder / 'enabled_plugins'),
            'RABBITMQ_GENERATED_CONFIG_DIR': str(self.folder / 'generated'),
            'RABBITMQ_PLUGINS_EXPAND_DIR': str(self.folder / 'plugins'),
            'RABBITMQ_MNESIA_BASE': str(self.folder / 'data'),
            'RABBITMQ_LOG_BASE': str(self.folder / 'logs'),
            'RABBITMQ_LOGS': '-',
            'RABBITMQ_PID_FILE': str(self.folder / 'rabbitmq-pid'),
        }

    def _start_epmd(self):
        if self._epmd is None:
            command = [program('epmd'), '-address', LOOPBACK, '-port', str(self._epmd_port)]
            self._epmd = self._spawn('epmd', command, subprocess.DEVNULL)
            await_port(self._epmd_port)

    def _spawn(self, name, command, log):
        # The shell notes its number, then becomes the command: that leaves no
        # moment in which the process runs and the watchdog does not know it.
        noting = ['sh', '-c', 'echo $$ >"$0"; exec "$@"', str(self._pid_file(name))]
        return subprocess.Popen(
            [*noting, *command],
            env=self._environ(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        )

    def _pid_file(self, name):
        return self.folder / f'{name}.pid'

    def _end(self, name, process):
        process.kill()
        process.wait()
        with contextlib.suppress(FileNotFoundError):
            self._pid_file(name).unlink()


class DockerNode(Node):
    """A node in a container of the official image."""

    def __init__(self, config_lines=(), tls=None, plugins=()):
        super().__init__(['loopback_users = none', *config_lines], tls, plugins)
        self._created = False

    def start(self):
        if not self._created:
            self._create()
            self._created = True
        docker('start', self.name)
        super().start()

    def check_running(self):
        if docker('inspect', '--format', '{{.State.Running}}', self.name).strip() != 'true':
            log = docker('logs', '--tail', '100', self.name)
            raise BrokerError(f'the container {self.name} ended; the end of its log:\n{log}')

    def stop(self):
        docker('stop', '--time', str(STOP_SECONDS), self.name)

    def kill(self):
        if self._created and docker('ps', '--quiet', '--filter', f'name=^{self.name}$').strip():
            docker('kill', self.name)

    def suspend(self):
        docker('pause', self.name)

    def resume(self):
        docker('unpause', self.name)

    def rabbitmqctl(self, *args):
        return docker('exec', self.name, 'rabbitmqctl', '--quiet', *args)

    def _listen(self, port, usual_port):
        return f'0.0.0.0:{usual_port}'  # in the container, and published on loopback

    def _config_folder(self):
        return '/etc/rabbitmq'

    def _clean_up_command(self):
        folder = shlex.quote(str(self.folder))
        return f'docker rm --force --volumes {self.name}; rm -rf {folder}'

    def _create(self):
        ports = [f'--publish={LOOPBACK}:{self.port}:5672']
        if self.tls_port:
            ports.append(f'--publish={LOOPBACK}:{self.tls_port}:5671')
        docker('create', '--name', self.name, '--hostname', self.name, *ports, docker_image())
        for name, target in (
            ('rabbitmq.conf', 'conf.d/90-amqplib.conf'),
            ('enabled_plugins', 'enabled_plugins'),
            ('tls', 'tls'),
        ):
            if (self.folder / name).exists():
                docker('cp', str(self.folder / name), f'{self.name}:/etc/rabbitmq/{target}')


class Watchdog:
    """Runs a shell command when this process lets go of it, or ends in any way.

    It reads from a pipe of which this process has the other side, and so misses
    no end, not even by SIGKILL.
    """

    def __init__(self, command):
        script = f"trap '' HUP INT TERM; read -r line; {command}"
        self._process = subprocess.Popen(
            ['sh', '-c', script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd='/',
            start_new_session=True,
        )

    def release(self):
        """Have the command run now, once, and return when it has."""
        if not self._process.stdin.closed:
            # A line, since a forked child may keep the pipe open.
            self._process.stdin.write(b'\n')
            self._process.stdin.close()
            self._process.wait()


# --- Which broker ----------------------------------------------------------


def the_broker():
    """Return the broker to use, by the rule at the top of this file; not started."""
    given = given_broker()
    if given == PROCESS:
        return ProcessBroker()
    return Broker(*parse_address(given)) if given else new_node()


def given_broker():
    """Return what AMQPLIB_BROKER names, else PROCESS if no RabbitMQ can be had, else ''."""
    given = os.environ.get('AMQPLIB_BROKER', '')
    return PROCESS if not given and not rabbitmq_at_hand() else given


@functools.cache
def rabbitmq_at_hand():
    """Whether nodes of our own can run; BrokerError if not, and it is insisted on."""
    try:
        node_class()
    except BrokerError as problem:
        if os.environ.get(INSIST):
            raise
        say(f'going on with the broker of amqplib.testing: {problem}')
        return False
    return True


def new_node(config_lines=(), tls=None, plugins=()):
    """Return a `Node` of our own, by whichever way there is; not started."""
    return node_class()(config_lines, tls, plugins)


def prepare(nodes=True):
    """Download or install whatever `the_broker` needs, which may take minutes.

    nodes: whether `new_node` is going to be used. Where that will not work, but a broker was
    given, it is only said so; BrokerError if no broker can be had at all.
    """
    given = given_broker()
    if not given:
        return
    with the_broker():
        pass
    if nodes and os.environ.get('AMQPLIB_BROKER'):
        try:
            node_class()
        except BrokerError as problem:
            say(f'there is only the broker that was given: {problem}')


@functools.cache
def node_class():
    """Return the kind of node that can run on this machine.

    Installs rabbitmq-server as a last resort; BrokerError if nothing helps.
    """
    if docker_usable():
        return DockerNode
    if not find_program('rabbitmq-server'):
        install_rabbitmq()
    return PrivateNode


def parse_address(text):
    """Return (host, port) of 'host', 'host:port', '[ipv6]' or '[ipv6]:port'."""
    if text.startswith('['):
        host, _, rest = text[1:].partition(']')
        port = rest[1:]
    else:
        host, _, port = text.partition(':')
    if not host or not (port or '5672').isdigit():
        raise BrokerError(f'AMQPLIB_BROKER should be host:port, and is {text!r}')
    return host, int(port or 5672)


def handshake(address):
    """Open and close an AMQP connection; OSError if that fails.

    Returns None if it was one of AMQP 0-8; if the broker refuses that, and takes 0-9-1, the text
    of the refusal.
    """
    import amqplib.client_0_8 as amqp
    from amqplib import client_0_9_1

    login = {'host': address, 'userid': 'guest', 'password': 'guest', 'connect_timeout': 10}
    refusal = None
    try:
        try:
            amqp.Connection(**login).close()
        except amqp.ProtocolVersionRefused as error:
            client_0_9_1.Connection(**login).close()
            refusal = str(error)
    except amqp.AMQPException as problem:
        raise ConnectionError(f'the broker answered: {problem}') from problem
    return refusal


def free_port():
    """Return a port of the loopback interface that nobody listens on, and nobody has reserved."""
    with reserve_port() as reserved:
        return reserved.getsockname()[1]


def reserve_port():
    """Return a socket bound to a free port, which reserve_port() returns to nobody else meanwhile.

    It does not listen: what connects there is refused, and a server that sets SO_REUSEADDR, as
    most do, can listen there.

    The port is below those that systems hand out by themselves: there, a client that connects to
    a stopped node could be given that very port, and be connected to itself. The choice does not
    depend on a seed that a test may have set.
    """
    while True:
        reserved = socket.socket()
        try:
            reserved.bind((LOOPBACK, 20000 + secrets.randbelow(10000)))
        except OSError:
            reserved.close()
            continue
        # Not before: with this option, two could bind to the same port.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return reserved


def await_port(port):
    """Return when somebody listens on the port."""
    deadline = time.monotonic() + GIVEN_SECONDS
    while True:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
            return
        except OSError as problem:
            if time.monotonic() > deadline:
                raise BrokerError(f'nothing listens on port {port}') from problem
        time.sleep(0.02)


# --- Programs of this machine ----------------------------------------------


def find_program(name):
    # Debian's wrapper on the PATH switches user and drops the environment; what
    # it wraps is in this folder, also on other systems.
    direct = Path('/usr/lib/rabbitmq/bin') / name
    return str(direct) if direct.exists() else shutil.which(name)


def program(name):
    path = find_program(name)
    if path is None:
        raise BrokerError(f'the program {name} is not on the PATH')
    return path


def output_of(command, environ=None, text=''):
    """Run a command that reads a text; return its output, or raise with its complaint."""
    done = subprocess.run(
        command,
        env=environ,
        input=text,
        capture_output=True,
        encoding='utf-8',
        errors='replace',
        check=False,
    )
    if done.returncode:
        not_connected = 'failed to connect to node' in done.stderr  # erl_call says so
        kind = NotConnectedError if not_connected else BrokerError
        raise kind(
            f'{shlex.join(command)} ended with status {done.returncode}:\n'
            f'{done.stdout}{done.stderr}'.rstrip()
        )
    return done.stdout


def docker(*args):
    return output_of(['docker', *args])


def docker_usable():
    """Whether a Docker daemon answers and has an image, or can fetch one."""
    if not docker_answers():
        return False
    try:
        docker_image()
    except BrokerError as problem:
        say(f'going on without Docker: {problem}')
        return False
    return True


@functools.cache
def docker_image():
    """Return the image that is asked for, or the first that is there or can be fetched."""
    asked = os.environ.get('AMQPLIB_IMAGE')
    if asked:
        return fetched(asked)
    try:
        return fetched(IMAGE)
    except BrokerError as problem:
        say(f'going on without the Docker image {IMAGE}: {problem}')
    there = docker('images', '--format', '{{.Repository}}:{{.Tag}}', 'rabbitmq').split()
    tagged = [image for image in there if not image.endswith(':<none>')]
    return tagged[0] if tagged else fetched(NEWEST_IMAGE)


def fetched(image):
    if not docker('images', '--quiet', image).strip():
        say(f'fetching the Docker image {image}')
        docker('pull', '--quiet', image)
    return image


def docker_answers():
    if shutil.which('docker') is None:
        return False
    try:
        asked = subprocess.run(
            ['docker', 'info'],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        say('going on without Docker: its daemon does not answer')
        return False
    return asked.returncode == 0


def install_rabbitmq():
    """As root on Debian, install the server; BrokerError anywhere else."""
    debian = Path('/etc/debian_version').exists() and shutil.which('apt-get')
    if not debian or os.geteuid() != 0:
        raise BrokerError(f'no RabbitMQ broker is at hand. {FOUR_WAYS}')
    say('installing the package rabbitmq-server (and Erlang), which takes a minute')
    with services_not_started():
        apt_get('update')
        apt_get('install', '-y', '--no-install-recommends', 'rabbitmq-server')


def apt_get(*args):
    environ = {**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'}
    output_of(['apt-get', '-q', '-o', 'DPkg::Lock::Timeout=300', *args], environ)


@contextlib.contextmanager
def services_not_started():
    """Keep Debian from starting the services of packages it installs meanwhile."""
    policy = Path('/usr/sbin/policy-rc.d')
    if policy.exists():  # the machine has its own policy
        yield
        return
    policy.write_text('#!/bin/sh\nexit 101\n')
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


# --- The command -----------------------------------------------------------


def main(args):
    if not args or shutil.which(args[0]) is None:
        say(f'no such command: {args[0]}' if args else 'usage: broker.py COMMAND [ARGUMENT...]')
        return 127 if args else 2
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, end_by_signal)
    try:
        return run_beside_the_broker(args)
    except BrokerError as problem:
        say(str(problem))
        return 1


def end_by_signal(signum, frame):
    raise SystemExit(128 + signum)


def run_beside_the_broker(args):
    """Start `the_broker`, unless each process has it in itself, and run the command."""
    if given_broker() == PROCESS:
        return run_with(PROCESS, args)
    with contextlib.closing(the_broker()) as broker:
        broker.start()
        return run_with(broker.address, args)


def run_with(given, args):
    """Run the command to its end; return its status as a shell would."""
    child = subprocess.Popen(args, env={**os.environ, 'AMQPLIB_BROKER': given})
    try:
        status = child.wait()
    finally:
        end_child(child)
    return status if status >= 0 else 128 - status


def end_child(child):
    """End the command if a signal ended us first."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
