"""The table of what accounts have downloaded. For a change, see schema.py."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table

from inboxd.store.columns import CleanText
from inboxd.store.schema import TABLES

TRAFFIC = Table(
    "traffic",
    TABLES,
    Column("host", CleanText, primary_key=True),
    Column("username", CleanText, primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("received_bytes", BigInteger, nullable=False),
)
