"""What all connections of a broker share."""

from __future__ import annotations

from typing import Any

from amqplib.testing.faults import Faults
from amqplib.testing.loop import Loop
from amqplib.testing.memory import Memory
from amqplib.testing.virtual_host import VirtualHost


class Shared:
    """What all connections of a broker share.

    users: user -> password.
    sessions: the connections, each a Session.
    """

    def __init__(self, users: dict[str, str], vhosts: tuple[str, ...], memory_limit: int) -> None:
        self.users = users
        self.loop = Loop()
        self.faults = Faults()
        self.memory = Memory(memory_limit, self._on_memory)
        self.vhosts = {name: VirtualHost(name, self.loop, self.memory) for name in vhosts}
        self.sessions: dict[Any, None] = {}

    def set_delay(self, seconds: float) -> None:
        """Handle what arrives so much later; what is held up now is handled at once."""
        self.faults.delay = seconds
        for session in list(self.sessions):
            session.end_delay()

    def _on_memory(self) -> None:
        self.loop.call_soon(self._tell_sessions)

    def _tell_sessions(self) -> None:
        for session in list(self.sessions):
            session.on_memory()
