"""The ledger's tables. A change here needs a revision in migrations/versions; a test compares the two."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    literal_column,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()

# Ids sort by code point, so that pages are in the same order on every server, whatever its locale.
_ID = Text(collation="C")


def _updated_at() -> Column[datetime]:
    # Not now(): writers queue behind a lock, and what counts is when they wrote, not when they came.
    return Column(
        "updated_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()
    )


links = Table(
    "links",
    metadata,
    Column("account_source", _ID, primary_key=True),
    Column("account_id", _ID, primary_key=True),
    Column("source", _ID, primary_key=True),
    Column("state", Text, nullable=False),
    Column("counterpart_id", _ID),
    Column("evidence", Text),
    Column("candidates", JSONB, nullable=False),
    Column("decided_by", Text),
    _updated_at(),
    CheckConstraint(
        "state IN ('matched', 'confirmed', 'ambiguous', 'unmatched', 'absent')", name="links_state_known"
    ),
    # An ambiguous link may have one too: a match that another account's match contests. It is a claim and shown to nobody.
    CheckConstraint(
        "CASE WHEN state IN ('matched', 'confirmed') THEN counterpart_id IS NOT NULL"
        " ELSE state = 'ambiguous' OR counterpart_id IS NULL END",
        name="links_counterpart_by_state",
    ),
    Index("links_claims", "source", "counterpart_id"),
)

# Literals and not parameters: PostgreSQL uses a partial index only when the query's text implies its condition.
held = links.c.state.in_([literal_column("'matched'"), literal_column("'confirmed'")])
"""Does the account hold its counterpart?"""

Index(
    "links_one_account_per_counterpart",
    links.c.source,
    links.c.counterpart_id,
    unique=True,
    postgresql_where=held,
)

organisations = Table(
    "organisations",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False),
    _updated_at(),
)

organisation_accounts = Table(
    "organisation_accounts",
    metadata,
    Column("account_source", _ID, primary_key=True),
    Column("account_id", _ID, primary_key=True),
    Column("organisation_id", _ID, ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Index("organisation_accounts_by_organisation", "organisation_id", "position"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("connection", _ID, primary_key=True),
    Column("refresh_token", Text, nullable=False),
    Column("seed", Text, nullable=False),
    Column("access_token", Text),
    Column("expires_at", DateTime(timezone=True)),
    Column("consent_needed", Boolean, nullable=False),
    _updated_at(),
    Column("key_id", Text),
)

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("state_hash", _ID, primary_key=True),
    Column("browser_hash", _ID, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("code_verifier", Text, nullable=False),
    Column("return_to", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("max_age", Integer),
    Column("acr_values", Text),
    Column("replaces", _ID),
    Index("sign_ins_by_expiry", "expires_at"),
)

# Only endings and another organisation are told to the processes: being seen changes nothing that they remember.
sessions = Table(
    "sessions",
    metadata,
    Column("id", _ID, primary_key=True),
    # SHA-256 of what the browser holds: the secret itself is nowhere.
    Column("secret_hash", _ID, nullable=False, unique=True),
    Column("issuer", _ID, nullable=False),
    Column("subject", _ID, nullable=False),
    Column("sub", _ID, nullable=False),
    Column("sid", _ID),
    Column("proof", JSONB, nullable=False),
    # The provider wants it back as a hint when somebody signs out.
    Column("id_token", Text, nullable=False),
    Column("organisation", _ID),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("last_seen_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Index("sessions_by_person", "issuer", "subject"),
    Index("sessions_by_sub", "issuer", "sub"),
    Index("sessions_by_sid", "issuer", "sid"),
)

session_logouts = Table(
    "session_logouts",
    metadata,
    Column("issuer", _ID, primary_key=True),
    Column("id", _ID, primary_key=True),
    Column("sub", _ID),
    Column("sid", _ID),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("remembered_until", DateTime(timezone=True), nullable=False),
)

service_accounts = Table(
    "service_accounts",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("organisation_id", _ID, ForeignKey("organisations.id", ondelete="CASCADE")),
    Column("name", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_by", Text, nullable=False),
    Index("service_accounts_by_organisation", "organisation_id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ID, ForeignKey("service_accounts.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    # SHA-256 of the secret: the secret itself is nowhere.
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    Index("api_keys_by_account", "account_id"),
)

# Apart from the keys, whose every change makes all processes forget what they remember.
api_key_uses = Table(
    "api_key_uses",
    metadata,
    Column("key_id", _ID, ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True),
    Column("used_at", DateTime(timezone=True), nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("organisation_id", _ID, ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("issuer", _ID),
    Column("subject", _ID),
    Column("name", Text),
    Column("email", Text),
    Column("roles", ARRAY(Text), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("external_id", _ID),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("joined_at", DateTime(timezone=True)),
    Column("ends_at", DateTime(timezone=True)),
    Column("invited_by", Text),
    # A subject means nothing without its issuer, and a directory's word holds for its own issuer alone.
    CheckConstraint(
        "issuer IS NOT NULL OR (subject IS NULL AND external_id IS NULL)", name="members_issuer_known"
    ),
    CheckConstraint("(subject IS NULL) = (joined_at IS NULL)", name="members_joined_by_subject"),
    Index("members_by_organisation", "organisation_id", "created_at", "id"),
    Index("members_one_per_person", "issuer", "subject", "organisation_id", unique=True),
    Index("members_one_per_external_id", "issuer", "external_id", "organisation_id", unique=True),
)

invitations = Table(
    "invitations",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("organisation_id", _ID, ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("email", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("invited_by", Text, nullable=False),
    Column("invited_by_name", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("member_ends_at", DateTime(timezone=True)),
    Column("sent_at", DateTime(timezone=True), nullable=False),
    Column("sendings", Integer, nullable=False),
    Column("delivered_at", DateTime(timezone=True)),
    Column("accepted_at", DateTime(timezone=True)),
    # Whoever is removed leaves no trace of having been invited.
    Column("accepted_by", _ID, ForeignKey("members.id", ondelete="CASCADE")),
    Column("revoked_at", DateTime(timezone=True)),
    CheckConstraint("(accepted_at IS NULL) = (accepted_by IS NULL)", name="invitations_accepted_by_somebody"),
    CheckConstraint("accepted_at IS NULL OR revoked_at IS NULL", name="invitations_one_end"),
    Index("invitations_by_organisation", "organisation_id", "created_at", "id"),
    Index("invitations_by_secret", "secret_hash", unique=True),
    Index("invitations_by_member", "accepted_by"),
)

writes = Table(
    "writes",
    metadata,
    Column("caller", _ID, primary_key=True),
    Column("key", _ID, primary_key=True),
    Column("id", _ID, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("records", JSONB, nullable=False),
    Column("written_at", DateTime(timezone=True), nullable=False),
    Index("writes_by_age", "written_at"),
)
"""Changes that took place, by the key under which their caller may ask for them again."""

directory_users = Table(
    "directory_users",
    metadata,
    Column("member_id", _ID, ForeignKey("members.id", ondelete="CASCADE"), primary_key=True),
    Column("organisation_id", _ID, ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("user_name", Text, nullable=False),
    # The name as names are compared: without case.
    Column("name_key", _ID, nullable=False),
    Column("named_roles", ARRAY(Text), nullable=False),
    # What the member holds by the directory's word alone, and loses by it.
    Column("given_roles", ARRAY(Text), nullable=False),
    Column("attributes", JSONB, nullable=False),
    _updated_at(),
    Index("directory_users_by_name", "organisation_id", "name_key", unique=True),
)

directory_groups = Table(
    "directory_groups",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("organisation_id", _ID, ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("name_key", _ID, nullable=False),
    Column("external_id", _ID),
    Column("created_at", DateTime(timezone=True), nullable=False),
    _updated_at(),
    Index("directory_groups_by_name", "organisation_id", "name_key", unique=True),
)

directory_group_members = Table(
    "directory_group_members",
    metadata,
    Column("group_id", _ID, ForeignKey("directory_groups.id", ondelete="CASCADE"), primary_key=True),
    Column("member_id", _ID, ForeignKey("directory_users.member_id", ondelete="CASCADE"), primary_key=True),
    Index("directory_group_members_by_member", "member_id"),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("operation", _ID, nullable=False),
    Column("stage", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("request", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text),
    Column("outcome", Text, nullable=False),
    Column("codes", ARRAY(Text), nullable=False),
    Column("principal", _ID, nullable=False),
    Column("principal_kind", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("credential", Text),
    Column("roles", ARRAY(Text), nullable=False),
    Column("staff", Boolean, nullable=False),
    Column("viewed_by", _ID),
    # No foreign key: what was done for an organisation stays recorded when it has gone.
    Column("organisation_id", _ID),
    Column("client", Text, nullable=False),
    Column("coordinates", ARRAY(Text), nullable=False),
    Column("denied", ARRAY(Text), nullable=False),
    Column("personal", ARRAY(Text), nullable=False),
    Column("records", ARRAY(Text), nullable=False),
    Column("record_count", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("key_id", Text),
    Column("hash", LargeBinary, nullable=False),
    Index("audit_by_time", "at", "sequence"),
    Index("audit_by_organisation", "organisation_id", "at", "sequence"),
    Index("audit_by_principal", "principal", "at", "sequence"),
    Index("audit_by_operation", "operation"),
    Index("audit_by_coordinate", "coordinates", postgresql_using="gin"),
    Index("audit_by_record", "records", postgresql_using="gin"),
)
"""Only ever added to: triggers refuse everything else, but for what a checkpoint says was deleted by age."""

Index(
    "audit_by_viewer",
    audit.c.viewed_by,
    audit.c.at,
    audit.c.sequence,
    postgresql_where=audit.c.viewed_by.is_not(None),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("one", Boolean, CheckConstraint("one", name="audit_head_is_one"), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("key_id", Text),
    Column("seal", LargeBinary, nullable=False),
)
"""One row: where the trail ends. It only moves forwards."""

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    Column("key_id", Text),
    Column("seal", LargeBinary, nullable=False),
    _updated_at(),
)
"""Up to which record the trail was deleted by age, and its hash, from which the rest goes on."""

viewings = Table(
    "viewings",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("staff", _ID, nullable=False),
    Column("staff_name", Text),
    Column("credential", _ID),
    Column("organisation_id", _ID, ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    # No foreign key: who is removed meanwhile is not there any more, which ends the viewing.
    Column("member_id", _ID),
    Column("roles", ARRAY(Text), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Index("viewings_by_staff", "staff", "expires_at"),
    Index("viewings_by_organisation", "organisation_id"),
)

mirror_streams = Table(
    "mirror_streams",
    metadata,
    Column("source", _ID, primary_key=True),
    Column("stream", _ID, primary_key=True),
    # Which account of the vendor, and in what form its rows are kept.
    Column("account", _ID, nullable=False),
    Column("holder", _ID, nullable=False),
    Column("bookmark", JSONB),
    Column("run_at", DateTime(timezone=True)),
    Column("as_of", DateTime(timezone=True)),
    Column("sweep", BigInteger, nullable=False),
    Column("swept_at", DateTime(timezone=True)),
    Column("dropped", BigInteger, nullable=False),
    Column("failure", Text),
)
"""How far each copy of a vendor's records has come."""

mirror_rows = Table(
    "mirror_rows",
    metadata,
    Column("source", _ID, primary_key=True),
    Column("stream", _ID, primary_key=True),
    Column("id", _ID, primary_key=True),
    Column("parent", _ID),
    Column("places", ARRAY(_ID), nullable=False),
    Column("marks", ARRAY(_ID), nullable=False),
    Column("keys", ARRAY(_ID), nullable=False),
    Column("body", JSONB, nullable=False),
    # The whole run that has seen it last.
    Column("sweep", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["source", "stream"], ["mirror_streams.source", "mirror_streams.stream"], ondelete="CASCADE"
    ),
    Index("mirror_rows_by_parent", "source", "stream", "parent"),
    Index("mirror_rows_by_key", "keys", postgresql_using="gin"),
)
"""Copies of vendors' records."""
