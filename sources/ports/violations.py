"""Rows that a source gave for somebody else. Whoever finds one drops it and says so here."""

from collections import Counter
from typing import Literal

import structlog

log = structlog.get_logger()

ViolationKind = Literal["account", "comment", "contact", "row", "version"]
"""What it was a row of; ``row``: an invoice, a ticket or a document."""


class Violations:
    """Counts them, by source and kind; must stay 0."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ViolationKind]] = Counter()

    @property
    def total(self) -> int:
        """Of all sources and kinds."""
        return self.counts.total()

    def record(self, source: str, kind: ViolationKind, rows: int = 1) -> None:
        """Rows of one answer. Logs without data: neither what they are nor whose."""
        self.counts[source, kind] += rows
        log.error("scope_violation", source=source, kind=kind, rows=rows)
