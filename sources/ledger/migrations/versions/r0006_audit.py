"""The audit trail, which can only be added to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0006"
down_revision = "0005"

_ID = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("operation", _ID, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("codes", ARRAY(sa.Text), nullable=False),
        sa.Column("principal", _ID, nullable=False),
        sa.Column("principal_kind", sa.Text, nullable=False),
        sa.Column("via", sa.Text, nullable=False),
        sa.Column("credential", sa.Text),
        sa.Column("roles", ARRAY(sa.Text), nullable=False),
        sa.Column("staff", sa.Boolean, nullable=False),
        sa.Column("viewed_by", _ID),
        sa.Column("organisation_id", _ID),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("coordinates", ARRAY(sa.Text), nullable=False),
        sa.Column("denied", ARRAY(sa.Text), nullable=False),
        sa.Column("personal", ARRAY(sa.Text), nullable=False),
        sa.Column("records", ARRAY(sa.Text), nullable=False),
        sa.Column("record_count", sa.Integer, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    for name, columns in (
        ("audit_by_time", ["at", "sequence"]),
        ("audit_by_organisation", ["organisation_id", "at", "sequence"]),
        ("audit_by_principal", ["principal", "at", "sequence"]),
        ("audit_by_operation", ["operation"]),
    ):
        op.create_index(name, "audit", columns)
    op.create_index("audit_by_coordinate", "audit", ["coordinates"], postgresql_using="gin")
    op.create_index("audit_by_record", "audit", ["records"], postgresql_using="gin")
    op.create_index(
        "audit_by_viewer",
        "audit",
        ["viewed_by", "at", "sequence"],
        postgresql_where=sa.text("viewed_by IS NOT NULL"),
    )
    op.create_table(
        "audit_head",
        sa.Column("one", sa.Boolean, sa.CheckConstraint("one", name="audit_head_is_one"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("seal", sa.LargeBinary, nullable=False),
    )
    op.execute(
        "INSERT INTO audit_head (one, sequence, hash, seal) VALUES (true, 0, decode(repeat('00', 32), 'hex'), '')"
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("seal", sa.LargeBinary, nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.clock_timestamp(),
        ),
    )
    op.execute(
        """
        CREATE FUNCTION gateway_audit_refused() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% of % is refused: the audit trail is only added to', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'insufficient_privilege';
        END
        $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION gateway_audit_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM audit_checkpoints WHERE sequence >= OLD.sequence) THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'DELETE of audit is refused: only gateway audit prune deletes, by age'
                USING ERRCODE = 'insufficient_privilege';
        END
        $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION gateway_audit_moved() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.sequence > OLD.sequence THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'UPDATE of audit_head is refused: the audit trail only grows'
                USING ERRCODE = 'insufficient_privilege';
        END
        $$
        """
    )
    for table, when, function in (
        ("audit", "BEFORE UPDATE", "refused"),
        ("audit", "BEFORE DELETE", "deleted"),
        ("audit_head", "BEFORE UPDATE", "moved"),
        ("audit_head", "BEFORE INSERT OR DELETE", "refused"),
        ("audit_checkpoints", "BEFORE UPDATE OR DELETE", "refused"),
    ):
        name = "_".join([table, *when.lower().removeprefix("before ").split(" or ")])
        op.execute(
            f"CREATE TRIGGER {name} {when} ON {table} FOR EACH ROW EXECUTE FUNCTION gateway_audit_{function}()"
        )
    for table in ("audit", "audit_head", "audit_checkpoints"):
        op.execute(
            f"CREATE TRIGGER {table}_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION gateway_audit_refused()"
        )
