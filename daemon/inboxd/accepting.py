"""Mails taken for sending: built, put into the outbox, and waited for by who wants to know what came of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import uuid4

from inboxd import errors, logs
from inboxd.accounts import account_of
from inboxd.errors import Conflict, Invalid, MailServerError, SendUnknown
from inboxd.mail.addresses import written
from inboxd.mail.build import Built, build
from inboxd.mail.excerpts import from_html, from_text
from inboxd.mails import Address, Draft, Sent
from inboxd.model import Account, Connector, ConnectorId, Kind, MessageId, SentId, SentState, utc_now
from inboxd.outbox import RELAY, SETTLED, WORK, Accepted, Dsn, Entry, Once, Order, RouteId
from inboxd.services import Services
from inboxd.store import connectors, inboxes, outbox, outbox_list, sent

# A mail this small is built in less time than a thread takes to be asked.
_INLINE_CHARACTERS: Final = 20_000
_KEPT: Final = "it stays in the outbox as {id} and is tried again by itself: do not send it anew"
_HELD: Final = (
    "inboxd looks for it in the Sent mailbox and does not send it again by itself (inboxctl outbox show {id})"
)
_log = logs.logger("outbox")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A mail built and ready to go, and what it goes through; `account` is None for the operator's relay."""

    connector: Connector
    account: Account | None
    draft: Draft
    built: Built
    excerpt: str | None

    @property
    def route(self) -> RouteId:
        """The queue it belongs to."""
        return RouteId(self.connector.id) if self.account is not None else RELAY


async def send(
    services: Services,
    connector_id: ConnectorId,
    draft: Draft,
    *,
    once: Once | None = None,
    use_fallback: bool = False,
    dsn: Dsn | None = None,
    answers: MessageId | None = None,
) -> Sent:
    """`accept`, then `outcome`."""
    accepted = await accept(
        services, connector_id, draft, once=once, use_fallback=use_fallback, dsn=dsn, answers=answers
    )
    return await outcome(services, accepted.id)


async def accept(
    services: Services,
    connector_id: ConnectorId,
    draft: Draft,
    *,
    once: Once | None = None,
    use_fallback: bool = False,
    dsn: Dsn | None = None,
    answers: MessageId | None = None,
) -> Accepted:
    """Take a mail for sending: when this returns it is on the disk, and is sent whatever happens to its caller.

    An empty `draft.sender` means the connector's address. `once`: what was accepted under the key before is not
    accepted again. NotFound, Invalid, Conflict (no way to send; another mail under the same key); nothing is kept then.
    """
    parcel = await prepare(services, connector_id, draft, use_fallback=use_fallback)
    lifetime = timedelta(seconds=services.settings.outbox.lifetime_seconds)
    row = _sent(parcel)
    order = Order(
        sent=row,
        raw=parcel.built.raw,
        sender=parcel.built.sender,
        recipients=parcel.built.recipients,
        expires_at=row.created_at + lifetime,
        route=parcel.route,
        use_fallback=use_fallback,
        dsn=dsn,
        answers=answers,
    )
    accepted = await outbox.accept(services.store, order, once)
    if accepted.fresh:
        services.sends.publish(WORK)
        _log.info("mail_accepted", connector=str(connector_id), sent=str(row.id), bytes=row.size_bytes)
    return accepted


async def prepare(services: Services, connector_id: ConnectorId, draft: Draft, *, use_fallback: bool = False) -> Parcel:
    """What `accept` would keep; nothing is kept. NotFound, Invalid, Conflict as it raises them."""
    connector = await connectors.get(services.store, connector_id)
    if (await inboxes.get(services.store, connector.inbox_id)).virtual:
        raise Conflict(f"inbox {connector.inbox_id} was made virtual: nothing is sent from it")
    account = await _account_of(services, connector, use_fallback=use_fallback)
    complete = replace(draft, sender=draft.sender or _address_of(connector, account))
    if _is_small(draft):
        built, excerpt = _built(complete)
    else:
        built, excerpt = await asyncio.to_thread(_built, complete)
    return Parcel(connector, account, draft, built, excerpt)


async def outcome(services: Services, sent_id: SentId) -> Sent:
    """The mail once its first outcome is there, or as it is after `outbox.confirm_seconds`: accepted, on its way.

    MailServerError says what came of it: refused, put off (it is tried again all the same), or unknown. Conflict when
    somebody cancelled it.
    """
    deadline = asyncio.get_running_loop().time() + services.settings.outbox.confirm_seconds
    with services.sends.subscribe(sent_id) as hint, suppress(TimeoutError):
        while not _has_outcome(entry := await outbox_list.entry(services.store, sent_id)):
            async with asyncio.timeout_at(deadline):
                await hint.wait()
        _raise_failure(entry)
    return await sent.get(services.store, sent_id)


def _has_outcome(entry: Entry) -> bool:
    return entry.state in SETTLED or entry.state is SentState.DEFERRED


def _raise_failure(entry: Entry) -> None:
    if entry.state is SentState.SENT:
        return
    if entry.state is SentState.CANCELLED:
        raise Conflict(f"the mail was cancelled: {entry.reply or 'by the operator'}")
    kind = errors.MAIL_SERVER_ERRORS.get(entry.kind, MailServerError)
    hint = {SentState.DEFERRED: f"; {_KEPT}", SentState.UNKNOWN: f"; {_HELD}"}.get(entry.state, "")
    if entry.state is SentState.UNKNOWN:
        kind = SendUnknown
    raise kind(entry.stage, (entry.reply or "the mail was not taken") + hint.format(id=entry.id))


async def _account_of(services: Services, connector: Connector, *, use_fallback: bool) -> Account | None:
    """The connector's SMTP account; None where it has none and the relay may be used instead."""
    try:
        return await account_of(services.store, services.vault, connector.id, Kind.SMTP)
    except Conflict:
        if use_fallback and services.settings.relay.host:
            return None
        raise


def _address_of(connector: Connector, account: Account | None) -> str:
    address = connector.email_address or (account.username if account is not None else "")
    if "@" not in address:
        raise Invalid("from", "the connector has no email address; give one in the request or set it on the connector")
    return address


def _is_small(draft: Draft) -> bool:
    return not draft.attachments and draft.html is None and len(draft.text or "") < _INLINE_CHARACTERS


def _built(draft: Draft) -> tuple[Built, str | None]:
    excerpt = from_text(draft.text) if draft.text is not None else from_html(draft.html or "")
    return build(draft), excerpt


def _sent(parcel: Parcel) -> Sent:
    connector, draft, built = parcel.connector, parcel.draft, parcel.built
    return Sent(
        id=SentId(uuid4()),
        inbox_id=connector.inbox_id,
        connector_id=connector.id,
        created_at=utc_now(),
        state=SentState.QUEUED,
        sender=Address(written(draft.sender_name, built.sender), built.sender, draft.sender_name),
        to=draft.to,
        cc=draft.cc,
        bcc=draft.bcc,
        subject=draft.subject,
        header_message_id=built.message_id,
        size_bytes=len(built.raw),
        reply_to=draft.reply_to,
        body=draft.html if draft.html is not None else draft.text,
        is_html=draft.html is not None,
        attachments=draft.attachment_ids,
        in_reply_to=draft.in_reply_to,
        excerpt=parcel.excerpt,
    )
