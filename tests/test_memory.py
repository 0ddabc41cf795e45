"""How much memory the daemon takes at the most: its own when idle and a bound beside it, whatever a mailbox holds."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd import sync
from inboxd.errors import StoreError
from inboxd.fetching import BATCH_COUNT, Reading, Writer
from inboxd.mails import Fetched, Spooled
from inboxd.model import Trigger
from inboxd.spool import Spool
from inboxd.store import messages
from inboxd.store.engine import Store
from servers.daemon import Daemon
from servers.dovecot import User
from servers.mailbox import make_bench
from servers.plenty import TINY, Plenty, plenty, with_attachment
from servers.sessions import account_on, eventually, limits, session

pytest_plugins = ("servers.daemon",)
MEBIBYTE: Final = 1 << 20
# Beside what the daemon takes when idle; README.md states it.
BOUND_BYTES: Final = 80 * MEBIBYTE
LARGE_BOUND_BYTES: Final = 30 * MEBIBYTE
LARGE: Final = with_attachment(9 * MEBIBYTE)
ANYBODY: Final = User("me@example.test", "secret", Path("/"))


@dataclass(frozen=True)
class Gauge:
    """A process's memory, from the kernel."""

    pid: int

    def bytes_of(self, name: str) -> int:
        """A figure of its status."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def started(daemon: Daemon, **settings: str) -> Gauge:
    """Run it; its gauge."""
    daemon.settings = daemon.settings | {"INBOXD_LOG__LEVEL": "info"} | settings
    daemon.start()
    assert daemon.process is not None
    return Gauge(daemon.process.pid)


def test_a_large_message_is_never_in_memory(daemon: Daemon) -> None:
    mailbox = Plenty(1, with_attachment(60 * MEBIBYTE))
    gauge = started(daemon)
    idle = gauge.bytes_of("VmRSS")
    with plenty(mailbox) as there:
        connector = daemon.connect(ANYBODY, there)
        daemon.await_state(connector, "idle")
    assert gauge.bytes_of("VmHWM") - idle < LARGE_BOUND_BYTES
    (mail,) = daemon.emails(connector)
    assert len(mail["attachments"]) == 1
    assert daemon.raw(mail["id"]) == mailbox.raw
    assert gauge.bytes_of("VmHWM") - idle < len(mailbox.raw) + LARGE_BOUND_BYTES  # the mail once
    attached = daemon.octets(f"/emails/{mail['id']}/attachments/{mail['attachments'][0]}")
    assert gauge.bytes_of("VmHWM") - idle < len(mailbox.raw) + len(attached) + LARGE_BOUND_BYTES


def test_a_million_messages_with_gaps_are_listed_within_the_bound(daemon: Daemon) -> None:
    gauge = started(daemon)
    idle = gauge.bytes_of("VmRSS")
    with plenty(Plenty(1_000_000, step=3)) as there:
        connector = daemon.connect(ANYBODY, there)
        daemon.until(lambda: daemon.count(connector) >= 100, "the newest of a million mails", 60)
        assert gauge.bytes_of("VmHWM") - idle < BOUND_BYTES


def test_mail_that_comes_faster_than_the_disk_takes_it_waits_on_its_server(daemon: Daemon) -> None:
    gauge = started(daemon)
    idle = gauge.bytes_of("VmRSS")

    def received() -> int:
        return int(daemon.metric("inboxd_imap_bytes_total", direction="in"))

    def rests() -> bool:
        before = received()
        time.sleep(0.2)
        return received() == before

    with plenty(Plenty(100_000, TINY + b"x" * 20_000)) as there:
        daemon.connect(ANYBODY, there)
        daemon.until(lambda: received() > MEBIBYTE, "the first megabyte")
        with closing(sqlite3.connect(daemon.state_dir / "inboxd.db", isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")  # nobody else writes now
            begun = received()
            daemon.until(rests, "the daemon to read no more", 4)
            assert received() - begun < BOUND_BYTES
            database.execute("ROLLBACK")
        daemon.until(lambda: received() > begun + BOUND_BYTES, "the daemon to read on")
    assert gauge.bytes_of("VmHWM") - idle < BOUND_BYTES


def names(folder: Path) -> list[str]:
    """What a folder holds."""
    return [one.name for one in folder.iterdir()]


@asynccontextmanager
async def reading(store: Store, mailbox: Plenty, folder: Path) -> AsyncGenerator[sync.Pass]:
    """A pass over a mailbox whose large messages go to a folder."""
    place = folder / "state"
    place.mkdir()
    with plenty(mailbox) as there:
        linked = await (await make_bench(store, place)).link(there.port)
        async with session(account_on(there.port), folder=folder / "spool") as opened:
            yield await sync.begin(linked.target, opened, await opened.examine("INBOX"), Trigger.START)


async def test_a_large_message_is_stored_as_it_came(store: Store, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    async with reading(store, Plenty(2, LARGE), tmp_path) as run:
        await sync.catch_up(run)
        assert run.stored == 2
        for key in run.ids:
            message = await messages.get(store, key)
            assert await messages.raw(store, key) == LARGE
            assert (message.digest.excerpt, message.digest.defect) == ("hello", None)
            assert [one.name for one in message.digest.attachments] == ["a.bin"]
        assert names(tmp_path / "spool") == []


async def test_while_others_write_first_no_more_than_a_batch_waits(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = most = 0
    put = Writer.put

    async def nothing(_connection: AsyncConnection) -> None:
        pass

    async with reading(store, Plenty(4_000), tmp_path) as run:

        async def counting(writer: Writer, batch: Sequence[Fetched], reading: Reading, cursor: int = 0) -> None:
            nonlocal came, most
            came += len(batch)
            await put(writer, batch, reading, cursor)
            most = max(most, came - run.done)

        monkeypatch.setattr(Writer, "put", counting)
        await store.write_at_once(nothing)  # from now on there is a hurry
        await sync.catch_up(run)
        assert (run.stored, store.hurried) == (4_000, True)
    assert 100 < most <= BATCH_COUNT + 100  # with those that are being written


def unnamed(folder: Path) -> list[str]:
    """What this process holds open that was in the folder, and has no name any more."""
    held: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            held.append(str(descriptor.readlink()))
    return [where for where in held if where.startswith(f"{folder}/") and where.endswith(" (deleted)")]


async def test_a_large_message_comes_in_a_file_without_a_name(tmp_path: Path) -> None:
    with plenty(Plenty(1, LARGE)) as there:
        async with session(account_on(there.port), folder=tmp_path) as opened:
            await opened.examine("INBOX")
            with opened.fetch("1") as stream:
                (message,) = await stream.take(1, 1, 0)
                assert isinstance(message.raw, Spooled)
                assert (bytes(message.raw) == LARGE, names(tmp_path)) == (True, [])
                assert os.fstat(message.raw.fileno()).st_size == len(LARGE)
                assert len(unnamed(tmp_path)) == 1
                del message
                assert unnamed(tmp_path) == []
                assert not await stream.take(1, 1, 0)


async def test_no_room_for_a_large_message_is_an_error_of_the_store(store: Store, tmp_path: Path) -> None:
    async with reading(store, Plenty(1, LARGE), tmp_path) as run:
        with pytest.raises(StoreError, match="a large mail cannot be kept here: No such file"):
            await sync.catch_up(run)


async def test_while_a_slow_disk_takes_a_large_message_the_server_is_not_read_nor_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = threading.Event()
    write = Spool._write  # pyright: ignore[reportPrivateUsage]

    def slowly(spool: Spool, pieces: list[bytes]) -> None:
        room.wait(20)
        write(spool, pieces)

    monkeypatch.setattr(Spool, "_write", slowly)
    with plenty(Plenty(1, LARGE)) as there:
        within = limits(command_seconds=0.3)
        async with session(account_on(there.port), within, folder=tmp_path) as opened, asyncio.TaskGroup() as tasks:
            await opened.examine("INBOX")
            with opened.fetch("1") as stream:
                taking = tasks.create_task(stream.take(1, 1, 0))
                await eventually(lambda: opened.link.protocol.patience.is_held)
                done, _ = await asyncio.wait([taking], timeout=0.6)  # twice as long as a server may be silent
                assert not done
                assert opened.link.protocol.patience.received_bytes < 6 * MEBIBYTE
                room.set()
                assert [bytes(message.raw) for message in await taking] == [LARGE]
                assert not await stream.take(1, 1, 0)
