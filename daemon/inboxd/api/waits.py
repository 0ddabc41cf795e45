"""Handlers that hold a request until mail is there."""

from __future__ import annotations

from http import HTTPStatus
from typing import TypeVar
from uuid import UUID

from inboxd.api import reading
from inboxd.api.gate import Refusal
from inboxd.api.wire.emails import Email, EmailPreview
from inboxd.api.wire.waits import CountQuery, InboxWait, MatchOptions, NthQuery, WaitForConditions, WaitQuery
from inboxd.mails import Message
from inboxd.matching import Goal
from inboxd.model import InboxId
from inboxd.services import Services
from inboxd.store import inboxes
from inboxd.waiter import wait_for_count, wait_for_matching, wait_for_nth

T = TypeVar("T")


async def wait_for_latest(services: Services, query: WaitQuery) -> Email:
    """The newest mail of an inbox, at once or as soon as one arrives, read from now on; 408 when none does in time."""
    return await reading.read(services, await _nth(services, query, 0))


async def peek_latest(services: Services, query: WaitQuery) -> Email:
    """The same, but the mail stays as unread as it was."""
    return await reading.whole(services, await _nth(services, query, 0))


async def wait_for_nth_email(services: Services, query: NthQuery) -> Email:
    """The mail at an index, as soon as there are so many, read from now on; 408."""
    return await reading.read(services, await _nth(services, query, query.index))


async def peek_nth(services: Services, query: NthQuery) -> Email:
    """The same, but the mail stays as unread as it was."""
    return await reading.whole(services, await _nth(services, query, query.index))


async def wait_for_email_count(services: Services, query: CountQuery) -> list[EmailPreview]:
    """The first mails of an inbox, as soon as there are so many; 408."""
    await inboxes.get(services.store, InboxId(query.inbox_id))
    seconds = query.timeout / 1000
    found = await wait_for_count(services, query.filter(), query.window(), query.count, seconds)
    return _previews(_in_time(found, query.inbox_id, query.timeout))


async def wait_for_matching_emails(services: Services, query: CountQuery, body: MatchOptions) -> list[EmailPreview]:
    """The first mails that match, as soon as there are so many; 408."""
    return _previews(await _matching(services, body.goal(query, query.count), query.timeout))


async def wait_for_matching_first_email(services: Services, query: InboxWait, body: MatchOptions) -> Email:
    """The first mail that matches, at once or as soon as it arrives, read from now on; 408."""
    (found,) = await _matching(services, body.goal(query, 1), query.timeout)
    return await reading.read(services, found)


async def wait_for(services: Services, body: WaitForConditions) -> list[EmailPreview]:
    """The mails that meet the conditions, as soon as there are so many, or exactly so many; 408."""
    return _previews(await _matching(services, body.goal(), body.timeout))


async def _nth(services: Services, query: InboxWait, index: int) -> Message:
    await inboxes.get(services.store, InboxId(query.inbox_id))
    found = await wait_for_nth(services, query.filter(), query.window(), index, query.timeout / 1000)
    return _in_time(found, query.inbox_id, query.timeout)


async def _matching(services: Services, goal: Goal, milliseconds: int) -> tuple[Message, ...]:
    (inbox_id,) = goal.wanted.inbox_ids
    await inboxes.get(services.store, inbox_id)
    return _in_time(await wait_for_matching(services, goal, milliseconds / 1000), inbox_id, milliseconds)


def _in_time(found: T | None, inbox_id: UUID, milliseconds: int) -> T:
    if found is None:
        waited = f"no matching email arrived within {milliseconds} ms"
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, f"Failed to satisfy email query for inbox {inbox_id}: {waited}")
    return found


def _previews(found: tuple[Message, ...]) -> list[EmailPreview]:
    return [EmailPreview.of(message) for message in found]
