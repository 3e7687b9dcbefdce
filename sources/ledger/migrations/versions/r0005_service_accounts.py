"""Service accounts and their API keys; what a directory provisions."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

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
    op.create_table(
        "directory_users",
        sa.Column("member_id", _ID, sa.ForeignKey("members.id", ondelete="CASCADE"), primary_key=True),
        _organisation(),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("name_key", _ID, nullable=False),
        sa.Column("named_roles", ARRAY(sa.Text), nullable=False),
        sa.Column("given_roles", ARRAY(sa.Text), nullable=False),
        sa.Column("attributes", JSONB, nullable=False),
        _updated_at(),
    )
    op.create_index(
        "directory_users_by_name", "directory_users", ["organisation_id", "name_key"], unique=True
    )
    op.create_table(
        "directory_groups",
        sa.Column("id", _ID, primary_key=True),
        _organisation(),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("name_key", _ID, nullable=False),
        sa.Column("external_id", _ID),
        sa.Column("created_at", _TIME, nullable=False),
        _updated_at(),
    )
    op.create_index(
        "directory_groups_by_name", "directory_groups", ["organisation_id", "name_key"], unique=True
    )
    op.create_table(
        "directory_group_members",
        sa.Column(
            "group_id", _ID, sa.ForeignKey("directory_groups.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column(
            "member_id",
            _ID,
            sa.ForeignKey("directory_users.member_id", ondelete="CASCADE"),
            primary_key=True,
        ),
    )
    op.create_index("directory_group_members_by_member", "directory_group_members", ["member_id"])
    for book in _BOOKS:
        op.execute(
            f"""
            CREATE TRIGGER {book}_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {book}
            FOR EACH STATEMENT EXECUTE FUNCTION gateway_ledger_changed()
            """
        )


def _organisation() -> sa.Column[str]:
    return sa.Column(
        "organisation_id", _ID, sa.ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False
    )


def _updated_at() -> sa.Column[datetime]:
    return sa.Column("updated_at", _TIME, nullable=False, server_default=sa.func.clock_timestamp())
