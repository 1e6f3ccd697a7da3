"""How much the library receives at once."""

from amqplib.core import transport


def receive_at_most(size, replace=setattr):
    """Let each receive take at most so many bytes.

    replace: what sets an attribute, such as monkeypatch.setattr.
    """
    replace(transport, 'RECEIVE_SIZE', size)
    # What recv() is given, which was made of the former when the module was imported.
    replace(transport, '_RECEIVE_SIZES', (size,))
