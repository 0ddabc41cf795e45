"""What accounts have downloaded lately, by the hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Nothing is known of what was downloaded before."""
    op.create_table(
        "traffic",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("received_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("host", "username", "hour", name="pk_traffic"),
    )


def downgrade() -> None:
    """Older programs would leave the table behind."""
    raise NotImplementedError("restore a backup instead")
