"""Alembic's entry: runs the revisions on the connection that Ledger.migrate holds."""

from alembic import context

from sources.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # The database may be shared with programs that keep an alembic_version of their own.
    version_table="ledger_version",
)
with context.begin_transaction():
    context.run_migrations()
