"""Several mailboxes of an account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """What connections there are go on with their one mailbox."""
    with op.batch_alter_table("connections") as table:
        table.add_column(sa.Column("folders", sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("connections") as table:  # SQLite makes the table anew for that
        table.alter_column("folders", server_default=None)


def downgrade() -> None:
    """Which mailboxes are followed would be forgotten."""
    raise NotImplementedError("restore a backup instead")
