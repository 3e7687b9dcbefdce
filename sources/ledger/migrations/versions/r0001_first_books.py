"""Links, organisations and tokens."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "links",
        sa.Column("account_source", _ID, primary_key=True),
        sa.Column("account_id", _ID, primary_key=True),
        sa.Column("source", _ID, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("counterpart_id", _ID),
        sa.Column("evidence", sa.Text),
        sa.Column("candidates", JSONB, nullable=False),
        sa.Column("decided_by", sa.Text),
        _updated_at(),
        sa.CheckConstraint(
            "state IN ('matched', 'confirmed', 'ambiguous', 'unmatched', 'absent')", name="links_state_known"
        ),
        sa.CheckConstraint(
            "CASE WHEN state IN ('matched', 'confirmed') THEN counterpart_id IS NOT NULL"
            " ELSE state = 'ambiguous' OR counterpart_id IS NULL END",
            name="links_counterpart_by_state",
        ),
    )
    op.create_index(
        "links_one_account_per_counterpart",
        "links",
        ["source", "counterpart_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('matched', 'confirmed')"),
    )
    op.create_index("links_claims", "links", ["source", "counterpart_id"])
    op.create_table(
        "organisations",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        _updated_at(),
    )
    op.create_table(
        "organisation_accounts",
        sa.Column("account_source", _ID, primary_key=True),
        sa.Column("account_id", _ID, primary_key=True),
        sa.Column(
            "organisation_id", _ID, sa.ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("position", sa.Integer, nullable=False),
    )
    op.create_index(
        "organisation_accounts_by_organisation", "organisation_accounts", ["organisation_id", "position"]
    )
    op.create_table(
        "tokens",
        sa.Column("connection", _ID, primary_key=True),
        sa.Column("refresh_token", sa.Text, nullable=False),
        sa.Column("seed", sa.Text, nullable=False),
        sa.Column("access_token", sa.Text),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("consent_needed", sa.Boolean, nullable=False),
        _updated_at(),
    )


def _updated_at() -> sa.Column[datetime]:
    return sa.Column(
        "updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()
    )
