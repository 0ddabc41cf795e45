"""What connectors did: one row a sync or send."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.model import ConnectorId, Event, EventId, EventStatus, EventType, Page, Window, utc_now
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, columns_of, inserts_of, lock_connector, record_of, row_of, rows_in
from inboxd.store.schema import CONNECTORS, EVENTS
from inboxd.store.straight import Straight

_LISTED = [column for column in EVENTS.c if column is not EVENTS.c.logs]
_NAMES = [field.name for field in fields(Event)]


def _newest(new: ColumnElement[timedelta | None]) -> ColumnElement[timedelta | None]:
    """What a row that is there is given for its duration: the new one, if it is known."""
    return func.coalesce(new, EVENTS.c.duration)


_COUNT = Straight(
    inserts_of(
        EVENTS,
        lambda new: new.on_conflict_do_update(
            index_elements=["id"],
            set_={"size": EVENTS.c.size + new.excluded.size, "duration": _newest(new.excluded.duration)},
        ),
    ),
    _NAMES,
)

# Without a new size, and with one.
_ENDS = tuple(
    Straight(
        inserts_of(
            EVENTS,
            lambda new, names=names: new.on_conflict_do_update(
                index_elements=["id"],
                set_={name: new.excluded[name] for name in names} | {"duration": _newest(new.excluded.duration)},
            ),
        ),
        _NAMES,
    )
    for names in (("status", "type", "message", "logs"), ("status", "type", "message", "logs", "size"))
)
_NEW = inserts_of(EVENTS, lambda new: new.on_conflict_do_nothing(index_elements=["id"]))


async def add(store: Store, event: Event) -> None:
    """Keep a whole event; NotFound when its connector is gone."""

    async def work(connection: AsyncConnection) -> None:
        await lock_connector(connection, event.connector_id)
        await connection.execute(EVENTS.insert().values(columns_of(event)))

    await store.write(work)


async def add_soon(store: Store, event: Event) -> None:
    """As `add`, in one transaction with others that wait; an event whose connector is gone is left out."""
    await store.write_together(_insert, event)


async def _insert(connection: AsyncConnection, new: list[Event]) -> None:
    owners = select(CONNECTORS.c.id).where(CONNECTORS.c.id.in_({event.connector_id for event in new}))
    there = set((await connection.execute(owners.order_by(CONNECTORS.c.seq).with_for_update(key_share=True))).scalars())
    rows = [columns_of(event) for event in new if event.connector_id in there]
    if rows:
        await connection.execute(_NEW[connection.dialect.name], rows)


async def finish(
    store: Store,
    event_id: EventId,
    connector_id: ConnectorId,
    status: EventStatus,
    type: EventType,
    *,
    size: int | None = None,
    message: str | None = None,
    logs: str | None = None,
    duration: timedelta | None = None,
) -> None:
    """Set how an event ended, made now if no batch made it before; NotFound when the connector is gone.

    A `size` or `duration` of None keeps what the batches have counted.
    """

    async def work(connection: AsyncConnection) -> None:
        await lock_connector(connection, connector_id)
        event = Event(event_id, connector_id, type, status, size or 0, utc_now(), message, logs, duration=duration)
        await _ENDS[size is not None].rows(connection, columns_of(event))

    await store.write_at_once(work)


async def count(
    connection: AsyncConnection,
    event_id: EventId,
    connector_id: ConnectorId,
    mails: int,
    duration: timedelta | None = None,
) -> None:
    """Inside a transaction: add to a sync's event, made now as a success if it is the first time.

    `duration` is that of the sync so far.
    """
    event = Event(event_id, connector_id, EventType.SYNC, EventStatus.SUCCESS, mails, utc_now(), duration=duration)
    await _COUNT.rows(connection, columns_of(event))


async def get(store: Store, event_id: EventId) -> Event:
    """The event with its logs, or NotFound."""

    async def look(connection: AsyncConnection) -> Event:
        return record_of(Event, await row_of(connection, EVENTS, event_id, "event"))

    return await store.read(look)


async def page(
    store: Store, window: Window, *, connector_id: ConnectorId | None = None, type: EventType | None = None
) -> Page[Event]:
    """One page of events without their logs, of one connector and of one type where given."""
    conditions: list[Condition] = []
    if connector_id is not None:
        conditions.append(EVENTS.c.connector_id == connector_id)
    if type is not None:
        conditions.append(EVENTS.c.type == type)

    async def look(connection: AsyncConnection) -> Page[Event]:
        rows, total = await rows_in(connection, EVENTS, window, conditions, columns=_LISTED)
        return Page(tuple(record_of(Event, row) for row in rows), total)

    return await store.read(look)
