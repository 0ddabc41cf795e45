"""Handlers of sent mails: lists, one mail, its content, and its removal."""

from __future__ import annotations

from functools import partial

from inboxd import logs
from inboxd.api.wire.email_queries import EmailPreviewUrls
from inboxd.api.wire.emails import RawEmailJson
from inboxd.api.wire.inboxes import CountDto
from inboxd.api.wire.sent import InboxSentQuery, PageSentEmailProjection, SentEmailDto, SentEmailProjection, SentQuery
from inboxd.api.wire.sent import html_of as write_html
from inboxd.model import InboxId, SentId
from inboxd.services import Services
from inboxd.store import inboxes, sent

_log = logs.logger("api")


async def get_all(services: Services, query: SentQuery) -> PageSentEmailProjection:
    """A page of sent mails, those included that are on their way and those that their server refused."""
    return await _page(services, query, query.inbox())


async def get_of_inbox(services: Services, inbox_id: InboxId, query: InboxSentQuery) -> PageSentEmailProjection:
    """A page of the mails sent from an inbox."""
    await inboxes.get(services.store, inbox_id)
    return await _page(services, query, inbox_id)


async def _page(services: Services, query: InboxSentQuery, inbox_id: InboxId | None) -> PageSentEmailProjection:
    window = query.window()
    page = await sent.page(services.store, window, inbox_id=inbox_id, search=query.search_filter)
    return PageSentEmailProjection.of(window, page, partial(SentEmailProjection.of, user_id=services.user_id))


async def count_of_inbox(services: Services, inbox_id: InboxId) -> CountDto:
    """How many mails were sent from an inbox."""
    await inboxes.get(services.store, inbox_id)
    return CountDto(total_elements=await sent.count(services.store, inbox_id))


async def get(services: Services, id: SentId) -> SentEmailDto:
    """One sent mail."""
    return SentEmailDto.of(await sent.get(services.store, id), services.user_id)


async def get_html(services: Services, id: SentId) -> str:
    """The sent mail's body as HTML."""
    return write_html(await sent.get(services.store, id))


async def get_raw(services: Services, email_id: SentId) -> bytes:
    """The sent mail's bytes as they went to its server."""
    return await sent.raw(services.store, email_id)


async def get_raw_json(services: Services, email_id: SentId) -> RawEmailJson:
    """The sent mail's bytes as text."""
    return RawEmailJson.of(await sent.raw(services.store, email_id))


async def get_urls(services: Services, id: SentId, origin: str) -> EmailPreviewUrls:
    """Where the sent mail's bytes and its HTML are."""
    await sent.get(services.store, id)
    place = f"{origin}/sent/{id}"
    return EmailPreviewUrls(raw_smtp_message_url=f"{place}/raw", plain_html_body_url=f"{place}/html", origin=origin)


async def delete(services: Services, id: SentId) -> None:
    """Delete a sent mail here; one that is still on its way is not deleted."""
    await sent.remove(services.store, id)
    _log.info("sent_email_deleted", sent=str(id))


async def delete_all(services: Services) -> None:
    """Delete all sent mails here, except those that are still on their way."""
    _log.info("sent_emails_deleted", count=await sent.remove_all(services.store))
