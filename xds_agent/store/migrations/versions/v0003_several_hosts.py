"""Several control hosts: who leads, what they share; which certificates hosts have shown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "leadership",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("since", _TIME, nullable=False),
    )
    op.create_table(
        "shared",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "host_certificates",
        sa.Column("serial", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("not_after", _TIME, nullable=False),
    )
    op.create_index("ix_host_certificates_name", "host_certificates", ["name"])


def downgrade() -> None:
    for table in ("host_certificates", "shared", "leadership"):
        op.drop_table(table)
