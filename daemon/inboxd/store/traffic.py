"""What accounts have downloaded, kept for as long as their providers count it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.store.engine import Store
from inboxd.store.rows import inserts_of
from inboxd.store.schema_traffic import TRAFFIC

Hours = Mapping[int, int]
_ADD = inserts_of(
    TRAFFIC,
    lambda new: new.on_conflict_do_update(
        index_elements=["host", "username", "hour"],
        set_={"received_bytes": TRAFFIC.c.received_bytes + new.excluded.received_bytes},
    ),
)


async def add(store: Store, received: Mapping[tuple[str, str], Hours], oldest_hour: int) -> None:
    """Add these bytes, of accounts by host and user name, and forget what was before that hour."""
    rows = [
        {"host": host, "username": username, "hour": hour, "received_bytes": count}
        for (host, username), hours in received.items()
        for hour, count in hours.items()
    ]

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(delete(TRAFFIC).where(TRAFFIC.c.hour < oldest_hour))
        await connection.execute(_ADD[connection.dialect.name], rows)

    if rows:
        await store.write(work)


async def since(store: Store, oldest_hour: int) -> dict[tuple[str, str], dict[int, int]]:
    """What was added since that hour, of each account."""

    async def work(connection: AsyncConnection) -> dict[tuple[str, str], dict[int, int]]:
        found: dict[tuple[str, str], dict[int, int]] = {}
        for row in await connection.execute(select(TRAFFIC).where(TRAFFIC.c.hour >= oldest_hour)):
            found.setdefault((row.host, row.username), {})[row.hour] = row.received_bytes
        return found

    return await store.read(work)
