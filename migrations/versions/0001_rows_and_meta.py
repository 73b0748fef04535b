"""Rows of entries and one record per log.

Revision: 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mosaik_rows",
        sa.Column("log", sa.LargeBinary(32), primary_key=True),
        sa.Column(
            "first",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("entries", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "mosaik_meta",
        sa.Column("log", sa.LargeBinary(32), primary_key=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
