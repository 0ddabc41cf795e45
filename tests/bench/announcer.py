"""A scripted server for latencies: one mail after the other, announced to whoever idles, beside a mailbox to load."""

from __future__ import annotations

import asyncio
import itertools
import re
import time

import corpus
from servers.scripted import Conversation, Script, imap

MAIL = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: bench\r\n\r\n" + (b"x" * 76 + b"\r\n") * 50
_AT_ONCE_COUNT = 8  # of messages a write: whoever waits for the newest one waits for no more than these


class Announcer:
    """A mailbox of `older` mails, small ones of the corpus over and over, to which `announce` adds one at a time."""

    def __init__(self, older: int = 0) -> None:
        self.older = older
        self.count = older
        self.idling: Conversation | None = None
        self.idle = asyncio.Event()
        self._mails = list(corpus.messages(64, small=True)) if older else []

    async def announce(self) -> float:
        """Once a client idles, say EXISTS; when it was said."""
        await self.idle.wait()
        assert self.idling is not None
        self.count += 1
        await self.idling.send(f"* {self.count} EXISTS\r\n".encode())
        return time.perf_counter()

    async def on_examine(self, talk: Conversation, tag: str) -> None:
        """How much there is."""
        said = f"* {self.count} EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT {self.count + 1}] ok\r\n"
        await talk.send(f"{said}{tag} OK\r\n".encode())

    async def on_idle(self, talk: Conversation, tag: str) -> None:
        """IDLE until DONE."""
        await talk.send(b"+ idling\r\n")
        self.idling = talk
        self.idle.set()
        await talk.expect("DONE")
        self.idle.clear()
        await talk.send(f"{tag} OK\r\n".encode())

    async def on_search(self, talk: Conversation, tag: str) -> None:
        """Those in the range that is asked for."""
        uids = " ".join(map(str, self._asked(talk)))
        await talk.send(f"* SEARCH {uids}\r\n{tag} OK\r\n".encode())

    async def on_fetch(self, talk: Conversation, tag: str) -> None:
        """Those in the range, a few at a time."""
        uids = iter(self._asked(talk))
        while some := tuple(itertools.islice(uids, _AT_ONCE_COUNT)):
            await talk.send(*(piece for uid in some for piece in self._fetched(uid)))
            await asyncio.sleep(0)
        await talk.send(f"{tag} OK\r\n".encode())

    def _asked(self, talk: Conversation) -> range:
        asked = re.search(rb" (\d+)(?::(\d+|\*))?(?: |$)", talk.received[-1])
        assert asked, talk.received[-1]
        first = min(int(asked[1]), self.count)
        last = self.count if asked[2] == b"*" else int(asked[2] or first)
        return range(first, min(last, self.count) + 1)

    def _fetched(self, uid: int) -> tuple[bytes, bytes, bytes]:
        mail = MAIL if uid > self.older else self._mails[uid % len(self._mails)]
        head = f'* {uid} FETCH (UID {uid} FLAGS () INTERNALDATE "22-Nov-2026 10:00:00 +0000"'
        return f"{head} RFC822.SIZE {len(mail)} BODY[] {{{len(mail)}}}\r\n".encode(), mail, b")\r\n"

    def script(self) -> Script:
        """What `scripted` runs."""
        return imap(
            {
                "CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN SASL-IR\r\n",
                "EXAMINE": self.on_examine,
                "UID SEARCH": self.on_search,
                "UID FETCH": self.on_fetch,
                "IDLE": self.on_idle,
            }
        )
