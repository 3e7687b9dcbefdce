"""Every change of links and organisations notifies the processes that remember them."""

from alembic import op

revision = "0002"
down_revision = "0001"

_BOOKS = ("links", "organisations", "organisation_accounts")


def upgrade() -> None:
    op.execute(
        """
        CREATE FUNCTION gateway_ledger_changed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_notify('gateway_ledger', TG_TABLE_NAME);
            RETURN NULL;
        END
        $$
        """
    )
    for book in _BOOKS:
        op.execute(
            f"""
            CREATE TRIGGER {book}_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {book}
            FOR EACH STATEMENT EXECUTE FUNCTION gateway_ledger_changed()
            """
        )
