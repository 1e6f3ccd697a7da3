"""Broker: a broker in a thread of this process, for tests."""

from __future__ import annotations

import os
import selectors
import socket
import sys
from typing import Optional
from urllib.parse import quote
from weakref import WeakSet

from amqplib.core.checks import check_int
from amqplib.core.memoize import lru_cache
from amqplib.core.message import Message
from amqplib.core.spec import CONNECTION_FORCED
from amqplib.testing import basic, handshake, modes, topology
from amqplib.testing.checks import check_seconds, check_text, check_texts
from amqplib.testing.errors import NAMES, Refusal
from amqplib.testing.faults import TEXT
from amqplib.testing.session import Session
from amqplib.testing.shared import Shared
from amqplib.testing.versions import Version, versions

MEMORY_LIMIT = 256 * 1024 * 1024
_BACKLOG = 128
#: Seconds without new clients after one could not be accepted.
ACCEPT_PAUSE = 0.1

#: All brokers, for the child of a fork.
_BROKERS: WeakSet[Broker] = WeakSet()


def _version_of(header: bytes) -> Optional[Version]:
    return _versions().get(header)


@lru_cache(maxsize=1)
def _versions() -> dict[bytes, Version]:
    handlers = {**handshake.HANDLERS, **modes.HANDLERS, **topology.HANDLERS, **basic.HANDLERS}
    return versions(handlers)


def _known_methods() -> set[str]:
    """Return the names of the methods that are handled."""
    handlings = (version.handlings.values() for version in _versions().values())
    return {handling.row.name for some in handlings for handling in some}


class Broker:
    """A broker for tests, which speaks AMQP 0-8 and 0-9-1, on the loopback interface.

    port: 0 for a free one.
    user, password: the only ones who get in.
    vhosts: the virtual hosts; '/' comes first, as the URL names the first.
    memory_limit: how many bytes messages may occupy before publishers are blocked.

    Raises ValueError or TypeError if an argument cannot be, and OSError if the port is taken.
    It keeps everything in memory. It begins with start() or `with`, and ends with close().
    """

    def __init__(
        self,
        port: int = 0,
        host: str = '127.0.0.1',
        user: str = 'guest',
        password: str = 'guest',
        vhosts: tuple[str, ...] = ('/',),
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        for name, text in (('host', host), ('user', user), ('password', password)):
            check_text(name, text)
        check_texts('vhosts', vhosts)
        check_int('port', port, 0, 65535)
        check_int('memory_limit', memory_limit, 0, sys.maxsize)
        self._user, self._password = user, password
        self._vhost = vhosts[0]
        # First, as the port may be taken.
        self._listener = socket.create_server((host, port), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._shared = Shared({user: password}, vhosts, memory_limit)
        self._address = self._listener.getsockname()[:2]
        _BROKERS.add(self)

    # Life

    def start(self) -> None:
        """Let clients connect; a broker can be started once."""
        self._shared.loop.start('amqplib.testing broker')
        self._shared.loop.call(self._listen)

    def _listen(self) -> None:
        if self._listener.fileno() != -1:
            self._shared.loop.watch(self._listener, selectors.EVENT_READ, self._on_client)

    def close(self) -> None:
        """Hang up on all clients, and end."""
        if self._listener.fileno() == -1:
            return
        try:
            if self._shared.loop.is_running:
                self._shared.loop.call(self._end)
        finally:
            self._shared.loop.stop()
            self._listener.close()

    def _end(self) -> None:
        if self._listener.fileno() != -1:  # another thread may have closed it meanwhile
            self._shared.loop.watch(self._listener, 0, self._on_client)
            self._listener.close()
        self._reset_all()

    def abandon(self) -> None:
        """Close the descriptors, in the child of a fork: there it does not run.

        Without this, connections would stay open in the child when the parent closes them.
        """
        self._listener.close()
        for session in self._shared.sessions:
            session.abandon()
        self._shared.loop.abandon()

    def __enter__(self) -> Broker:  # noqa: PYI034 - Self is not in Python 3.9
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _on_client(self, events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            # It has gone again, or there are too many sockets: then it would come up at once.
            self._shared.loop.watch(self._listener, 0, self._on_client)
            self._shared.loop.call_later(ACCEPT_PAUSE, self._listen)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Session(self._shared, sock, _version_of)

    # Where it is

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._address[1])

    @property
    def host(self) -> str:
        """Host and port, as the argument `host` of Connection takes them."""
        return f'{self._address[0]}:{self.port}'

    @property
    def url(self) -> str:
        """Its URL, with user, password and virtual host."""
        user, password, vhost = (
            quote(part, safe='') for part in (self._user, self._password, self._vhost)
        )
        return f'amqp://{user}:{password}@{self.host}/{vhost}'

    # What is in it

    def messages(self, queue: str, vhost: Optional[str] = None) -> list[Message]:
        """Return copies of the messages that are ready in a queue, the first one first.

        Raises LookupError if there is no such queue.
        """
        check_text('queue', queue)
        found: list[Message] = self._shared.loop.call(
            self._messages, queue, self._vhost if vhost is None else vhost
        )
        return found

    def _messages(self, queue: str, vhost: str) -> list[Message]:
        host = self._shared.vhosts.get(vhost)
        if host is None or queue not in host.queues:
            raise LookupError(f'there is no queue {queue!r} in the virtual host {vhost!r}')
        return [entry.message.copy() for entry in host.queues[queue].backlog]

    # Faults

    def drop_connections(self) -> int:
        """Reset all connections; return how many there were."""
        count: int = self._shared.loop.call(self._reset_all)
        return count

    def _reset_all(self) -> int:
        sessions = list(self._shared.sessions)
        for session in sessions:
            session.reset()
        return len(sessions)

    def close_connections(self, text: str = 'closed on request') -> int:
        """Close all connections with 320 (CONNECTION_FORCED); return how many there were."""
        check_text('text', text)
        count: int = self._shared.loop.call(self._close_all, text)
        return count

    def _close_all(self, text: str) -> int:
        sessions = [session for session in self._shared.sessions if session.is_open]
        for session in sessions:
            session.refuse_connection(Refusal(CONNECTION_FORCED, text))
        return len(sessions)

    def block(self) -> None:
        """Block publishers, as RabbitMQ does when it is low on memory."""
        self._shared.loop.call(self._shared.memory.ask_for_alarm, True)

    def unblock(self) -> None:
        """Let publishers go on."""
        self._shared.loop.call(self._shared.memory.ask_for_alarm, False)

    def refuse(
        self, code: int, times: int = 1, method: Optional[str] = None, text: str = TEXT
    ) -> None:
        """Refuse the next methods from clients with a reply code.

        The codes 311 to 313 and 403 to 406 close the channel, all others the connection.

        times: how many.
        method: only methods of this name, as in 'basic.publish'; by default all but those that
            open and close connections and channels.

        Raises ValueError if there is no such code or method, or times is less than 1.
        """
        check_int('code', code, 1, 65535)
        if code not in NAMES:
            raise ValueError(f'code: {code} is not known')
        check_int('times', times, 1, sys.maxsize)
        check_text('text', text)
        if method is not None and method not in _known_methods():
            raise ValueError(f'method: {method!r} is not known')
        self._shared.loop.call(self._shared.faults.refuse, code, times, method, text)

    def delay(self, seconds: float) -> None:
        """Handle what arrives from now on so much later; what is held up now, at once."""
        check_seconds('seconds', seconds)
        self._shared.loop.call(self._shared.set_delay, seconds)

    def __repr__(self) -> str:
        return f'<Broker at {self.host}>'


def _abandon_all() -> None:
    for broker in list(_BROKERS):
        broker.abandon()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_abandon_all)
