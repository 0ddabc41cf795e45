"""OAuth2 grants: by whose tokens a connector logs in instead of by a password."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table; no connector has a grant yet."""
    op.create_table(
        "grants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connector_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("flow", sa.String(32), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("token_url", sa.Text(), nullable=False),
        sa.Column("authorize_url", sa.Text()),
        sa.Column("device_url", sa.Text()),
        sa.Column("identity_url", sa.Text()),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("mailbox", sa.Text(), nullable=False),
        sa.Column("hosts", sa.JSON(), nullable=False),
        sa.Column("sealed_client_secret", sa.LargeBinary()),
        sa.Column("sealed_refresh_token", sa.LargeBinary()),
        sa.Column("sealed_access_token", sa.LargeBinary(), nullable=False),
        sa.Column("obtained_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["connector_id"], ["connectors.id"], name="fk_grants_connector_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
        sa.UniqueConstraint("connector_id", name="uq_grants_connector_id"),
    )


def downgrade() -> None:
    """The grants would be lost, and with them the way into their mailboxes."""
    raise NotImplementedError("restore a backup instead")
