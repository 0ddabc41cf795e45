"""The table of OAuth2 grants. For a change, see schema.py."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, Table, Uuid

from inboxd.consents import Flow
from inboxd.store.columns import CleanText, Moment, Strings, one_of
from inboxd.store.schema import TABLES

# A connector's OAuth2 grant. What is sealed is only ever read and written whole.
GRANTS = Table(
    "grants",
    TABLES,
    Column("id", Uuid, primary_key=True),
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
    Column("provider", CleanText, nullable=False),
    Column("flow", one_of(Flow), nullable=False),
    Column("client_id", CleanText, nullable=False),
    Column("token_url", CleanText, nullable=False),
    Column("authorize_url", CleanText),
    Column("device_url", CleanText),
    Column("identity_url", CleanText),
    Column("scopes", Strings, nullable=False),
    Column("subject", CleanText),
    Column("mailbox", CleanText, nullable=False),
    Column("hosts", Strings, nullable=False),
    Column("sealed_client_secret", LargeBinary),
    Column("sealed_refresh_token", LargeBinary),
    Column("sealed_access_token", LargeBinary, nullable=False),
    Column("obtained_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("refused", CleanText),
    Column("version", Integer, nullable=False),
)
