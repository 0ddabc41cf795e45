"""The room's door: errors of SQLAlchemy and the drivers become errors of this program, without any stored value."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import exc

from inboxd.errors import Conflict, StoreError


def _asyncpg_errors() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    try:
        from asyncpg import exceptions  # noqa: PLC0415
    except ModuleNotFoundError:
        return (), ()
    return (exceptions.PostgresError, exceptions.InterfaceError), (exceptions.DataError,)


_DRIVER, _DRIVER_DATA = _asyncpg_errors()
# While a connection is being made, the drivers' own errors come through SQLAlchemy unchanged.
_FOREIGN = (exc.SQLAlchemyError, OSError, sqlite3.Error, *_DRIVER)
# SQLAlchemy puts the class of asyncpg's error before its text.
_CLASS = re.compile(r"^<class '[^']*'>: ")


@contextmanager
def translated() -> Generator[None]:
    """StoreError instead of anything the database or its driver raises; Conflict for a broken unique or foreign key."""
    try:
        yield
    except exc.IntegrityError as error:
        raise Conflict("what the change refers to does not exist any more, or what it adds exists already") from error
    except _FOREIGN as error:
        raise StoreError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    """Only the first line, for PostgreSQL's DETAIL quotes the row; none of it where the first quotes the value."""
    origin = error.orig if isinstance(error, exc.DBAPIError) else error
    unstorable = isinstance(error, exc.StatementError) and not isinstance(error, exc.DBAPIError)
    if unstorable or isinstance(error, exc.DataError) or isinstance(getattr(origin, "__cause__", None), _DRIVER_DATA):
        return "the database cannot hold a value it was given"
    words = str(origin).splitlines() or [type(error).__name__]
    return f"the database failed: {_CLASS.sub('', words[0])}"
