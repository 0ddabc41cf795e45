"""A mailbox on a scripted server that behaves until a test changes its answers; and the workers that read it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from inboxd.accounts import seal_password
from inboxd.budgets import Budgets
from inboxd.bus import Bus
from inboxd.connector import Supervisor
from inboxd.metrics import REGISTRY
from inboxd.model import Account, Connection, Connector, InboxId, Kind, MessageFilter, Secret, SyncSettings, Tls, Window
from inboxd.roster import Roster
from inboxd.sections import ImapSettings
from inboxd.services import Services
from inboxd.settings import Settings
from inboxd.store import connectors, installation, messages
from inboxd.store.engine import Store
from inboxd.sync import Target
from inboxd.vault import Vault, open_vault
from servers import LOOPBACK
from servers.scripted import Conversation, Reply, scripted
from servers.sessions import eventually
from servers.stores import MORNING, make_connector, make_inbox

PASSWORD = 'canary "pass\\word'
QUICK: dict[str, Any] = {
    "retry_first_seconds": 0.01,
    "retry_most_seconds": 0.05,
    "idle_jitter_seconds": 0.0,
    "command_seconds": 10.0,
    "logins_per_second": 0.0,
    "logins_per_host_second": 0.0,
}
_FETCHED = '(UID %d FLAGS (\\Recent) INTERNALDATE "04-May-2026 08:30:00 +0000" RFC822.SIZE %d BODY[%s] {%d}\r\n'


def mail(number: int, size: int = 0) -> bytes:
    """A mail like no other number's, of about `size` bytes more than its header."""
    return b"Subject: mail %d\r\nFrom: a@example.test\r\n\r\n%s\r\n" % (number, b"x" * size)


@dataclass
class Mailbox:
    """INBOX of a server. `answers` override whole commands by their name (UID FETCH for one).

    `hand_over` makes the FETCH responses of one message; `hooks` run when a command was read, before its answer, and
    `greet` before the greeting. A `silent` server never announces by itself. `flags` are those other than \\Recent.
    `extra` is said with the answer to EXAMINE, `chatter` in each IDLE; `lines` are the commands with all they ask for.
    """

    held: dict[int, bytes] = field(default_factory=dict[int, bytes])
    uidvalidity: int | None = 1
    capabilities: str = "IMAP4rev1 IDLE AUTH=PLAIN SASL-IR"
    answers: dict[str, Reply] = field(default_factory=dict[str, Reply])
    hooks: dict[str, Callable[[Conversation], Awaitable[None]]] = field(
        default_factory=dict[str, Callable[[Conversation], Awaitable[None]]]
    )
    hand_over: Callable[[int, bytes], bytes] | None = None
    commands: list[str] = field(default_factory=list[str])
    greet: Callable[[Conversation], Awaitable[None]] | None = None
    silent: bool = False
    flags: dict[int, str] = field(default_factory=dict[int, str])
    extra: bytes = b""
    chatter: bytes = b""
    lines: list[str] = field(default_factory=list[str])
    connections: int = 0
    open: int = 0
    most_logins: int = 0
    most_open: int = 0
    _logins: int = 0
    _said: dict[Conversation, int] = field(default_factory=dict[Conversation, int])
    _idlers: set[Conversation] = field(default_factory=set[Conversation])

    def count(self, command: str) -> int:
        """How often a command came."""
        return self.commands.count(command)

    def put(self, *uids: int) -> None:
        """Hold mails under these UIDs, in silence."""
        for uid in uids:
            self.held[uid] = mail(uid)

    async def deliver(self, *uids: int) -> None:
        """Hold them, and tell whoever idles."""
        self.put(*uids)
        await self.announce_all()

    async def say(self, line: bytes) -> None:
        """Say something to whoever idles, once somebody does."""
        await eventually(lambda: self._idlers)
        for conversation in tuple(self._idlers):
            await conversation.send(line + b"\r\n")

    async def announce_all(self) -> None:
        """Say EXISTS to whoever idles."""
        for conversation in tuple(self._idlers):
            await self.announce(conversation)

    async def announce(self, conversation: Conversation) -> None:
        """Say EXISTS."""
        self._said[conversation] = len(self.held)
        await conversation.send(b"* %d EXISTS\r\n" % len(self.held))

    @property
    def idlers(self) -> int:
        """How many clients idle."""
        return len(self._idlers)

    async def script(self, conversation: Conversation) -> None:
        """Serve one client."""
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if self.greet:
                await self.greet(conversation)
            await conversation.send(b"* OK ready\r\n")
            while True:
                await self._serve(conversation)
        finally:
            self.open -= 1
            self._said.pop(conversation, None)

    async def _serve(self, conversation: Conversation) -> None:
        tag, _, line = (await conversation.line()).decode().partition(" ")
        found = re.match(r"(?:UID )?\w+", line)
        assert found, line
        name = found[0].upper()
        self.commands.append(name)
        self.lines.append(line)
        if hook := self.hooks.get(name):
            await hook(conversation)
        if name in self.answers:
            await self.answers[name](conversation, tag)
        else:
            await self.answer(conversation, tag, name, line[len(name) + 1 :])

    async def answer(self, conversation: Conversation, tag: str, name: str, arguments: str) -> None:
        """As a server should."""
        untagged = b""
        if name == "CAPABILITY":
            untagged = f"* CAPABILITY {self.capabilities}\r\n".encode()
        elif name == "EXAMINE":
            self._said[conversation] = len(self.held)
            untagged = self._examined()
        elif name == "ENABLE":
            untagged = f"* ENABLED {arguments}\r\n".encode()
        elif name == "UID SEARCH":
            untagged = b"* SEARCH %s\r\n" % " ".join(map(str, self._chosen(arguments.split()[1]))).encode()
        elif name == "UID FETCH":
            uids, _, items = arguments.partition(" ")
            untagged = b"".join(self._fetched(uid, items) for uid in self._chosen(uids))
        elif name == "NOOP" and self._said.get(conversation) != len(self.held):
            await self.announce(conversation)
        elif name == "IDLE":
            await self._idle(conversation)
        await conversation.send(untagged, f"{tag} OK done\r\n".encode())

    def _examined(self) -> bytes:
        said = b"* %d EXISTS\r\n" % len(self.held)
        if self.uidvalidity is not None:
            said += b"* OK [UIDVALIDITY %d] ok\r\n* OK [UIDNEXT %d] ok\r\n" % (
                self.uidvalidity,
                max(self.held, default=0) + 1,
            )
        return said + self.extra

    def _chosen(self, uids: str) -> list[int]:
        wanted: set[int] = set()
        for item in uids.split(","):
            low, _, high = item.partition(":")
            top = max(self.held, default=0)
            ends = sorted(top if end == "*" else int(end) for end in (low, high or low))
            wanted |= {uid for uid in self.held if ends[0] <= uid <= ends[1]}
        return sorted(wanted)

    def _fetched(self, uid: int, items: str) -> bytes:
        raw = self.held[uid]
        if "BODY" not in items:
            number = sorted(self.held).index(uid) + 1
            return f"* {number} FETCH (UID {uid} FLAGS ({self.flags.get(uid, '')}))\r\n".encode()
        if "HEADER" in items:
            return self.response(uid, raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", "HEADER")
        return self.hand_over(uid, raw) if self.hand_over else self.response(uid, raw)

    def response(self, uid: int, raw: bytes, section: str = "") -> bytes:
        """The FETCH response of a message."""
        head = _FETCHED % (uid, len(raw), section, len(raw))
        return b"* %d FETCH %s%s)\r\n" % (sorted(self.held).index(uid) + 1, head.encode(), raw)

    async def _idle(self, conversation: Conversation) -> None:
        await conversation.send(b"+ idling\r\n", self.chatter)
        if not self.silent and self._said.get(conversation) != len(self.held):
            await self.announce(conversation)
        self._idlers.add(conversation)
        try:
            await conversation.expect("DONE")
        finally:
            self._idlers.discard(conversation)

    async def slow_login(self, conversation: Conversation, tag: str) -> None:
        """An answer to AUTHENTICATE that counts how many logins are under way at once."""
        self._logins += 1
        self.most_logins = max(self.most_logins, self._logins)
        for _ in range(20):
            await asyncio.sleep(0)
        self._logins -= 1
        await conversation.send(f"{tag} OK in\r\n".encode())


@dataclass(frozen=True)
class Bench:
    """What the workers of one daemon share, without the daemon."""

    settings: Settings
    store: Store
    vault: Vault
    bus: Bus
    roster: Roster
    services: Services

    async def link(self, port: int, name: str = "work", **changed: Any) -> Linked:
        """A connector to a scripted server, stored; its user has its name."""
        inbox = make_inbox(f"{name}-{uuid4().hex[:8]}@inbox.example")
        connector = make_connector(inbox, name)
        key = uuid4()
        connection = Connection(
            key, connector.id, Kind.IMAP, MORNING, True, LOOPBACK, port, Tls.NONE, name,
            seal_password(self.vault, key, Secret(PASSWORD)),
        )  # fmt: skip
        connection = replace(connection, **changed)
        interval = SyncSettings(id=uuid4(), connector_id=connector.id, enabled=True, interval_minutes=15)
        await connectors.add(self.store, connector, inbox=inbox, connections=[connection], sync=interval)
        return Linked(self, connector, connection, interval)


@dataclass(frozen=True)
class Linked:
    """A stored connector and its parts."""

    bench: Bench
    connector: Connector
    connection: Connection
    interval: SyncSettings

    @property
    def label(self) -> str:
        """The connector in metrics."""
        return str(self.connector.id)

    @property
    def target(self) -> Target:
        """Where its mail goes."""
        return Target(self.bench.store, self.bench.bus, self.connector.id, self.connector.inbox_id)

    @property
    def account(self) -> Account:
        """How its server is reached."""
        who = self.connection.username or ""
        return Account(self.connector.id, Kind.IMAP, LOOPBACK, self.connection.port, Tls.NONE, who, Secret(PASSWORD))

    def supervisor(self, **imap: Any) -> Supervisor:
        """Its supervisor, not running; `imap` changes settings."""
        limits = self.bench.settings.imap.model_copy(update=imap)
        return Supervisor(
            self.connector,
            self.connection,
            self.interval,
            self.target,
            self.bench.settings.model_copy(update={"imap": limits}),
            self.bench.vault,
            Budgets(limits) if imap else self.bench.roster.budgets,
            partial(self.bench.roster.lock, self.connector.id),
        )

    async def stored(self) -> dict[int, bytes]:
        """What the store holds of its mail, by UID; two rows of one UID are an error."""
        return await stored_in(self.bench.store, self.connector.inbox_id)

    async def until_stored(self, *uids: int) -> None:
        """Return once the store holds mails under exactly these UIDs, looking only when told to."""
        async with asyncio.timeout(10):
            with self.bench.bus.subscribe(self.connector.inbox_id) as hint:
                while (await self.stored()).keys() != set(uids):
                    await hint.wait()

    async def cursor(self) -> int | None:
        """Up to which UID all of INBOX was read: 0 while its first load is under way."""
        found = await messages.cursor(self.bench.store, self.connector.id, "INBOX")
        if found is None:
            return None
        return found.last_uid if found.backfill_below is None else 0


async def stored_in(store: Store, inbox_id: UUID) -> dict[int, bytes]:
    """An inbox's mail by UID."""
    page = await messages.page(store, MessageFilter(inbox_ids=(InboxId(inbox_id),)), Window(size=10_000))
    rows = [(row.uid or 0, await messages.raw(store, row.id)) for row in page.rows]
    assert len(dict(rows)) == len(rows), sorted(uid for uid, _ in rows)
    return dict(rows)


async def make_bench(store: Store, folder: Path, **imap: Any) -> Bench:
    """The parts over a store, in an empty folder."""
    settings = Settings(state_dir=folder, imap=ImapSettings(**(QUICK | imap)))
    vault, bus = open_vault(None, folder), Bus()
    roster = Roster(settings, store, vault, bus)
    services = Services(settings, store, vault, bus, roster, await installation.user_id(store), MORNING)
    return Bench(settings, store, vault, bus, roster, services)


@asynccontextmanager
async def serving(*uids: int, **options: Any) -> AsyncGenerator[tuple[Mailbox, int]]:
    """A mailbox that holds mails under these UIDs, and the port of its server."""
    mailbox = Mailbox(**options)
    mailbox.put(*uids)
    async with scripted(mailbox.script) as port:
        yield mailbox, port


def sample(name: str, **labels: str) -> float:
    """A metric's value; 0 when there is none."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
