"""Service accounts and their API keys; what a directory provisions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0005"
down_revision = "0004"

_ID = sa.Text(collation="C")
_TIME = sa.DateTime(timezone=True)

_BOOKS = ("service_accounts", "api_keys")


def upgrade() -> None:
    op.create_table(
        "service_accounts",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("organisation_id", _ID, sa.ForeignKey("organisations.id", ondelete="CASCADE")),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", ARRAY(sa.Text), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_index("service_accounts_by_organisation", "service_accounts", ["organisation_id"])
    op.create_table(
        "api_keys",
        sa.Column("id", _ID, primary_key=True),
        sa.Column(
            "account_id", _ID, sa.ForeignKey("service_accounts.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("scopes", ARRAY(sa.Text), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME),
    )
    op.create_index("api_keys_by_account", "api_keys", ["account_id"])
    op.create_table(
        "api_key_uses",
        sa.Column("key_id", _ID, sa.ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("used_at", _TIME, nullable=False),
    )
    for book in _BOOKS:
        op.execute(
            f"""
            CREATE TRIGGER {book}_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {book}
            FOR EACH STATEMENT EXECUTE FUNCTION gateway_ledger_changed()
            """
        )
