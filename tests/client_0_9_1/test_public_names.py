"""What a program for client_0_8 finds here: the same names and signatures, and some more."""

import importlib
import inspect
import pickle

import pytest

import amqplib.client_0_8 as amqp_0_8
import amqplib.client_0_9_1 as amqp

ADDED = {
    'Channel': {
        'basic_nack', 'confirm_select', 'confirm_state', 'exchange_bind', 'exchange_unbind',
        'wait_for_confirms', 'wait_for_room',
    },
    'Connection': {'on_blocked', 'on_unblocked', 'server_capabilities', 'update_secret'},
    'Message': set(),
}  # fmt: skip
#: Parameters that are new, at the end.
PARAMETERS = {'Channel.basic_consume': ['arguments'], 'Channel.consume': ['arguments']}

BINDING = "(self, destination, source, routing_key='', nowait=False, arguments=None, ticket=None)"


def public(cls):
    return {name for name in dir(cls) if not name.startswith('_')}


def test_public_names_are_those_of_client_0_8():
    assert sorted(amqp.__all__) == sorted(amqp_0_8.__all__)
    assert all(hasattr(amqp, name) for name in amqp.__all__)


def test_star_import_gives_the_public_names():
    namespace = {}
    exec('from amqplib.client_0_9_1 import *', namespace)
    assert sorted(set(namespace) - {'__builtins__'}) == sorted(amqp.__all__)


def test_exceptions_are_those_of_client_0_8():
    """Thus a program that imports them from there goes on catching them."""
    for name in amqp_0_8.exceptions.__all__:
        assert getattr(amqp, name) is getattr(amqp_0_8, name)
        assert getattr(amqp.exceptions, name) is getattr(amqp_0_8, name)
    assert amqp.exceptions.__all__ == amqp_0_8.exceptions.__all__


def test_modules_are_found_as_attributes_like_there():
    for name in (
        'abstract_channel', 'basic_message', 'channel', 'connection', 'exceptions',
        'method_framing', 'serialization', 'transport',
    ):  # fmt: skip
        assert inspect.ismodule(getattr(amqp_0_8, name))
        assert inspect.ismodule(getattr(amqp, name))
    assert amqp.transport.__all__ == amqp_0_8.transport.__all__
    assert amqp.transport.TCPTransport is amqp_0_8.transport.TCPTransport


def test_every_listed_name_exists():
    for module in ('basic_message', 'channel', 'connection', 'exceptions'):
        loaded = importlib.import_module(f'amqplib.client_0_9_1.{module}')
        assert all(hasattr(loaded, name) for name in loaded.__all__)


@pytest.mark.parametrize('cls', ADDED)
def test_what_a_class_has_beside_what_it_had(cls):
    assert public(getattr(amqp_0_8, cls)) <= public(getattr(amqp, cls))
    assert public(getattr(amqp, cls)) - public(getattr(amqp_0_8, cls)) == ADDED[cls]


@pytest.mark.parametrize(
    ('cls', 'name'),
    [
        (cls, name)
        for cls in ADDED
        for name in ['__init__', *sorted(public(getattr(amqp_0_8, cls)))]
        if callable(getattr(getattr(amqp_0_8, cls), name))
    ],
)
def test_signatures_are_the_same(cls, name):
    """Also names, order, kinds and defaults of the parameters."""
    ours, theirs = (
        list(inspect.signature(getattr(getattr(package, cls), name)).parameters.values())
        for package in (amqp, amqp_0_8)
    )
    added = PARAMETERS.get(f'{cls}.{name}', [])
    assert [one.name for one in ours[len(theirs) :]] == added
    for one, other in zip(ours, theirs):
        assert (one.name, one.kind, one.default) == (other.name, other.kind, other.default)
    assert all(one.default is None for one in ours[len(theirs) :])


@pytest.mark.parametrize(
    ('name', 'parameters'),
    [
        ('confirm_select', '(self, outstanding_limit=None, nowait=False)'),
        ('wait_for_confirms', '(self, timeout=None)'),
        ('basic_nack', '(self, delivery_tag, multiple=False, requeue=True)'),
        ('exchange_bind', BINDING),
        ('exchange_unbind', BINDING),
    ],
)
def test_signatures_of_what_is_new(name, parameters):
    signature = inspect.signature(getattr(amqp.Channel, name))
    bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == parameters


def test_public_methods_are_documented():
    for cls in (amqp.Connection, amqp.Channel, amqp.Message):
        assert cls.__doc__
        for name, value in vars(cls).items():
            if not name.startswith('_') and inspect.isfunction(value):
                assert value.__doc__, f'{cls.__name__}.{name}'


def test_refused_messages_can_be_pickled():
    error = amqp.MessageNacked(0, 'refused', (60, 40), sequence_numbers=(3, 5))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is amqp.MessageNacked
    assert copy.args == error.args == (0, 'refused', (60, 40), 'Channel.basic_publish')
    assert copy.sequence_numbers == (3, 5)
    assert str(copy) == 'refused (Channel.basic_publish)'
