"""Webhooks, what waits to be posted to them, and how each try ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the three tables."""
    _keep_webhooks()
    _keep_deliveries()
    _keep_results()


def downgrade() -> None:
    """What is to be posted would be lost."""
    raise NotImplementedError("restore a backup instead")


def _keep_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("inbox_id", sa.Uuid()),
        sa.Column("name", sa.Text()),
        sa.Column("username", sa.Text()),
        sa.Column("sealed_password", sa.LargeBinary()),
        sa.Column("header_names", sa.JSON(), nullable=False),
        sa.Column("sealed_headers", sa.LargeBinary()),
        sa.Column("verify_tls", sa.Boolean(), nullable=False),
        sa.Column("use_static_ip_range", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["inbox_id"], ["inboxes.id"], name="fk_webhooks_inbox_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_webhooks"),
        sa.UniqueConstraint("id", name="uq_webhooks_id"),
    )
    op.create_index("ix_webhooks_created_at_seq", "webhooks", ["created_at", "seq"])
    op.create_index("ix_webhooks_inbox_id_created_at_seq", "webhooks", ["inbox_id", "created_at", "seq"])


def _keep_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("webhook_name", sa.Text()),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("inbox_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sender", sa.Text()),
        sa.Column("to", sa.JSON(), nullable=False),
        sa.Column("cc", sa.JSON(), nullable=False),
        sa.Column("bcc", sa.JSON(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("attachments", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name="fk_deliveries_webhook_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_deliveries"),
        sa.UniqueConstraint("id", name="uq_deliveries_id"),
    )
    op.create_index("ix_deliveries_webhook_id_due_at_seq", "deliveries", ["webhook_id", "due_at", "seq"])


def _keep_results() -> None:
    op.create_table(
        "results",
        sa.Column("seq", _SERIAL, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("extract", sa.Text(), nullable=False),
        sa.Column("inbox_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("attachment_id", sa.Uuid()),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name="fk_results_webhook_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_results"),
        sa.UniqueConstraint("id", name="uq_results_id"),
    )
    op.create_index("ix_results_webhook_id_created_at_seq", "results", ["webhook_id", "created_at", "seq"])
    op.create_index("ix_results_created_at", "results", ["created_at"])
