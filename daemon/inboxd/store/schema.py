"""The tables, but for those in schema_*.py. A change here needs a new revision in migrations/; a test compares the two.

Each listed table has `seq`, its row's number in order of arrival and the tie-breaker of every order by time, beside the
`id` the outside sees. Bytes of mails are in tables of their own, so that no list ever reads past them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from inboxd.model import EventStatus, EventType, InboxType, Kind, ProxyKind, SentState, Tls
from inboxd.store.columns import (
    SERIAL,
    Attachments,
    CleanText,
    Mailbox,
    Mailboxes,
    Moment,
    Scopes,
    Span,
    Strings,
    one_of,
)
from inboxd.webhooks import ResultType, WebhookEvent

TABLES = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

INSTALLATION = Table(
    "installation",
    TABLES,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("user_id", Uuid, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("touched_at", Moment),
)

INBOXES = Table(
    "inboxes",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("email_address", CleanText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("name", CleanText),
    Column("description", CleanText),
    Column("favourite", Boolean, nullable=False),
    Column("tags", Strings, nullable=False),
    Column("expires_at", Moment),
    Column("inbox_type", one_of(InboxType), nullable=False),
    Column("virtual", Boolean, nullable=False),
    # In one case of letters: the address, and what a search looks through.
    Column("address_key", CleanText, nullable=False),
    Column("searched", CleanText, nullable=False),
    Index(None, "created_at", "seq"),
    Index(None, "address_key", "seq"),
    # PostgreSQL's other indexes refuse values of more than 2.7 kB.
    Index(None, "name", postgresql_using="hash"),
    Index(None, "expires_at"),
)

# The same tags as in the row of their inbox, to find it by.
INBOX_TAGS = Table(
    "inbox_tags",
    TABLES,
    Column("seq", SERIAL, ForeignKey("inboxes.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("tag", CleanText, primary_key=True),
    Index(None, "tag", "seq"),
)

CONNECTORS = Table(
    "connectors",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("inbox_id", Uuid, ForeignKey("inboxes.id"), nullable=False, index=True),
    Column("name", CleanText),
    Column("email_address", CleanText),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("declared", CleanText),
    Index(None, "created_at", "seq"),
)

CONNECTIONS = Table(
    "connections",
    TABLES,
    Column("id", Uuid, primary_key=True),
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="CASCADE"), nullable=False),
    Column("kind", one_of(Kind), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("host", CleanText, nullable=False),
    Column("port", Integer, nullable=False),
    Column("tls", one_of(Tls), nullable=False),
    Column("username", CleanText),
    Column("sealed_password", LargeBinary),
    Column("mechanisms", Strings, nullable=False),
    Column("local_host_name", CleanText),
    Column("ssl_trust", CleanText),
    Column("ssl_protocols", Strings, nullable=False),
    Column("select_folder", CleanText),
    Column("search_terms", CleanText),
    Column("folders", Strings, nullable=False),
    Column("mirror", Boolean, nullable=False),
    Column("ca_file", CleanText),
    Column("client_certificate", CleanText),
    Column("client_key", CleanText),
    Column("password_source", CleanText),
    Column("proxy_enabled", Boolean, nullable=False),
    Column("proxy_kind", one_of(ProxyKind)),
    Column("proxy_host", CleanText),
    Column("proxy_port", Integer),
    Column("proxy_username", CleanText),
    Column("sealed_proxy_password", LargeBinary),
    UniqueConstraint("connector_id", "kind"),
)

SYNC_SETTINGS = Table(
    "sync_settings",
    TABLES,
    Column("id", Uuid, primary_key=True),
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("enabled", Boolean, nullable=False),
    Column("interval_minutes", Integer),
)

CURSORS = Table(
    "cursors",
    TABLES,
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="CASCADE"), primary_key=True),
    Column("mailbox", CleanText, primary_key=True),
    Column("uidvalidity", BigInteger, nullable=False),
    Column("last_uid", BigInteger, nullable=False),
    Column("backfill_below", BigInteger),
    Column("backfill_epoch", Moment),
    Column("modseq", BigInteger),
    Column("compared_at", Moment),
)

MESSAGES = Table(
    "messages",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("inbox_id", Uuid, ForeignKey("inboxes.id", ondelete="CASCADE"), nullable=False),
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="SET NULL")),
    Column("mailbox", CleanText),
    Column("uidvalidity", BigInteger),
    Column("uid", BigInteger),
    Column("content_hash", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("received_at", Moment),
    Column("read", Boolean, nullable=False),
    Column("favourite", Boolean, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("flags", Strings, nullable=False),
    Column("labels", Strings),
    Column("subject", CleanText),
    Column("sender", Mailbox),
    Column("to", Mailboxes, nullable=False),
    Column("cc", Mailboxes, nullable=False),
    Column("bcc", Mailboxes, nullable=False),
    Column("reply_to", CleanText),
    Column("header_message_id", CleanText),
    Column("in_reply_to", CleanText),
    Column("date", Moment),
    Column("excerpt", CleanText),
    Column("part_types", Strings, nullable=False),
    Column("defect", CleanText),
    Column("vanished_at", Moment),
    UniqueConstraint("connector_id", "mailbox", "uidvalidity", "uid", name="uq_messages_place"),
    Index("ix_messages_content", "connector_id", "mailbox", "content_hash"),
    # In order, and with what lists filter by: they are counted and paged without a look at the rows.
    Index("ix_messages_of_inbox", "inbox_id", "created_at", "seq", "read", "favourite"),
    Index("ix_messages_of_all", "created_at", "seq", "read", "favourite", "inbox_id"),
    sqlite_autoincrement=True,
)
_GONE = MESSAGES.c.vanished_at.is_not(None)
Index(
    "ix_messages_vanished",
    *(MESSAGES.c[name] for name in ("connector_id", "mailbox", "uidvalidity", "uid")),
    sqlite_where=_GONE,
    postgresql_where=_GONE,
)

# What a search looks through, in one case of letters. Its index is made in migrations/, see searching.py.
SEARCHED = Table(
    "searched",
    TABLES,
    Column("seq", SERIAL, ForeignKey("messages.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("text", CleanText, nullable=False),
)

RAW_MESSAGES = Table(
    "raw_messages",
    TABLES,
    Column("seq", SERIAL, ForeignKey("messages.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("raw", LargeBinary, nullable=False),
)

ATTACHMENTS = Table(
    "attachments",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("message_seq", SERIAL, ForeignKey("messages.seq", ondelete="CASCADE")),
    Column("position", Integer, nullable=False),
    Column("inbox_id", Uuid),
    Column("created_at", Moment, nullable=False),
    Column("name", CleanText, nullable=False),
    Column("content_type", CleanText, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("content_id", CleanText),
    Index(None, "message_seq", "position"),
    Index(None, "inbox_id", "created_at", "seq"),
    Index(None, "created_at", "seq"),
)

UPLOADS = Table(
    "uploads",
    TABLES,
    Column("seq", SERIAL, ForeignKey("attachments.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("raw", LargeBinary, nullable=False),
)

TOMBSTONES = Table(
    "tombstones",
    TABLES,
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="CASCADE"), primary_key=True),
    Column("mailbox", CleanText, primary_key=True),
    Column("uidvalidity", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("ix_tombstones_content", "connector_id", "mailbox", "content_hash"),
)

EVENTS = Table(
    "events",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="CASCADE"), nullable=False),
    Column("type", one_of(EventType), nullable=False),
    Column("status", one_of(EventStatus), nullable=False),
    Column("size", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("message", CleanText),
    Column("seen", Boolean, nullable=False),
    Column("logs", CleanText),
    Column("duration", Span),
    Index(None, "connector_id", "created_at", "seq"),
    Index(None, "created_at", "seq"),
)

SENT = Table(
    "sent",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("inbox_id", Uuid, ForeignKey("inboxes.id", ondelete="CASCADE"), nullable=False),
    Column("connector_id", Uuid, ForeignKey("connectors.id", ondelete="SET NULL"), index=True),
    Column("created_at", Moment, nullable=False),
    Column("state", one_of(SentState), nullable=False),
    Column("sender", Mailbox, nullable=False),
    Column("to", Strings, nullable=False),
    Column("cc", Strings, nullable=False),
    Column("bcc", Strings, nullable=False),
    Column("subject", CleanText),
    Column("header_message_id", CleanText, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sent_at", Moment),
    Column("reply_to", CleanText),
    Column("is_html", Boolean, nullable=False),
    Column("attachments", Strings, nullable=False),
    Column("reply", CleanText),
    Column("in_reply_to", CleanText),
    Column("excerpt", CleanText),
    Column("searched", CleanText, nullable=False),
    Column("body", CleanText),
    Index(None, "inbox_id", "created_at", "seq"),
    Index(None, "created_at", "seq"),
    Index(None, "header_message_id", postgresql_using="hash"),
)

RAW_SENT = Table(
    "raw_sent",
    TABLES,
    Column("seq", SERIAL, ForeignKey("sent.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("raw", LargeBinary, nullable=False),
)

API_KEYS = Table(
    "api_keys",
    TABLES,
    Column("id", Text, primary_key=True),
    Column("name", CleanText, nullable=False),
    Column("key_hash", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("last_used_at", Moment),
    Column("revoked_at", Moment),
    Column("scopes", Scopes, nullable=False),
    # No reference: when its inbox goes the key stays, listed, and opens nothing.
    Column("inbox_id", Uuid),
)

WEBHOOKS = Table(
    "webhooks",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("url", CleanText, nullable=False),
    Column("event", one_of(WebhookEvent), nullable=False),
    Column("inbox_id", Uuid, ForeignKey("inboxes.id", ondelete="CASCADE")),
    Column("name", CleanText),
    Column("username", CleanText),
    Column("sealed_password", LargeBinary),
    Column("header_names", Strings, nullable=False),
    Column("sealed_headers", LargeBinary),
    Column("verify_tls", Boolean, nullable=False),
    Column("use_static_ip_range", Boolean, nullable=False),
    Column("tags", Strings, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Index(None, "inbox_id", "created_at", "seq"),
    Index(None, "created_at", "seq"),
)

# What is to be posted outlives the mail it tells of: neither the mail nor its inbox is referred to.
DELIVERIES = Table(
    "deliveries",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("webhook_id", Uuid, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("webhook_name", CleanText),
    Column("event", one_of(WebhookEvent), nullable=False),
    Column("inbox_id", Uuid, nullable=False),
    Column("message_id", Uuid, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("sender", CleanText),
    Column("to", Strings, nullable=False),
    Column("cc", Strings, nullable=False),
    Column("bcc", Strings, nullable=False),
    Column("subject", CleanText),
    Column("attachments", Attachments, nullable=False),
    Index(None, "webhook_id", "due_at", "seq"),
)

RESULTS = Table(
    "results",
    TABLES,
    Column("seq", SERIAL, primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("webhook_id", Uuid, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("delivery_id", Uuid, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("type", one_of(ResultType), nullable=False),
    Column("event", one_of(WebhookEvent), nullable=False),
    Column("url", CleanText, nullable=False),
    Column("status", Integer),
    Column("milliseconds", Integer, nullable=False),
    Column("extract", CleanText, nullable=False),
    Column("inbox_id", Uuid, nullable=False),
    Column("message_id", Uuid, nullable=False),
    Column("attachment_id", Uuid),
    Index(None, "webhook_id", "created_at", "seq"),
    Index(None, "created_at"),
)
