"""Several stores in one database, each with the epoch of whoever has it open.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import VARCHAR

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


NAME = sa.String(128).with_variant(
    VARCHAR(128, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mysql", "mariadb"
)


def upgrade() -> None:
    op.create_table(
        "mosaik_stores",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", NAME, nullable=False, unique=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        # MariaDB commits each table by itself: a migration that was killed has made it already.
        if_not_exists=True,
    )
