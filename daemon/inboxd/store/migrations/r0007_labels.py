"""The labels a mail has at a provider that labels mail instead of filing it in one mailbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Nothing is known of what is stored."""
    op.add_column("messages", sa.Column("labels", sa.JSON()))


def downgrade() -> None:
    """Older programs do not know the column."""
    raise NotImplementedError("restore a backup instead")
