"""Handlers of received mails: lists, one mail, its bytes, and waiting for it."""

from __future__ import annotations

import asyncio

from inboxd import logs
from inboxd.api import reading
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
from inboxd.api.wire.inboxes import InboxEmailsQuery
from inboxd.api.wire.waits import DEFAULT_MILLISECONDS
from inboxd.direct import sync_now
from inboxd.model import InboxId, MessageFilter, MessageId, Window
from inboxd.services import Services
from inboxd.store import connectors, inboxes, messages
from inboxd.waiter import wait_for_nth

_ROWS_AT_ONCE = 500
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
        await _sync_on_read(services, chosen)
    return PageEmailPreview.of(window, await messages.page(services.store, chosen, window), EmailPreview.of)


async def get_emails_page(services: Services, query: EmailsQuery) -> PageEmailProjection:
    """A page of mails over inboxes, synced before if asked for."""
    chosen, window = query.filter(), query.window()
    if query.sync_connectors:
        await _sync_on_read(services, chosen)
    return PageEmailProjection.of(window, await messages.page(services.store, chosen, window), EmailProjection.of)


async def _sync_on_read(services: Services, chosen: MessageFilter) -> None:
    """Sync the enabled connectors of the chosen inboxes side by side; a failure is in the connector's events."""
    async with asyncio.TaskGroup() as group:
        for connector in (await connectors.page(services.store, Window(size=_ROWS_AT_ONCE))).rows:
            if connector.enabled and (not chosen.inbox_ids or connector.inbox_id in chosen.inbox_ids):
                group.create_task(sync_now(services, connector.id, since=None, mailbox=None))


async def get(services: Services, email_id: MessageId) -> Email:
    """One whole mail, which is read from now on."""
    return await reading.read(services, await messages.get(services.store, email_id))


async def peek(services: Services, email_id: MessageId) -> Email:
    """One whole mail, which stays as unread as it was."""
    return await reading.whole(services, await messages.get(services.store, email_id))


async def get_raw(services: Services, email_id: MessageId) -> bytes:
    """The mail's bytes as its server sent them."""
    return await messages.raw(services.store, email_id)


async def get_raw_json(services: Services, email_id: MessageId) -> RawEmailJson:
    """The mail's bytes as text."""
    return RawEmailJson.of(await messages.raw(services.store, email_id))


async def delete(services: Services, email_id: MessageId) -> None:
    """Delete a mail here; later syncs do not bring it back, and its server keeps it."""
    await messages.remove(services.store, email_id)
    _log.info("email_deleted", email=str(email_id))
