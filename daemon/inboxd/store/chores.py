"""What is to be done over IMAP after a send: put in by the verdicts, taken out once it was done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, and_, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.model import ConnectorId, SentId, SentState, utc_now
from inboxd.outbox import Chore, Delivery, Task
from inboxd.store import settling
from inboxd.store.engine import Store
from inboxd.store.rows import first_due
from inboxd.store.schema import CONNECTORS, MESSAGES
from inboxd.store.schema import SENT as SENT_MAILS
from inboxd.store.schema_outbox import CHORES, OUTBOX, TRIES

_DUE = first_due(CHORES, CHORES.c.connector_id)
_ANSWERED = and_(
    MESSAGES.c.id == OUTBOX.c.answers,
    MESSAGES.c.connector_id == CHORES.c.connector_id,
    MESSAGES.c.mailbox.is_not(None),
)
_TAKE = (
    select(
        *(CHORES.c[name] for name in ("sent_seq", "chore", "attempts", "created_at", "connector_id")),
        *(OUTBOX.c.id, OUTBOX.c.host, OUTBOX.c.created_at.label("sent_after")),
        *(SENT_MAILS.c.header_message_id, CONNECTORS.c.email_address),
        *(MESSAGES.c.mailbox, MESSAGES.c.uidvalidity, MESSAGES.c.uid),
    )
    .join(OUTBOX, OUTBOX.c.seq == CHORES.c.sent_seq)
    .join(SENT_MAILS, SENT_MAILS.c.seq == CHORES.c.sent_seq)
    .join(CONNECTORS, CONNECTORS.c.id == CHORES.c.connector_id)
    .outerjoin(MESSAGES, _ANSWERED)
    .where(CHORES.c.connector_id == bindparam("of_connector"), CHORES.c.due_at <= bindparam("now"))
    .order_by(CHORES.c.due_at, CHORES.c.sent_seq, CHORES.c.chore)
    .limit(bindparam("most"))
)
_SEQ = select(OUTBOX.c.seq).where(OUTBOX.c.id == bindparam("of_id")).scalar_subquery()
_THIS = and_(CHORES.c.sent_seq == _SEQ, CHORES.c.chore == bindparam("of_chore"))
_DONE = delete(CHORES).where(_THIS)
_AGAIN = (
    update(CHORES)
    .where(_THIS)
    .values(due_at=bindparam("until"), reply=bindparam("words"), attempts=CHORES.c.attempts + 1)
)
_RESEND = update(OUTBOX).where(OUTBOX.c.seq == bindparam("of_seq")).values(due_at=bindparam("new_due_at"))
_LAST_END = select(func.max(TRIES.c.ended_at)).where(TRIES.c.sent_seq == bindparam("of_seq"))


async def due(store: Store, now: datetime) -> list[tuple[ConnectorId, datetime]]:
    """Every connector that has chores, longest due first, and when its first is due: `now`, if that is past."""

    async def look(connection: AsyncConnection) -> list[tuple[ConnectorId, datetime]]:
        rows = sorted((await connection.execute(_DUE)).all(), key=lambda row: row.due_at)
        return [(ConnectorId(row.key), max(row.due_at, now)) for row in rows]

    return await store.read(look)


async def take(store: Store, connector_id: ConnectorId, now: datetime, most: int) -> list[Task]:
    """The connector's chores that are due, longest due first. They stay due until they are done or put off."""

    async def look(connection: AsyncConnection) -> list[Task]:
        which = {"of_connector": connector_id, "now": now, "most": most}
        rows = (await connection.execute(_TAKE, which)).mappings().all()
        recipients = await settling.recipients_of(connection, [row["sent_seq"] for row in rows])
        return [_task(row, [one for one in recipients if one["sent_seq"] == row["sent_seq"]]) for row in rows]

    return await store.read(look)


async def done(store: Store, sent_id: SentId, chore: Chore) -> None:
    """There is nothing left to do; nothing happens when there was nothing."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_DONE, {"of_id": sent_id, "of_chore": chore})

    await store.write(work)


async def again(store: Store, sent_id: SentId, chore: Chore, due_at: datetime, reply: str) -> None:
    """A try of the chore failed in these words, and the next is due then; nothing happens when it is gone."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_AGAIN, {"of_id": sent_id, "of_chore": chore, "until": due_at, "words": reply})

    await store.write(work)


async def resolved(store: Store, sent_id: SentId, words: str) -> bool:
    """A mail of unknown outcome was taken by the server, which these words say: it is SENT; whether it was unknown."""

    async def conclude(connection: AsyncConnection, row: RowMapping) -> None:
        await take_as_sent(connection, row, words)

    return await _resolve(store, sent_id, conclude)


async def unresolved(store: Store, sent_id: SentId, words: str, *, resend_at: datetime | None) -> bool:
    """Nothing was found of a mail of unknown outcome, which these words say; whether it was unknown.

    Its outcome stays unknown, or, with `resend_at`, it is queued again and due then.
    """

    async def conclude(connection: AsyncConnection, row: RowMapping) -> None:
        state = SentState.UNKNOWN if resend_at is None else SentState.QUEUED
        now = utc_now()
        if resend_at is not None:
            await connection.execute(_RESEND, {"of_seq": row["seq"], "new_due_at": resend_at})
            await settle_unknown(connection, row["seq"], Delivery.PENDING, now)
        await settling.turn(connection, [(row["seq"], state, words)])
        await settling.show(connection, [(row["seq"], state, words, None)])
        await settling.tell(connection, [settling.event_of(row["connector_id"], state, words, now)])

    return await _resolve(store, sent_id, conclude)


async def take_as_sent(connection: AsyncConnection, row: RowMapping, words: str) -> None:
    """Inside a transaction: the mail of unknown outcome is SENT, since its last try, and an event tells it."""
    now = utc_now()
    sent_at = (await connection.execute(_LAST_END, {"of_seq": row["seq"]})).scalar()
    await settle_unknown(connection, row["seq"], Delivery.ACCEPTED, now)
    await settling.turn(connection, [(row["seq"], SentState.SENT, words)])
    await settling.show(connection, [(row["seq"], SentState.SENT, words, sent_at or now)])
    await settling.tell(connection, [settling.event_of(row["connector_id"], SentState.SENT, words, now)])
    if row["answers"] is not None:
        await settling.begin_chore(connection, row, Chore.ANSWER, now)


async def settle_unknown(connection: AsyncConnection, seq: int, state: Delivery, now: datetime) -> None:
    """Inside a transaction: the mail's recipients of unknown outcome are in this state now."""
    recipients = await settling.recipients_of(connection, [seq])
    unknown = [one for one in recipients if one["state"] is Delivery.UNKNOWN]
    await settling.learn(connection, [(seq, one["position"], state, one["reply"]) for one in unknown], now)


async def _resolve(
    store: Store, sent_id: SentId, conclude: Callable[[AsyncConnection, RowMapping], Awaitable[None]]
) -> bool:
    async def work(connection: AsyncConnection) -> bool:
        row = next(iter(await settling.hold(connection, [sent_id])), None)
        if row is None:
            return False
        await settling.end_chore(connection, row["seq"], Chore.RESOLVE)
        if row["state"] is not SentState.UNKNOWN:
            return False
        await conclude(connection, row)
        return True

    return await store.write(work)


def _task(row: RowMapping, recipients: Sequence[RowMapping]) -> Task:
    states = {one["state"] for one in recipients}
    own = (row["email_address"] or "").casefold()
    place = (row["mailbox"], row["uidvalidity"], row["uid"])
    return Task(
        sent_id=row["id"],
        connector_id=row["connector_id"],
        chore=row["chore"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        header_message_id=row["header_message_id"],
        smtp_host=row["host"],
        sent_after=row["sent_after"],
        self_addressed=any(one["address"].casefold() == own for one in recipients),
        answers=None if row["mailbox"] is None else place,
        ambiguous={Delivery.ACCEPTED, Delivery.UNKNOWN} <= states,
    )
