"""What an API key may do, and in which inbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """The keys made so far go on opening everything."""
    everything = '["read", "send", "manage"]'
    with op.batch_alter_table("api_keys") as table:
        table.add_column(sa.Column("scopes", sa.JSON(), nullable=False, server_default=everything))
        table.add_column(sa.Column("inbox_id", sa.Uuid()))
    with op.batch_alter_table("api_keys") as table:  # SQLite makes the table anew for that
        table.alter_column("scopes", server_default=None)


def downgrade() -> None:
    """Every key would open everything."""
    raise NotImplementedError("restore a backup instead")
