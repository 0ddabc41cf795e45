"""Sending through a connector's own SMTP server: built, delivered, recorded."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Final
from uuid import uuid4

from inboxd import logs, metrics, net
from inboxd.accounts import account_of
from inboxd.errors import Invalid, MailServerError, NotFound, SendUnknown
from inboxd.mail.build import Built, build
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
from inboxd.store import connectors, events, sent

_CUT_SHORT: Final = "the sending was cut short; the server may have taken the mail"
_log = logs.logger("sender")


async def send(services: Services, connector_id: ConnectorId, draft: Draft) -> Sent:
    """Send a mail and answer after the server did. An empty `draft.sender` means the connector's address.

    The result is recorded whatever it is, UNKNOWN when cancelled; Invalid, Conflict (no SMTP connection) and
    MailServerError are raised.
    """
    connector = await connectors.get(services.store, connector_id)
    account = await account_of(services.store, services.vault, connector_id, Kind.SMTP)
    complete = replace(draft, sender=draft.sender or _address_of(connector, account))
    built = await asyncio.to_thread(build, complete)
    transcript: deque[str] = deque(maxlen=200)
    began = time.monotonic()
    try:
        receipt = await _deliver(services, account, built, transcript)
    except MailServerError as error:
        state = SentState.UNKNOWN if isinstance(error, SendUnknown) else SentState.FAILED
        await _record(services, connector, draft, built, state, str(error), transcript)
        _log.warning(
            "send_failed", connector=str(connector_id), stage=error.stage, state=state.value, reason=str(error)
        )
        raise
    except asyncio.CancelledError:
        await _record(services, connector, draft, built, SentState.UNKNOWN, _CUT_SHORT, transcript)
        raise
    metrics.SEND_SECONDS.observe(time.monotonic() - began)
    row = await _record(services, connector, draft, built, SentState.SENT, _words(receipt), transcript)
    _log.info("sent", connector=str(connector_id), sent=str(row.id), bytes=len(built.raw), refused=len(receipt.refused))
    return row


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


async def _record(
    services: Services,
    connector: Connector,
    draft: Draft,
    built: Built,
    state: SentState,
    reply: str,
    transcript: deque[str],
) -> Sent:
    now = utc_now()
    row = Sent(
        id=SentId(uuid4()),
        inbox_id=connector.inbox_id,
        connector_id=connector.id,
        created_at=now,
        state=state,
        sender=Address(raw=built.sender, address=built.sender, name=draft.sender_name),
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
        attachments=tuple(name for name, _, _ in draft.attachments),
        reply=reply,
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
