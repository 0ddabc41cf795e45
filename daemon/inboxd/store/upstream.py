"""What became of stored messages in the mailbox they came from: their flags there, and which are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, final

from sqlalchemy import Select, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.mails import Place, Tags, lasting
from inboxd.model import utc_now
from inboxd.store import cursors
from inboxd.store.engine import Store
from inboxd.store.many import Many, carry_out
from inboxd.store.rows import Condition, at_place, lock_connector, slices
from inboxd.store.schema import MESSAGES

AT_ONCE: Final = 1000  # messages a transaction; far below the 32,766 parameters that SQLite takes
_DELETED_AT_ONCE: Final = 200  # the bytes of a deleted mail go too, page by page
_FEW_RANGES: Final = 200
_SET_TAGS = Many(
    update(MESSAGES)
    .where(MESSAGES.c.seq == bindparam("of_seq"))
    .values(flags=bindparam("new_flags"), labels=bindparam("new_labels"), updated_at=bindparam("now")),
    ("of_seq", "new_flags", "new_labels", "now"),
)


@final
@dataclass(frozen=True, slots=True)
class Settled:
    """How many messages were found with other flags than before, with other labels, and how many gone."""

    flags: int = 0
    vanished: int = 0
    labels: int = 0


async def settle(
    store: Store,
    place: Place,
    tags: Mapping[int, Tags],
    vanished: Sequence[int] = (),
    *,
    modseq: int | None = None,
    compared_at: datetime | None = None,
) -> Settled:
    """Keep the flags and labels messages have on their server, and which are gone; at most `AT_ONCE` of each.

    UIDs that are not stored, and what is known already, change nothing: doing it again is harmless. In the same
    transaction the cursor notes up to where all is known, unless that is None. NotFound when the connector is gone.
    """

    async def work(connection: AsyncConnection) -> Settled:
        await lock_connector(connection, place.connector_id)
        flags, labels = await _set_tags(connection, place, tags) if tags else (0, 0)
        gone = await _mark(connection, place, vanished, utc_now()) if vanished else 0
        await cursors.note_known(connection, place, modseq, compared_at)
        return Settled(flags, gone, labels)

    return await store.write(work)


async def found_again(store: Store, place: Place, uids: Sequence[int]) -> None:
    """Messages that had been found gone are there after all."""

    async def work(connection: AsyncConnection) -> None:
        for some in slices(uids, AT_ONCE):
            await _mark(connection, place, some, None)

    await store.write(work)


async def remove_vanished(store: Store, place: Place, uids: Sequence[int]) -> int:
    """Delete those of the messages that are marked as gone; how many. A slice at a time, so that others may write.

    No tombstone stays: should its server have such a message again, it is wanted again.
    """
    removed = 0
    for some in slices(uids, _DELETED_AT_ONCE):
        gone = delete(MESSAGES).where(_there(place), MESSAGES.c.uid.in_(some), MESSAGES.c.vanished_at.is_not(None))

        async def work(connection: AsyncConnection, gone: Any = gone) -> int:
            return (await connection.execute(gone)).rowcount

        removed += await store.write(work)
    return removed


async def following(store: Store, place: Place, above_uid: int, most: int) -> list[tuple[int, bool]]:
    """The next stored UIDs of the place, ascending, each with whether it is marked as gone."""
    wanted = select(MESSAGES.c.uid, MESSAGES.c.vanished_at.is_not(None)).where(
        _there(place), MESSAGES.c.uid > above_uid
    )

    async def look(connection: AsyncConnection) -> list[tuple[int, bool]]:
        rows = await connection.execute(wanted.order_by(MESSAGES.c.uid).limit(most))
        return [(uid, bool(gone)) for uid, gone in rows]

    return await store.read(look)


async def within(store: Store, place: Place, ranges: Sequence[tuple[int, int]]) -> list[int]:
    """The stored UIDs within these ascending ranges that are not marked as gone: few, whatever the ranges span."""
    if len(ranges) > _FEW_RANGES:
        return await _within_many(store, place, ranges)

    async def look(connection: AsyncConnection) -> list[int]:
        found: list[int] = []
        for low, high in ranges:
            found += (await connection.execute(_unmarked(place, low, high))).scalars()
        return found

    return await store.read(look)


async def marked(store: Store, place: Place) -> list[int]:
    """The stored UIDs of the place that are marked as gone."""
    wanted = select(MESSAGES.c.uid).where(_there(place), MESSAGES.c.vanished_at.is_not(None)).order_by(MESSAGES.c.uid)

    async def look(connection: AsyncConnection) -> list[int]:
        return list((await connection.execute(wanted)).scalars())

    return await store.read(look)


async def _within_many(store: Store, place: Place, ranges: Sequence[tuple[int, int]]) -> list[int]:
    """One query for all, and the ranges gone through beside what it finds."""

    async def look(connection: AsyncConnection) -> list[int]:
        return list((await connection.execute(_unmarked(place, ranges[0][0], ranges[-1][1]))).scalars())

    found: list[int] = []
    at = 0
    for uid in await store.read(look):
        while at < len(ranges) and ranges[at][1] < uid:
            at += 1
        if at < len(ranges) and ranges[at][0] <= uid:
            found.append(uid)
    return found


def _unmarked(place: Place, low: int, high: int) -> Select[Any]:
    wanted = select(MESSAGES.c.uid).where(_there(place), MESSAGES.c.uid.between(low, high))
    return wanted.where(MESSAGES.c.vanished_at.is_(None)).order_by(MESSAGES.c.uid)


async def _set_tags(connection: AsyncConnection, place: Place, tags: Mapping[int, Tags]) -> tuple[int, int]:
    """How many flags, and how many labels, were others."""
    columns = (MESSAGES.c.seq, MESSAGES.c.uid, MESSAGES.c.flags, MESSAGES.c.labels)
    rows = await connection.execute(select(*columns).where(_there(place), MESSAGES.c.uid.in_(tags)))
    now = utc_now()
    changes: list[dict[str, Any]] = []
    flagged = labelled = 0
    for seq, uid, flags, labels in rows:
        new = tags[uid]
        is_flagged = _differ(flags, new.flags)
        is_labelled = new.labels is not None and set(new.labels) != set(labels or ())
        flagged += is_flagged
        labelled += is_labelled
        if is_flagged or is_labelled:
            kept = new.labels if is_labelled else labels
            changes.append({"of_seq": seq, "new_flags": new.flags, "new_labels": kept, "now": now})
    await carry_out(connection, [(_SET_TAGS, changes)])
    return flagged, labelled


def _differ(one: Sequence[str], other: Sequence[str]) -> bool:
    """Flags have no order, and come in any case of their letters (RFC 3501 §2.3.2)."""
    return one != other and set(map(str.lower, lasting(one))) != set(map(str.lower, lasting(other)))


async def _mark(connection: AsyncConnection, place: Place, uids: Sequence[int], vanished_at: datetime | None) -> int:
    otherwise = MESSAGES.c.vanished_at.is_not(None) if vanished_at is None else MESSAGES.c.vanished_at.is_(None)
    change = update(MESSAGES).where(_there(place), MESSAGES.c.uid.in_(uids), otherwise)
    return (await connection.execute(change.values(vanished_at=vanished_at, updated_at=utc_now()))).rowcount


def _there(place: Place) -> Condition:
    return at_place(MESSAGES, place)
