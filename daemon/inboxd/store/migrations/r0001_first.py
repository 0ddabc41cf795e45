"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

from inboxd import logs

revision = "0001"
down_revision = None

_log = logs.logger("store")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    _keep_installation()
    _keep_inboxes()
    _keep_connectors()
    _keep_accounts()
    _keep_messages()
    _keep_searched()
    _keep_parts()
    _keep_places()
    _keep_events()
    _keep_sent()


def downgrade() -> None:
    """There is nothing before."""
    raise NotImplementedError("restore a backup instead")


def _keep_installation() -> None:
    op.create_table(
        "installation",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_installation"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger()),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )


def _keep_inboxes() -> None:
    op.create_table(
        "inboxes",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email_address", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("description", sa.Text()),
        sa.Column("favourite", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("inbox_type", sa.String(32), nullable=False),
        sa.Column("virtual", sa.Boolean(), nullable=False),
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("searched", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_inboxes"),
        sa.UniqueConstraint("id", name="uq_inboxes_id"),
    )
    op.create_index("ix_inboxes_address_key_seq", "inboxes", ["address_key", "seq"])
    op.create_index("ix_inboxes_created_at_seq", "inboxes", ["created_at", "seq"])
    op.create_index("ix_inboxes_expires_at", "inboxes", ["expires_at"])
    op.create_index("ix_inboxes_name", "inboxes", ["name"], postgresql_using="hash")
    op.create_table(
        "inbox_tags",
        sa.Column("seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["inboxes.seq"], name="fk_inbox_tags_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", "tag", name="pk_inbox_tags"),
    )
    op.create_index("ix_inbox_tags_tag_seq", "inbox_tags", ["tag", "seq"])


def _keep_connectors() -> None:
    op.create_table(
        "connectors",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("inbox_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("email_address", sa.Text()),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["inbox_id"], ["inboxes.id"], name="fk_connectors_inbox_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_connectors"),
        sa.UniqueConstraint("id", name="uq_connectors_id"),
    )
    op.create_index("ix_connectors_created_at_seq", "connectors", ["created_at", "seq"])
    op.create_index("ix_connectors_inbox_id", "connectors", ["inbox_id"])


def _keep_accounts() -> None:
    op.create_table(
        "connections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connector_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("tls", sa.String(32), nullable=False),
        sa.Column("username", sa.Text()),
        sa.Column("sealed_password", sa.LargeBinary()),
        sa.Column("mechanisms", sa.JSON(), nullable=False),
        sa.Column("local_host_name", sa.Text()),
        sa.Column("ssl_trust", sa.Text()),
        sa.Column("ssl_protocols", sa.JSON(), nullable=False),
        sa.Column("select_folder", sa.Text()),
        sa.Column("search_terms", sa.Text()),
        sa.ForeignKeyConstraint(
            ["connector_id"], ["connectors.id"], name="fk_connections_connector_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_connections"),
        sa.UniqueConstraint("connector_id", "kind", name="uq_connections_connector_id_kind"),
    )
    op.create_table(
        "sync_settings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connector_id", sa.Uuid(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("interval_minutes", sa.Integer()),
        sa.ForeignKeyConstraint(
            ["connector_id"], ["connectors.id"], name="fk_sync_settings_connector_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_sync_settings"),
        sa.UniqueConstraint("connector_id", name="uq_sync_settings_connector_id"),
    )


def _keep_messages() -> None:
    op.create_table(
        "messages",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("inbox_id", sa.Uuid(), nullable=False),
        sa.Column("connector_id", sa.Uuid()),
        sa.Column("mailbox", sa.Text()),
        sa.Column("uidvalidity", sa.BigInteger()),
        sa.Column("uid", sa.BigInteger()),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger()),
        sa.Column("read", sa.Boolean(), nullable=False),
        sa.Column("favourite", sa.Boolean(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("flags", sa.JSON(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("sender", sa.JSON()),
        sa.Column("to", sa.JSON(), nullable=False),
        sa.Column("cc", sa.JSON(), nullable=False),
        sa.Column("bcc", sa.JSON(), nullable=False),
        sa.Column("reply_to", sa.Text()),
        sa.Column("header_message_id", sa.Text()),
        sa.Column("in_reply_to", sa.Text()),
        sa.Column("date", sa.BigInteger()),
        sa.Column("excerpt", sa.Text()),
        sa.Column("part_types", sa.JSON(), nullable=False),
        sa.Column("defect", sa.Text()),
        sa.ForeignKeyConstraint(
            ["connector_id"], ["connectors.id"], name="fk_messages_connector_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["inbox_id"], ["inboxes.id"], name="fk_messages_inbox_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_messages"),
        sa.UniqueConstraint("connector_id", "mailbox", "uidvalidity", "uid", name="uq_messages_place"),
        sa.UniqueConstraint("id", name="uq_messages_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_messages_content", "messages", ["connector_id", "mailbox", "content_hash"])
    op.create_index("ix_messages_of_inbox", "messages", ["inbox_id", "created_at", "seq", "read", "favourite"])
    op.create_index("ix_messages_of_all", "messages", ["created_at", "seq", "read", "favourite", "inbox_id"])


def _keep_searched() -> None:
    op.create_table(
        "searched",
        sa.Column("seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["messages.seq"], name="fk_searched_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_searched"),
    )
    {"sqlite": _index_searched_in_sqlite, "postgresql": _index_searched_in_postgresql}[op.get_bind().dialect.name]()


def _index_searched_in_sqlite() -> None:
    """The index, how far it has come, and what was removed since and is still in it."""
    options = "content='', columnsize=0, tokenize='trigram case_sensitive 1'"
    op.execute(f"CREATE VIRTUAL TABLE search_index USING fts5(text, {options})")
    op.execute("CREATE VIRTUAL TABLE search_terms USING fts5vocab(search_index, row)")
    # Fewer and larger merges than by default: a quarter less work in all.
    op.execute("INSERT INTO search_index (search_index, rank) VALUES ('automerge', 8)")
    op.execute("CREATE TABLE search_mark (number INTEGER PRIMARY KEY, seq INTEGER NOT NULL)")
    op.execute("INSERT INTO search_mark VALUES (1, 0)")
    op.execute("CREATE TABLE search_removed (seq INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    op.execute(
        "CREATE TRIGGER search_removal AFTER DELETE ON searched WHEN old.seq <= (SELECT seq FROM search_mark)"
        " BEGIN INSERT INTO search_removed VALUES (old.seq, old.text); END"
    )


def _index_searched_in_postgresql() -> None:
    try:
        with op.get_bind().begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            op.execute("CREATE INDEX search_index ON searched USING gin (text gin_trgm_ops)")
    except DBAPIError as error:
        _log.warning("search_without_index", reason=str(error.orig).splitlines()[0], fix="CREATE EXTENSION pg_trgm")


def _keep_parts() -> None:
    op.create_table(
        "raw_messages",
        sa.Column("seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["messages.seq"], name="fk_raw_messages_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_raw_messages"),
    )
    op.create_table(
        "attachments",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_seq", _SERIAL),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("inbox_id", sa.Uuid()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("content_id", sa.Text()),
        sa.ForeignKeyConstraint(
            ["message_seq"], ["messages.seq"], name="fk_attachments_message_seq", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name="pk_attachments"),
        sa.UniqueConstraint("id", name="uq_attachments_id"),
    )
    op.create_index("ix_attachments_created_at_seq", "attachments", ["created_at", "seq"])
    op.create_index("ix_attachments_inbox_id_created_at_seq", "attachments", ["inbox_id", "created_at", "seq"])
    op.create_index("ix_attachments_message_seq_position", "attachments", ["message_seq", "position"])
    op.create_table(
        "uploads",
        sa.Column("seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["attachments.seq"], name="fk_uploads_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_uploads"),
    )


def _keep_places() -> None:
    op.create_table(
        "cursors",
        sa.Column("connector_id", sa.Uuid(), nullable=False),
        sa.Column("mailbox", sa.Text(), nullable=False),
        sa.Column("uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("last_uid", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connector_id"], ["connectors.id"], name="fk_cursors_connector_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("connector_id", "mailbox", name="pk_cursors"),
    )
    op.create_table(
        "tombstones",
        sa.Column("connector_id", sa.Uuid(), nullable=False),
        sa.Column("mailbox", sa.Text(), nullable=False),
        sa.Column("uidvalidity", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connector_id"], ["connectors.id"], name="fk_tombstones_connector_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("connector_id", "mailbox", "uidvalidity", "uid", name="pk_tombstones"),
    )
    op.create_index("ix_tombstones_content", "tombstones", ["connector_id", "mailbox", "content_hash"])


def _keep_events() -> None:
    op.create_table(
        "events",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connector_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text()),
        sa.Column("seen", sa.Boolean(), nullable=False),
        sa.Column("logs", sa.Text()),
        sa.ForeignKeyConstraint(["connector_id"], ["connectors.id"], name="fk_events_connector_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sa.UniqueConstraint("id", name="uq_events_id"),
    )
    op.create_index("ix_events_connector_id_created_at_seq", "events", ["connector_id", "created_at", "seq"])
    op.create_index("ix_events_created_at_seq", "events", ["created_at", "seq"])


def _keep_sent() -> None:
    op.create_table(
        "sent",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("inbox_id", sa.Uuid(), nullable=False),
        sa.Column("connector_id", sa.Uuid()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("sender", sa.JSON(), nullable=False),
        sa.Column("to", sa.JSON(), nullable=False),
        sa.Column("cc", sa.JSON(), nullable=False),
        sa.Column("bcc", sa.JSON(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("header_message_id", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger()),
        sa.Column("reply_to", sa.Text()),
        sa.Column("is_html", sa.Boolean(), nullable=False),
        sa.Column("attachments", sa.JSON(), nullable=False),
        sa.Column("reply", sa.Text()),
        sa.Column("in_reply_to", sa.Text()),
        sa.Column("excerpt", sa.Text()),
        sa.Column("searched", sa.Text(), nullable=False),
        sa.Column("body", sa.Text()),
        sa.ForeignKeyConstraint(["connector_id"], ["connectors.id"], name="fk_sent_connector_id", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["inbox_id"], ["inboxes.id"], name="fk_sent_inbox_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_sent"),
        sa.UniqueConstraint("id", name="uq_sent_id"),
    )
    op.create_index("ix_sent_connector_id", "sent", ["connector_id"])
    op.create_index("ix_sent_created_at_seq", "sent", ["created_at", "seq"])
    op.create_index("ix_sent_inbox_id_created_at_seq", "sent", ["inbox_id", "created_at", "seq"])
    op.create_table(
        "raw_sent",
        sa.Column("seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["sent.seq"], name="fk_raw_sent_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_raw_sent"),
    )
