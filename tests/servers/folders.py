"""An account of several mailboxes on a scripted server, for what Dovecot will not do: lack extensions, or refuse."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from servers.mailbox import Mailbox
from servers.scripted import Conversation, scripted


@dataclass
class Folders:
    """Mailboxes by name. Those in `refused` cannot be opened; `lines` are the commands that came, without their tags.

    `untold`: the server says nothing of how full a mailbox is. More than `most` clients at a time are turned away.
    """

    boxes: dict[str, Mailbox]
    capabilities: str = "IMAP4rev1 IDLE AUTH=PLAIN SASL-IR"
    refused: set[str] = field(default_factory=set[str])
    untold: bool = False
    lines: list[str] = field(default_factory=list[str])
    open: int = 0
    most_open: int = 0
    most: int = 100
    turned_away: int = 0

    def count(self, start: str) -> int:
        """How many commands began like this."""
        return sum(line.startswith(start) for line in self.lines)

    async def script(self, conversation: Conversation) -> None:
        """Serve one client."""
        if self.open >= self.most:
            self.turned_away += 1
            await conversation.send(b"* BYE too many connections\r\n")
            return
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        current = Mailbox(capabilities=self.capabilities)
        try:
            await conversation.send(b"* OK ready\r\n")
            while True:
                tag, _, line = (await conversation.line()).decode().partition(" ")
                self.lines.append(line)
                found = re.match(r"(?:UID )?\w+", line)
                assert found, line
                name, rest = found[0].upper(), line[len(found[0]) + 1 :]
                target = re.match(r'"([^"]*)"', rest)
                if name in ("EXAMINE", "STATUS") and target and target[1] in self.refused:
                    await conversation.send(f"{tag} NO [NOPERM] keep out\r\n".encode())
                elif name == "STATUS" and target:
                    await conversation.send(self._status(target[1]), f"{tag} OK done\r\n".encode())
                elif name == "LIST":
                    await conversation.send(*self._listed(with_counts="STATUS" in rest), f"{tag} OK\r\n".encode())
                else:
                    if name == "EXAMINE" and target:
                        current = self.boxes[target[1]]
                    await current.answer(conversation, tag, name, rest)
        finally:
            self.open -= 1

    def _status(self, name: str) -> bytes:
        box = self.boxes[name]
        items = f"MESSAGES {len(box.held)} UIDNEXT {max(box.held, default=0) + 1} UIDVALIDITY {box.uidvalidity}"
        return f'* STATUS "{name}" ({"" if self.untold else items})\r\n'.encode()

    def _listed(self, *, with_counts: bool) -> list[bytes]:
        rows: list[bytes] = []
        for name in self.boxes:
            rows.append(f'* LIST () "/" "{name}"\r\n'.encode())
            if with_counts and name not in self.refused:
                rows.append(self._status(name))
        return rows


@asynccontextmanager
async def serving_folders(
    *, capabilities: str = "IMAP4rev1 IDLE AUTH=PLAIN SASL-IR", untold: bool = False, **held: tuple[int, ...]
) -> AsyncGenerator[tuple[Folders, int]]:
    """An account whose mailboxes hold mails under these UIDs, and the port of its server."""
    boxes = {name: Mailbox(capabilities=capabilities) for name in held}
    for name, uids in held.items():
        boxes[name].put(*uids)
    served = Folders(boxes, capabilities, untold=untold)
    async with scripted(served.script) as port:
        yield served, port
