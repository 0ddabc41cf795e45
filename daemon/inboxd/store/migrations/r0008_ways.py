"""More ways to a server: files for TLS, passwords kept outside, proxies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_TEXTS = ("ca_file", "client_certificate", "client_key", "password_source", "proxy_host", "proxy_username")


def upgrade() -> None:
    """What connections there are go on without any of it."""
    for name in _TEXTS:
        op.add_column("connections", sa.Column(name, sa.Text()))
    op.add_column("connections", sa.Column("proxy_kind", sa.String(32)))
    op.add_column("connections", sa.Column("proxy_port", sa.Integer()))
    op.add_column("connections", sa.Column("sealed_proxy_password", sa.LargeBinary()))
    with op.batch_alter_table("connections") as table:
        table.add_column(sa.Column("proxy_enabled", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("connections") as table:  # SQLite makes the table anew for that
        table.alter_column("proxy_enabled", server_default=None)


def downgrade() -> None:
    """Connections would be made without their proxies and pins."""
    raise NotImplementedError("restore a backup instead")
