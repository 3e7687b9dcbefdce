"""The book of copies of vendors' records."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0009"
down_revision = "0008"

_ID = sa.Text(collation="C")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "mirror_streams",
        sa.Column("source", _ID, primary_key=True),
        sa.Column("stream", _ID, primary_key=True),
        sa.Column("account", _ID, nullable=False),
        sa.Column("holder", _ID, nullable=False),
        sa.Column("bookmark", JSONB),
        sa.Column("run_at", _TIME),
        sa.Column("as_of", _TIME),
        sa.Column("sweep", sa.BigInteger, nullable=False),
        sa.Column("swept_at", _TIME),
        sa.Column("dropped", sa.BigInteger, nullable=False),
        sa.Column("failure", sa.Text),
    )
    op.create_table(
        "mirror_rows",
        sa.Column("source", _ID, primary_key=True),
        sa.Column("stream", _ID, primary_key=True),
        sa.Column("id", _ID, primary_key=True),
        sa.Column("parent", _ID),
        sa.Column("places", ARRAY(_ID), nullable=False),
        sa.Column("marks", ARRAY(_ID), nullable=False),
        sa.Column("keys", ARRAY(_ID), nullable=False),
        sa.Column("body", JSONB, nullable=False),
        sa.Column("sweep", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["source", "stream"], ["mirror_streams.source", "mirror_streams.stream"], ondelete="CASCADE"
        ),
    )
    op.create_index("mirror_rows_by_parent", "mirror_rows", ["source", "stream", "parent"])
    op.create_index("mirror_rows_by_key", "mirror_rows", ["keys"], postgresql_using="gin")
