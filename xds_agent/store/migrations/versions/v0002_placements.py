"""Placements and the maintenance windows opened by hand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "placements",
        sa.Column("cloud", sa.String(255), primary_key=True),
        sa.Column("region", sa.String(255), primary_key=True),
        sa.Column("service", sa.String(255), primary_key=True),
        sa.Column("placement", sa.JSON(), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
    )
    op.create_table(
        "windows",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("window", sa.JSON(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created", _TIME, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("windows")
    op.drop_table("placements")
