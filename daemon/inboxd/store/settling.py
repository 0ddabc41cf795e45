"""Inside one transaction: what becomes of mails in the outbox, in all the tables that tell of it.

The statements are built once, and each is carried out once for all mails of a batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import RowMapping, bindparam, case, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.model import ConnectorId, Event, EventId, EventStatus, EventType, SentId, SentState, utc_now
from inboxd.outbox import Chore, Delivery, Try, Verdict
from inboxd.store.many import Many, Row, carry_out
from inboxd.store.rows import columns_of, inserts_of
from inboxd.store.schema import CONNECTORS, EVENTS, SENT
from inboxd.store.schema_outbox import CHORES, OUTBOX, RECIPIENTS, TRIES

_IDS = OUTBOX.c.id.in_(bindparam("ids", expanding=True))
_THIS = OUTBOX.c.seq == bindparam("of_seq")
_LET_GO: Final = {"owner": None, "leased_until": None}

# Held against removal, before the rows that name them: whoever removes a connector takes them in that order.
_HOLD_CONNECTORS = (
    select(CONNECTORS.c.id)
    .where(CONNECTORS.c.id.in_(select(OUTBOX.c.connector_id).where(_IDS)))
    .order_by(CONNECTORS.c.seq)
    .with_for_update(read=True, key_share=True)
)
_NEEDED = (
    "seq",
    "id",
    "connector_id",
    "route",
    "state",
    "created_at",
    "due_at",
    "expires_at",
    "owner",
    "reply",
    "answers",
)
# Whoever deletes sent mails takes their rows in that order, too.
_HOLD = (
    select(*(OUTBOX.c[name] for name in _NEEDED))
    .join(SENT, SENT.c.seq == OUTBOX.c.seq)
    .where(_IDS)
    .order_by(OUTBOX.c.seq)
    .with_for_update(of=[SENT, OUTBOX])
)
_OF_TRY: Final = [field.name for field in fields(Try)]
_NEW_OF_TRY: Final = ("new_kind", "new_stage", "new_reply", "new_host")
_SETTLE = (
    update(OUTBOX)
    .where(_THIS)
    .values(
        state=bindparam("new_state"),
        due_at=bindparam("new_due_at"),
        route=bindparam("new_route"),
        kind=bindparam("new_kind"),
        stage=bindparam("new_stage"),
        reply=bindparam("new_reply"),
        host=bindparam("new_host"),
        **_LET_GO,
    )
)
_RELEASE = (
    update(OUTBOX)
    .where(_THIS)
    .values(
        state=SentState.QUEUED,
        due_at=bindparam("new_due_at"),
        route=bindparam("new_route"),
        attempts=case((OUTBOX.c.attempts > 0, OUTBOX.c.attempts - 1), else_=0),
        **_LET_GO,
    )
)
_TURN = update(OUTBOX).where(_THIS).values(state=bindparam("new_state"), reply=bindparam("new_reply"))
_SHOW_STATE = (
    update(SENT)
    .where(SENT.c.seq == bindparam("of_seq"), SENT.c.state != bindparam("new_state"))
    .values(state=bindparam("new_state"))
)
_SHOW = (
    update(SENT)
    .where(SENT.c.seq == bindparam("of_seq"))
    .values(state=bindparam("new_state"), reply=bindparam("new_reply"), sent_at=bindparam("new_sent_at"))
)
_RECIPIENTS = (
    select(RECIPIENTS.c.sent_seq, RECIPIENTS.c.position, RECIPIENTS.c.address, RECIPIENTS.c.state, RECIPIENTS.c.reply)
    .where(RECIPIENTS.c.sent_seq.in_(bindparam("seqs", expanding=True)))
    .order_by(RECIPIENTS.c.sent_seq, RECIPIENTS.c.position)
)
_LEARN = (
    update(RECIPIENTS)
    .where(RECIPIENTS.c.sent_seq == bindparam("of_seq"), RECIPIENTS.c.position == bindparam("of_position"))
    .values(state=bindparam("new_state"), reply=bindparam("new_reply"), updated_at=bindparam("now"))
)
_CHORES = inserts_of(
    CHORES,
    lambda new: new.on_conflict_do_update(
        index_elements=["sent_seq", "chore"], set_={"due_at": new.excluded.due_at, "attempts": 0, "reply": None}
    ),
)
_SETTLE_MANY = Many(_SETTLE, ("of_seq", "new_state", "new_due_at", "new_route", *_NEW_OF_TRY))
_RELEASE_MANY = Many(_RELEASE, ("of_seq", "new_due_at", "new_route"))
_TURN_MANY = Many(_TURN, ("of_seq", "new_state", "new_reply"))
_SHOW_STATE_MANY = Many(_SHOW_STATE, ("of_seq", "new_state"))
_SHOW_MANY = Many(_SHOW, ("of_seq", "new_state", "new_reply", "new_sent_at"))
_LEARN_MANY = Many(_LEARN, ("of_seq", "of_position", "new_state", "new_reply", "now"))
_TRIES_MANY = Many(TRIES.insert(), ("sent_seq", "route", *_OF_TRY))
_EVENTS_MANY = Many(EVENTS.insert(), [field.name for field in fields(Event)])
_CHORES_MANY = Many(_CHORES, ("sent_seq", "chore", "connector_id", "created_at", "due_at", "attempts", "reply"))
_END_CHORE = delete(CHORES).where(CHORES.c.sent_seq == bindparam("of_seq"), CHORES.c.chore == bindparam("of_chore"))


async def hold(connection: AsyncConnection, ids: Collection[SentId]) -> Sequence[RowMapping]:
    """The outbox's rows of these mails, oldest first; they and their connectors stay as they are until the end."""
    if not ids:
        return []
    await connection.execute(_HOLD_CONNECTORS, {"ids": list(ids)})
    return (await connection.execute(_HOLD, {"ids": list(ids)})).mappings().all()


async def settle(connection: AsyncConnection, owner: str, verdicts: Sequence[Verdict]) -> list[SentId]:
    """What `outbox.settle` promises."""
    held = {row["id"]: row for row in await hold(connection, [verdict.id for verdict in verdicts])}
    mine = [
        (held[verdict.id], verdict)
        for verdict in {verdict.id: verdict for verdict in verdicts}.values()
        if verdict.id in held and (held[verdict.id]["owner"], held[verdict.id]["state"]) == (owner, SentState.SENDING)
    ]
    await _release(connection, [one for one in mine if _is_untouched(one[1])])
    await _conclude(connection, [one for one in mine if not _is_untouched(one[1])])
    return [verdict.id for _, verdict in mine]


def _is_untouched(verdict: Verdict) -> bool:
    """Whether the mail was put back without a try; one that goes on by another route has had its try."""
    return verdict.state is SentState.QUEUED and verdict.route is None


async def _release(connection: AsyncConnection, mine: Sequence[tuple[RowMapping, Verdict]]) -> None:
    released = [_onward(row, verdict) for row, verdict in mine]
    states = [{"of_seq": row["seq"], "new_state": SentState.QUEUED} for row, _ in mine]
    await carry_out(connection, [(_RELEASE_MANY, released), (_SHOW_STATE_MANY, states)])


async def _conclude(connection: AsyncConnection, mine: Sequence[tuple[RowMapping, Verdict]]) -> None:
    if not mine:
        return
    now = utc_now()
    known: defaultdict[int, list[RowMapping]] = defaultdict(list)
    for one in await recipients_of(connection, [row["seq"] for row, _ in mine]):
        known[one["sent_seq"]].append(one)
    words = {verdict.id: _words(verdict, known[row["seq"]]) for row, verdict in mine}
    events = [
        event_of(row["connector_id"], verdict.state, words[verdict.id], now, verdict.logs, _lasted(verdict.tried))
        for row, verdict in mine
    ]
    shown = ((row["seq"], verdict.state, words[verdict.id], verdict.tried.ended_at) for row, verdict in mine)
    chores = [_chore(row, verdict, chore, now) for row, verdict in mine for chore in verdict.chores]
    await carry_out(
        connection,
        [
            (_LEARN_MANY, _learnt((one for row, verdict in mine for one in _news(verdict, known[row["seq"]])), now)),
            (
                _SETTLE_MANY,
                [
                    _onward(row, verdict) | {"new_state": verdict.state} | _of_try(verdict.tried)
                    for row, verdict in mine
                ],
            ),
            (_SHOW_MANY, _shown(shown)),
            (
                _TRIES_MANY,
                [{"sent_seq": row["seq"], "route": row["route"], **columns_of(verdict.tried)} for row, verdict in mine],
            ),
            (_EVENTS_MANY, [columns_of(event) for event in events if event is not None]),
            (_CHORES_MANY, [chore for chore in chores if chore["connector_id"] is not None]),
        ],
    )


def _news(verdict: Verdict, known: Sequence[RowMapping]) -> Iterator[tuple[int, int, Delivery, str | None]]:
    """What the verdict says of the mail's recipients."""
    for one in known:
        if one["address"] in verdict.recipients:
            yield one["sent_seq"], one["position"], *verdict.recipients[one["address"]]


def _words(verdict: Verdict, known: Sequence[RowMapping]) -> str:
    """The last words about a mail; with those about who was refused, if others were not."""
    reply = verdict.tried.reply
    if verdict.state is not SentState.SENT:
        return reply
    told = {one["address"]: verdict.recipients.get(one["address"], (one["state"], one["reply"])) for one in known}
    refused = "; ".join(f"{address}: {said}" for address, (state, said) in told.items() if state is Delivery.REFUSED)
    return f"{reply} (refused: {refused})" if refused else reply


async def give_up(
    connection: AsyncConnection, rows: Sequence[RowMapping], words_of: Callable[[RowMapping], str]
) -> list[SentId]:
    """Let mails that wait end, in these words: those who were still to be reached are refused.

    A mail has failed then, unless somebody has it since an earlier try: then it was sent, if not to all.
    """
    now = utc_now()
    words = {row["seq"]: words_of(row) for row in rows}
    recipients = await recipients_of(connection, list(words))
    partly = {one["sent_seq"] for one in recipients if one["state"] is Delivery.ACCEPTED}
    states = {seq: SentState.SENT if seq in partly else SentState.FAILED for seq in words}
    await turn(connection, [(seq, states[seq], words[seq]) for seq in words])
    await show(connection, [(seq, states[seq], words[seq], now) for seq in words])
    learnt = [
        (one["sent_seq"], one["position"], Delivery.REFUSED, words[one["sent_seq"]])
        for one in recipients
        if one["state"] in (Delivery.PENDING, Delivery.DEFERRED)
    ]
    await learn(connection, learnt, now)
    told = [event_of(row["connector_id"], SentState.FAILED, words[row["seq"]], now) for row in rows]
    await tell(connection, told)
    return [row["id"] for row in rows]


async def recipients_of(connection: AsyncConnection, seqs: Sequence[int]) -> Sequence[RowMapping]:
    """The recipients of the mails with these numbers, in the order of their envelopes."""
    return (await connection.execute(_RECIPIENTS, {"seqs": seqs})).mappings().all() if seqs else []


async def learn(
    connection: AsyncConnection, learnt: Iterable[tuple[int, int, Delivery, str | None]], now: datetime
) -> None:
    """Set what became of recipients: the mail's number, the recipient's position in it, the state, the words."""
    await carry_out(connection, [(_LEARN_MANY, _learnt(learnt, now))])


def _learnt(learnt: Iterable[tuple[int, int, Delivery, str | None]], now: datetime) -> list[Row]:
    return [
        {"of_seq": seq, "of_position": position, "new_state": state, "new_reply": reply, "now": now}
        for seq, position, state, reply in learnt
    ]


async def turn(connection: AsyncConnection, changed: Iterable[tuple[int, SentState, str | None]]) -> None:
    """Set the state and the last words of mails that nobody is sending."""
    rows = [{"of_seq": seq, "new_state": state, "new_reply": reply} for seq, state, reply in changed]
    await carry_out(connection, [(_TURN_MANY, rows)])


async def show(
    connection: AsyncConnection, shown: Iterable[tuple[int, SentState, str | None, datetime | None]]
) -> None:
    """Set what the list of sent mails says: the mail's number, its state, the words, and for SENT since when."""
    await carry_out(connection, [(_SHOW_MANY, _shown(shown))])


def _shown(shown: Iterable[tuple[int, SentState, str | None, datetime | None]]) -> list[Row]:
    return [
        {
            "of_seq": seq,
            "new_state": state,
            "new_reply": reply,
            "new_sent_at": sent_at if state is SentState.SENT else None,
        }
        for seq, state, reply, sent_at in shown
    ]


async def begin_chore(connection: AsyncConnection, row: RowMapping, chore: Chore, now: datetime) -> None:
    """There is such a chore of the outbox's row now, due at once; none without a connector."""
    if row["connector_id"] is not None:
        await connection.execute(_CHORES[connection.dialect.name], [_new_chore(row, chore, now, now)])


async def end_chore(connection: AsyncConnection, seq: int, chore: Chore) -> None:
    """There is no such chore of the mail any more."""
    await connection.execute(_END_CHORE, {"of_seq": seq, "of_chore": chore})


async def tell(connection: AsyncConnection, events: Iterable[Event | None]) -> None:
    """Keep these events of connectors that were held; None is nobody's."""
    await carry_out(connection, [(_EVENTS_MANY, [columns_of(event) for event in events if event is not None])])


def event_of(
    connector_id: ConnectorId | None,
    state: SentState,
    words: str,
    now: datetime,
    logs: str | None = None,
    lasted: timedelta | None = None,
) -> Event | None:
    """How a mail of the connector stands, as an event; None without a connector."""
    if connector_id is None:
        return None
    went = state is SentState.SENT
    status = EventStatus.SUCCESS if went else EventStatus.CONNECTION_ERROR
    message = f"{state.value}: {words}"
    return Event(EventId(uuid4()), connector_id, EventType.SEND, status, int(went), now, message, logs, duration=lasted)


def _lasted(tried: Try) -> timedelta:
    """A clock that was set back meanwhile makes none that is less than nothing."""
    return max(tried.ended_at - tried.began_at, timedelta())


def _onward(row: RowMapping, verdict: Verdict) -> dict[str, Any]:
    """When and where the mail goes next, as before unless the verdict says so."""
    return {
        "of_seq": row["seq"],
        "new_due_at": verdict.due_at or row["due_at"],
        "new_route": row["route"] if verdict.route is None else verdict.route,
    }


def _of_try(tried: Try) -> dict[str, Any]:
    return {f"new_{name}": getattr(tried, name) for name in ("kind", "stage", "reply", "host")}


def _chore(row: RowMapping, verdict: Verdict, chore: Chore, now: datetime) -> dict[str, Any]:
    later = None if chore is Chore.ANSWER else verdict.chores_due_at
    return _new_chore(row, chore, now, later or now)


def _new_chore(row: RowMapping, chore: Chore, now: datetime, due_at: datetime) -> dict[str, Any]:
    return {
        "sent_seq": row["seq"],
        "chore": chore,
        "connector_id": row["connector_id"],
        "created_at": now,
        "due_at": due_at,
        "attempts": 0,
        "reply": None,
    }
