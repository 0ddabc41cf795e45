"""A store with one large inbox and some small ones, made by the store's own doors."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.mail.parse import digest
from inboxd.mails import Attachment, Fetched, Incoming
from inboxd.model import AttachmentId, Connector, ConnectorId, Inbox, InboxId, utc_now
from inboxd.store import connectors, inboxes, messages, searching, sent
from inboxd.store.engine import Store, open_store
from inboxd.store.schema import MESSAGES
from servers.stores import Linked, make_sent

RARE, COMMON, EVERYWHERE, NONE = "zanzibar-4711", "order 12", "bench@example.test", "no mail says this"
BATCH = 500
SMALL_BOXES = 4
EMPTY_BOXES = 200
SENT = 500
_LETTERS = "etaoinshrdluetaoinshrdlucmfwypvbgkqj"
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shelves:
    """The inboxes with mails."""

    largest: InboxId
    others: tuple[InboxId, ...]


_MADE: dict[int, tuple[tempfile.TemporaryDirectory[str], Shelves]] = {}


def put(database: Path, count: int) -> Shelves:
    """A store as `build` makes it, which takes a minute: made once a run, and copied."""
    if count not in _MADE:
        folder = tempfile.TemporaryDirectory()
        _MADE[count] = folder, asyncio.run(build(f"sqlite:///{folder.name}/made.db", count))
    folder, shelves = _MADE[count]
    shutil.copyfile(Path(folder.name, "made.db"), database)
    return shelves


async def build(url: str, count: int) -> Shelves:
    """`count` mails in one inbox, a hundredth of that in four others; nine of ten are read, one of 100 a favourite."""
    seconds: list[float] = []
    async with open_store(url, observe=seconds.append) as store:
        small = [await _link(store, f"small{number}") for number in range(SMALL_BOXES)]
        large = await _link(store, "large")
        for number, linked in enumerate(small, 1):
            await _fill(store, linked, count // 100, number)
        seconds.clear()
        await _fill(store, large, count, 0)
        print(f"stored with {count / sum(seconds):.0f} messages/s of writing", flush=True)
        await store.write(_mark)
        for number in range(EMPTY_BOXES):
            await inboxes.add(store, Inbox(InboxId(uuid4()), f"box{number}@example.test", utc_now()))
        for number in range(SENT):
            await sent.add(store, make_sent(large, number), b"")
        await _index(store, seconds, count)
    return Shelves(large.inbox.id, tuple(one.inbox.id for one in small))


async def _index(store: Store, seconds: list[float], count: int) -> None:
    seconds.clear()
    began = time.perf_counter()
    while await searching.follow(store):
        pass
    ordered = sorted(seconds)
    middle, high = ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000
    per_mail = (time.perf_counter() - began) / count * 1000
    print(f"indexed at {per_mail:.2f} ms a message; a transaction {middle:.0f} ms, p99 {high:.0f} ms", flush=True)


async def _link(store: Store, name: str) -> Linked:
    inbox = Inbox(InboxId(uuid4()), f"{name}@example.test", utc_now())
    connector = Connector(ConnectorId(uuid4()), inbox.id, name, inbox.email_address, False, utc_now())
    await connectors.add(store, connector, inbox=inbox)
    return Linked(inbox, connector)


async def _fill(store: Store, linked: Linked, count: int, seed: int) -> None:
    batch: list[Incoming] = []
    for uid, raw in enumerate(_mails(count, seed), 1):
        batch.append(_incoming(uid, raw))
        if len(batch) == BATCH or uid == count:
            await messages.add_batch(store, linked.place, linked.inbox.id, batch, last_uid=uid)
            batch = []


def _incoming(uid: int, raw: bytes) -> Incoming:
    made = digest(raw)
    if uid % 10 == 0:
        paper = Attachment(AttachmentId(uuid4()), 0, f"invoice {uid}.pdf", "application/pdf", 40_000)
        made = replace(made, attachments=(paper,))
    return Incoming(Fetched(uid, raw, len(raw), _FIRST), made, hashlib.sha256(raw).digest())


async def _mark(connection: AsyncConnection) -> None:
    await connection.execute(MESSAGES.update().where(MESSAGES.c.seq % 10 != 0).values(read=True))
    await connection.execute(MESSAGES.update().where(MESSAGES.c.seq % 100 == 0).values(favourite=True))


def _mails(count: int, seed: int) -> Iterator[bytes]:
    """Mails with the usual headers and about 1 KB of text; the words are as unevenly common as in any language."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(_LETTERS, k=rng.randint(2, 11))) for _ in range(20_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    for number in range(count):
        sender = f"{words[number % 997]}.{words[number % 89]}"
        text = " ".join(rng.choices(words, cum_weights=weights, k=150))
        if number == count // 2 and seed == 0:
            text += f" {RARE}"
        when = _FIRST + timedelta(minutes=number)
        yield (
            f"From: {sender.title()} <{sender}@mail{number % 50}.example.org>\r\nTo: Bench <bench@example.test>\r\n"
            f"Subject: Order {number}: {' '.join(rng.choices(words, cum_weights=weights, k=5))}\r\n"
            f"Message-ID: <{number}.{seed}@mail.example.org>\r\nDate: {when:%a, %d %b %Y %H:%M:%S} +0000\r\n"
            f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
        ).encode()
