"""Mails that were handed to an SMTP server, whatever it made of them, or are going to be."""

from __future__ import annotations

from dataclasses import fields

from sqlalchemy import bindparam, delete, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import Conflict, NotFound
from inboxd.mails import Sent
from inboxd.model import ConnectorId, InboxId, Page, SentId, SentState, Window
from inboxd.outbox import WAITING
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, columns_of, record_of, row_of, rows_in
from inboxd.store.schema import CONNECTORS, RAW_SENT, SENT
from inboxd.store.schema_outbox import OUTBOX

_SEARCHED_CHARACTERS = 8000
_REMOVED_AT_ONCE = 1000
_COLUMNS = [field.name for field in fields(Sent) if field.name != "connector_id"]
_LISTED = [column for column in SENT.c if column.name not in ("body", "searched")]


_STAYS = (*WAITING, SentState.SENDING)
_OVER = ~exists().where(OUTBOX.c.seq == SENT.c.seq, OUTBOX.c.state.in_(_STAYS)).correlate(SENT)
_REMOVABLE = (
    select(SENT.c.seq)
    .where(SENT.c.seq > bindparam("above"), _OVER)
    .order_by(SENT.c.seq)
    .limit(_REMOVED_AT_ONCE)
    .with_for_update()
)
_CONNECTOR = select(CONNECTORS.c.id).where(CONNECTORS.c.id == bindparam("of_connector")).scalar_subquery()
_ADD = (
    SENT.insert()
    .values(
        {**{name: bindparam(name) for name in _COLUMNS}, "connector_id": _CONNECTOR, "searched": bindparam("searched")}
    )
    .returning(SENT.c.seq, SENT.c.connector_id)
)


async def add(store: Store, sent: Sent, raw: bytes) -> None:
    """Keep a sent mail with its bytes; a connector removed in the meantime is left out of the row."""

    async def work(connection: AsyncConnection) -> None:
        await insert(connection, sent, sent.state, raw)

    await store.write(work)


async def insert(
    connection: AsyncConnection, sent: Sent, state: SentState, raw: bytes
) -> tuple[int, ConnectorId | None]:
    """Inside a transaction, what `add` does, with this state; the mail's number and its connector, if it is there."""
    row = columns_of(sent)
    values = {**row, "of_connector": row.pop("connector_id"), "state": state, "searched": _searched(sent)}
    seq, connector_id = (await connection.execute(_ADD, values)).one()
    await connection.execute(RAW_SENT.insert(), {"seq": seq, "raw": raw})
    return seq, connector_id


def _searched(sent: Sent) -> str:
    """What a search looks through, in one case of letters, which neither database can do beyond ASCII."""
    people = (sent.sender.name or "", sent.sender.address, *sent.to, *sent.cc, *sent.bcc)
    return "\n".join((str(sent.id), sent.subject or "", *people))[:_SEARCHED_CHARACTERS].casefold()


async def get(store: Store, sent_id: SentId) -> Sent:
    """The sent mail, or NotFound."""

    async def look(connection: AsyncConnection) -> Sent:
        return record_of(Sent, await row_of(connection, SENT, sent_id, "sent mail"))

    return await store.read(look)


async def raw(store: Store, sent_id: SentId) -> bytes:
    """The sent mail's bytes as they went to the server, or NotFound."""

    async def look(connection: AsyncConnection) -> bytes:
        content = (
            await connection.execute(
                select(RAW_SENT.c.raw).join(SENT, SENT.c.seq == RAW_SENT.c.seq).where(SENT.c.id == sent_id)
            )
        ).scalar()
        if content is None:
            raise NotFound(f"there is no sent mail {sent_id}")
        return content

    return await store.read(look)


async def page(
    store: Store, window: Window, *, inbox_id: InboxId | None = None, search: str | None = None
) -> Page[Sent]:
    """One page of sent mails without their bodies: of one inbox, and with `search` in recipients, sender, subject or
    id, where given.
    """

    async def look(connection: AsyncConnection) -> Page[Sent]:
        rows, total = await rows_in(connection, SENT, window, _conditions(inbox_id, search), columns=_LISTED)
        return Page(tuple(record_of(Sent, row) for row in rows), total)

    return await store.read(look)


async def count(store: Store, inbox_id: InboxId) -> int:
    """How many mails were sent from the inbox."""

    async def look(connection: AsyncConnection) -> int:
        wanted = select(func.count()).select_from(SENT).where(*_conditions(inbox_id))
        return (await connection.execute(wanted)).scalar_one()

    return await store.read(look)


async def remove(store: Store, sent_id: SentId) -> None:
    """Delete the sent mail here; NotFound; Conflict while it is still to be sent, or being sent."""
    this = SENT.c.id == sent_id

    async def work(connection: AsyncConnection) -> None:
        if (await connection.execute(delete(SENT).where(this, _OVER))).rowcount:
            return
        if (await connection.execute(select(SENT.c.seq).where(this))).first() is None:
            raise NotFound(f"there is no sent mail {sent_id}")
        raise Conflict(f"mail {sent_id} is still to be sent; first give it up: inboxctl outbox cancel {sent_id}")

    await store.write(work)


async def remove_all(store: Store) -> int:
    """Delete every sent mail here, but those that are still to be sent, or being sent; how many there were.

    A slice a transaction: what it raises from may have deleted some.
    """
    last, total = 0, 0

    async def work(connection: AsyncConnection) -> tuple[int, int]:
        seqs = (await connection.execute(_REMOVABLE, {"above": last})).scalars().all()
        gone = await connection.execute(delete(SENT).where(SENT.c.seq.in_(seqs)))
        return (seqs[-1] if seqs else 0), gone.rowcount

    while (removed := await store.write(work))[0]:
        last, total = removed[0], total + removed[1]
    return total


def _conditions(inbox_id: InboxId | None, search: str | None = None) -> list[Condition]:
    conditions: list[Condition] = []
    if inbox_id is not None:
        conditions.append(SENT.c.inbox_id == inbox_id)
    if search:
        conditions.append(SENT.c.searched.contains(search.casefold(), autoescape=True))
    return conditions
