"""help() describes what the reference lists, with each argument, on each client."""

import inspect
import re
from pathlib import Path

import pytest

import amqplib.client_0_8
import amqplib.client_0_9_1

REFERENCE = Path(__file__).parents[1] / 'docs' / 'reference'
CLASSES = ['Connection', 'Channel', 'Message', 'Publisher']

LISTED = re.compile(r'^\.\. auto(?:class|function|method):: ([\w.]+)$', re.MULTILINE)

#: What the docstrings of the classes say once for all methods.
SAID_ONCE = {'self', 'nowait', 'ticket', 'kwargs'}


def listed():
    """Return the names of classes and methods, such as 'Channel.close'."""
    pages = [page.read_text(encoding='utf-8') for page in sorted(REFERENCE.glob('*.rst'))]
    names = LISTED.findall('\n'.join(pages))
    return [name for name in names if name.partition('.')[0] in {*CLASSES, 'reconnecting'}]


def test_each_argument_is_described(amqp):
    names = listed()
    assert len(names) > 35
    for name in names:
        cls, _, method = name.partition('.')
        described = getattr(amqp, cls)
        if method:
            described = getattr(described, method, None)
        if described is None:
            assert amqp is amqplib.client_0_8, name  # 0-9-1 alone has it
            continue
        text = inspect.getdoc(described) or ''
        for argument in set(inspect.signature(described).parameters) - SAID_ONCE:
            assert re.search(rf'\b{argument}\b', text), (name, argument)


@pytest.mark.parametrize('name', CLASSES)
def test_both_clients_say_the_same(name):
    clients = amqplib.client_0_8, amqplib.client_0_9_1
    of_0_8, of_0_9_1 = [getattr(client, name) for client in clients]
    assert of_0_8.__doc__ == of_0_9_1.__doc__
