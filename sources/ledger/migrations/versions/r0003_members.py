"""Members, invitations, and the changes that may be asked for again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0003"
down_revision = "0002"

_ID = sa.Text(collation="C")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "members",
        sa.Column("id", _ID, primary_key=True),
        sa.Column(
            "organisation_id", _ID, sa.ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("issuer", _ID),
        sa.Column("subject", _ID),
        sa.Column("name", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("roles", ARRAY(sa.Text), nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("external_id", _ID),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("joined_at", _INSTANT),
        sa.Column("ends_at", _INSTANT),
        sa.Column("invited_by", sa.Text),
        sa.CheckConstraint(
            "issuer IS NOT NULL OR (subject IS NULL AND external_id IS NULL)", name="members_issuer_known"
        ),
        sa.CheckConstraint("(subject IS NULL) = (joined_at IS NULL)", name="members_joined_by_subject"),
    )
    op.create_index("members_by_organisation", "members", ["organisation_id", "created_at", "id"])
    op.create_index(
        "members_one_per_person", "members", ["issuer", "subject", "organisation_id"], unique=True
    )
    op.create_index(
        "members_one_per_external_id", "members", ["issuer", "external_id", "organisation_id"], unique=True
    )
    op.create_table(
        "invitations",
        sa.Column("id", _ID, primary_key=True),
        sa.Column(
            "organisation_id", _ID, sa.ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("roles", ARRAY(sa.Text), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("invited_by", sa.Text, nullable=False),
        sa.Column("invited_by_name", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.Column("member_ends_at", _INSTANT),
        sa.Column("sent_at", _INSTANT, nullable=False),
        sa.Column("sendings", sa.Integer, nullable=False),
        sa.Column("delivered_at", _INSTANT),
        sa.Column("accepted_at", _INSTANT),
        sa.Column("accepted_by", _ID, sa.ForeignKey("members.id", ondelete="CASCADE")),
        sa.Column("revoked_at", _INSTANT),
        sa.CheckConstraint(
            "(accepted_at IS NULL) = (accepted_by IS NULL)", name="invitations_accepted_by_somebody"
        ),
        sa.CheckConstraint("accepted_at IS NULL OR revoked_at IS NULL", name="invitations_one_end"),
    )
    op.create_index("invitations_by_organisation", "invitations", ["organisation_id", "created_at", "id"])
    op.create_index("invitations_by_secret", "invitations", ["secret_hash"], unique=True)
    op.create_index("invitations_by_member", "invitations", ["accepted_by"])
    op.create_table(
        "writes",
        sa.Column("caller", _ID, primary_key=True),
        sa.Column("key", _ID, primary_key=True),
        sa.Column("id", _ID, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("records", JSONB, nullable=False),
        sa.Column("written_at", _INSTANT, nullable=False),
    )
    op.create_index("writes_by_age", "writes", ["written_at"])
    for book in ("members", "invitations"):
        op.execute(
            f"""
            CREATE TRIGGER {book}_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {book}
            FOR EACH STATEMENT EXECUTE FUNCTION gateway_ledger_changed()
            """
        )
