"""The connectors: all of them, one of them, and what is done with one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from uuid import UUID

from aiohttp import web

from inboxd.api import connectors as handlers
from inboxd.api.wire.connectors import CreateConnectorOptions
from inboxd.bus import Hint
from inboxd.dashboard import consent, guard, overview, staged
from inboxd.dashboard.page import Answered, Moved, Shown, Visit, page_number
from inboxd.direct import sync_now
from inboxd.errors import NotFound
from inboxd.model import ConnectorId, EventId, Kind, Status, Window, utc_now
from inboxd.store import connectors, events, tallies
from inboxd.usage import usage_of

_EVENTS: Final = 25
_MOST_LINES: Final = 1_000


async def show_all(visit: Visit) -> Shown:
    """The list."""
    return Shown("connectors.html", {"lines": await overview.lines(visit.services, visit.counts)})


async def show(visit: Visit) -> Shown:
    """One connector: state, mailboxes, events and what may be done."""
    services, connector = visit.services, await connectors.get(visit.services.store, id_of(visit))
    line = await overview.line_of(services, visit.counts, connector)
    imap = await connectors.connection(services.store, connector.id, Kind.IMAP)
    smtp = await connectors.connection(services.store, connector.id, Kind.SMTP)
    window = Window(page_number(visit), _EVENTS, ascending=False)
    found = await events.page(services.store, window, connector_id=connector.id)
    return Shown(
        "connector.html",
        {
            "line": line,
            "imap": imap,
            "smtp": smtp,
            "standing": await consent.standing(services, connector.id, (imap, smtp)),
            "usage": await usage_of(services, connector),
            "mailboxes": await tallies.of_mailboxes(services.store, connector.id),
            "history": _spans(services.roster.history(connector.id)),
            "moods": overview.MOODS,
            "said": overview.said,
            "events": found.rows,
            "total": found.total,
            "number": window.page,
            "last": max(0, (found.total - 1) // _EVENTS),
        },
    )


def _spans(history: tuple[Status, ...]) -> list[tuple[Status, float]]:
    """The states with how many seconds each lasted, the newest first."""
    ends = (*(one.since for one in history[1:]), utc_now())
    return [(one, (ends[at] - one.since).total_seconds()) for at, one in reversed(list(enumerate(history)))]


async def show_event(visit: Visit) -> Shown:
    """One event with its log."""
    event = await events.get(visit.services.store, EventId(_uuid(visit, "event")))
    connector = await connectors.get(visit.services.store, event.connector_id)
    return Shown("event.html", {"event": event, "connector": connector})


async def show_log(visit: Visit) -> web.StreamResponse:
    """The masked protocol from now on, as server-sent events."""
    connector = await connectors.get(visit.services.store, id_of(visit))
    response = web.StreamResponse(headers={**guard.HEADERS, "Content-Type": "text/event-stream"})
    await response.prepare(visit.request)
    lines: deque[str] = deque(maxlen=_MOST_LINES)
    hint = Hint()

    def hear(line: str) -> None:
        lines.append(line)
        hint.ring()

    with visit.services.roster.overhear(connector.id, hear):
        while True:
            said = b"".join(b"data: " + lines.popleft().encode(errors="replace") + b"\n\n" for _ in range(len(lines)))
            try:
                await response.write(said or b":\n\n")
            except ConnectionResetError:
                return response
            try:
                async with asyncio.timeout(15):
                    await hint.wait()
            except TimeoutError:
                continue


async def act(visit: Visit) -> Answered:
    """What the buttons of a connector's page ask for."""
    work = _ACTIONS.get(visit.request.match_info["action"])
    if work is None:
        raise NotFound(f"there is nothing to do at {visit.request.path}")
    return await work(visit, id_of(visit))


async def _sync(visit: Visit, id: ConnectorId) -> Answered:
    report = await sync_now(visit.services, id, since=None, mailbox=None)
    if report.error is not None:
        visit.session.tell(f"The sync failed: {report.error}", "bad")
    else:
        count = len(report.stored)
        visit.session.tell(f"Synced: {count} new {'mail' if count == 1 else 'mails'}.")
    return _page_of(id)


async def _enable(visit: Visit, id: ConnectorId, *, enabled: bool) -> Answered:
    await handlers.update(visit.services, id, CreateConnectorOptions(enabled=enabled))
    visit.session.tell("It listens for mail again." if enabled else "It is paused: no mail is fetched until then.")
    return _page_of(id)


async def _delete(visit: Visit, id: ConnectorId) -> Answered:
    connector = await connectors.get(visit.services.store, id)
    name = overview.called(connector)
    if visit.given("typed") != name:
        visit.session.tell(f"Nothing is deleted: type {name} to confirm.", "bad")
        return Moved(f"/ui/connectors/{id}#delete")
    await handlers.delete(visit.services, id)
    visit.session.tell(f"{name} is deleted. Its mails stay.")
    return Moved("/ui/connectors")


_ACTIONS: Final[dict[str, Callable[[Visit, ConnectorId], Awaitable[Answered]]]] = {
    "sync": _sync,
    "test": staged.show,
    "roundtrip": staged.show_trip,
    "pause": partial(_enable, enabled=False),
    "resume": partial(_enable, enabled=True),
    "delete": _delete,
}


def id_of(visit: Visit) -> ConnectorId:
    """The connector that the address names."""
    return ConnectorId(_uuid(visit, "id"))


def _uuid(visit: Visit, name: str) -> UUID:
    given = visit.request.match_info[name]
    try:
        return UUID(given)
    except ValueError as error:
        raise NotFound(f"there is nothing with the id {given[:80]}") from error


def _page_of(id: ConnectorId) -> Moved:
    return Moved(f"/ui/connectors/{id}")
