"""The IDLE command (RFC 2177), which ends when the client says DONE."""

from __future__ import annotations

from typing import final

from inboxd.imap.asked import Asked, cost_bytes
from inboxd.imap.lines import Part
from inboxd.imap.protocol import Protocol


@final
class Idle(Asked):
    """IDLE: `started` once the server listens, `ending` once DONE was said."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__("IDLE", protocol.new_tag())
        self._protocol = protocol
        self.started = self.ending = False

    def make_way(self) -> bool:
        """Say DONE, unless it was said or is over."""
        if self.done or not self.started or self.ending:
            return False
        self.ending = True
        self._protocol.send_line("DONE")
        return True

    def receive(self, response: list[Part]) -> None:
        """Keep nothing: an IDLE may last, and hear any amount. ProtocolError when the number of answers has no end."""
        self.spend(cost_bytes(response if self.ending else response[:1]))

    def proceed(self, _challenge: bytes) -> bytes | None:
        self.started = True
        return None
