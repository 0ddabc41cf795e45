"""A pytest plugin: stores on both databases, and records to put into them."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from inboxd.mails import Address, Attachment, Digest, Fetched, Incoming, Outcome, Place, Sent
from inboxd.model import (
    AttachmentId,
    Connection,
    Connector,
    ConnectorId,
    Event,
    EventId,
    EventStatus,
    EventType,
    Inbox,
    InboxId,
    Kind,
    MessageFilter,
    SentId,
    SentState,
    SyncSettings,
    Tls,
    Window,
    utc_now,
)
from inboxd.store import connectors, messages
from inboxd.store.engine import Store, open_store
from inboxd.store.schema import INSTALLATION
from servers.postgres import PostgresServer, run_postgres

MORNING = datetime(2026, 5, 4, 8, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres_server() -> Generator[PostgresServer]:
    """One PostgreSQL for all tests."""
    with run_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that nobody has opened yet, on each of the two kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'inboxd.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the schema and nothing in it, on each of the two kinds."""
    if request.param == "sqlite":
        return blank_sqlite(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return blank_postgresql(server)


def blank_sqlite(folder: Path) -> str:
    """The URL of a new inboxd.db in `folder`, as `open_store` leaves one in which nothing was stored.

    A copy: a tenth of the time that the migrations take.
    """
    file = folder / "inboxd.db"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
        copy.write(_blank_file())
    return f"sqlite:///{file}"


def blank_postgresql(server: PostgresServer) -> str:
    """The URL of a new database, as `open_store` leaves one in which nothing was stored; a copy, as above."""
    return server.new_database(_blank_database(server))


@functools.cache
def _blank_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inboxd.db"
        _migrate(f"sqlite:///{file}")
        return file.read_bytes()


@functools.cache
def _blank_database(server: PostgresServer) -> str:
    url = server.new_database()
    _migrate(url)
    return url


def _migrate(url: str) -> None:
    async def run() -> None:
        async with open_store(url) as opened:
            # Each copy is an installation of its own: it finds its user's id when it is opened.
            await opened.write(lambda connection: connection.execute(INSTALLATION.delete()))

    # A loop of its own, wherever the caller runs.
    thread = threading.Thread(target=lambda: asyncio.run(run()), name="migrate")
    thread.start()
    thread.join()


@pytest_asyncio.fixture
async def store(store_url: str) -> AsyncGenerator[Store]:
    """An open store with nothing in it, on each of the two databases."""
    async with open_store(store_url) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class Linked:
    """A connector, stored with its inbox, and its mailbox INBOX in its first incarnation."""

    inbox: Inbox
    connector: Connector
    place: Place = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", Place(self.connector.id, "INBOX", 1000))


@pytest_asyncio.fixture
async def linked(store: Store) -> Linked:
    """A connector with an inbox and nothing else."""
    return await link(store)


async def link(store: Store, name: str = "work", created_at: datetime | None = None) -> Linked:
    """A new connector with a new inbox, both stored."""
    inbox = make_inbox(f"{name}@inbox.example", created_at)
    connector = make_connector(inbox, name, created_at)
    await connectors.add(store, connector, inbox=inbox)
    return Linked(inbox, connector)


def make_inbox(email_address: str = "box@inbox.example", created_at: datetime | None = None) -> Inbox:
    """An inbox that is not stored yet."""
    return Inbox(id=InboxId(uuid4()), email_address=email_address, created_at=created_at or utc_now())


def make_connector(inbox: Inbox, name: str = "work", created_at: datetime | None = None) -> Connector:
    """A connector that is not stored yet."""
    return Connector(
        id=ConnectorId(uuid4()),
        inbox_id=inbox.id,
        name=name,
        email_address=f"{name}@example.com",
        enabled=True,
        created_at=created_at or utc_now(),
    )


def make_connection(connector_id: ConnectorId, kind: Kind = Kind.IMAP, *, enabled: bool = True) -> Connection:
    """A connection that is not stored yet."""
    return Connection(
        id=uuid4(),
        connector_id=connector_id,
        kind=kind,
        created_at=MORNING,
        enabled=enabled,
        host="mail.example.com",
        port=993,
        tls=Tls.IMPLICIT,
        username="someone",
        sealed_password=b"\x01sealed\x00\xff",
        mechanisms=("PLAIN",),
        ssl_protocols=("TLSv1.3",),
        select_folder="INBOX",
    )


def make_sync_settings(connector_id: ConnectorId, *, enabled: bool = True) -> SyncSettings:
    """Sync settings that are not stored yet."""
    return SyncSettings(id=uuid4(), connector_id=connector_id, enabled=enabled, interval_minutes=15)


def make_incoming(
    uid: int, raw: bytes | bytearray | None = None, digest: Digest | None = None, received_at: datetime | None = MORNING
) -> Incoming:
    """A fetched mail; without `raw`, one whose bytes are those of no other UID."""
    content = raw if raw is not None else b"Subject: mail %d\r\n\r\nbody %d\r\n" % (uid, uid)
    made = digest or Digest(
        subject=f"mail {uid}",
        sender=Address(raw="Ann <ann@example.com>", address="ann@example.com", name="Ann"),
        to=(Address(raw="bob@example.com", address="bob@example.com"),),
    )
    fetched = Fetched(
        uid=uid, raw=content, size_bytes=len(content), received_at=received_at, flags=("\\Seen",), whole=True
    )
    return Incoming(fetched=fetched, digest=made, content_hash=hashlib.sha256(content).digest())


def make_event(connector_id: ConnectorId, type: EventType = EventType.SYNC, minutes: int = 0) -> Event:
    """An event that is not stored yet."""
    return Event(
        id=EventId(uuid4()),
        connector_id=connector_id,
        type=type,
        status=EventStatus.SUCCESS,
        size=3,
        created_at=MORNING + timedelta(minutes=minutes),
        message="fine",
        logs="C: NOOP\nS: OK",
        seen=True,
        duration=timedelta(seconds=90, microseconds=7),
    )


def make_sent(linked: Linked, minutes: int = 0) -> Sent:
    """A sent mail that is not stored yet."""
    return Sent(
        id=SentId(uuid4()),
        inbox_id=linked.inbox.id,
        connector_id=linked.connector.id,
        created_at=MORNING + timedelta(minutes=minutes),
        state=SentState.SENT,
        sender=Address("Ann <ann@example.com>", "ann@example.com", "Ann"),
        to=("bob@example.com",),
        cc=("cy@example.com",),
        bcc=(),
        subject="Hello",
        header_message_id="<1@example.com>",
        size_bytes=11,
        sent_at=MORNING,
        reply_to="ann@example.com",
        body="Hello, Bob",
        is_html=True,
        attachments=("a.pdf",),
        reply="250 queued",
        in_reply_to="0@example.com",
        excerpt="Hello",
    )


async def add_mails(store: Store, linked: Linked, *uids: int) -> Outcome:
    """Store mails with these UIDs as a sync does."""
    return await messages.add_batch(store, linked.place, linked.inbox.id, [make_incoming(uid) for uid in uids])


async def stored_uids(store: Store) -> list[int | None]:
    """The UIDs of the first thousand messages stored, in order of arrival."""
    return [message.uid for message in (await messages.page(store, MessageFilter(), Window(size=1000))).rows]


def renumbered(place: Place, by: int = 1) -> Place:
    """The mailbox in another incarnation."""
    return replace(place, uidvalidity=place.uidvalidity + by)


def make_attachment(position: int) -> Attachment:
    """An attachment that is not stored yet."""
    return Attachment(
        AttachmentId(uuid4()), position, f"paper {position}.pdf", "application/pdf", 10 + position, "<c@x>"
    )


def no_such_id() -> UUID:
    """An id that nothing has."""
    return uuid4()
