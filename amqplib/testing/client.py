"""What a client said of itself."""

from __future__ import annotations

from typing import Any


class Client:
    """What a client said of itself during the handshake.

    properties: those of connection.start-ok.
    channel_max: the largest number of open channels.
    """

    def __init__(self) -> None:
        self.properties: dict[str, Any] = {}
        self.user = ''
        self.channel_max = 0

    def wants(self, capability: str) -> bool:
        """Return whether it has announced a capability."""
        capabilities = self.properties.get('capabilities')
        return isinstance(capabilities, dict) and capabilities.get(capability) is True
