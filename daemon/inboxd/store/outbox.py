"""Mails on their way out: accepted, claimed by whoever sends them, and settled by what the server said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Boolean, RowMapping, Select, and_, bindparam, case, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import Conflict
from inboxd.mails import Sent
from inboxd.model import SentId, SentState, utc_now
from inboxd.outbox import RELAY, WAITING, Accepted, Delivery, Dsn, Job, Once, Order, RouteId, Try, Verdict
from inboxd.store import sent, settling
from inboxd.store.columns import Moment
from inboxd.store.engine import Store
from inboxd.store.rows import first_due, inserts_of
from inboxd.store.schema import RAW_SENT, SENT
from inboxd.store.schema_outbox import HANDED_OVER, HELD, IDEMPOTENCY, OUTBOX, RECIPIENTS, TRIES, WAITS

# How many mails one transaction gives up or puts off, so that others may write.
_AT_ONCE: Final = 500
_UNITS: Final = (("days", 86_400), ("hours", 3_600), ("minutes", 60))
_REACHABLE: Final = (Delivery.PENDING, Delivery.DEFERRED, Delivery.UNKNOWN)

_NEW_KEY = inserts_of(
    IDEMPOTENCY, lambda new: new.on_conflict_do_nothing(index_elements=["key"]).returning(IDEMPOTENCY.c.sent_id)
)
_KNOWN_KEY = (
    select(IDEMPOTENCY.c.fingerprint, IDEMPOTENCY.c.sent_id, SENT.c.seq)
    .outerjoin(SENT, SENT.c.id == IDEMPOTENCY.c.sent_id)
    .where(IDEMPOTENCY.c.key == bindparam("of_key"))
)
_DUE = first_due(OUTBOX, OUTBOX.c.route, WAITS)
_PICK = (
    select(OUTBOX.c.seq, SENT.c.size_bytes)
    .join(SENT, SENT.c.seq == OUTBOX.c.seq)
    .where(OUTBOX.c.route == bindparam("of_route"), WAITS, OUTBOX.c.due_at <= bindparam("now"))
    .order_by(OUTBOX.c.due_at, OUTBOX.c.seq)
    .limit(bindparam("most"))
    .with_for_update(of=OUTBOX, skip_locked=True)
)
_OF_JOB: Final = (
    "seq", "id", "connector_id", "route", "sender", "attempts", "created_at", "expires_at", "use_fallback", "notify",
    "whole", "answers",
)  # fmt: skip
_CLAIM = (
    update(OUTBOX)
    .where(OUTBOX.c.seq.in_(bindparam("seqs", expanding=True)))
    .values(
        state=SentState.SENDING,
        owner=bindparam("new_owner"),
        leased_until=bindparam("new_leased_until"),
        attempts=OUTBOX.c.attempts + 1,
    )
    .returning(*(OUTBOX.c[name] for name in _OF_JOB))
)
_RAWS = select(RAW_SENT.c.seq, RAW_SENT.c.raw).where(RAW_SENT.c.seq.in_(bindparam("seqs", expanding=True)))
_TO_REACH = (
    select(RECIPIENTS.c.sent_seq, RECIPIENTS.c.address, RECIPIENTS.c.state)
    .where(RECIPIENTS.c.sent_seq.in_(bindparam("seqs", expanding=True)))
    .order_by(RECIPIENTS.c.sent_seq, RECIPIENTS.c.position)
)
_RENEW = update(OUTBOX).where(OUTBOX.c.owner == bindparam("of_owner")).values(leased_until=bindparam("until"))
_HELD = select(OUTBOX.c.seq, OUTBOX.c.id, OUTBOX.c.owner, OUTBOX.c.leased_until).where(HELD)
_TO_POSTPONE = (
    select(OUTBOX.c.seq)
    .where(OUTBOX.c.route == bindparam("of_route"), WAITS)
    .where(OUTBOX.c.due_at <= bindparam("now"), OUTBOX.c.due_at < bindparam("until"))
    .order_by(OUTBOX.c.due_at, OUTBOX.c.seq)
    .limit(_AT_ONCE)
    .with_for_update(skip_locked=True)
)
_BY_RELAY = and_(bindparam("relays", type_=Boolean()), OUTBOX.c.use_fallback, OUTBOX.c.route != RELAY)
_QUEUED = literal(SentState.QUEUED, OUTBOX.c.state.type)
_POSTPONE = (
    update(OUTBOX)
    .where(OUTBOX.c.seq.in_(bindparam("seqs", expanding=True)))
    .values(
        state=case((_BY_RELAY, _QUEUED), else_=literal(SentState.DEFERRED, OUTBOX.c.state.type)),
        route=case((_BY_RELAY, literal(RELAY, OUTBOX.c.route.type)), else_=OUTBOX.c.route),
        due_at=case((_BY_RELAY, bindparam("now", type_=Moment())), else_=bindparam("until", type_=Moment())),
        kind=bindparam("new_kind"),
        stage=bindparam("new_stage"),
        reply=bindparam("new_reply"),
        host=bindparam("new_host"),
    )
    .returning(OUTBOX.c.id)
)
_SHOW_POSTPONED = (
    update(SENT)
    .where(SENT.c.seq.in_(bindparam("seqs", expanding=True)))
    .where(or_(SENT.c.state != SentState.DEFERRED, SENT.c.reply.is_distinct_from(bindparam("new_reply"))))
    .values(state=SentState.DEFERRED, reply=bindparam("new_reply"))
)
_EXPIRED = select(OUTBOX.c.id).where(WAITS, OUTBOX.c.expires_at <= bindparam("now")).limit(_AT_ONCE)
_OF_ROUTE = select(OUTBOX.c.id).where(OUTBOX.c.route == bindparam("of_route"), WAITS).limit(_AT_ONCE)
_ENDS = (
    select(TRIES.c.ended_at)
    .where(TRIES.c.route == bindparam("of_route"), HANDED_OVER, TRIES.c.ended_at >= bindparam("since"))
    .order_by(TRIES.c.ended_at)
)


async def accept(store: Store, order: Order, once: Once | None = None) -> Accepted:
    """Keep the mail, QUEUED and due now, with its bytes, its recipients and its key, in one transaction.

    A key that is known with the same fingerprint: the mail of then, not `fresh`, and nothing is kept. With another
    fingerprint, or when that mail was deleted since: Conflict. Of two at the same moment with the same key one is kept,
    and the other gets that. Conflict when the inbox is gone; a connector that is gone is left out.
    """

    async def work(connection: AsyncConnection) -> Accepted:
        known = await _known(connection, order.sent, once) if once is not None else None
        if known is not None:
            return known
        seq, connector_id = await sent.insert(connection, order.sent, SentState.QUEUED, order.raw)
        await connection.execute(OUTBOX.insert(), _row(order, seq, connector_id))
        await connection.execute(RECIPIENTS.insert(), _recipients(order, seq))
        return Accepted(order.sent.id, fresh=True)

    return await store.write_at_once(work)


async def due(store: Store, now: datetime) -> list[tuple[RouteId, datetime]]:
    """Every route for which mails wait, longest due first, and when its first is due: `now`, if that is past."""

    async def look(connection: AsyncConnection) -> list[tuple[RouteId, datetime]]:
        rows = sorted((await connection.execute(_DUE)).all(), key=lambda row: row.due_at)
        return [(RouteId(row.key), max(row.due_at, now)) for row in rows]

    return await store.read(look)


async def claim(
    store: Store,
    owner: str,
    route: RouteId,
    now: datetime,
    *,
    most_count: int,
    most_bytes: int,
    lease_until: datetime,
) -> list[Job]:
    """Take what is due on the route, longest due first: SENDING, the owner's until `lease_until`, a try counted.

    One mail is taken whatever its size, more as long as all together have at most `most_bytes`. Nobody else gets them.
    The sent mails' own rows keep showing what was before.
    """
    which = {"of_route": route, "now": now, "most": most_count}
    mine = {"new_owner": owner, "new_leased_until": lease_until}

    async def work(connection: AsyncConnection) -> list[Job]:
        seqs = _fitting((await connection.execute(_PICK, which)).all(), most_bytes)
        if not seqs:
            return []
        rows = {row["seq"]: row for row in (await connection.execute(_CLAIM, {"seqs": seqs, **mine})).mappings()}
        raws = {row.seq: row.raw for row in await connection.execute(_RAWS, {"seqs": seqs})}
        recipients: defaultdict[int, list[tuple[str, Delivery]]] = defaultdict(list)
        for row in await connection.execute(_TO_REACH, {"seqs": seqs}):
            recipients[row.sent_seq].append((row.address, row.state))
        return [_job(rows[seq], raws[seq], recipients[seq]) for seq in seqs]

    return await store.write_at_once(work)


async def settle(store: Store, owner: str, verdicts: Sequence[Verdict]) -> list[SentId]:
    """Keep how tries ended, in one transaction: the mail, its recipients, the try, an event, the chores.

    Only of mails that are the owner's, who lets them go by that; which those were. Without a connector there is neither
    an event nor a chore. A QUEUED one was released untouched, so that its try is not counted and nothing is told,
    unless it goes on by another route: then it has had its try.
    """

    async def work(connection: AsyncConnection) -> list[SentId]:
        return await settling.settle(connection, owner, verdicts)

    return await store.write_at_once(work)


async def recover(store: Store, id: SentId, owner: str, verdict: Verdict) -> bool:
    """Settle a mail that an owner left behind; whether it was still that owner's."""
    return await settle(store, owner, [verdict]) == [id]


async def renew(store: Store, owner: str, until: datetime) -> None:
    """The owner keeps what it has until then."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_RENEW, {"of_owner": owner, "until": until})

    await store.write(work)


async def held(store: Store, *, owners: Collection[str] | None = None) -> list[tuple[SentId, str, datetime]]:
    """What is being sent, by these owners or by any: the mail, the owner, and until when it is the owner's."""
    wanted = _HELD if owners is None else _HELD.where(OUTBOX.c.owner.in_(owners))

    async def look(connection: AsyncConnection) -> list[tuple[SentId, str, datetime]]:
        rows = sorted((await connection.execute(wanted)).all(), key=lambda row: row.seq)
        return [(SentId(row.id), row.owner, row.leased_until) for row in rows]

    return await store.read(look)


async def postpone(
    store: Store, route: RouteId, now: datetime, until: datetime, tried: Try, *, relays: bool = False
) -> list[SentId]:
    """Put off until then all that is due on the route, because of what ended that try; which those were.

    They are DEFERRED and show the try's words; no try of theirs is counted, and no event is made. With `relays` those
    that may go by the relay are QUEUED and due there at once.
    """
    when = {"now": now, "until": until, "relays": relays}
    words = {"new_kind": tried.kind, "new_stage": tried.stage, "new_reply": tried.reply, "new_host": tried.host}

    async def work(connection: AsyncConnection) -> list[SentId]:
        seqs = list((await connection.execute(_TO_POSTPONE, {"of_route": route, "now": now, "until": until})).scalars())
        if not seqs:
            return []
        ids = (await connection.execute(_POSTPONE, {"seqs": seqs, **when, **words})).scalars().all()
        await connection.execute(_SHOW_POSTPONED, {"seqs": seqs, "new_reply": tried.reply})
        return [SentId(one) for one in ids]

    postponed: list[SentId] = []
    while some := await store.write(work):
        postponed += some
    return postponed


async def expire(store: Store, now: datetime) -> list[SentId]:
    """Let fail what still waits when its time is over, with the last words about it; which those were."""

    def words(row: RowMapping) -> str:
        given_up = f"given up after {_lasted(now - row['created_at'])}"
        return f"{given_up}: {row['reply']}" if row["reply"] else given_up

    return await _give_up(store, _EXPIRED, {"now": now}, words)


async def fail_route(store: Store, route: RouteId, reason: str) -> list[SentId]:
    """Let fail all that waits for a route that is no more; which those were."""
    return await _give_up(store, _OF_ROUTE, {"of_route": route}, lambda _row: reason)


async def handed_over_since(store: Store, route: RouteId, since: datetime) -> list[datetime]:
    """When the route's server was handed a whole mail since then, oldest first."""

    async def look(connection: AsyncConnection) -> list[datetime]:
        return list((await connection.execute(_ENDS, {"of_route": route, "since": since})).scalars())

    return await store.read(look)


async def _known(connection: AsyncConnection, mail: Sent, once: Once) -> Accepted | None:
    """What the key stands for, or None when it is new: then it stands for this mail now."""
    row = {"key": once.key, "fingerprint": once.fingerprint, "sent_id": mail.id, "created_at": utc_now()}
    if (await connection.execute(_NEW_KEY[connection.dialect.name], row)).first() is not None:
        return None
    known = (await connection.execute(_KNOWN_KEY, {"of_key": once.key})).one()
    if known.fingerprint != once.fingerprint:
        raise Conflict("this Idempotency-Key came with another mail before; a new mail needs a new Idempotency-Key")
    if known.seq is None:
        raise Conflict("the mail that came with this Idempotency-Key was deleted; to send it again, use a new one")
    return Accepted(SentId(known.sent_id), fresh=False)


def _row(order: Order, seq: int, connector_id: object) -> dict[str, Any]:
    return {
        "seq": seq,
        "id": order.sent.id,
        "connector_id": connector_id,
        "route": order.route,
        "state": SentState.QUEUED,
        "created_at": order.sent.created_at,
        "due_at": order.sent.created_at,
        "expires_at": order.expires_at,
        "attempts": 0,
        "owner": None,
        "leased_until": None,
        "kind": "",
        "stage": "",
        "reply": None,
        "host": "",
        "sender": order.sender,
        "use_fallback": order.use_fallback,
        "notify": order.dsn.notify if order.dsn is not None else None,
        "whole": order.dsn is not None and order.dsn.whole,
        "answers": order.answers,
    }


def _recipients(order: Order, seq: int) -> list[dict[str, Any]]:
    pending = {"sent_seq": seq, "state": Delivery.PENDING, "reply": None, "updated_at": order.sent.created_at}
    return [{**pending, "position": position, "address": one} for position, one in enumerate(order.recipients)]


def _fitting(picked: Sequence[Any], most_bytes: int) -> list[int]:
    """The numbers of the first mails that have at most so many bytes together; of the first one in any case."""
    seqs: list[int] = []
    total = 0
    for seq, size_bytes in picked:
        total += size_bytes
        if seqs and total > most_bytes:
            break
        seqs.append(seq)
    return seqs


def _job(row: RowMapping, raw: bytes, recipients: Sequence[tuple[str, Delivery]]) -> Job:
    return Job(
        id=row["id"],
        connector_id=row["connector_id"],
        route=row["route"],
        sender=row["sender"],
        recipients=tuple(address for address, state in recipients if state in _REACHABLE),
        raw=raw,
        attempts=row["attempts"] - 1,
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        use_fallback=row["use_fallback"],
        dsn=None if row["notify"] is None else Dsn(row["notify"], row["whole"]),
        answers=row["answers"],
        partly=any(state is Delivery.ACCEPTED for _, state in recipients),
    )


async def _give_up(
    store: Store, which: Select[Any], values: dict[str, Any], words_of: Callable[[RowMapping], str]
) -> list[SentId]:
    """A slice a transaction."""

    async def work(connection: AsyncConnection) -> tuple[int, list[SentId]]:
        ids = (await connection.execute(which, values)).scalars().all()
        rows = [row for row in await settling.hold(connection, ids) if row["state"] in WAITING]
        return len(ids), await settling.give_up(connection, rows, words_of)

    given_up: list[SentId] = []
    while (found := await store.write(work))[0]:
        given_up += found[1]
    return given_up


def _lasted(span: timedelta) -> str:
    """A span of time in words, in its largest unit of which there are two at least."""
    seconds = max(int(span.total_seconds()), 0)
    unit, length = next(((unit, length) for unit, length in _UNITS if seconds >= 2 * length), ("seconds", 1))
    return f"{seconds // length} {unit}"
