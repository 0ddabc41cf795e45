"""Sending through a connector's own SMTP server: built, delivered, recorded."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from inboxd import logs, metrics, net
from inboxd.accounts import account_of
from inboxd.errors import Conflict, Invalid, MailServerError, NotFound, SendUnknown
from inboxd.mail.addresses import written
from inboxd.mail.build import Built, build
from inboxd.mail.excerpts import from_html, from_text
from inboxd.mails import Address, Draft, Sent
from inboxd.model import (
    Account,
    Connector,
    ConnectorId,
    Event,
    EventId,
    EventStatus,
    EventType,
    Kind,
    SentId,
    SentState,
    utc_now,
)
from inboxd.services import Services
from inboxd.smtp import Receipt, open_session
from inboxd.store import connectors, events, inboxes, sent

_CUT_SHORT: Final = "the sending was cut short; the server may have taken the mail"
_log = logs.logger("sender")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A mail built and ready to go, and the account it goes through."""

    connector: Connector
    account: Account
    draft: Draft
    built: Built
    excerpt: str | None


async def send(services: Services, connector_id: ConnectorId, draft: Draft) -> Sent:
    """Send a mail and answer after the server did. An empty `draft.sender` means the connector's address.

    The result is recorded whatever it is, UNKNOWN when cancelled; Invalid, Conflict (no SMTP connection) and
    MailServerError are raised.
    """
    parcel = await prepare(services, connector_id, draft)
    transcript: deque[str] = deque(maxlen=200)
    began = time.monotonic()
    try:
        receipt = await _deliver(services, parcel.account, parcel.built, transcript)
    except MailServerError as error:
        state = SentState.UNKNOWN if isinstance(error, SendUnknown) else SentState.FAILED
        await _record(services, parcel, state, str(error), transcript)
        _log.warning(
            "send_failed", connector=str(connector_id), stage=error.stage, state=state.value, reason=str(error)
        )
        raise
    except asyncio.CancelledError:
        await _record(services, parcel, SentState.UNKNOWN, _CUT_SHORT, transcript)
        raise
    metrics.SEND_SECONDS.observe(time.monotonic() - began)
    row = await _record(services, parcel, SentState.SENT, _words(receipt), transcript)
    _log.info("sent", connector=str(connector_id), sent=str(row.id), bytes=row.size_bytes, refused=len(receipt.refused))
    return row


async def prepare(services: Services, connector_id: ConnectorId, draft: Draft) -> Parcel:
    """What `send` would hand to the server; nothing is sent. NotFound, Invalid, Conflict as it raises them."""
    connector = await connectors.get(services.store, connector_id)
    if (await inboxes.get(services.store, connector.inbox_id)).virtual:
        raise Conflict(f"inbox {connector.inbox_id} was made virtual: nothing is sent from it")
    account = await account_of(services.store, services.vault, connector_id, Kind.SMTP)
    complete = replace(draft, sender=draft.sender or _address_of(connector, account))
    built, excerpt = await asyncio.to_thread(_built, complete)
    return Parcel(connector, account, draft, built, excerpt)


def _built(draft: Draft) -> tuple[Built, str | None]:
    excerpt = from_text(draft.text) if draft.text is not None else from_html(draft.html or "")
    return build(draft), excerpt


async def _deliver(services: Services, account: Account, built: Built, transcript: deque[str]) -> Receipt:
    limits = services.settings.smtp
    sock = await net.connect_account(
        account, limits.connect_seconds, allow_plaintext=services.settings.network.allow_plaintext
    )
    context = net.tls_context(account)
    async with open_session(sock, account, limits, context, transcript.append) as session:
        return await session.send(built.sender, built.recipients, built.raw)


def _address_of(connector: Connector, account: Account) -> str:
    address = connector.email_address or account.username
    if "@" not in address:
        raise Invalid("from", "the connector has no email address; give one in the request or set it on the connector")
    return address


def _words(receipt: Receipt) -> str:
    refused = "; ".join(f"{address}: {words}" for address, words in receipt.refused.items())
    return f"{receipt.reply} (refused: {refused})" if refused else receipt.reply


async def _record(services: Services, parcel: Parcel, state: SentState, reply: str, transcript: deque[str]) -> Sent:
    now = utc_now()
    connector, draft, built = parcel.connector, parcel.draft, parcel.built
    row = Sent(
        id=SentId(uuid4()),
        inbox_id=connector.inbox_id,
        connector_id=connector.id,
        created_at=now,
        state=state,
        sender=Address(written(draft.sender_name, built.sender), built.sender, draft.sender_name),
        to=draft.to,
        cc=draft.cc,
        bcc=draft.bcc,
        subject=draft.subject,
        header_message_id=built.message_id,
        size_bytes=len(built.raw),
        sent_at=now if state is SentState.SENT else None,
        reply_to=draft.reply_to,
        body=draft.html if draft.html is not None else draft.text,
        is_html=draft.html is not None,
        attachments=draft.attachment_ids,
        reply=reply,
        in_reply_to=draft.in_reply_to,
        excerpt=parcel.excerpt,
    )
    metrics.SENDS.labels(state.value).inc()
    await sent.add(services.store, row, built.raw)
    event = Event(
        EventId(uuid4()),
        connector.id,
        EventType.SEND,
        EventStatus.SUCCESS if state is SentState.SENT else EventStatus.CONNECTION_ERROR,
        1 if state is SentState.SENT else 0,
        now,
        message=f"{state.value}: {reply}",
        logs="\n".join(transcript),
    )
    with suppress(NotFound):  # the connector was deleted meanwhile, its events with it
        await events.add(services.store, event)
    return row
