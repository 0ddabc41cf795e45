"""Handlers of received mails: lists, counts, one mail, its bytes, its marks, and deleting."""

from __future__ import annotations

from inboxd import logs
from inboxd.api import reading, waits
from inboxd.api.wire.email_queries import (
    AnyInboxQuery,
    CreatedQuery,
    EmailPreviewUrls,
    EmailsOffsetQuery,
    FavouriteQuery,
    LatestQuery,
    LatestWaitQuery,
    ReadAllQuery,
    ReadQuery,
    SearchEmailsOptions,
    SearchEmailsQuery,
    UnreadCount,
)
from inboxd.api.wire.emails import (
    Email,
    EmailPreview,
    EmailProjection,
    EmailsQuery,
    MailPageQuery,
    PageEmailPreview,
    PageEmailProjection,
    RawEmailJson,
)
from inboxd.api.wire.inboxes import CountDto, InboxEmailsQuery, InboxIdQuery
from inboxd.api.wire.waits import DEFAULT_MILLISECONDS
from inboxd.direct import sync_on_read
from inboxd.errors import NotFound
from inboxd.mails import Message
from inboxd.model import InboxId, MessageFilter, MessageId, Window
from inboxd.services import Services
from inboxd.store import inboxes, marks, messages
from inboxd.waiter import wait_for_nth

_NEWEST = Window(size=1, ascending=False)
_log = logs.logger("api")


async def get_inbox_emails(services: Services, inbox_id: InboxId, query: InboxEmailsQuery) -> list[EmailPreview]:
    """Mails of an inbox; held until there are `minCount` or `retryTimeout` is over, then what there is."""
    await inboxes.get(services.store, inbox_id)
    chosen, window = MessageFilter((inbox_id,), unread_only=query.unread_only), query.window()
    if query.min_count:
        patience = DEFAULT_MILLISECONDS if query.retry_timeout is None else query.retry_timeout
        await wait_for_nth(services, chosen, window, query.min_count - 1, patience / 1000)
    page = await messages.page(services.store, chosen, window)
    return [EmailPreview.of(message) for message in page.rows]


async def get_inbox_emails_page(services: Services, inbox_id: InboxId, query: MailPageQuery) -> PageEmailPreview:
    """A page of an inbox's mails, synced before if asked for."""
    await inboxes.get(services.store, inbox_id)
    chosen, window = MessageFilter((inbox_id,)), query.window()
    if query.sync_connectors:
        await sync_on_read(services, chosen.inbox_ids)
    return PageEmailPreview.of(window, await messages.page(services.store, chosen, window), EmailPreview.of)


async def get_emails_page(services: Services, query: EmailsQuery) -> PageEmailProjection:
    """A page of mails over inboxes, synced before if asked for."""
    return await _projections(services, query.filter(), query.window(), synced=query.sync_connectors)


async def get_emails_offset_page(services: Services, query: EmailsOffsetQuery) -> PageEmailProjection:
    """The same under another name."""
    return await get_emails_page(services, query)


async def search(services: Services, query: SearchEmailsQuery, body: SearchEmailsOptions) -> PageEmailProjection:
    """A page of mails over inboxes, as the body describes it."""
    return await _projections(services, body.filter(query), body.window(), synced=query.sync_connectors)


async def _projections(
    services: Services, chosen: MessageFilter, window: Window, *, synced: bool
) -> PageEmailProjection:
    if synced:
        await sync_on_read(services, chosen.inbox_ids)
    return PageEmailProjection.of(window, await messages.page(services.store, chosen, window), EmailProjection.of)


async def get_count(services: Services, query: AnyInboxQuery) -> CountDto:
    """How many mails there are, of one inbox where named."""
    return CountDto(total_elements=await messages.count(services.store, query.filter()))


async def get_unread_count(services: Services, query: AnyInboxQuery) -> UnreadCount:
    """How many unread mails there are, of one inbox where named."""
    return UnreadCount(count=await messages.count(services.store, query.filter(unread_only=True)))


async def get_inbox_count(services: Services, inbox_id: InboxId) -> CountDto:
    """How many mails an inbox holds."""
    await inboxes.get(services.store, inbox_id)
    return CountDto(total_elements=await messages.count(services.store, MessageFilter((inbox_id,))))


async def get(services: Services, email_id: MessageId) -> Email:
    """One whole mail, which is read from now on."""
    return await reading.read(services, await messages.get(services.store, email_id))


async def peek(services: Services, email_id: MessageId) -> Email:
    """One whole mail, which stays as unread as it was."""
    return await reading.whole(services, await messages.get(services.store, email_id))


async def get_latest(services: Services, query: LatestQuery) -> Email:
    """The newest mail over inboxes, which is read from now on; 404 when there is none."""
    return await reading.read(services, await _newest(services, query.filter()))


async def peek_latest(services: Services, query: LatestQuery) -> Email:
    """The newest mail over inboxes, as unread as it was."""
    return await reading.whole(services, await _newest(services, query.filter()))


async def get_latest_in(services: Services, query: InboxIdQuery) -> Email:
    """The newest mail of an inbox, which is read from now on; 404 when there is none."""
    return await reading.read(services, await _newest(services, MessageFilter((InboxId(query.inbox_id),))))


async def peek_latest_in(services: Services, query: InboxIdQuery) -> Email:
    """The newest mail of an inbox, as unread as it was."""
    return await reading.whole(services, await _newest(services, MessageFilter((InboxId(query.inbox_id),))))


async def _newest(services: Services, chosen: MessageFilter) -> Message:
    found = await messages.nth(services.store, chosen, _NEWEST, 0)
    if found is None:
        raise NotFound("no email has arrived in any inbox asked for")
    return found


async def await_latest(services: Services, query: LatestWaitQuery) -> Email:
    """The newest mail of an inbox, at once or as soon as one arrives, read from now on; 408 when none does in time."""
    return await waits.wait_for_latest(services, query.waiting())


async def peek_awaited(services: Services, query: LatestWaitQuery) -> Email:
    """The same, but the mail stays as unread as it was."""
    return await waits.peek_latest(services, query.waiting())


async def get_summary(services: Services, email_id: MessageId) -> EmailPreview:
    """One mail as lists show it; it stays as unread as it was."""
    return EmailPreview.of(await messages.get(services.store, email_id))


async def get_urls(services: Services, email_id: MessageId, origin: str) -> EmailPreviewUrls:
    """Where a browser sees the mail."""
    await messages.get(services.store, email_id)
    here = f"{origin}/emails/{email_id}"
    return EmailPreviewUrls(raw_smtp_message_url=f"{here}/raw", plain_html_body_url=f"{here}/html", origin=origin)


async def get_raw(services: Services, email_id: MessageId) -> bytes:
    """The mail's bytes as its server sent them."""
    return await messages.raw(services.store, email_id)


async def get_raw_json(services: Services, email_id: MessageId) -> RawEmailJson:
    """The mail's bytes as text."""
    return RawEmailJson.of(await messages.raw(services.store, email_id))


async def mark_read(services: Services, email_id: MessageId, query: ReadQuery) -> EmailPreview:
    """Mark a mail as read, or as unread."""
    message = await messages.mark_read(services.store, email_id, read=query.read)
    services.bus.publish(message.inbox_id)
    return EmailPreview.of(message)


async def mark_all_read(services: Services, query: ReadAllQuery) -> None:
    """Mark all mails, of one inbox where named, as read or as unread."""
    if query.inbox is not None:
        await inboxes.get(services.store, query.inbox)
    changed = await marks.mark_all_read(services.store, query.read, query.inbox)
    for inbox_id in changed:
        services.bus.publish(inbox_id)
    _log.info("emails_marked", read=query.read, count=changed.total())


async def set_favourite(services: Services, email_id: MessageId, query: FavouriteQuery) -> None:
    """Make a mail a favourite, or no longer one."""
    await marks.set_favourite(services.store, email_id, query.favourited)


async def delete(services: Services, email_id: MessageId) -> None:
    """Delete a mail here; later syncs do not bring it back, and its server keeps it."""
    await messages.remove(services.store, email_id)
    _log.info("email_deleted", email=str(email_id))


async def delete_all(services: Services, query: CreatedQuery) -> None:
    """Delete the mails of all inboxes, or those created in a span, as one is deleted."""
    since, before = query.created_at_since, query.created_at_before
    gone = await marks.remove_all(services.store, since=since, before=before)
    _log.info("emails_deleted", count=gone.total())


async def delete_of_inbox(services: Services, inbox_id: InboxId) -> None:
    """Delete all mails of an inbox, as one is deleted."""
    await inboxes.get(services.store, inbox_id)
    gone = await marks.remove_all(services.store, inbox_id)
    _log.info("emails_deleted", count=gone.total(), inbox=str(inbox_id))


async def empty_inbox(services: Services, query: InboxIdQuery) -> None:
    """Delete all mails of an inbox, as one is deleted."""
    await delete_of_inbox(services, InboxId(query.inbox_id))
