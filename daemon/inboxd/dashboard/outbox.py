"""The outbox: what is on its way, what became of it, and what a person decides about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from uuid import UUID

from aiohttp import web

from inboxd.api import answers
from inboxd.api import outbox as handlers
from inboxd.api.answers import File
from inboxd.dashboard.page import Moved, Shown, Visit, page_number
from inboxd.errors import Conflict, NotFound
from inboxd.model import SentId, SentState, Window
from inboxd.services import Services
from inboxd.store import connectors, outbox_list, sent

SIZE: Final = 50
# What a person can do about a mail, by its state.
CHOICES: Final[dict[SentState, tuple[str, ...]]] = {
    SentState.QUEUED: ("cancel",),
    SentState.DEFERRED: ("retry", "cancel"),
    SentState.FAILED: ("retry", "drop"),
    SentState.UNKNOWN: ("retry", "drop"),
}
MOODS: Final = {
    SentState.QUEUED: "busy",
    SentState.SENDING: "busy",
    SentState.DEFERRED: "busy",
    SentState.SENT: "good",
    SentState.FAILED: "bad",
    SentState.UNKNOWN: "bad",
    SentState.CANCELLED: "off",
}
_WORDS: Final = {"retry": "It is tried again now.", "cancel": "It is not sent.", "drop": "It is let rest."}
_DECISIONS: Final[dict[str, Callable[[Services, SentId], Awaitable[object]]]] = {
    "retry": handlers.retry,
    "cancel": handlers.cancel,
    "drop": handlers.drop,
}


async def show_all(visit: Visit) -> Shown:
    """A page of the list, of one state if asked."""
    store, asked = visit.services.store, visit.given("state")
    states = tuple(state for state in SentState if state.value == asked)
    window = Window(page_number(visit), SIZE, ascending=False)
    page = await outbox_list.page(store, window, states=states)
    return Shown(
        "outbox.html",
        {
            "rows": page.rows,
            "total": page.total,
            "number": window.page,
            "last": max(0, (page.total - 1) // SIZE),
            "state": asked if states else "",
            "states": [state.value for state in SentState],
            "census": await outbox_list.census(store),
            "moods": MOODS,
        },
    )


async def show(visit: Visit) -> Shown:
    """One mail: its recipients, tries and what can be done."""
    record = await outbox_list.get(visit.services.store, _id(visit))
    entry, connector = record.entry, None
    if entry.connector_id is not None:
        with suppress(NotFound):
            connector = await connectors.get(visit.services.store, entry.connector_id)
    return Shown(
        "sending.html",
        {
            "record": record,
            "entry": entry,
            "connector": connector,
            "mood": MOODS[entry.state],
            "choices": CHOICES.get(entry.state, ()),
        },
    )


async def decide(visit: Visit) -> Moved:
    """Retry, cancel or drop."""
    decision, sent_id = visit.request.match_info["decision"], _id(visit)
    if decision not in _DECISIONS:
        raise NotFound(f"there is nothing to do at {visit.request.path}")
    try:
        await _DECISIONS[decision](visit.services, sent_id)
        visit.session.tell(_WORDS[decision])
    except Conflict as error:
        visit.session.tell(str(error), "bad")
    return Moved(f"/ui/outbox/{sent_id}")


async def raw(visit: Visit) -> web.StreamResponse:
    """The bytes of the mail, to be saved."""
    sent_id = _id(visit)
    content = await sent.raw(visit.services.store, sent_id)
    return answers.whole(HTTPStatus.OK, File(content, "message/rfc822", f"{sent_id}.eml"), answers.OCTETS)


def _id(visit: Visit) -> SentId:
    given = visit.request.match_info["id"]
    try:
        return SentId(UUID(given))
    except ValueError as error:
        raise NotFound(f"there is no mail {given[:80]} in the outbox") from error
