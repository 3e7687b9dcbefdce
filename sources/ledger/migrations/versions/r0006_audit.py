"""The book of audit."""

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Filled with its tables."""
