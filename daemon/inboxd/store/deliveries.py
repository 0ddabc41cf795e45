"""What is to be posted to webhooks: put in by the transactions in which it happens, taken out once it was posted.

The statements that sync goes through are built once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final
from uuid import uuid4

from sqlalchemy import RowMapping, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.mails import Attachment, Digest
from inboxd.model import InboxId, MessageId, utc_now
from inboxd.store.engine import Store
from inboxd.store.rows import columns_of, record_of
from inboxd.store.schema import DELIVERIES, RESULTS, WEBHOOKS
from inboxd.store.straight import Straight
from inboxd.webhooks import Delivery, DeliveryId, Result, Webhook, WebhookEvent, WebhookId

# As in batches: more would hold the event loop too long.
_ROWS_AT_ONCE: Final = 100
_PRUNED_AT_ONCE: Final = 5_000
_NEW_MAIL: Final = (WebhookEvent.EMAIL_RECEIVED, WebhookEvent.NEW_EMAIL)
_ARRIVAL: Final = (*_NEW_MAIL, WebhookEvent.NEW_ATTACHMENT)

# Locked, so that none is removed before what is put in for it is committed.
_TOLD = (
    select(WEBHOOKS.c.id, WEBHOOKS.c.name, WEBHOOKS.c.event, WEBHOOKS.c.inbox_id)
    .where(WEBHOOKS.c.enabled.is_(True), WEBHOOKS.c.event.in_(bindparam("events", expanding=True)))
    .where(or_(WEBHOOKS.c.inbox_id.in_(bindparam("inboxes", expanding=True)), WEBHOOKS.c.inbox_id.is_(None)))
    .order_by(WEBHOOKS.c.seq)
    .with_for_update(key_share=True)
)
_ANYBODY = Straight(select(WEBHOOKS.c.seq).limit(1), [])
_FIRST_DUE = (
    select(func.min(DELIVERIES.c.due_at)).where(DELIVERIES.c.webhook_id == WEBHOOKS.c.id).correlate(WEBHOOKS)
).scalar_subquery()
_WAITING = (
    select(WEBHOOKS.c.id, WEBHOOKS.c.updated_at, _FIRST_DUE.label("due_at"))
    .where(WEBHOOKS.c.enabled.is_(True))
    .order_by(WEBHOOKS.c.seq)
)
_ANY = select(DELIVERIES.c.seq).limit(1)


async def announce_mails(
    connection: AsyncConnection, inbox_id: InboxId, stored: Iterable[tuple[MessageId, Digest]]
) -> None:
    """Inside the transaction that stores new messages: what the webhooks are to be told of them, in their order."""
    if await _ANYBODY.rows(connection, {}) and (told := await _told(connection, _ARRIVAL, [inbox_id])):
        await _insert(connection, _of_mails(told, inbox_id, stored))


async def announce_read(connection: AsyncConnection, read: Sequence[tuple[MessageId, InboxId]]) -> None:
    """Inside the transaction that marks messages as read: what the webhooks are to be told of it."""
    if not read:
        return
    told = await _told(connection, (WebhookEvent.EMAIL_READ,), sorted({inbox_id for _, inbox_id in read}))
    await _insert(
        connection,
        (
            _delivery(webhook, inbox_id, message_id)
            for message_id, inbox_id in read
            for webhook in told
            if webhook["inbox_id"] in (None, inbox_id)
        ),
    )


async def waiting(store: Store) -> list[tuple[WebhookId, datetime, datetime]]:
    """The enabled webhooks for which something waits: when they were changed last, and when the first is due."""

    async def look(connection: AsyncConnection) -> list[tuple[WebhookId, datetime, datetime]]:
        if (await connection.execute(_ANY)).first() is None:
            return []
        rows = (await connection.execute(_WAITING)).mappings()
        return [(row["id"], row["updated_at"], row["due_at"]) for row in rows if row["due_at"] is not None]

    return await store.read(look)


async def next_due(store: Store, webhook_id: WebhookId, now: datetime) -> tuple[Webhook, Delivery] | None:
    """What is due longest, with its webhook; None when nothing is, or the webhook is gone or disabled."""
    who = select(WEBHOOKS).where(WEBHOOKS.c.id == webhook_id, WEBHOOKS.c.enabled.is_(True))
    first = (
        select(DELIVERIES)
        .where(DELIVERIES.c.webhook_id == webhook_id, DELIVERIES.c.due_at <= now)
        .order_by(DELIVERIES.c.due_at, DELIVERIES.c.seq)
        .limit(1)
    )

    async def look(connection: AsyncConnection) -> tuple[Webhook, Delivery] | None:
        webhook = (await connection.execute(who)).mappings().first()
        delivery = (await connection.execute(first)).mappings().first() if webhook is not None else None
        if webhook is None or delivery is None:
            return None
        return record_of(Webhook, webhook), record_of(Delivery, delivery)

    return await store.read(look)


async def settle(store: Store, result: Result, retry_at: datetime | None, *, ok: bool) -> None:
    """Keep how a try ended. `retry_at` None: there is no other, and the delivery goes.

    Nothing happens when the webhook was removed meanwhile.
    """
    webhook = WEBHOOKS.c.id == result.webhook_id
    there = select(WEBHOOKS.c.seq).where(webhook).with_for_update(key_share=True)
    this = DELIVERIES.c.id == result.delivery_id
    again = update(DELIVERIES).where(this).values(due_at=retry_at, attempts=DELIVERIES.c.attempts + 1)
    failures = update(WEBHOOKS).where(webhook).values(failures=0 if ok else WEBHOOKS.c.failures + 1)

    async def work(connection: AsyncConnection) -> None:
        if (await connection.execute(there)).first() is None:
            return
        await connection.execute(RESULTS.insert().values(columns_of(result)))
        await connection.execute(delete(DELIVERIES).where(this) if retry_at is None else again)
        await connection.execute(failures.where(WEBHOOKS.c.failures > 0) if ok else failures)

    await store.write(work)


async def count(store: Store) -> int:
    """How many posts wait."""

    async def look(connection: AsyncConnection) -> int:
        return (await connection.execute(select(func.count()).select_from(DELIVERIES))).scalar_one()

    return await store.read(look)


async def prune(store: Store, before: datetime) -> int:
    """Delete the results from before then, a slice a transaction; how many those were."""
    old = select(RESULTS.c.seq).where(RESULTS.c.created_at < before).limit(_PRUNED_AT_ONCE)

    async def work(connection: AsyncConnection) -> int:
        return (await connection.execute(delete(RESULTS).where(RESULTS.c.seq.in_(old)))).rowcount

    total = 0
    while pruned := await store.write(work):
        total += pruned
    return total


async def _told(
    connection: AsyncConnection, events: Sequence[WebhookEvent], inboxes: Sequence[InboxId]
) -> Sequence[RowMapping]:
    return (await connection.execute(_TOLD, {"events": events, "inboxes": inboxes})).mappings().all()


def _of_mails(
    told: Sequence[RowMapping], inbox_id: InboxId, stored: Iterable[tuple[MessageId, Digest]]
) -> Iterator[Delivery]:
    for message_id, digest in stored:
        for webhook in told:
            plain = _delivery(webhook, inbox_id, message_id)
            if webhook["event"] in _NEW_MAIL:
                yield _with_mail(plain, digest)
            else:
                yield from (_with_attachment(plain, attachment) for attachment in digest.attachments)


def _delivery(webhook: RowMapping, inbox_id: InboxId, message_id: MessageId) -> Delivery:
    now = utc_now()
    return Delivery(
        id=DeliveryId(uuid4()),
        webhook_id=webhook["id"],
        webhook_name=webhook["name"],
        event=webhook["event"],
        inbox_id=inbox_id,
        message_id=message_id,
        created_at=now,
        due_at=now,
    )


def _with_mail(plain: Delivery, digest: Digest) -> Delivery:
    return replace(
        plain,
        sender=digest.sender.address if digest.sender else None,
        to=tuple(person.address for person in digest.to),
        cc=tuple(person.address for person in digest.cc),
        bcc=tuple(person.address for person in digest.bcc),
        subject=digest.subject,
        attachments=digest.attachments,
    )


def _with_attachment(plain: Delivery, attachment: Attachment) -> Delivery:
    return replace(plain, id=DeliveryId(uuid4()), attachments=(attachment,))


async def _insert(connection: AsyncConnection, made: Iterator[Delivery]) -> None:
    while rows := [columns_of(delivery) for delivery in islice(made, _ROWS_AT_ONCE)]:
        await connection.execute(DELIVERIES.insert(), rows)
