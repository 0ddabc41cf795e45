"""Handlers that hold a request until mail is there."""

from __future__ import annotations

from http import HTTPStatus

from inboxd.api import reading
from inboxd.api.gate import Refusal
from inboxd.api.wire.emails import Email
from inboxd.api.wire.waits import WaitQuery
from inboxd.mails import Message
from inboxd.model import InboxId
from inboxd.services import Services
from inboxd.store import inboxes
from inboxd.waiter import wait_for_nth


async def wait_for_latest(services: Services, query: WaitQuery) -> Email:
    """The newest mail of an inbox, at once or as soon as one arrives, read from now on; 408 when none does in time."""
    return await reading.read(services, await _await_latest(services, query))


async def peek_latest(services: Services, query: WaitQuery) -> Email:
    """The same, but the mail stays as unread as it was."""
    return await reading.whole(services, await _await_latest(services, query))


async def _await_latest(services: Services, query: WaitQuery) -> Message:
    await inboxes.get(services.store, InboxId(query.inbox_id))
    found = await wait_for_nth(services, query.filter(), query.window(), 0, query.timeout / 1000)
    if found is None:
        waited = f"no matching email arrived within {query.timeout} ms"
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, f"Failed to satisfy email query for inbox {query.inbox_id}: {waited}")
    return found
