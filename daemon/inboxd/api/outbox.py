"""Handlers of the outbox, on the control socket: what is in it, and what a person decides about it."""

from __future__ import annotations

from datetime import timedelta

from inboxd import logs
from inboxd.api.wire.outbox import OutboxEntry, OutboxMail, OutboxQuery, PageOutbox
from inboxd.model import SentId, utc_now
from inboxd.outbox import WORK, Entry
from inboxd.services import Services
from inboxd.store import outbox_list

_log = logs.logger("api")


async def get_outbox(services: Services, query: OutboxQuery) -> PageOutbox:
    """A page of the mails that are on their way, and of those whose way has ended."""
    window, connector_id = query.window(), query.connector()
    page = await outbox_list.page(services.store, window, states=query.state, connector_id=connector_id)
    return PageOutbox.of(window, page, OutboxEntry.of)


async def get_outbox_mail(services: Services, id: SentId) -> OutboxMail:
    """One mail with its recipients, its tries and the chores that are still open."""
    return OutboxMail.whole(await outbox_list.get(services.store, id))


async def retry(services: Services, id: SentId) -> OutboxEntry:
    """Try a mail now, also one that was given up or whose outcome is unknown; its lifetime begins anew."""
    now = utc_now()
    expires_at = now + timedelta(seconds=services.settings.outbox.lifetime_seconds)
    return _changed(services, "outbox_retried", await outbox_list.retry(services.store, id, now, expires_at))


async def cancel(services: Services, id: SentId) -> OutboxEntry:
    """Do not send a mail that still waits."""
    return _changed(services, "outbox_cancelled", await outbox_list.cancel(services.store, id))


async def drop(services: Services, id: SentId) -> OutboxEntry:
    """Let a mail rest that failed or whose outcome is unknown."""
    return _changed(services, "outbox_dropped", await outbox_list.drop(services.store, id))


def _changed(services: Services, what: str, entry: Entry) -> OutboxEntry:
    connector = str(entry.connector_id) if entry.connector_id is not None else None
    _log.info(what, sent=str(entry.id), connector=connector, state=entry.state.value)
    services.sends.publish(WORK)
    services.sends.publish(entry.id)
    return OutboxEntry.of(entry)
