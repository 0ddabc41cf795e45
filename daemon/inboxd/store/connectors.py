"""Connectors with what belongs to them: the connections of both kinds and the sync settings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from sqlalchemy import Table, and_, case, delete, func, select
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.model import Connection, Connector, ConnectorId, Inbox, InboxId, Kind, Page, SyncSettings, Window
from inboxd.store import inboxes
from inboxd.store.engine import Store
from inboxd.store.rows import Condition, columns_of, lock_connector, page_in, record_of, row_of
from inboxd.store.schema import CONNECTIONS, CONNECTORS, SYNC_SETTINGS
from inboxd.store.schema_grants import GRANTS

_ROWS_AT_ONCE = 200
_IMAP = and_(
    CONNECTIONS.c.connector_id == CONNECTORS.c.id, CONNECTIONS.c.kind == Kind.IMAP, CONNECTIONS.c.enabled.is_(True)
)
_GRANT = select(GRANTS.c.id).where(GRANTS.c.connector_id == CONNECTIONS.c.connector_id).scalar_subquery()
_CONNECTION = select(CONNECTIONS, _GRANT.label("grant_id"))


@final
@dataclass(frozen=True, slots=True)
class Synced:
    """A connector that syncs by itself, with what its supervisor needs."""

    connector: Connector
    connection: Connection
    interval: SyncSettings


@final
@dataclass(frozen=True, slots=True)
class Whole:
    """A connector with all that says how it is to work."""

    connector: Connector
    connections: tuple[Connection, ...] = ()
    sync: SyncSettings | None = None

    def connection(self, kind: Kind) -> Connection | None:
        """Its connection of that kind."""
        return next((one for one in self.connections if one.kind is kind), None)


async def add(
    store: Store,
    connector: Connector,
    *,
    inbox: Inbox | None = None,
    connections: Sequence[Connection] = (),
    sync: SyncSettings | None = None,
) -> None:
    """Keep a new connector with all that is given, its new inbox included; NotFound when its inbox does not exist.

    An inbox that would have expired no longer does.
    """

    async def work(connection: AsyncConnection) -> None:
        if inbox is not None:
            await inboxes.insert(connection, inbox)
        await inboxes.claim(connection, connector.inbox_id)
        await connection.execute(CONNECTORS.insert().values(columns_of(connector)))
        if connections:
            await connection.execute(CONNECTIONS.insert(), [_columns(one) for one in connections])
        if sync is not None:
            await connection.execute(SYNC_SETTINGS.insert().values(columns_of(sync)))

    await store.write(work)


async def get(store: Store, connector_id: ConnectorId) -> Connector:
    """The connector, or NotFound."""

    async def look(connection: AsyncConnection) -> Connector:
        return record_of(Connector, await row_of(connection, CONNECTORS, connector_id, "connector"))

    return await store.read(look)


async def find(
    store: Store, *, name: str | None = None, inbox_id: InboxId | None = None, email_address: str | None = None
) -> Connector | None:
    """The oldest connector that has all that is given (the address in any case of its letters); None without a hit."""
    conditions: list[Condition] = []
    if name is not None:
        conditions.append(CONNECTORS.c.name == name)
    if inbox_id is not None:
        conditions.append(CONNECTORS.c.inbox_id == inbox_id)
    if email_address is not None:
        conditions.append(func.lower(CONNECTORS.c.email_address) == email_address.lower())

    async def look(connection: AsyncConnection) -> Connector | None:
        wanted = select(CONNECTORS).where(*conditions).order_by(CONNECTORS.c.seq).limit(1)
        row = (await connection.execute(wanted)).mappings().first()
        return None if row is None else record_of(Connector, row)

    return await store.read(look) if conditions else None


async def page(store: Store, window: Window, inbox_id: InboxId | None = None) -> Page[Connector]:
    """One page of all connectors, or of those of an inbox."""
    conditions = [] if inbox_id is None else [CONNECTORS.c.inbox_id == inbox_id]

    async def look(connection: AsyncConnection) -> Page[Connector]:
        return await page_in(connection, CONNECTORS, Connector, window, conditions)

    return await store.read(look)


async def every(store: Store) -> AsyncIterator[Connector]:
    """All connectors, oldest first."""
    window = Window(size=_ROWS_AT_ONCE)
    while rows := (await page(store, window)).rows:
        for connector in rows:
            yield connector
        window = replace(window, page=window.page + 1)


async def sending(
    store: Store,
    *,
    inbox_id: InboxId | None = None,
    address: str | None = None,
    likely: ConnectorId | None = None,
    most: int = 2,
) -> list[Connector]:
    """The connectors that can send, of one inbox where given: enabled, with SMTP enabled as well. At most `most`.

    First comes the one with that mail address (in any case of its letters), then `likely`, then the oldest.
    """
    smtp = and_(
        CONNECTIONS.c.connector_id == CONNECTORS.c.id, CONNECTIONS.c.kind == Kind.SMTP, CONNECTIONS.c.enabled.is_(True)
    )
    wanted = select(CONNECTORS).join(CONNECTIONS, smtp).where(CONNECTORS.c.enabled.is_(True))
    if inbox_id is not None:
        wanted = wanted.where(CONNECTORS.c.inbox_id == inbox_id)
    if address is not None:
        wanted = wanted.order_by(case((func.lower(CONNECTORS.c.email_address) == address.lower(), 0), else_=1))
    if likely is not None:
        wanted = wanted.order_by(case((CONNECTORS.c.id == likely, 0), else_=1))

    async def look(connection: AsyncConnection) -> list[Connector]:
        rows = await connection.execute(wanted.order_by(CONNECTORS.c.seq).limit(most))
        return [record_of(Connector, row) for row in rows.mappings()]

    return await store.read(look)


async def update(store: Store, connector: Connector) -> None:
    """Replace the connector's row; NotFound when it, or the inbox it names, does not exist."""

    async def work(connection: AsyncConnection) -> None:
        await inboxes.claim(connection, connector.inbox_id)
        changed = update_of(CONNECTORS).where(CONNECTORS.c.id == connector.id).values(columns_of(connector))
        if (await connection.execute(changed)).rowcount == 0:
            raise NotFound(f"there is no connector {connector.id}")

    await store.write(work)


async def remove(store: Store, connector_id: ConnectorId) -> None:
    """Delete the connector, its connections, grant, settings, cursors, tombstones and events; NotFound.

    Its inbox, messages and sent mails stay, and no longer name a connector.
    """

    async def work(connection: AsyncConnection) -> None:
        gone = delete(CONNECTORS).where(CONNECTORS.c.id == connector_id)
        if (await connection.execute(gone)).rowcount == 0:
            raise NotFound(f"there is no connector {connector_id}")

    await store.write(work)


async def remove_all(store: Store) -> list[ConnectorId]:
    """Delete every connector as `remove` does; their ids."""

    async def work(connection: AsyncConnection) -> list[ConnectorId]:
        return list((await connection.execute(delete(CONNECTORS).returning(CONNECTORS.c.id))).scalars())

    return await store.write(work)


async def connection(store: Store, connector_id: ConnectorId, kind: Kind) -> Connection | None:
    """The connector's connection of this kind, or None."""

    async def look(connection: AsyncConnection) -> Connection | None:
        row = (await connection.execute(_CONNECTION.where(_which(connector_id, kind)))).mappings().first()
        return None if row is None else record_of(Connection, row)

    return await store.read(look)


async def put_connection(store: Store, new: Connection) -> None:
    """Make this the connector's connection of its kind, in place of another; NotFound without the connector."""

    async def work(connection: AsyncConnection) -> None:
        await lock_connector(connection, new.connector_id)
        await connection.execute(delete(CONNECTIONS).where(_which(new.connector_id, new.kind)))
        await connection.execute(CONNECTIONS.insert().values(_columns(new)))

    await store.write(work)


async def remove_connection(store: Store, connector_id: ConnectorId, kind: Kind) -> None:
    """Delete the connector's connection of this kind; NotFound when it has none."""
    gone = f"connector {connector_id} has no {kind.value.upper()} connection"
    await _remove(store, CONNECTIONS, _which(connector_id, kind), gone)


async def sync_settings(store: Store, connector_id: ConnectorId) -> SyncSettings | None:
    """The connector's sync settings, or None."""

    async def look(connection: AsyncConnection) -> SyncSettings | None:
        wanted = select(SYNC_SETTINGS).where(SYNC_SETTINGS.c.connector_id == connector_id)
        row = (await connection.execute(wanted)).mappings().first()
        return None if row is None else record_of(SyncSettings, row)

    return await store.read(look)


async def put_sync_settings(store: Store, new: SyncSettings) -> None:
    """Make these the connector's sync settings, in place of others; NotFound without the connector."""

    async def work(connection: AsyncConnection) -> None:
        await lock_connector(connection, new.connector_id)
        await connection.execute(delete(SYNC_SETTINGS).where(SYNC_SETTINGS.c.connector_id == new.connector_id))
        await connection.execute(SYNC_SETTINGS.insert().values(columns_of(new)))

    await store.write(work)


async def remove_sync_settings(store: Store, connector_id: ConnectorId) -> None:
    """Delete the connector's sync settings; NotFound when it has none."""
    gone = f"connector {connector_id} has no sync settings"
    await _remove(store, SYNC_SETTINGS, SYNC_SETTINGS.c.connector_id == connector_id, gone)


async def readable(store: Store, inbox_ids: Collection[InboxId] = ()) -> list[ConnectorId]:
    """The connectors that can be synced, of these inboxes where given, oldest first: enabled, with IMAP enabled."""
    wanted = select(CONNECTORS.c.id).join(CONNECTIONS, _IMAP).where(CONNECTORS.c.enabled.is_(True))
    if inbox_ids:
        wanted = wanted.where(CONNECTORS.c.inbox_id.in_(inbox_ids))

    async def look(connection: AsyncConnection) -> list[ConnectorId]:
        return list((await connection.execute(wanted.order_by(CONNECTORS.c.seq))).scalars())

    return await store.read(look)


async def synced(store: Store) -> list[Synced]:
    """The connectors that sync by themselves (enabled, with IMAP and sync settings enabled), whole, oldest first.

    Three queries however many they are.
    """
    sync = and_(SYNC_SETTINGS.c.connector_id == CONNECTORS.c.id, SYNC_SETTINGS.c.enabled.is_(True))
    chosen = select(CONNECTORS.c.id).join(CONNECTIONS, _IMAP).join(SYNC_SETTINGS, sync)
    chosen = chosen.where(CONNECTORS.c.enabled.is_(True))

    async def look(connection: AsyncConnection) -> list[Synced]:
        rows = await connection.execute(
            select(CONNECTORS).where(CONNECTORS.c.id.in_(chosen)).order_by(CONNECTORS.c.seq)
        )
        owners = [record_of(Connector, row) for row in rows.mappings()]
        imap = _CONNECTION.where(CONNECTIONS.c.kind == Kind.IMAP, CONNECTIONS.c.connector_id.in_(chosen))
        ways = [record_of(Connection, row) for row in (await connection.execute(imap)).mappings()]
        wanted = select(SYNC_SETTINGS).where(SYNC_SETTINGS.c.connector_id.in_(chosen))
        intervals = [record_of(SyncSettings, row) for row in (await connection.execute(wanted)).mappings()]
        way_of = {one.connector_id: one for one in ways}
        interval_of = {one.connector_id: one for one in intervals}
        return [Synced(one, way_of[one.id], interval_of[one.id]) for one in owners]

    return await store.read(look)


async def declared(store: Store) -> list[Whole]:
    """The connectors that files have declared, whole, oldest first."""
    owned = CONNECTORS.c.declared.is_not(None)
    ids = select(CONNECTORS.c.id).where(owned)

    async def look(connection: AsyncConnection) -> list[Whole]:
        rows = await connection.execute(select(CONNECTORS).where(owned).order_by(CONNECTORS.c.seq))
        owners = [record_of(Connector, row) for row in rows.mappings()]
        wanted = select(CONNECTIONS).where(CONNECTIONS.c.connector_id.in_(ids)).order_by(CONNECTIONS.c.kind)
        ways = [record_of(Connection, row) for row in (await connection.execute(wanted)).mappings()]
        settings = select(SYNC_SETTINGS).where(SYNC_SETTINGS.c.connector_id.in_(ids))
        syncs = [record_of(SyncSettings, row) for row in (await connection.execute(settings)).mappings()]
        ways_of: defaultdict[ConnectorId, list[Connection]] = defaultdict(list)
        for way in ways:
            ways_of[way.connector_id].append(way)
        sync_of = {one.connector_id: one for one in syncs}
        return [Whole(one, tuple(ways_of[one.id]), sync_of.get(one.id)) for one in owners]

    return await store.read(look)


async def undeclared_names(store: Store) -> set[str]:
    """The names of the connectors that no file has declared."""
    wanted = select(CONNECTORS.c.name).where(CONNECTORS.c.declared.is_(None), CONNECTORS.c.name.is_not(None))

    async def look(connection: AsyncConnection) -> set[str]:
        return set((await connection.execute(wanted)).scalars())

    return await store.read(look)


async def put_whole(store: Store, whole: Whole) -> None:
    """Replace the connector's row, connections and sync settings, in one transaction; NotFound when it is gone."""
    connector = whole.connector

    async def work(connection: AsyncConnection) -> None:
        await lock_connector(connection, connector.id)
        values = columns_of(connector)
        await connection.execute(update_of(CONNECTORS).where(CONNECTORS.c.id == connector.id).values(values))
        await connection.execute(delete(CONNECTIONS).where(CONNECTIONS.c.connector_id == connector.id))
        await connection.execute(delete(SYNC_SETTINGS).where(SYNC_SETTINGS.c.connector_id == connector.id))
        if whole.connections:
            await connection.execute(CONNECTIONS.insert(), [columns_of(one) for one in whole.connections])
        if whole.sync is not None:
            await connection.execute(SYNC_SETTINGS.insert().values(columns_of(whole.sync)))

    await store.write(work)


def _columns(connection: Connection) -> dict[str, Any]:
    columns = columns_of(connection)
    del columns["grant_id"]
    return columns


def _which(connector_id: ConnectorId, kind: Kind) -> Condition:
    return and_(CONNECTIONS.c.connector_id == connector_id, CONNECTIONS.c.kind == kind)


async def _remove(store: Store, table: Table, condition: Condition, gone: str) -> None:
    async def work(connection: AsyncConnection) -> None:
        if (await connection.execute(delete(table).where(condition))).rowcount == 0:
            raise NotFound(gone)

    await store.write(work)
