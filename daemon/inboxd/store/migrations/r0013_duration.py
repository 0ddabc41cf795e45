"""How long syncs and sends took."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Nobody knows how long those took that are there."""
    op.add_column("events", sa.Column("duration", sa.BigInteger()))


def downgrade() -> None:
    """Older programs do not know the column."""
    raise NotImplementedError("restore a backup instead")
