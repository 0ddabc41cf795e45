"""Which file declared a connector."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Those that are there were made by hand."""
    op.add_column("connectors", sa.Column("declared", sa.Text()))


def downgrade() -> None:
    """Older programs do not know the column."""
    raise NotImplementedError("restore a backup instead")
