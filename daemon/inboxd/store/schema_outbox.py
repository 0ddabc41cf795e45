"""The outbox's tables, and which of their rows have indexes of their own. For a change, see schema.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Uuid,
    bindparam,
)

from inboxd.errors import SendUnknown
from inboxd.model import SentState
from inboxd.outbox import WAITING, Chore, Delivery
from inboxd.store.columns import SERIAL, CleanText, Moment, Strings, one_of
from inboxd.store.schema import TABLES

# What becomes of a sent mail: those of before this table have no row.
OUTBOX = Table(
    "outbox",
    TABLES,
    Column("seq", SERIAL, ForeignKey("sent.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("id", Uuid, nullable=False, unique=True),
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="SET NULL")),
    Column("route", Uuid, nullable=False),
    Column("state", one_of(SentState), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("owner", CleanText),
    Column("leased_until", Moment),
    Column("kind", CleanText, nullable=False),
    Column("stage", CleanText, nullable=False),
    Column("reply", CleanText),
    Column("host", CleanText, nullable=False),
    Column("sender", CleanText, nullable=False),
    Column("use_fallback", Boolean, nullable=False),
    Column("notify", Strings),
    Column("whole", Boolean, nullable=False),
    Column("answers", Uuid),
    # In order, and with what the list filters by.
    Index("ix_outbox_of_all", "created_at", "seq", "state", "connector_id"),
    Index("ix_outbox_of_connector", "connector_id", "created_at", "seq", "state"),
)

RECIPIENTS = Table(
    "recipients",
    TABLES,
    Column("sent_seq", SERIAL, ForeignKey("outbox.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("address", CleanText, nullable=False),
    Column("state", one_of(Delivery), nullable=False),
    Column("reply", CleanText),
    Column("updated_at", Moment, nullable=False),
)

TRIES = Table(
    "tries",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("sent_seq", SERIAL, ForeignKey("outbox.seq", ondelete="CASCADE"), nullable=False, index=True),
    Column("route", Uuid, nullable=False),
    Column("began_at", Moment, nullable=False),
    Column("ended_at", Moment, nullable=False),
    Column("host", CleanText, nullable=False),
    Column("stage", CleanText, nullable=False),
    Column("kind", CleanText, nullable=False),
    Column("reply", CleanText, nullable=False),
)

CHORES = Table(
    "chores",
    TABLES,
    Column("sent_seq", SERIAL, ForeignKey("outbox.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("chore", one_of(Chore), primary_key=True),
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("reply", CleanText),
    Index("ix_chores_due", "connector_id", "due_at", "sent_seq", "chore"),
)

# A key outlives the mail that was sent under it, so that it never sends a second one.
IDEMPOTENCY = Table(
    "idempotency",
    TABLES,
    Column("key", CleanText, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("sent_id", Uuid, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index(None, "created_at"),
)


def among(column: ColumnElement[Any], values: Iterable[object]) -> ColumnElement[bool]:
    """Whether the column holds one of these, written into the statement, so that an index of such rows is found."""
    ordered = sorted(values, key=str)
    return column.in_(bindparam(None, ordered, type_=column.type, expanding=True, literal_execute=True))


# The outbox's rows by what is to be done with them. Each has indexes that hold no others, however many are settled.
WAITS = among(OUTBOX.c.state, WAITING)
HELD = OUTBOX.c.owner.is_not(None)
UNDONE = among(OUTBOX.c.state, set(SentState) - {SentState.SENT, SentState.CANCELLED})
HANDED_OVER = among(TRIES.c.kind, ["", SendUnknown.__name__])

Index("ix_outbox_waiting", OUTBOX.c.route, OUTBOX.c.due_at, OUTBOX.c.seq, sqlite_where=WAITS, postgresql_where=WAITS)
Index("ix_outbox_expiring", OUTBOX.c.expires_at, sqlite_where=WAITS, postgresql_where=WAITS)
Index("ix_outbox_held", OUTBOX.c.owner, sqlite_where=HELD, postgresql_where=HELD)
Index("ix_outbox_undone", OUTBOX.c.state, OUTBOX.c.created_at, sqlite_where=UNDONE, postgresql_where=UNDONE)
Index("ix_tries_handed_over", TRIES.c.route, TRIES.c.ended_at, sqlite_where=HANDED_OVER, postgresql_where=HANDED_OVER)
