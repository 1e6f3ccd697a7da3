"""What has arrived from a client and is not handled: bytes in, methods or a problem out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Optional

from amqplib.core.decoding import Decoder
from amqplib.core.fast_decoding import ArrivedMethod
from amqplib.core.message import Message
from amqplib.core.spec import FRAME_MIN_SIZE, RESOURCE_ERROR
from amqplib.exceptions import AMQPConnectionException
from amqplib.testing.errors import Hangup
from amqplib.testing.inboxes import Inboxes, Keeper
from amqplib.testing.messages import MAX_MESSAGE

if TYPE_CHECKING:
    from amqplib.testing.versions import Version

_HEADER_SIZE = 8


class Arrivals:
    """What has arrived from a client and is not handled.

    version: the version of AMQP that it speaks; None until its protocol header has come.
    methods: (channel, (signature, arguments, content)), the first one first.
    """

    def __init__(
        self,
        channels: Mapping[int, Keeper],
        version_of: Callable[[bytes], Optional[Version]],
        limit: int,
    ) -> None:
        self.version: Optional[Version] = None
        self.methods: deque[tuple[int, ArrivedMethod]] = deque()
        self._version_of = version_of
        self._inboxes = Inboxes(channels)
        # How many bytes contents that are not complete may occupy.
        self._limit = limit
        self._header = b''
        self._decoder: Optional[Decoder] = None
        self._problem: Optional[AMQPConnectionException] = None

    def take(self, data: bytes) -> None:
        """Take the next bytes.

        Raises Hangup if they are not those of AMQP.
        """
        if self._decoder is None:
            data = self._take_header(data)
        if not data or self._decoder is None or self._problem is not None:
            return
        try:
            self._decoder.take(data)
            self._check_size(self._decoder)
        except AMQPConnectionException as error:
            self._problem = error

    def _take_header(self, data: bytes) -> bytes:
        """Take the protocol header; return what comes after it."""
        self._header += data
        header, rest = self._header[:_HEADER_SIZE], self._header[_HEADER_SIZE:]
        if len(header) < _HEADER_SIZE and header == b'AMQP'[: len(header)] + header[4:]:
            return b''
        self.version = self._version_of(header)
        if self.version is None:
            raise Hangup
        self._header = b''
        self._decoder = Decoder(self.version.protocol, Message, self._inboxes)
        self._decoder.header_limit = FRAME_MIN_SIZE
        self.methods = self._decoder.queue
        return rest

    def _check_size(self, decoder: Decoder) -> None:
        """Refuse more contents that are not complete than there is memory for."""
        if sum(partial.size for partial in decoder.partial_messages.values()) > self._limit:
            raise AMQPConnectionException(RESOURCE_ERROR, 'too much content is not complete')

    def limit_frames(self, frame_max: int) -> None:
        """Refuse larger frames from now on."""
        assert self._decoder is not None
        self._decoder.body_limit = self._decoder.header_limit = frame_max

    @property
    def has_content(self) -> bool:
        """Whether the next method has a content, which may not be complete."""
        if self.methods:
            return self.methods[0][1][2] is not None
        return self._decoder is not None and bool(self._decoder.partial_messages)

    def too_large(self) -> Iterator[int]:
        """Yield the channels on which larger contents begin than messages may have."""
        partial_messages = {} if self._decoder is None else self._decoder.partial_messages
        for number, partial in partial_messages.items():
            if partial.missing > MAX_MESSAGE:
                yield number

    def take_problem(self) -> Optional[AMQPConnectionException]:
        """Return, once, why what comes after the methods cannot be decoded; None if it can."""
        problem, self._problem = self._problem, None
        return problem

    def discard(self) -> None:
        """Forget everything, and take nothing any more."""
        self._decoder = self._problem = None
        self.methods = deque()
