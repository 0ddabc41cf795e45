"""Lists that sync before they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Site, open_site
from inboxd.direct import CONNECTORS_AT_ONCE
from inboxd.model import Window
from inboxd.store import events
from servers import LOOPBACK, free_port
from servers.dovecot import Dovecot

_LISTS: list[tuple[str, Callable[[Any, str], Any]]] = [
    ("getEmailsPaginated", lambda client, _: SDK.EmailControllerApi(client).get_emails_paginated(sync_connectors=True)),
    (
        "getEmailsOffsetPaginated",
        lambda client, _: SDK.EmailControllerApi(client).get_emails_offset_paginated(sync_connectors=True),
    ),
    (
        "getOrganizationEmailsPaginated",
        lambda client, _: SDK.EmailControllerApi(client).get_organization_emails_paginated(sync_connectors=True),
    ),
    (
        "searchEmails",
        lambda client, inbox: SDK.EmailControllerApi(client).search_emails(
            SDK.SearchEmailsOptions(inbox_ids=[inbox]), sync_connectors=True
        ),
    ),
    (
        "getInboxEmailsPaginated",
        lambda client, inbox: SDK.InboxControllerApi(client).get_inbox_emails_paginated(inbox, sync_connectors=True),
    ),
]


@pytest_asyncio.fixture
async def site(trusted: object, tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def connect(site: Site, port: int, name: str = "me", password: str = "x") -> dict[str, Any]:
    """A connector with IMAP in clear on this machine."""
    made = await site.new_connector()
    imap = {
        "imapHost": LOOPBACK, "imapPort": port, "imapSsl": False, "startTls": False, "imapUsername": name,
        "imapPassword": password,
    }  # fmt: skip
    assert (await site.ask("POST", f"/connectors/{made['id']}/imap", imap)).status == 201
    return made


@pytest.mark.parametrize(("_operation", "call"), _LISTS, ids=[name for name, _ in _LISTS])
async def test_every_list_shows_what_its_sync_brought(
    site: Site, dovecot: Dovecot, _operation: str, call: Callable[[Any, str], Any]
) -> None:
    user = dovecot.user()
    made = await connect(site, dovecot.starttls.port, user.name, user.password)
    await asyncio.to_thread(dovecot.append, user, MAIL)
    page = await site.sdk(lambda client: call(client, made["inboxId"]))
    assert [row.subject for row in page.content] == ["Hello café"]


async def test_a_failing_connector_fails_neither_the_list_nor_the_others(site: Site, dovecot: Dovecot) -> None:
    user = dovecot.user()
    broken = await connect(site, free_port())
    await connect(site, dovecot.starttls.port, user.name, user.password)
    await asyncio.to_thread(dovecot.append, user, MAIL)
    answer = await site.ask("GET", "/emails?syncConnectors=true")
    assert (answer.status, answer.json["totalElements"]) == (200, 1)
    failed = (await site.ask("GET", f"/connectors/{broken['id']}/events")).json["content"]
    assert [event["status"] for event in failed] == ["CONNECTION_ERROR"]


async def test_connectors_without_imap_or_of_other_inboxes_are_left_alone(site: Site) -> None:
    await site.new_connector()
    there, other = await connect(site, free_port()), await connect(site, free_port())
    await site.ask("GET", f"/emails?syncConnectors=true&inboxId={there['inboxId']}")
    page = await events.page(site.services.store, Window())
    assert [str(event.connector_id) for event in page.rows] == [there["id"]]
    await site.ask("GET", "/emails?syncConnectors=true")
    page = await events.page(site.services.store, Window())
    assert sorted(str(event.connector_id) for event in page.rows) == sorted([there["id"], there["id"], other["id"]])


async def test_many_connectors_are_synced_some_at_a_time(site: Site) -> None:
    count = CONNECTORS_AT_ONCE + 5
    async with crowd(CONNECTORS_AT_ONCE) as counted:
        for number in range(count):
            await connect(site, counted.port, f"user{number}")
        async with asyncio.TaskGroup() as group:
            listing = group.create_task(site.ask("GET", "/emails?syncConnectors=true"))
            await counted.full.wait()
            await site.ask("GET", "/emails")
            counted.leave.set()
    assert listing.result().status == 200
    assert (counted.most, counted.total) == (CONNECTORS_AT_ONCE, count)
    assert (await events.page(site.services.store, Window(size=1000))).total == count


class Crowd:
    """A server that says nothing until `leave` is set, and then hangs up; `full` once so many are there."""

    def __init__(self, enough: int) -> None:
        self.port = free_port()
        self.most = self.total = self._present = 0
        self.full, self.leave = asyncio.Event(), asyncio.Event()
        self._enough = enough

    async def serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        self.total += 1
        self._present += 1
        self.most = max(self.most, self._present)
        if self._present >= self._enough:
            self.full.set()
        await self.leave.wait()
        self._present -= 1
        writer.close()


@asynccontextmanager
async def crowd(enough: int) -> AsyncGenerator[Crowd]:
    """A crowd's server until the block ends."""
    counted = Crowd(enough)
    async with await asyncio.start_server(counted.serve, LOOPBACK, counted.port):
        yield counted
