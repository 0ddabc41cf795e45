"""The worker of the chores over a bench, mails that have just gone out, and a user's mailboxes to do them in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from inboxd import chores
from inboxd.mails import Address, Sent
from inboxd.model import MessageId, SentId, SentState, utc_now
from inboxd.outbox import WORK, Chore, Delivery, Order, Record, RouteId, Try, Verdict
from inboxd.services import Services
from inboxd.store import chores as stored_chores
from inboxd.store import installation, outbox, outbox_list
from inboxd.store.engine import Store
from servers.dovecot import Dovecot, User, quoted
from servers.mailbox import PASSWORD, Bench, Linked, make_bench, sample

ID = "7f3a@example.com"
RAW = f"From: work@example.com\r\nSubject: hello\r\nMessage-ID: <{ID}>\r\n\r\nbody\r\n".encode()


@dataclass
class Work:
    """A daemon's chores over a store, not running."""

    bench: Bench
    services: Services

    def settle_for(self, **outbox_settings: Any) -> None:
        """Change `[outbox]`."""
        settings = self.services.settings
        changed = settings.outbox.model_copy(update=outbox_settings)
        self.services = replace(self.services, settings=settings.model_copy(update={"outbox": changed}))

    async def link(self, port: int, user: User | None = None, **changed: Any) -> Linked:
        """A connector whose mailbox is on that port."""
        return await self.bench.link(port, username=user.name if user else "user", **changed)

    async def send(
        self,
        linked: Linked,
        *doing: Chore,
        to: tuple[str, ...] = ("bob@example.org",),
        had: tuple[str, ...] = (),
        answers: MessageId | None = None,
    ) -> SentId:
        """A mail that has just gone out, with these chores; with RESOLVE its outcome is unknown, but to those `had`."""
        now, store = utc_now(), self.services.store
        sent_id, connector = SentId(uuid4()), linked.connector
        mail = Sent(
            sent_id, connector.inbox_id, connector.id, now, SentState.QUEUED, Address("a@b.c", "a@b.c"), to, (), (),
            "hello", ID, len(RAW),
        )  # fmt: skip
        route = RouteId(connector.id)
        order = Order(mail, RAW, "a@b.c", (*to, *had), now + timedelta(days=1), route, answers=answers)
        await outbox.accept(store, order)
        lease = now + timedelta(minutes=1)
        (job,) = await outbox.claim(store, "me", route, now, most_count=1, most_bytes=1, lease_until=lease)
        unknown = Chore.RESOLVE in doing
        told: dict[str, tuple[Delivery, str]] = dict.fromkeys(
            to, (Delivery.UNKNOWN if unknown else Delivery.ACCEPTED, "250 ok")
        )
        told |= dict.fromkeys(had, (Delivery.ACCEPTED, "250 ok"))
        state = SentState.UNKNOWN if unknown else SentState.SENT
        verdict = Verdict(job.id, state, Try(now, now, "smtp.example.com", "data", "", "250 ok"), told, chores=doing)
        assert await outbox.settle(store, "me", [verdict]) == [sent_id]
        return sent_id

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The worker, until the block ends."""
        async with asyncio.TaskGroup() as group:
            worker = group.create_task(chores.run(self.services))
            try:
                yield
            finally:
                worker.cancel()

    async def tried(self, linked: Linked) -> None:
        """Return once each of the connector's chores was tried and put off."""
        store, far = self.services.store, utc_now() + timedelta(days=2)
        async with asyncio.timeout(15):
            while not all(task.attempts for task in await stored_chores.take(store, linked.connector.id, far, 9)):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def put_off(self, linked: Linked) -> None:
        """Return once nothing is due for the connector."""
        async with asyncio.timeout(15):
            while await stored_chores.take(self.services.store, linked.connector.id, utc_now(), 1):
                self.services.sends.publish(WORK)
                await asyncio.sleep(0.005)

    async def record(self, sent_id: SentId) -> Record:
        return await outbox_list.get(self.services.store, sent_id)

    async def until(self, met: Callable[[Record], bool], sent_id: SentId) -> Record:
        """The mail once that holds of it."""
        async with asyncio.timeout(15):
            while not met(record := await self.record(sent_id)):
                self.services.sends.publish(WORK)
                await asyncio.sleep(0.005)
        return record

    async def done(self, sent_id: SentId) -> Record:
        """The mail once it has no chores any more, and the worker knows that."""
        record = await self.until(lambda record: not record.chores, sent_id)
        await installation.touch(self.services.store)  # a turn behind the worker's
        return record

    async def all_done(self, sent_id: SentId) -> Record:
        """As `done`, with the worker running for it alone."""
        async with self.running():
            return await self.done(sent_id)


@pytest_asyncio.fixture
async def work(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(chores, "_RETRY_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(chores, "_RESOLVE_AFTER_SECONDS", (0.02,))
    monkeypatch.setattr(chores, "_LINGER_LOOK_SECONDS", 0.02)
    bench = await make_bench(store, tmp_path)
    return Work(bench, bench.services)


def account(dovecot: Dovecot, *mailboxes: str) -> User:
    """A user with these mailboxes and the bench's password."""
    user = dovecot.user(password=PASSWORD)
    with dovecot.session(user) as other:
        for name in mailboxes:
            assert other.create(quoted(name))[0] == "OK"
    return user


def flags_of(dovecot: Dovecot, user: User, mailbox: str) -> str:
    """Flags and date of the first mail there."""
    with dovecot.session(user) as other:
        other.select(quoted(mailbox), readonly=True)
        _, (answer,) = other.fetch("1", "(FLAGS INTERNALDATE)")
    assert isinstance(answer, bytes)
    return answer.decode()


class Counting:
    """Differences of a counter since the test began."""

    def __init__(self, name: str, label: str) -> None:
        self._name, self._label = name, label
        self._before: dict[str, float] = {}

    def __call__(self, value: str) -> float:
        return sample(self._name, **{self._label: value}) - self._before.get(value, 0.0)

    def begin(self, *values: str) -> Counting:
        self._before = {value: sample(self._name, **{self._label: value}) for value in values}
        return self


@pytest.fixture
def copies() -> Counting:
    counting = Counting("inboxd_sent_copies_total", "result")
    return counting.begin("filed", "found", "no_mailbox", "given_up")


@pytest.fixture
def resolutions() -> Counting:
    counting = Counting("inboxd_unknown_sends_resolved_total", "resolution")
    return counting.begin("found", "not_found", "resent")
