"""The book of members."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Filled with its tables."""
