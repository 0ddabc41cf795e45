"""The outbox as people look at it, and what they decide about the mails in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from typing import Final

from sqlalchemy import RowMapping, bindparam, case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import Conflict, NotFound
from inboxd.model import ConnectorId, Page, SentId, SentState, Window, utc_now
from inboxd.outbox import RELAY, WAITING, Census, Chore, Delivery, Entry, Recipient, Record, RouteId, Try
from inboxd.store import settling
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, in_order, in_span, paged, record_of
from inboxd.store.schema import SENT
from inboxd.store.schema_outbox import CHORES, HANDED_OVER, IDEMPOTENCY, OUTBOX, RECIPIENTS, TRIES, UNDONE

_PRUNED_AT_ONCE: Final = 5_000
_COUNTED: Final = [state for state in SentState if state not in (SentState.SENT, SentState.CANCELLED)]
# Whom a mail is sent to when it is sent again.
_ANEW: Final = (Delivery.UNKNOWN, Delivery.REFUSED, Delivery.DEFERRED)

_ENTRIES = select(*((OUTBOX.c if field.name in OUTBOX.c else SENT.c)[field.name] for field in fields(Entry))).join_from(
    OUTBOX, SENT, SENT.c.seq == OUTBOX.c.seq
)
_ENTRY = _ENTRIES.where(OUTBOX.c.id == bindparam("of_id"))
_SEQ = select(OUTBOX.c.seq).where(OUTBOX.c.id == bindparam("of_id")).scalar_subquery()
_RECIPIENTS = select(RECIPIENTS).where(RECIPIENTS.c.sent_seq == _SEQ).order_by(RECIPIENTS.c.position)
_TRIES = select(TRIES).where(TRIES.c.sent_seq == _SEQ).order_by(TRIES.c.seq)
_CHORES = select(CHORES.c.chore).where(CHORES.c.sent_seq == _SEQ).order_by(CHORES.c.due_at, CHORES.c.chore)
_CENSUS = (
    select(OUTBOX.c.state, func.count().label("mails"), func.min(OUTBOX.c.created_at).label("since"))
    .where(UNDONE)
    .group_by(OUTBOX.c.state)
)
_HANDED_OVER = select(
    func.count(), func.coalesce(func.sum(case((TRIES.c.ended_at >= bindparam("lately"), 1), else_=0)), 0)
).where(TRIES.c.route == bindparam("of_route"), HANDED_OVER, TRIES.c.ended_at >= bindparam("since"))
_AGAIN = (
    update(OUTBOX)
    .where(OUTBOX.c.seq == bindparam("of_seq"))
    .values(state=bindparam("new_state"), due_at=bindparam("now"), expires_at=bindparam("new_expires_at"))
)


async def page(
    store: Store, window: Window, *, states: Collection[SentState] = (), connector_id: ConnectorId | None = None
) -> Page[Entry]:
    """One page of the outbox: of mails in one of these states, and of one connector, where given."""
    where: list[Condition] = in_span(OUTBOX, window)
    if states:
        where.append(OUTBOX.c.state.in_(states))
    if connector_id is not None:
        where.append(OUTBOX.c.connector_id == connector_id)

    async def look(connection: AsyncConnection) -> Page[Entry]:
        total = (await connection.execute(select(func.count()).select_from(OUTBOX).where(*where))).scalar_one()
        wanted = paged(select(OUTBOX.c.seq).where(*where), OUTBOX, window, total)
        seqs = (await connection.execute(wanted)).scalars().all()
        listed = _ENTRIES.where(OUTBOX.c.seq.in_(seqs)).order_by(*in_order(OUTBOX, window))
        rows = (await connection.execute(listed)).mappings().all()
        return Page(tuple(record_of(Entry, row) for row in rows), total)

    return await store.read(look)


async def handed_over(store: Store, route: RouteId, since: datetime, lately: datetime) -> tuple[int, int]:
    """How many whole mails the route's server was handed from `since` on, and how many of them from `lately` on."""

    async def look(connection: AsyncConnection) -> tuple[int, int]:
        asked = {"of_route": route, "since": since, "lately": lately}
        in_all, of_late = (await connection.execute(_HANDED_OVER, asked)).one()
        return in_all, int(of_late)

    return await store.read(look)


async def get(store: Store, id: SentId) -> Record:
    """The mail with its recipients, tries and open chores; NotFound, also of mails sent before there was an outbox."""

    async def look(connection: AsyncConnection) -> Record:
        entry = await _entry(connection, id)
        recipients = (await connection.execute(_RECIPIENTS, {"of_id": id})).mappings()
        tries = (await connection.execute(_TRIES, {"of_id": id})).mappings()
        return Record(
            entry,
            tuple(record_of(Recipient, row) for row in recipients),
            tuple(record_of(Try, row) for row in tries),
            tuple((await connection.execute(_CHORES, {"of_id": id})).scalars()),
        )

    return await store.read(look)


async def entry(store: Store, id: SentId) -> Entry:
    """The mail as it is in the list; NotFound."""

    async def look(connection: AsyncConnection) -> Entry:
        return await _entry(connection, id)

    return await store.read(look)


async def census(store: Store) -> Census:
    """How many mails there are in each state, but for SENT and CANCELLED, and since when the oldest has waited."""

    async def look(connection: AsyncConnection) -> Census:
        rows = {row.state: row for row in await connection.execute(_CENSUS)}
        counts = {state: rows[state].mails if state in rows else 0 for state in _COUNTED}
        return Census(counts, min((rows[state].since for state in WAITING if state in rows), default=None))

    return await store.read(look)


async def retry(store: Store, id: SentId, now: datetime, expires_at: datetime) -> Entry:
    """Send the mail as soon as can be; how it stands then. NotFound.

    One that waits is due now. One that failed, was cancelled or has an unknown outcome goes out again, until
    `expires_at`, to those who have not got it: nobody who was accepted or bounced. Conflict when it is being sent, was
    sent, has nobody left to go to, or no connector.
    """

    async def work(connection: AsyncConnection) -> Entry:
        row = await _hold(connection, id, _NO_RETRY)
        waits = row["state"] in WAITING
        if not waits:
            await _begin_anew(connection, row)
        changed = {"of_seq": row["seq"], "now": now, "new_state": row["state"], "new_expires_at": row["expires_at"]}
        if not waits:
            changed |= {"new_state": SentState.QUEUED, "new_expires_at": expires_at}
            await settling.show(connection, [(row["seq"], SentState.QUEUED, row["reply"], None)])
        await connection.execute(_AGAIN, changed)
        return await _entry(connection, id)

    return await store.write(work)


async def cancel(store: Store, id: SentId) -> Entry:
    """Give up a mail that waits; how it stands then. NotFound; Conflict when it does not wait."""
    return await _end(store, id, _NO_CANCEL, "cancelled")


async def drop(store: Store, id: SentId) -> Entry:
    """Let a mail be that failed or has an unknown outcome; how it stands then. NotFound; Conflict in another state."""
    return await _end(store, id, _NO_DROP, "dropped by the operator")


async def prune_keys(store: Store, before: datetime) -> int:
    """Forget the idempotency keys from before then, a slice a transaction; how many those were."""
    old = select(IDEMPOTENCY.c.key).where(IDEMPOTENCY.c.created_at < before).limit(_PRUNED_AT_ONCE)

    async def work(connection: AsyncConnection) -> int:
        return (await connection.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.key.in_(old)))).rowcount

    total = 0
    while pruned := await store.write(work):
        total += pruned
    return total


_GIVEN_UP = "it was given up already"
_GONE_OUT = "it was sent already"
_GOING = "it is being sent at this moment; look again when that is over"
_WAITS = "it still waits to be sent; to give it up: inboxctl outbox cancel"
# Why what is asked for cannot be done with a mail in that state.
_NO_RETRY: Final = {SentState.SENDING: _GOING, SentState.SENT: _GONE_OUT}
_NO_CANCEL: Final = {
    SentState.SENDING: _GOING,
    SentState.SENT: _GONE_OUT,
    SentState.FAILED: "it has failed, and does not wait any more",
    SentState.UNKNOWN: "the server may have taken it; to let it be: inboxctl outbox drop",
    SentState.CANCELLED: _GIVEN_UP,
}
_NO_DROP: Final = {
    SentState.QUEUED: _WAITS,
    SentState.DEFERRED: _WAITS,
    SentState.SENDING: _GOING,
    SentState.SENT: _GONE_OUT,
    SentState.CANCELLED: _GIVEN_UP,
}


async def _end(store: Store, id: SentId, refusals: dict[SentState, str], words: str) -> Entry:
    async def work(connection: AsyncConnection) -> Entry:
        row = await _hold(connection, id, refusals)
        await settling.end_chore(connection, row["seq"], Chore.RESOLVE)
        await settling.turn(connection, [(row["seq"], SentState.CANCELLED, words)])
        await settling.show(connection, [(row["seq"], SentState.CANCELLED, words, None)])
        return await _entry(connection, id)

    return await store.write(work)


async def _hold(connection: AsyncConnection, id: SentId, refusals: dict[SentState, str]) -> RowMapping:
    """The mail's row, locked; NotFound; Conflict in a state that speaks against it."""
    row = next(iter(await settling.hold(connection, [id])), None)
    if row is None:
        raise NotFound(f"there is no mail {id} in the outbox")
    if row["state"] in refusals:
        raise Conflict(f"mail {id}: {refusals[row['state']]}")
    return row


async def _begin_anew(connection: AsyncConnection, row: RowMapping) -> None:
    """Whoever has not got the mail is to get it; Conflict when that is nobody, or nobody is there to send it."""
    if row["connector_id"] is None and row["route"] != RELAY:
        raise Conflict(f"mail {row['id']}: its connector was deleted, so that it cannot be sent again")
    recipients = await settling.recipients_of(connection, [row["seq"]])
    anew = [one for one in recipients if one["state"] in _ANEW]
    if not anew and not any(one["state"] is Delivery.PENDING for one in recipients):
        raise Conflict(f"mail {row['id']}: it has reached, or come back from, each of its recipients")
    learnt = [(one["sent_seq"], one["position"], Delivery.PENDING, one["reply"]) for one in anew]
    await settling.learn(connection, learnt, utc_now())
    await settling.end_chore(connection, row["seq"], Chore.RESOLVE)


async def _entry(connection: AsyncConnection, id: SentId) -> Entry:
    row = (await connection.execute(_ENTRY, {"of_id": id})).mappings().first()
    if row is None:
        raise NotFound(f"there is no mail {id} in the outbox")
    return record_of(Entry, row)
