"""What proxies hold by the live revision, as bytes: what a newer compiler makes is compared with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "served",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("compiler", sa.String(64), nullable=False),
        sa.Column("refused", sa.String(64), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
    )
    op.create_table(
        "served_resources",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "served_views",
        sa.Column("revision", sa.String(32), primary_key=True),
        sa.Column("hosts", sa.JSON(), nullable=False),
        sa.Column("resources", sa.LargeBinary(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("served_views")
    op.drop_table("served_resources")
    op.drop_table("served")
