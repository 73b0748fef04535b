"""Rows of entries and one record per log.

Revision: 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGBLOB, VARBINARY

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


KEY = sa.LargeBinary(32).with_variant(VARBINARY(36), "mysql", "mariadb")
BYTES = sa.LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "mosaik_rows",
        sa.Column("log", KEY, primary_key=True),
        sa.Column(
            "first",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("entries", BYTES, nullable=False),
    )
    op.create_table(
        "mosaik_meta",
        sa.Column("log", KEY, primary_key=True),
        sa.Column("record", BYTES, nullable=False),
        sqlite_with_rowid=False,
    )
