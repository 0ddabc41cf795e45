"""Where the reading of a mailbox begins; `messages` moves it on."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta

from sqlalchemy import case, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.mails import Cursor, Place
from inboxd.model import ConnectorId, utc_now
from inboxd.store.engine import Store
from inboxd.store.rows import at_place, columns_of, inserts_of, lock_connector, record_of
from inboxd.store.schema import CURSORS

MARKS = [field.name for field in fields(Cursor)]
# What is known of messages does not go with where reading stands, only with the incarnation.
KNOWN = ("modseq", "compared_at")
_BEGIN = inserts_of(
    CURSORS,
    lambda new: new.on_conflict_do_update(
        index_elements=["connector_id", "mailbox"],
        set_={name: new.excluded[name] for name in MARKS}
        | {
            name: case((CURSORS.c.uidvalidity == new.excluded.uidvalidity, CURSORS.c[name]), else_=new.excluded[name])
            for name in KNOWN
        },
        where=(CURSORS.c.uidvalidity != new.excluded.uidvalidity)
        | ((CURSORS.c.last_uid == 0) & CURSORS.c.backfill_below.is_(None)),
    ),
)


async def begin(store: Store, place: Place, top: int = 0, modseq: int | None = None) -> Cursor:
    """Begin the mailbox's cursor, or begin it anew in this incarnation: at `top`, with a first load of all up to there.

    What is read from now on is known as of now, or of the change `modseq`. One that stands somewhere in this
    incarnation stays there. The cursor as it is then; NotFound without the connector.
    """
    begun = Cursor(place.uidvalidity, top, modseq=modseq or None, compared_at=utc_now())
    if top:
        begun = replace(begun, backfill_below=top + 1, backfill_epoch=utc_now() - timedelta(microseconds=top))

    async def work(connection: AsyncConnection) -> Cursor:
        await lock_connector(connection, place.connector_id)
        await connection.execute(_BEGIN[connection.dialect.name], columns_of(place) | columns_of(begun))
        return await find(connection, place.connector_id, place.mailbox) or begun

    return await store.write(work)


async def find(connection: AsyncConnection, connector_id: ConnectorId, mailbox: str) -> Cursor | None:
    """Inside a transaction: how far the mailbox has been read, or None when never."""
    wanted = select(CURSORS).where(CURSORS.c.connector_id == connector_id, CURSORS.c.mailbox == mailbox)
    row = (await connection.execute(wanted)).mappings().first()
    return None if row is None else record_of(Cursor, row)


async def note_known(
    connection: AsyncConnection, place: Place, modseq: int | None, compared_at: datetime | None
) -> None:
    """Inside a transaction: what became of the mailbox's messages is known up to there; None leaves that as it is."""
    marks = {name: value for name, value in (("modseq", modseq), ("compared_at", compared_at)) if value is not None}
    if marks:
        await connection.execute(update(CURSORS).where(at_place(CURSORS, place)).values(marks))
