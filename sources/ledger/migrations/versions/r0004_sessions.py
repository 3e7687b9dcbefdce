"""The book of sessions."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Filled with its tables."""
