"""What every table's module needs: records to rows and back, windows of lists, inserts that meet an existing row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, Select, Table, and_, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.model import ConnectorId, Page, Window
from inboxd.store.schema import CONNECTORS
from inboxd.store.straight import Straight

T = TypeVar("T")

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    R = TypeVar("R", bound=DataclassInstance)

Condition = ColumnElement[bool]
# Their types have no parent that knows of conflicts, but the same methods.
Insert = sqlite.Insert | postgresql.Insert
_HELD = Straight(
    select(CONNECTORS.c.seq).where(CONNECTORS.c.id == bindparam("held")).with_for_update(key_share=True), ["held"]
)
_INSERTS: dict[str, Callable[[Table], Insert]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def columns_of(record: DataclassInstance) -> dict[str, Any]:
    """A record as column values: its fields are the table's columns, by name."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def record_of(kind: type[R], row: RowMapping) -> R:
    """A row as a record; fields that were not selected keep their default."""
    return kind(**{field.name: row[field.name] for field in fields(kind) if field.name in row})


def at_place(table: Table, place: DataclassInstance) -> Condition:
    """The table's rows of that place."""
    return and_(*(table.c[name] == value for name, value in columns_of(place).items()))


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """At most so many of them at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def inserts_of(table: Table, finish: Callable[[Insert], T]) -> dict[str, T]:
    """Inserts that know what to do when the row exists, by the name of the dialect that each is for."""
    return {name: finish(insert(table)) for name, insert in _INSERTS.items()}


def in_span(table: Table, window: Window) -> list[Condition]:
    """The window's time span: from `since` on, up to but not including `before`."""
    conditions: list[Condition] = []
    if window.since is not None:
        conditions.append(table.c.created_at >= window.since)
    if window.before is not None:
        conditions.append(table.c.created_at < window.before)
    return conditions


def in_order(table: Table, window: Window) -> list[ColumnElement[Any]]:
    """By creation, then by arrival: an order without ties, so that pages neither repeat nor miss a row."""
    if window.ascending:
        return [table.c.created_at.asc(), table.c.seq.asc()]
    return [table.c.created_at.desc(), table.c.seq.desc()]


async def rows_in(
    connection: AsyncConnection,
    table: Table,
    window: Window,
    conditions: Sequence[Condition] = (),
    *,
    columns: Sequence[ColumnElement[Any]] = (),
) -> tuple[Sequence[RowMapping], int]:
    """The window's rows (all columns, or the given ones) and how many there are on all its pages.

    An index that holds the order and the conditions answers both the count and which rows are on the page.
    """
    where = [*conditions, *in_span(table, window)]
    total = (await connection.execute(select(func.count()).select_from(table).where(*where))).scalar_one()
    seqs = (await connection.execute(paged(select(table.c.seq).where(*where), table, window, total))).scalars().all()
    return await rows_at(connection, table, window, seqs, columns=columns), total


async def rows_at(
    connection: AsyncConnection,
    table: Table,
    window: Window,
    seqs: Sequence[int],
    *,
    columns: Sequence[ColumnElement[Any]] = (),
) -> Sequence[RowMapping]:
    """The rows with these numbers in the window's order, all columns or the given ones."""
    if not seqs:
        return []
    wanted = select(*(columns or table.c)).where(table.c.seq.in_(seqs)).order_by(*in_order(table, window))
    return (await connection.execute(wanted)).mappings().all()


def paged(wanted: Select[Any], table: Table, window: Window, total: int) -> Select[Any]:
    """The window's page of what is wanted, reached from the nearer end."""
    offset = min(window.page * window.size, total)
    size = min(window.size, total - offset)
    if offset > total // 2:
        window = replace(window, ascending=not window.ascending)
        offset = total - offset - size
    return wanted.order_by(*in_order(table, window)).limit(size).offset(offset)


async def page_in(
    connection: AsyncConnection, table: Table, kind: type[R], window: Window, conditions: Sequence[Condition] = ()
) -> Page[R]:
    """The window's rows as records."""
    rows, total = await rows_in(connection, table, window, conditions)
    return Page(tuple(record_of(kind, row) for row in rows), total)


def first_due(table: Table, key: ColumnElement[Any], *where: Condition) -> Select[Any, Any]:
    """Each `key` of the table's rows and the first `due_at` among its own, in a few seeks each.

    Grouping would read all rows. It takes an index that begins with the key and `due_at`.
    """
    least = select(key).where(*where).order_by(key).limit(1)
    keys = select(least.scalar_subquery().label("key")).cte("keys", recursive=True)
    beyond = least.where(key > keys.c.key).scalar_subquery()
    keys = keys.union_all(select(beyond).where(keys.c.key.is_not(None)))
    first = select(table.c.due_at).where(*where, key == keys.c.key).order_by(table.c.due_at).limit(1)
    return select(keys.c.key, first.scalar_subquery().label("due_at")).where(keys.c.key.is_not(None))


async def row_of(connection: AsyncConnection, table: Table, id: UUID | str, what: str) -> RowMapping:
    """The row with this id, or NotFound, which says `what` it would have been."""
    row = (await connection.execute(select(table).where(table.c.id == id))).mappings().first()
    if row is None:
        raise NotFound(f"there is no {what} {id}")
    return row


async def lock_connector(connection: AsyncConnection, connector_id: ConnectorId) -> None:
    """Hold the connector against removal, and its other writers off, until the transaction ends; NotFound if gone."""
    if not await _HELD.rows(connection, {"held": connector_id}):
        raise NotFound(f"there is no connector {connector_id}")
