"""What becomes of stored mails in their mailbox: how far that is known, which are gone there, whether they go here."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Mailboxes read so far are compared once; what is deleted there stays here until somebody wants it otherwise."""
    op.add_column("cursors", sa.Column("modseq", sa.BigInteger()))
    op.add_column("cursors", sa.Column("compared_at", sa.BigInteger()))
    op.add_column("messages", sa.Column("vanished_at", sa.BigInteger()))
    columns, gone = ["connector_id", "mailbox", "uidvalidity", "uid"], sa.text("vanished_at IS NOT NULL")
    op.create_index("ix_messages_vanished", "messages", columns, sqlite_where=gone, postgresql_where=gone)
    with op.batch_alter_table("connections") as table:
        table.add_column(sa.Column("mirror", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("connections") as table:  # SQLite makes the table anew for that
        table.alter_column("mirror", server_default=None)


def downgrade() -> None:
    """Which mails are gone from their mailbox would be forgotten."""
    raise NotImplementedError("restore a backup instead")
