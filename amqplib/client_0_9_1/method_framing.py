"""MethodReader and MethodWriter, under the names of amqplib 1.0.2."""

from amqplib.client_0_9_1.spec import PROTOCOL
from amqplib.core import legacy
from amqplib.core.decoding import PartialMessage as _PartialMessage  # noqa: F401
from amqplib.core.legacy import CONTENT_METHODS as _CONTENT_METHODS  # noqa: F401
from amqplib.core.legacy import MethodWriter

__all__ = ['MethodReader', 'MethodWriter']


class MethodReader(legacy.MethodReader):
    __doc__ = legacy.MethodReader.__doc__

    _protocol = PROTOCOL
