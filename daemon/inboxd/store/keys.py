"""API keys: only a hash of each is kept."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import NotFound
from inboxd.model import ApiKey, KeyId, utc_now
from inboxd.store.engine import Store
from inboxd.store.rows import columns_of, record_of
from inboxd.store.schema import API_KEYS


async def add(store: Store, key: ApiKey, key_hash: bytes) -> None:
    """Keep a new key."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(API_KEYS.insert().values({**columns_of(key), "key_hash": key_hash}))

    await store.write(work)


async def find(store: Store, key_id: KeyId) -> tuple[ApiKey, bytes] | None:
    """The key, revoked or not, with its hash; None when there is none."""

    async def look(connection: AsyncConnection) -> tuple[ApiKey, bytes] | None:
        row = (await connection.execute(select(API_KEYS).where(API_KEYS.c.id == key_id))).mappings().first()
        return None if row is None else (record_of(ApiKey, row), bytes(row["key_hash"]))

    return await store.read(look)


async def all_keys(store: Store) -> list[ApiKey]:
    """Every key, the revoked ones included, oldest first."""

    async def look(connection: AsyncConnection) -> list[ApiKey]:
        rows = await connection.execute(select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.id))
        return [record_of(ApiKey, row) for row in rows.mappings()]

    return await store.read(look)


async def revoke(store: Store, key_id: KeyId) -> None:
    """Make the key useless from now on, or leave it so; NotFound."""
    moment = func.coalesce(API_KEYS.c.revoked_at, literal(utc_now(), API_KEYS.c.revoked_at.type))

    async def work(connection: AsyncConnection) -> None:
        revoked = update(API_KEYS).where(API_KEYS.c.id == key_id).values(revoked_at=moment)
        if (await connection.execute(revoked)).rowcount == 0:
            raise NotFound(f"there is no API key {key_id}")

    await store.write(work)


async def touch(store: Store, key_id: KeyId, moment: datetime) -> None:
    """Note when the key was last used; nothing happens when it is gone."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(update(API_KEYS).where(API_KEYS.c.id == key_id).values(last_used_at=moment))

    await store.write(work)


async def any_active(store: Store) -> bool:
    """Whether some key is not revoked."""

    async def look(connection: AsyncConnection) -> bool:
        active = select(API_KEYS.c.id).where(API_KEYS.c.revoked_at.is_(None)).limit(1)
        return (await connection.execute(active)).first() is not None

    return await store.read(look)
