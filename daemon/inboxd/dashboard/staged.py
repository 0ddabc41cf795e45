"""The staged test as a page that grows while it runs: each step is sent when it is done, which needs no script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from aiohttp import web

from inboxd.accounts import open_account
from inboxd.api.wire.control import ProbeQuery
from inboxd.dashboard import guard, overview, render
from inboxd.dashboard.page import Visit
from inboxd.errors import InboxdError
from inboxd.model import Account, Connector, ConnectorId, Kind, Step
from inboxd.probe import probe
from inboxd.roundtrip import own_address, roundtrip
from inboxd.store import connectors

_HERE: Final = "<!-- here -->"
_LOG_LINES: Final = 400
_WAIT_SECONDS: Final = ProbeQuery().seconds


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
    connector, accounts = await _tested(visit, id)
    return await _shown(visit, connector, accounts, steps(visit, accounts))


async def show_trip(visit: Visit, id: ConnectorId) -> web.StreamResponse:
    """Send a connector a mail of its own and wait for it."""
    connector, accounts = await _tested(visit, id)
    return await _shown(visit, connector, accounts, _trip(visit, connector))


async def _tested(visit: Visit, id: ConnectorId) -> tuple[Connector, list[Account]]:
    connector = await connectors.get(visit.services.store, id)
    accounts: list[Account] = []
    for kind in Kind:
        connection = await connectors.connection(visit.services.store, id, kind)
        if connection is not None:
            accounts.append(open_account(visit.services.vault, connection))
    return connector, accounts


async def _shown(
    visit: Visit, connector: Connector, accounts: list[Account], pieces: AsyncIterator[str]
) -> web.StreamResponse:
    """The page of a connector's tests; `address` is where a mail to itself would go, None where it cannot send one."""
    both = {account.kind: account for account in accounts}
    address = own_address(connector, both[Kind.SMTP]) if len(both) == len(Kind) else None
    named = {"connector": connector, "name": overview.called(connector), "address": address}
    return await streamed(visit, "test.html", named, pieces)


async def _trip(visit: Visit, connector: Connector) -> AsyncIterator[str]:
    """The steps of a mail on its way and back as list items, then a line that sums them up."""
    log: list[str] = []
    good = True
    yield render.page("trip_begin.html", {"seconds": _WAIT_SECONDS})
    try:
        async for step in roundtrip(visit.services, connector.id, log.append, _WAIT_SECONDS):
            good = good and step.ok
            yield render.page("step.html", {"step": step})
    except InboxdError as error:  # it could not even begin
        yield render.page("trip_none.html", {"reason": str(error)})
        good = False
    yield render.page("step_end.html", {"log": log[-_LOG_LINES:]})
    yield render.page("trip_sum.html", {"good": good})


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
