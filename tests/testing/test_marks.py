"""What the tests leave out on the broker in the process is what its page says it lacks."""

import re
from pathlib import Path

import pytest

import amqplib.client_0_9_1 as amqp

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / 'docs' / 'guides' / 'testing.rst'


def test_the_page_names_what_the_tests_leave_out():
    texts = [path.read_text(encoding='utf-8') for path in (TESTS / 'live').glob('*.py')]
    reasons = {reason for text in texts for reason in re.findall(r"only_rabbitmq\('(.*?)'\)", text)}
    _, _, lacking = PAGE.read_text(encoding='utf-8').partition('What it lacks')
    assert reasons == set(re.findall(r'^   \* - (.+)$', lacking, re.MULTILINE))


@pytest.mark.parametrize('kind', ['quorum', 'stream'])
def test_what_is_lacking_is_refused_by_name(connect, kind):
    channel = connect().channel()
    with pytest.raises(amqp.NotSupported, match=f'{kind} queues: this is the broker for tests'):
        channel.queue_declare(
            'q', durable=True, auto_delete=False, arguments={'x-queue-type': kind}
        )
