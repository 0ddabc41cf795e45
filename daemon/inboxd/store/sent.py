"""Mails that were handed to an SMTP server, whatever it made of them."""

from __future__ import annotations

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.mails import Sent
from inboxd.model import InboxId, Page, SentId, Window
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, columns_of, record_of, row_of, rows_in
from inboxd.store.schema import CONNECTORS, RAW_SENT, SENT

_SEARCHED_CHARACTERS = 8000
_LISTED = [column for column in SENT.c if column.name not in ("body", "searched")]


async def add(store: Store, sent: Sent, raw: bytes) -> None:
    """Keep a sent mail with its bytes; a connector removed in the meantime is left out of the row."""

    async def work(connection: AsyncConnection) -> None:
        connector = select(CONNECTORS.c.id).where(CONNECTORS.c.id == sent.connector_id).scalar_subquery()
        row = {**columns_of(sent), "connector_id": connector, "searched": _searched(sent)}
        seq = (await connection.execute(SENT.insert().values(row).returning(SENT.c.seq))).scalar_one()
        await connection.execute(RAW_SENT.insert().values(seq=seq, raw=raw))

    await store.write(work)


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
    """Delete the sent mail here, or NotFound."""

    async def work(connection: AsyncConnection) -> None:
        if (await connection.execute(delete(SENT).where(SENT.c.id == sent_id))).rowcount == 0:
            raise NotFound(f"there is no sent mail {sent_id}")

    await store.write(work)


async def remove_all(store: Store) -> int:
    """Delete every sent mail here; how many there were."""

    async def work(connection: AsyncConnection) -> int:
        return (await connection.execute(delete(SENT))).rowcount

    return await store.write(work)


def _conditions(inbox_id: InboxId | None, search: str | None = None) -> list[Condition]:
    conditions: list[Condition] = []
    if inbox_id is not None:
        conditions.append(SENT.c.inbox_id == inbox_id)
    if search:
        conditions.append(SENT.c.searched.contains(search.casefold(), autoescape=True))
    return conditions
