"""The demos that are programs of one client, for each of the clients."""

from pathlib import Path

from tests.helpers.packages import CLIENT_0_9_1

DEMO = Path(__file__).resolve().parents[2] / 'demo'


def demos_of(amqp, folder):
    """Return the folder of the demos; for 0-8, copies of them are written to `folder`."""
    if amqp is CLIENT_0_9_1:
        return DEMO
    for path in DEMO.glob('*.py'):
        text = path.read_text(encoding='utf-8')
        if path.name != 'common.py':  # which knows both
            text = text.replace('client_0_9_1', 'client_0_8')
        (folder / path.name).write_text(text, encoding='utf-8')
    return folder
