"""Browser sessions: sign-ins under way, sessions, and the providers' logouts."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("state_hash", _ID, primary_key=True),
        sa.Column("browser_hash", _ID, nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("code_verifier", sa.Text, nullable=False),
        sa.Column("return_to", sa.Text, nullable=False),
        _moment("expires_at"),
        sa.Column("max_age", sa.Integer),
        sa.Column("acr_values", sa.Text),
        sa.Column("replaces", _ID),
    )
    op.create_index("sign_ins_by_expiry", "sign_ins", ["expires_at"])
    op.create_table(
        "sessions",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("secret_hash", _ID, nullable=False, unique=True),
        sa.Column("issuer", _ID, nullable=False),
        sa.Column("subject", _ID, nullable=False),
        sa.Column("sub", _ID, nullable=False),
        sa.Column("sid", _ID),
        sa.Column("proof", JSONB, nullable=False),
        sa.Column("id_token", sa.Text, nullable=False),
        sa.Column("organisation", _ID),
        _moment("created_at"),
        _moment("last_seen_at"),
        _moment("ends_at"),
    )
    op.create_index("sessions_by_person", "sessions", ["issuer", "subject"])
    op.create_index("sessions_by_sub", "sessions", ["issuer", "sub"])
    op.create_index("sessions_by_sid", "sessions", ["issuer", "sid"])
    op.create_table(
        "session_logouts",
        sa.Column("issuer", _ID, primary_key=True),
        sa.Column("id", _ID, primary_key=True),
        sa.Column("sub", _ID),
        sa.Column("sid", _ID),
        _moment("issued_at"),
        _moment("remembered_until"),
    )
    # Per row, and not when one is merely seen: a statement that ends nothing must not empty every process's memory.
    op.execute(
        """
        CREATE TRIGGER sessions_changed AFTER DELETE OR UPDATE OF organisation ON sessions
        FOR EACH ROW EXECUTE FUNCTION gateway_ledger_changed()
        """
    )
    op.execute(
        """
        CREATE TRIGGER sessions_emptied AFTER TRUNCATE ON sessions
        FOR EACH STATEMENT EXECUTE FUNCTION gateway_ledger_changed()
        """
    )


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)
