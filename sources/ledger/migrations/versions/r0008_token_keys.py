"""Which key a connection's tokens are encrypted with; none for rows from before there were keys."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("tokens", sa.Column("key_id", sa.Text))
