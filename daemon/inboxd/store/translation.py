"""The room's door: errors of SQLAlchemy and the drivers become errors of this program.

Each says which file or server it is about; none holds a stored value or a password.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import URL, exc

from inboxd.errors import Conflict, StoreCorrupt, StoreError

# SQLAlchemy puts the class of asyncpg's error before its text.
_CLASS = re.compile(r"^<class '[^']*'>: ")


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def translated(url: URL) -> Generator[None]:
    """StoreError instead of anything the database at `url` or its driver raises; StoreCorrupt for a file that cannot be
    read as a database, Conflict for a broken unique or foreign key.
    """
    try:
        yield
    except (exc.IntegrityError, sqlite3.IntegrityError) as error:
        raise Conflict("what the change refers to does not exist any more, or what it adds exists already") from error
    except Exception as error:
        if not isinstance(error, _foreign()):
            raise
        raise _store_error(error, _place(url)) from error


def _foreign() -> tuple[type[Exception], ...]:
    """While a connection is being made, the drivers' own errors come through SQLAlchemy unchanged."""
    return (exc.SQLAlchemyError, OSError, sqlite3.Error, *_of_asyncpg("PostgresError", "InterfaceError"))


def _of_asyncpg(*names: str) -> tuple[type[Exception], ...]:
    """asyncpg's errors of these names; none where it was not imported, which only its own database does."""
    asyncpg = sys.modules.get("asyncpg.exceptions")
    return tuple(getattr(asyncpg, name) for name in names) if asyncpg is not None else ()


def _place(url: URL) -> str:
    """The file, or the server's address and port, or its socket folder."""
    if url.get_backend_name() == "sqlite":
        return url.database or "SQLite"
    named = url.query.get("host", "")
    host = url.host or (named if isinstance(named, str) else ",".join(named))
    if host.startswith("/") or not host:
        return f"PostgreSQL on {host or 'its default address'}"
    return f"PostgreSQL on {f'[{host}]' if ':' in host else host}:{url.port or 5432}"


def _store_error(error: Exception, place: str) -> StoreError:
    origin = error.orig if isinstance(error, exc.DBAPIError) else error
    unstorable = isinstance(error, exc.StatementError) and not isinstance(error, exc.DBAPIError)
    if (
        unstorable
        or isinstance(error, exc.DataError)
        or isinstance(getattr(origin, "__cause__", None), _of_asyncpg("DataError"))
    ):
        return StoreError("the database cannot hold a value it was given")
    # The low byte is the primary code (https://www.sqlite.org/rescode.html).
    code = getattr(origin, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED:
        return StoreCorrupt(f"{place}: {_first_line(origin)}; stop inboxd, move the file away and restore a backup")
    if code in _LOCKED:
        return StoreError(f"{place}: the database is locked by another program; end that one")
    return StoreError(f"{place}: the database failed: {_first_line(origin)}")


def _first_line(error: BaseException | None) -> str:
    """Not more, for PostgreSQL's DETAIL quotes the row."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        # Negative numbers are those of getaddrinfo; asyncio puts the address, not the reason, beside the others.
        number = error.errno or 0
        words = os.strerror(number) if number > 0 else error.strerror or str(error)
        return f"cannot be reached: {words.splitlines()[0]}"
    lines = str(error).splitlines() or [type(error).__name__]
    return _CLASS.sub("", lines[0])
