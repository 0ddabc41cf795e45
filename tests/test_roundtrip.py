"""A mail from a connector to itself: its way is timed, and where it ends is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from inboxd.accounts import seal_password
from inboxd.errors import Conflict
from inboxd.model import Connection, Kind, MessageFilter, Secret, Step, Tls
from inboxd.roundtrip import roundtrip
from inboxd.store import connectors, messages
from inboxd.store.engine import open_store
from servers.certs import Certificates
from servers.dovecot import Dovecot, User
from servers.mailbox import PASSWORD, Bench, Linked, make_bench
from servers.smtp import Received, SmtpServer
from servers.stores import MORNING, blank_sqlite

NAMES = ["connect", "accepted", "delivered", "detected"]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    async with open_store(blank_sqlite(tmp_path)) as store:
        yield await make_bench(store, tmp_path)


@dataclass(frozen=True)
class Pair:
    """A connector whose SMTP server files what it takes into its own mailbox, in a folder of it, or nowhere."""

    linked: Linked
    user: User
    folder: list[str]

    async def trip(self, seconds: float = 20.0) -> list[Step]:
        """All steps; none shows the password."""
        trace: list[str] = []
        services = self.linked.bench.services
        async with asyncio.timeout(30):
            steps = [step async for step in roundtrip(services, self.linked.connector.id, trace.append, seconds)]
        assert all(step.ok for step in steps[:-1])
        assert PASSWORD not in "\n".join([repr(steps), *trace])
        return steps

    async def stored(self) -> int:
        """How many mails are here."""
        wanted = MessageFilter(inbox_ids=(self.linked.connector.inbox_id,))
        return await messages.count(self.linked.bench.store, wanted)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Let the connector run, and wait until it listens."""
        roster, connector_id = self.linked.bench.roster, self.linked.connector.id
        async with asyncio.TaskGroup() as group:
            running = group.create_task(roster.run())
            async with asyncio.timeout(20):
                while roster.status(connector_id).state.value != "idle":  # noqa: ASYNC110  # not announced
                    await asyncio.sleep(0.01)
            yield
            running.cancel()


@pytest.fixture
def pair(bench: Bench, dovecot: Dovecot, smtp: SmtpServer, trusted: Certificates) -> Callable[..., Any]:
    """Makes a pair; `changed` is the IMAP connection's."""
    del trusted

    async def make(**changed: Any) -> Pair:
        user = dovecot.user(password=PASSWORD)
        server, folder = dovecot.starttls, ["INBOX"]
        with dovecot.session(user) as client:
            client.create("Junk")
        smtp.users[user.name] = PASSWORD

        def deliver(mail: Received) -> None:
            if folder:
                dovecot.append(user, mail.content, mailbox=folder[0])

        smtp.deliver = deliver
        linked = await bench.link(server.port, host=server.host, tls=Tls.STARTTLS, username=user.name, **changed)
        key = uuid4()
        sealed = seal_password(bench.vault, key, Secret(PASSWORD))
        out = Connection(key, linked.connector.id, Kind.SMTP, MORNING, True, smtp.host, smtp.port, Tls.STARTTLS,
                         user.name, sealed)  # fmt: skip
        await connectors.put_connection(bench.store, out)
        return Pair(linked, user, folder)

    return make


async def test_a_running_connector_detects_its_own_mail_and_keeps_no_copy(
    pair: Callable[..., Any], dovecot: Dovecot
) -> None:
    made: Pair = await pair()
    async with made.running():
        steps = await made.trip()
    assert [(step.name, step.ok) for step in steps] == [(name, True) for name in NAMES], steps
    assert "queued" in steps[1].detail
    assert steps[2].detail.startswith("in INBOX at ")
    assert "after the server took it" in steps[3].detail
    assert await made.stored() == 0
    with dovecot.session(made.user) as client:
        assert client.select("INBOX")[1] == [b"1"]  # the mailbox keeps it


async def test_without_a_running_connector_the_mailbox_itself_is_asked(pair: Callable[..., Any]) -> None:
    made: Pair = await pair()
    steps = await made.trip()
    assert [(step.name, step.ok) for step in steps] == [(name, True) for name in NAMES], steps
    assert steps[2].detail == "in INBOX, seen there"
    assert "does not run" in steps[3].detail


async def test_a_mail_that_is_taken_for_spam_is_found_in_the_junk_folder(pair: Callable[..., Any]) -> None:
    made: Pair = await pair()
    made.folder[0] = "Junk"
    steps = await made.trip()
    assert [step.name for step in steps] == NAMES[:3]
    assert (steps[-1].ok, steps[-1].diagnosis) == (False, "delivered_as_spam")


async def test_a_mail_that_never_comes_is_told_when_the_time_is_over(pair: Callable[..., Any]) -> None:
    made: Pair = await pair()
    made.folder.clear()
    steps = await made.trip(seconds=0.3)
    assert (steps[-1].name, steps[-1].diagnosis) == ("delivered", "not_delivered")
    assert "0.3 s" in steps[-1].detail


async def test_a_mail_that_the_connector_passes_over_is_told(pair: Callable[..., Any]) -> None:
    made: Pair = await pair(search_terms="SUBJECT nothing-like-it")
    async with made.running():
        steps = await made.trip(seconds=0.5)
    assert (steps[-1].name, steps[-1].diagnosis) == ("detected", "not_stored"), steps


async def test_a_mail_that_is_refused_is_told_with_the_servers_words(
    pair: Callable[..., Any], smtp: SmtpServer
) -> None:
    made: Pair = await pair()
    smtp.answers["RCPT"] = "554 5.7.1 Relay access denied"
    steps = await made.trip()
    assert (steps[-1].name, steps[-1].diagnosis) == ("accepted", "relay_denied")
    assert "Relay access denied" in steps[-1].detail


async def test_a_login_that_fails_on_the_way_is_told_like_in_a_test(pair: Callable[..., Any], smtp: SmtpServer) -> None:
    made: Pair = await pair()
    smtp.users[made.user.name] = "another"
    (step,) = await made.trip()
    assert (step.name, step.diagnosis) == ("login", "wrong_password")


async def test_a_connector_that_cannot_send_or_has_no_address_makes_no_trip(pair: Callable[..., Any]) -> None:
    made: Pair = await pair()
    store, connector = made.linked.bench.store, made.linked.connector
    await connectors.update(store, replace(connector, email_address=None))
    out = await connectors.connection(store, connector.id, Kind.SMTP)
    assert out is not None
    await connectors.put_connection(store, replace(out, username="someone"))
    with pytest.raises(Conflict, match="address"):
        await made.trip()
    await connectors.remove_connection(store, connector.id, Kind.SMTP)
    with pytest.raises(Conflict, match="SMTP"):
        await made.trip()
