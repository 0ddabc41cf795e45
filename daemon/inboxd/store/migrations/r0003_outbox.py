"""The outbox: what becomes of each mail on its way out, and what is done over IMAP afterwards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WAITS = "state IN ('deferred', 'queued')"
_UNDONE = "state IN ('deferred', 'failed', 'queued', 'sending', 'unknown')"
_HELD = "owner IS NOT NULL"
_HANDED_OVER = "kind IN ('', 'SendUnknown')"


def upgrade() -> None:
    """Make the five tables, and find sent mails by their Message-ID."""
    _keep_outbox()
    _keep_recipients()
    _keep_tries()
    _keep_chores()
    _keep_keys()
    op.create_index("ix_sent_header_message_id", "sent", ["header_message_id"], postgresql_using="hash")


def downgrade() -> None:
    """What is to be sent would be lost."""
    raise NotImplementedError("restore a backup instead")


def _index_some(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _keep_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connector_id", sa.Uuid()),
        sa.Column("route", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("leased_until", sa.BigInteger()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text()),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("use_fallback", sa.Boolean(), nullable=False),
        sa.Column("notify", sa.JSON()),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("answers", sa.Uuid()),
        sa.ForeignKeyConstraint(["seq"], ["sent.seq"], name="fk_outbox_seq", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["connector_id"], ["connectors.id"], name="fk_outbox_connector_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("seq", name="pk_outbox"),
        sa.UniqueConstraint("id", name="uq_outbox_id"),
    )
    op.create_index("ix_outbox_of_all", "outbox", ["created_at", "seq", "state", "connector_id"])
    op.create_index("ix_outbox_of_connector", "outbox", ["connector_id", "created_at", "seq", "state"])
    _index_some("ix_outbox_waiting", "outbox", ["route", "due_at", "seq"], _WAITS)
    _index_some("ix_outbox_expiring", "outbox", ["expires_at"], _WAITS)
    _index_some("ix_outbox_held", "outbox", ["owner"], _HELD)
    _index_some("ix_outbox_undone", "outbox", ["state", "created_at"], _UNDONE)


def _keep_recipients() -> None:
    op.create_table(
        "recipients",
        sa.Column("sent_seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reply", sa.Text()),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["sent_seq"], ["outbox.seq"], name="fk_recipients_sent_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sent_seq", "position", name="pk_recipients"),
    )


def _keep_tries() -> None:
    op.create_table(
        "tries",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("sent_seq", _SERIAL, nullable=False),
        sa.Column("route", sa.Uuid(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["sent_seq"], ["outbox.seq"], name="fk_tries_sent_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_tries"),
    )
    op.create_index("ix_tries_sent_seq", "tries", ["sent_seq"])
    _index_some("ix_tries_handed_over", "tries", ["route", "ended_at"], _HANDED_OVER)


def _keep_chores() -> None:
    op.create_table(
        "chores",
        sa.Column("sent_seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("chore", sa.String(32), nullable=False),
        sa.Column("connector_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reply", sa.Text()),
        sa.ForeignKeyConstraint(["sent_seq"], ["outbox.seq"], name="fk_chores_sent_seq", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["connector_id"], ["connectors.id"], name="fk_chores_connector_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sent_seq", "chore", name="pk_chores"),
    )
    op.create_index("ix_chores_due", "chores", ["connector_id", "due_at", "sent_seq", "chore"])


def _keep_keys() -> None:
    op.create_table(
        "idempotency",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("sent_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
