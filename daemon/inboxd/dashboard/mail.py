"""The list of mails, and what is done with many of them at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from inboxd.dashboard import search
from inboxd.dashboard.page import Moved, Shown, Visit, page_number
from inboxd.errors import Invalid, NotFound
from inboxd.model import InboxId, MessageFilter, MessageId, Window
from inboxd.services import Services
from inboxd.store import inboxes, marks, messages

SIZE: Final = 50
MOST_AT_ONCE: Final = 500
_COUNTED: Final = 10_000  # of what a search finds


async def show(visit: Visit) -> Shown:
    """One page of the list."""
    found = search.read(visit.given("q"), MessageFilter(inbox_ids=inbox_of(visit)))
    window = Window(page_number(visit), SIZE, ascending=False, since=found.since, before=found.before)
    most = max(_COUNTED, 4 * SIZE * (window.page + 1))
    page = await messages.page(visit.services.store, found.chosen, window, count_to=most)
    last = max(0, (page.total - 1) // SIZE)
    return Shown(
        "mail.html",
        {
            "rows": page.rows,
            "total": min(page.total, most) if found.chosen.search else page.total,
            "more": bool(found.chosen.search) and page.total > most,
            "first": window.page * SIZE + 1,
            "number": window.page,
            "last": last,
            "q": visit.given("q"),
            "inbox": visit.given("inbox"),
            "mistakes": found.mistakes,
            "operators": search.OPERATORS,
            "inboxes": await inboxes.addresses(visit.services.store),
            "link": partial(address, visit),
            "context": context(visit),
        },
    )


def inbox_of(visit: Visit) -> tuple[InboxId, ...]:
    """The inbox asked for, () for all."""
    given = visit.given("inbox")
    try:
        return (InboxId(UUID(given)),) if given else ()
    except ValueError as error:
        raise NotFound(f"there is no inbox {given[:80]}") from error


def address(visit: Visit, **changed: object) -> str:
    """The list's address with some of its parameters changed; those that are empty are left out."""
    given: dict[str, Any] = {name: visit.given(name) for name in ("inbox", "q", "page")}
    kept = {name: value for name, value in (given | changed).items() if value}
    return "/ui/mail" + (f"?{urlencode(kept)}" if kept else "")


def context(visit: Visit) -> str:
    """What a link to a mail carries on, so that its reader knows the list it came from."""
    kept = {name: value for name in ("inbox", "q") if (value := visit.given(name))}
    return f"?{urlencode(kept)}" if kept else ""


async def change(visit: Visit) -> Moved:
    """Mark or delete the mails that are ticked."""
    asked = visit.given("do")
    chosen = [MessageId(UUID(one)) for one in visit.form.getall("id", ()) if isinstance(one, str) and _is_id(one)]
    if asked not in _CHANGES:
        raise Invalid("do", f"is one of {', '.join(_CHANGES)}")
    work, done = _CHANGES[asked]
    count = 0
    for message_id in chosen[:MOST_AT_ONCE]:
        with suppress(NotFound):  # somebody else was faster
            await work(visit.services, message_id)
            count += 1
    visit.session.tell(f"{count} {'mail' if count == 1 else 'mails'} {done}." if count else "No mail was ticked.")
    return Moved(address(visit))


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


async def _mark(services: Services, message_id: MessageId, read: bool) -> None:
    await messages.mark_read(services.store, message_id, read=read)
    services.bus.publish(message_id)


async def _remove(services: Services, message_id: MessageId) -> None:
    await messages.remove(services.store, message_id)


async def _favour(services: Services, message_id: MessageId, favourite: bool) -> None:
    await marks.set_favourite(services.store, message_id, favourite)


_CHANGES: Final[dict[str, tuple[Callable[[Services, MessageId], Awaitable[None]], str]]] = {
    "read": (lambda services, one: _mark(services, one, True), "marked as read"),
    "unread": (lambda services, one: _mark(services, one, False), "marked as unread"),
    "favourite": (lambda services, one: _favour(services, one, True), "among the favourites"),
    "unfavourite": (lambda services, one: _favour(services, one, False), "no longer among the favourites"),
    "delete": (_remove, "deleted"),
}
