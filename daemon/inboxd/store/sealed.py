"""Every column that holds ciphertext, and how all of it is sealed anew. The keys are not here (see vault)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Column, LargeBinary, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from inboxd.errors import SecretUnreadable
from inboxd.store.engine import Store
from inboxd.store.schema import CONNECTIONS, WEBHOOKS
from inboxd.store.schema_grants import GRANTS

# The place each value is sealed at, by the `id` of its row; whoever seals has it as well.
SEALED: Final[tuple[tuple[Column[Any], str], ...]] = (
    (CONNECTIONS.c.sealed_password, "connection/{}/password"),
    (CONNECTIONS.c.sealed_proxy_password, "connection/{}/proxy_password"),
    (GRANTS.c.sealed_client_secret, "grant/{}/client_secret"),
    (GRANTS.c.sealed_refresh_token, "grant/{}/refresh_token"),
    (GRANTS.c.sealed_access_token, "grant/{}/access_token"),
    (WEBHOOKS.c.sealed_password, "webhook/{}/password"),
    (WEBHOOKS.c.sealed_headers, "webhook/{}/headers"),
)


async def reseal(store: Store, mark: bytes, fresh: Callable[[bytes, str], bytes]) -> tuple[int, tuple[str, ...]]:
    """Put `fresh(value, place)` for each value that does not begin with `mark`, in one transaction.

    How many those were, and the places of those that raised SecretUnreadable, which stay as they are.
    """

    async def work(connection: AsyncConnection) -> tuple[int, tuple[str, ...]]:
        done, unreadable = 0, list[str]()
        for column, template in SEALED:
            for row_id, sealed in await _others(connection, column, mark):
                place = template.format(row_id)
                try:
                    value = fresh(sealed, place)
                except SecretUnreadable:
                    unreadable.append(place)
                else:
                    done += await _put(connection, column, row_id, sealed, value)
        return done, tuple(unreadable)

    return await store.write(work)


async def _others(connection: AsyncConnection, column: Column[Any], mark: bytes) -> list[tuple[Any, bytes]]:
    begins = func.substr(column, 1, len(mark), type_=LargeBinary)
    found = await connection.execute(select(column.table.c.id, column).where(column.is_not(None), begins != mark))
    return [(row_id, bytes(sealed)) for row_id, sealed in found]


async def _put(connection: AsyncConnection, column: Column[Any], row_id: Any, sealed: bytes, value: bytes) -> int:
    """Nothing happens when another program has put something else there meanwhile."""
    same = update(column.table).where(column.table.c.id == row_id, column == sealed)
    return (await connection.execute(same.values({column.name: value}))).rowcount
