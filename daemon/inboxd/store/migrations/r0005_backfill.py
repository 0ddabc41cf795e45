"""How far a mailbox's first load has come: it goes downwards, below a cursor that follows new mail meanwhile."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Two marks for each cursor; mailboxes read so far have no first load under way."""
    op.add_column("cursors", sa.Column("backfill_below", sa.BigInteger()))
    op.add_column("cursors", sa.Column("backfill_epoch", sa.BigInteger()))


def downgrade() -> None:
    """Older programs would take what is still to be loaded for considered."""
    raise NotImplementedError("restore a backup instead")
