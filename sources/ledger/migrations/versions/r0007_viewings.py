"""The book of viewings."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0007"
down_revision = "0006"

_ID = sa.Text(collation="C")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "viewings",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("staff", _ID, nullable=False),
        sa.Column("staff_name", sa.Text),
        sa.Column("credential", _ID),
        sa.Column(
            "organisation_id", _ID, sa.ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("member_id", _ID),
        sa.Column("roles", ARRAY(sa.Text), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
    )
    op.create_index("viewings_by_staff", "viewings", ["staff", "expires_at"])
    op.create_index("viewings_by_organisation", "viewings", ["organisation_id"])
    op.execute(
        """
        CREATE TRIGGER viewings_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON viewings
        FOR EACH STATEMENT EXECUTE FUNCTION gateway_ledger_changed()
        """
    )
