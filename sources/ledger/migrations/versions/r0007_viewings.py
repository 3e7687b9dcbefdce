"""The book of viewings."""

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Filled with its tables."""
