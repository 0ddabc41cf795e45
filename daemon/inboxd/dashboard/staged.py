"""The staged test as a page that grows while it runs: each step is sent when it is done, which needs no script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from aiohttp import web

from inboxd.accounts import open_account
from inboxd.dashboard import guard, overview, render
from inboxd.dashboard.page import Visit
from inboxd.model import Account, ConnectorId, Kind, Step
from inboxd.probe import probe
from inboxd.store import connectors

_HERE: Final = "<!-- here -->"
_LOG_LINES: Final = 400


async def streamed(
    visit: Visit, template: str, values: Mapping[str, Any], pieces: AsyncIterator[str]
) -> web.StreamResponse:
    """The page with `pieces` in the place that its template marks, each sent as soon as it is there."""
    common: dict[str, Any] = {
        "path": visit.request.path,
        "session": visit.session,
        "notices": [],
        "csrf": visit.session.token(),
        "unread": await visit.counts.unread(),
    }
    before, _, after = render.page(template, common | dict(values)).partition(_HERE)
    headers = {**guard.HEADERS, "Content-Type": "text/html; charset=utf-8", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(visit.request)
    try:
        await response.write(before.encode())
        async for piece in pieces:
            await response.write(piece.encode())
        await response.write(after.encode())
        await response.write_eof()
    except ConnectionResetError:
        pass  # the browser went
    return response


async def show(visit: Visit, id: ConnectorId) -> web.StreamResponse:
    """Test the stored connections of a connector."""
    connector = await connectors.get(visit.services.store, id)
    accounts: list[Account] = []
    for kind in Kind:
        connection = await connectors.connection(visit.services.store, id, kind)
        if connection is not None:
            accounts.append(open_account(visit.services.vault, connection))
    name = overview.called(connector)
    return await streamed(visit, "test.html", {"connector": connector, "name": name}, steps(visit, accounts))


async def steps(visit: Visit, accounts: list[Account], outcome: list[Step] | None = None) -> AsyncIterator[str]:
    """The steps of testing these accounts as list items, then a line that sums them up; kept in `outcome` too."""
    services, kept = visit.services, outcome if outcome is not None else []
    for account in accounts:
        log: list[str] = []
        yield render.page("step_begin.html", {"account": account})
        async for step in probe(account, services.settings, log.append, services.tokens, services.budgets):
            kept.append(step)
            yield render.page("step.html", {"step": step})
        yield render.page("step_end.html", {"log": log[-_LOG_LINES:]})
    if not accounts:
        yield render.page("step_none.html", {})
    else:
        yield render.page("step_sum.html", {"good": all(step.ok for step in kept)})
