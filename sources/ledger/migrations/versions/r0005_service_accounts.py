"""The book of service accounts."""

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Filled with its tables."""
