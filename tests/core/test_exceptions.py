"""The error tree: who catches what, what an error carries, and that it can be pickled."""

import errno
import gc
import pickle
import re
import socket
import subprocess
import sys
import traceback
import weakref
from pathlib import Path

import pytest

from amqplib import exceptions
from amqplib.client_0_8.exceptions import METHOD_NAME_MAP
from amqplib.core import spec
from amqplib.exceptions import (
    AccessRefused,
    AMQPChannelException,
    AMQPConnectionException,
    AMQPException,
    AMQPTimeout,
    ConnectionForced,
    ConnectionLost,
    ConsumerCancelled,
    LoginRefused,
    MessageNacked,
    MessageReturned,
    MessageTooLarge,
    NotAllowed,
    NotFound,
    NotSupported,
    PreconditionFailed,
    ProtocolError,
    ProtocolVersionRefused,
    ReentrancyError,
    ResourceLocked,
    WriteTimeout,
    error_of_code,
)

OF_THE_CONNECTION = [
    ConnectionLost,
    ConnectionForced,
    NotAllowed,
    NotSupported,
    MessageTooLarge,
    LoginRefused,
    ProtocolVersionRefused,
    ProtocolError,
]
OF_THE_CHANNEL = [AccessRefused, NotFound, ResourceLocked, PreconditionFailed, ConsumerCancelled]
ALL = [
    AMQPException,
    AMQPConnectionException,
    *OF_THE_CONNECTION,
    AMQPChannelException,
    *OF_THE_CHANNEL,
    MessageNacked,
    MessageReturned,
    ReentrancyError,
    AMQPTimeout,
    WriteTimeout,
]


def caught_by(error, *classes):
    """Return which of the classes an except clause would catch the error by."""
    return [cls for cls in classes if isinstance(error, cls)]


# --- The tree ---


def test_every_class_of_the_module_is_in_the_tree():
    found = {
        value
        for value in vars(exceptions).values()
        if isinstance(value, type) and issubclass(value, AMQPException)
    }
    assert found == set(ALL)
    assert {cls.__name__ for cls in ALL} == set(exceptions.__all__)


@pytest.mark.parametrize('cls', OF_THE_CONNECTION)
def test_connection_errors(cls):
    error = cls(0, 'text')
    assert caught_by(error, AMQPConnectionException, AMQPChannelException, AMQPTimeout) == [
        AMQPConnectionException
    ]


@pytest.mark.parametrize('cls', OF_THE_CHANNEL)
def test_channel_errors(cls):
    error = cls(0, 'text')
    assert caught_by(error, AMQPConnectionException, AMQPChannelException, AMQPTimeout) == [
        AMQPChannelException
    ]
    assert not isinstance(error, OSError)


def test_lost_connection_is_what_a_broken_socket_was():
    classes = (IOError, socket.error, ConnectionError, socket.timeout)
    assert caught_by(ConnectionLost(0, 'text'), *classes) == [OSError, OSError, ConnectionError]


def test_timeout_is_what_a_socket_timeout_was():
    classes = (OSError, TimeoutError, socket.timeout, ConnectionError, AMQPConnectionException)
    error = AMQPTimeout(0, 'text')
    assert caught_by(error, *classes) == [OSError, TimeoutError, socket.timeout]


def test_write_timeout_is_a_timeout_that_lost_the_connection():
    error = WriteTimeout(0, 'text')
    classes = (ConnectionLost, AMQPTimeout, TimeoutError, socket.timeout, ConnectionError)
    assert caught_by(error, *classes) == list(classes)


@pytest.mark.parametrize(
    'cls', [AMQPConnectionException, AMQPChannelException, LoginRefused, ProtocolError]
)
def test_what_is_no_socket_error_is_not_caught_as_one(cls):
    assert not isinstance(cls(0, 'text'), OSError)


# --- The drawing ---


def test_the_tree_is_drawn_as_it_is():
    _, _, tree = exceptions.__doc__.partition('::\n\n')
    above = []
    drawn = []
    for indent, name in re.findall(r'^    ([| +-]*)(\w+)', tree.partition('\n\n')[0], re.MULTILINE):
        cls = getattr(exceptions, name)
        del above[len(indent) // 4 :]
        assert not above or issubclass(cls, above[-1])
        above.append(cls)
        drawn.append(name)
    assert sorted(drawn) == sorted(exceptions.__all__)


# --- Whether it may work later ---


def decisions():
    """Return {name of a class or reply code: 'yes' or 'no'} as the guide's table has them."""
    page = Path(exceptions.__file__).parents[1] / 'docs' / 'guides' / 'errors.rst'
    section = page.read_text(encoding='utf-8').partition('\nTrying again\n')[2]
    rows = re.findall(r'^   \* - (.*(?:\n     \w.*)?)\n     - (yes|no)$', section, re.MULTILINE)
    return {name: word for names, word in rows for name in re.findall(r'``(\w+)``|(\d{3})', names)}


DECISIONS = {''.join(name): word == 'yes' for name, word in decisions().items()}
CODES = {
    value
    for name, value in vars(spec).items()
    if name.isupper() and isinstance(value, int) and 300 <= value < 600
}


def test_each_class_and_each_reply_code_is_decided():
    assert set(DECISIONS) == {*(cls.__name__ for cls in ALL), *map(str, CODES)} - {
        # Only the reply code decides.
        'AMQPException', 'AMQPConnectionException', 'AMQPChannelException',
    }  # fmt: skip


@pytest.mark.parametrize('code', sorted(CODES))
def test_whether_a_reply_code_is_recoverable(code):
    for base in (AMQPConnectionException, AMQPChannelException):
        error = error_of_code(base, code, 'text', (0, 0), '')
        assert error.recoverable is DECISIONS[str(code)]


@pytest.mark.parametrize('cls', ALL)
def test_whether_an_error_without_a_code_is_recoverable(cls):
    of_a_code = {'ConnectionForced': 320, 'ResourceLocked': 405}
    error = cls(of_a_code.get(cls.__name__, 0), 'text')
    assert error.recoverable is DECISIONS.get(cls.__name__, False)


@pytest.mark.parametrize('again', [AMQPException.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_login_that_got_no_answer_is_recoverable_in_every_copy(again):
    error = LoginRefused.by_hanging_up('user or password may be wrong')
    assert error.recoverable
    assert again(error).recoverable
    assert again(again(error)).args == error.args
    assert not again(LoginRefused(403, 'by word')).recoverable


# --- What an error carries ---


@pytest.mark.parametrize('cls', ALL)
def test_attributes_and_args_are_those_of_old(cls):
    error = cls(404, 'no queue', (50, 10))
    assert error.amqp_reply_code == 404
    assert error.amqp_reply_text == 'no queue'
    assert error.amqp_method_sig == (50, 10)
    assert error.args == (404, 'no queue', (50, 10), 'Channel.queue_declare')


def test_name_of_an_unknown_method_is_empty():
    assert AMQPException(541, 'text', (85, 10)).args == (541, 'text', (85, 10), '')
    assert AMQPException(541, 'text').args == (541, 'text', (0, 0), '')


def test_name_can_be_given():
    assert AMQPException(541, 'text', (85, 10), 'Channel.confirm').args[3] == 'Channel.confirm'


def test_signature_may_be_a_list():
    assert AMQPException(541, 'text', [50, 10]).args[3] == 'Channel.queue_declare'


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (NotFound(404, 'no queue', (50, 10)), '404 no queue (Channel.queue_declare)'),
        (AMQPException(320, 'going down'), '320 going down'),
        (AMQPTimeout(0, 'nothing arrived within 1 s'), 'nothing arrived within 1 s'),
        (ConnectionLost(0, 'closed', (60, 40)), 'closed (Channel.basic_publish)'),
        (WriteTimeout(0, 'too slow'), 'too slow'),
    ],
)
def test_text(error, text):
    assert str(error) == text


@pytest.mark.parametrize(
    ('signature', 'name'),
    [
        ((10, 10), 'Connection.start'),
        ((10, 40), 'Connection.open'),
        ((10, 60), 'Connection.close'),
        ((20, 10), 'Channel.open'),
        ((20, 40), 'Channel.close'),
        ((30, 10), 'Channel.access_request'),
        ((40, 10), 'Channel.exchange_declare'),
        ((50, 10), 'Channel.queue_declare'),
        ((50, 11), 'Channel.queue_declare_ok'),
        ((50, 50), 'Channel.queue_unbind'),
        ((60, 40), 'Channel.basic_publish'),
        ((60, 71), 'Channel.basic_get_ok'),
        ((60, 100), 'Channel.basic_recover'),
        ((90, 30), 'Channel.tx_rollback'),
    ],
)
def test_names_of_methods(signature, name):
    assert METHOD_NAME_MAP[signature] == name


def test_every_method_of_the_protocol_has_a_name():
    assert len(METHOD_NAME_MAP) == 57
    assert {name.partition('.')[0] for name in METHOD_NAME_MAP.values()} == {
        'Connection',
        'Channel',
    }


# --- Pickling, and being raised again ---


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('cls', ALL)
def test_pickling(cls, protocol):
    error = cls(406, 'text', (60, 80), 'Channel.basic_ack')
    error.note = 'kept'
    copied = pickle.loads(pickle.dumps(error, protocol))
    assert type(copied) is cls
    assert copied.args == (406, 'text', (60, 80), 'Channel.basic_ack')
    assert (copied.amqp_reply_code, copied.amqp_reply_text) == (406, 'text')
    assert copied.note == 'kept'
    assert str(copied) == '406 text (Channel.basic_ack)'


def test_pickling_keeps_the_errno_and_the_consumer_tag():
    lost = ConnectionLost.from_error(ConnectionResetError(errno.ECONNRESET, 'reset'), 'it broke')
    copied = pickle.loads(pickle.dumps(lost))
    assert (copied.errno, copied.strerror) == (errno.ECONNRESET, 'reset')
    assert copied.args == lost.args
    cancelled = ConsumerCancelled(0, 'text', consumer_tag='ours')
    assert pickle.loads(pickle.dumps(cancelled)).consumer_tag == 'ours'


@pytest.mark.parametrize('cls', ALL)
def test_copy_is_an_equal_error_with_a_traceback_of_its_own(cls):
    reason = OSError('the reason')
    with pytest.raises(cls) as first:
        raise cls(404, 'text', (50, 10)) from reason
    error = first.value
    for _ in range(3):
        with pytest.raises(cls) as later:
            raise error.copy()
        assert later.value is not error
        assert later.value.args == error.args
        assert repr(later.value.__cause__) == repr(reason)
        assert len(traceback.extract_tb(later.value.__traceback__)) == 1


def test_copy_keeps_nothing_alive_that_was_there_when_it_was_raised():
    class Large:
        pass

    def break_down(number):
        large = Large()
        kept.append(weakref.ref(large))
        try:
            number / 0
        except ZeroDivisionError as error:
            raise ConnectionLost(0, 'it broke') from error

    def log_in():
        try:
            break_down(1)
        except ConnectionLost as error:
            raise LoginRefused(403, 'text') from error

    kept = []
    try:
        log_in()
    except LoginRefused as error:
        later = error.copy()
    assert isinstance(later.__cause__.__cause__, ZeroDivisionError)
    gc.collect()
    assert kept[0]() is None


def test_copy_keeps_the_errno():
    lost = ConnectionLost.from_error(ConnectionResetError(errno.ECONNRESET, 'reset'), 'it broke')
    assert (lost.copy().errno, lost.copy().strerror) == (errno.ECONNRESET, 'reset')


def test_copy_works_when_the_interpreter_exits():
    program = (
        'import sys\n'
        'from amqplib.exceptions import ConnectionLost\n'
        'lost = ConnectionLost.from_error(ConnectionResetError(104, "reset"), "it broke")\n'
        'for name in list(sys.modules):\n'
        '    if not name.startswith("amqplib"): del sys.modules[name]\n'
        'sys.meta_path = None\n'
        'print(repr(lost.copy()), repr(lost.copy().__cause__))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("ConnectionLost(0, 'it broke: reset'"), done.stdout
    assert done.stdout.endswith("ConnectionResetError(104, 'reset')\n"), done.stdout


# --- Made of other things ---


def test_lost_connection_made_of_a_socket_error_keeps_it():
    reset = ConnectionResetError(errno.ECONNRESET, 'Connection reset by peer')
    lost = ConnectionLost.from_error(reset, 'the connection broke')
    assert str(lost) == 'the connection broke: Connection reset by peer'
    assert (lost.errno, lost.strerror) == (errno.ECONNRESET, 'Connection reset by peer')
    assert lost.args == (0, str(lost), (0, 0), '')
    assert lost.amqp_reply_code == 0
    assert lost.__cause__ is reset


def test_lost_connection_made_of_an_error_without_a_number():
    lost = ConnectionLost.from_error(OSError('odd'), 'the connection broke')
    assert str(lost) == 'the connection broke: odd'
    assert lost.errno is lost.strerror is None


def test_reply_code_is_no_errno():
    assert ConnectionLost(2, 'text', (0, 0)).errno is None
    assert ConnectionLost(2, 'text', (0, 0)).strerror is None
    assert type(ConnectionLost(2, 'text')) is ConnectionLost


@pytest.mark.parametrize(
    ('code', 'cls'),
    [
        (403, AccessRefused),
        (404, NotFound),
        (405, ResourceLocked),
        (406, PreconditionFailed),
        (311, AMQPChannelException),
        (530, AMQPChannelException),
        (541, AMQPChannelException),
    ],
)
def test_error_for_the_reply_code_of_a_closed_channel(code, cls):
    error = error_of_code(AMQPChannelException, code, 'text', (60, 70), 'Channel.basic_get')
    assert type(error) is cls
    assert error.args == (code, 'text', (60, 70), 'Channel.basic_get')


@pytest.mark.parametrize(
    ('code', 'cls'),
    [
        (320, ConnectionForced),
        (403, AMQPConnectionException),
        (530, NotAllowed),
        (540, NotSupported),
        (541, AMQPConnectionException),
    ],
)
def test_error_for_the_reply_code_of_a_closed_connection(code, cls):
    error = error_of_code(AMQPConnectionException, code, 'text', (10, 40), 'Connection.open')
    assert type(error) is cls
    assert error.args == (code, 'text', (10, 40), 'Connection.open')
