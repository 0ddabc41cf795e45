"""The API on a TCP port and a Unix socket of its own, over a real SQLite store, with clients to ask it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import aiohttp
import mailslurp_client
from aiohttp import web

from inboxd import sender
from inboxd.api.app import build
from inboxd.bus import Bus, Hint
from inboxd.dashboard import app as dashboard
from inboxd.dashboard.sessions import Sessions
from inboxd.mail.parse import digest
from inboxd.mails import Fetched, Incoming, Message, Place
from inboxd.model import ConnectorId, InboxId, MessageFilter, SentState, Window, utc_now
from inboxd.roster import Roster
from inboxd.sections import ApiSettings, ImapSettings, OutboxSettings
from inboxd.services import Services
from inboxd.settings import Settings
from inboxd.store import connectors, installation, messages, outbox_list
from inboxd.store.engine import open_store
from inboxd.vault import open_vault
from servers.stores import blank_sqlite

T = TypeVar("T")
# MailSlurp's client carries no types.
SDK: Any = mailslurp_client
KEY = "the-key-of-the-setting"
PASSWORD = "correct horse battery staple"
MAX_BODY_BYTES = 200_000
_FRESH = {SentState.QUEUED, SentState.SENDING}
MAIL = (
    b"From: Ada Lovelace <ada@example.com>\r\nTo: Bob <bob@example.com>, carl@example.com\r\nCc: dora@example.com\r\n"
    b"Subject: Hello =?utf-8?q?caf=C3=A9?=\r\nMessage-ID: <one@example.com>\r\nIn-Reply-To: <zero@example.com>\r\n"
    b"Reply-To: reply@example.com\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGood morning \xc3\xa9\r\n"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end."""

    status: int
    body: bytes
    json: Any
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Site:
    """The running API: `tcp` asks with the key of the setting, `control` over the Unix socket."""

    services: Services
    url: str
    socket: Path
    tcp: aiohttp.ClientSession
    control: aiohttp.ClientSession
    runner: web.AppRunner

    async def ask(self, method: str, path: str, body: object = None, **more: Any) -> Reply:
        """Ask over TCP."""
        return await self._ask(self.tcp, self.url, method, path, body, more)

    async def ask_control(self, method: str, path: str, body: object = None, **more: Any) -> Reply:
        """Ask over the control socket."""
        return await self._ask(self.control, "http://inboxd", method, path, body, more)

    async def _ask(
        self, session: aiohttp.ClientSession, url: str, method: str, path: str, body: object, more: dict[str, Any]
    ) -> Reply:
        if body is not None:
            more["json"] = body
        async with session.request(method, f"{url}{path}", **more) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json" and raw
            return Reply(response.status, raw, await response.json() if is_json else None, dict(response.headers))

    async def sdk(self, call: Callable[[Any], T], base_path: str = "") -> T:
        """What `call` makes of MailSlurp's own Python client, in a thread."""
        configuration = SDK.Configuration(host=self.url + base_path)
        configuration.api_key["x-api-key"] = KEY

        def run() -> T:
            with SDK.ApiClient(configuration) as client:
                return call(client)

        return await asyncio.to_thread(run)

    async def new_connector(self, **options: object) -> dict[str, Any]:
        """A connector made over the API."""
        return (await self.ask("POST", "/connectors", options)).json

    async def deliver(self, connector: dict[str, Any], *mails: bytes, first_uid: int = 1) -> list[Message]:
        """Put mails into the connector's inbox as a sync does; the stored messages."""
        connector_id, inbox_id = ConnectorId(UUID(connector["id"])), InboxId(UUID(connector["inboxId"]))
        batch = [_incoming(uid, raw) for uid, raw in enumerate(mails, first_uid)]
        place = Place(connector_id, "INBOX", 7)
        outcome = await messages.add_batch(
            self.services.store, place, inbox_id, batch, last_uid=first_uid + len(mails) - 1
        )
        self.services.bus.publish(inbox_id)
        return [await messages.get(self.services.store, stored.id) for stored in outcome.stored]

    async def count(self, connector: dict[str, Any]) -> int:
        """How many messages the connector's inbox holds."""
        inbox_id = InboxId(UUID(connector["inboxId"]))
        return (await messages.page(self.services.store, MessageFilter((inbox_id,)), Window())).total

    async def at_rest(self) -> None:
        """Return once every mail in the outbox has had its first try."""
        async with asyncio.timeout(15):
            with self.services.sends.subscribe() as hint:
                while _FRESH & {state for state, count in (await self._states()).items() if count}:
                    await hint.wait()

    async def _states(self) -> dict[SentState, int]:
        return (await outbox_list.census(self.services.store)).counts

    async def connector_count(self) -> int:
        """How many connectors there are."""
        return (await connectors.page(self.services.store, Window())).total


@dataclass(frozen=True, slots=True)
class Attention:
    """Set when somebody began, and when somebody ceased, to wait for mail."""

    began: asyncio.Event
    ceased: asyncio.Event


def attention(site: Site) -> Attention:
    """What tells whether a request waits for mail, from now on."""
    seen = Attention(asyncio.Event(), asyncio.Event())
    bus = site.services.bus
    real = bus.subscribe

    @contextmanager
    def subscribe(topic: UUID | None = None, hint: Hint | None = None) -> Generator[Hint]:
        with real(topic, hint) as rung:
            seen.began.set()
            try:
                yield rung
            finally:
                seen.ceased.set()

    bus.subscribe = subscribe
    return seen


def database_bytes(folder: Path) -> bytes:
    """Everything SQLite has written of the store in `folder`."""
    return b"".join(file.read_bytes() for file in folder.glob("inboxd.db*"))


def _incoming(uid: int, raw: bytes) -> Incoming:
    fetched = Fetched(uid, raw, len(raw), utc_now())
    return Incoming(fetched, digest(raw), hashlib.sha256(raw + str(uid).encode()).digest())


@asynccontextmanager
async def sending(services: Services) -> AsyncGenerator[None]:
    """The outbox is worked on until the block ends."""
    # A fixture ends in another task than it began, which a TaskGroup does not survive.
    task = asyncio.create_task(sender.run(services))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    with suppress(asyncio.CancelledError):
        task.result()


@asynccontextmanager
async def open_site(
    folder: Path, *, key: str | None = KEY, pages: Sessions | None = None, **sections: Any
) -> AsyncGenerator[Site]:
    """The API over a new store in `folder`, and what sends; `sections` of the settings by name; `pages`: with the
    dashboard for these sessions.
    """
    api = ApiSettings.model_validate({"key": key, "max_body_bytes": MAX_BODY_BYTES})
    usual = {"outbox": OutboxSettings(stop_seconds=0.2), "imap": ImapSettings(logins_per_minute=0)}
    parts: dict[str, Any] = {**usual, **sections}
    settings = Settings(state_dir=folder, api=api, **parts)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(blank_sqlite(folder)))
        vault, bus = open_vault(None, folder), Bus()
        roster = Roster(settings, store, vault, bus)
        services = Services(settings, store, vault, bus, roster, await installation.user_id(store), utc_now())
        await stack.enter_async_context(sending(services))
        first = None if pages is None else partial(dashboard.mount, services=services, sessions=pages)
        runner = web.AppRunner(build(services, first), access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        socket = folder / "control.sock"
        await web.UnixSite(runner, str(socket)).start()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[1][:2]
        tcp = await stack.enter_async_context(aiohttp.ClientSession(headers={"x-api-key": KEY}))
        control = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))))
        yield Site(services, f"http://{host}:{port}", socket, tcp, control, runner)
