"""What is counted of the calls to a source, for whoever watches it."""

from asyncio import CancelledError
from collections import Counter

from sources.ports.errors import (
    InvalidRequest,
    SourceBadResponse,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
)
from sources.ports.histogram import Histogram

OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (SourceTimeout, "timeout"),
    (SourceUnavailable, "unavailable"),
    (SourceRateLimited, "rate_limited"),
    (SourceRejected, "rejected"),
    (SourceBadResponse, "bad_response"),
    (InvalidRequest, "refused"),
    (CancelledError, "abandoned"),
)
"""How a call can end other than well. ``refused``: the vendor did not like the question; ``abandoned``: nobody waited any
more."""


class CallCounts:
    """Of one endpoint class of one account: calls that left this machine, each attempt by itself."""

    __slots__ = ("answered", "failed", "seconds")

    def __init__(self) -> None:
        self.answered = 0
        """Well."""
        self.failed: Counter[str] = Counter()
        """By the words of ``OUTCOMES``."""
        self.seconds = Histogram()
        """From sending the request to the answer's last byte."""

    def fail(self, error: BaseException) -> None:
        self.failed[_outcome(error)] += 1

    def add(self, other: "CallCounts") -> None:
        """Those of another account of the same source."""
        self.answered += other.answered
        self.failed += other.failed
        self.seconds.add(other.seconds)


class Renewals:
    """Access tokens that were fetched anew, of all sources."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """By source, and ``ok`` or one of the words of ``OUTCOMES``."""

    def ended(self, source: str, error: BaseException | None) -> None:
        self.counts[source, "ok" if error is None else _outcome(error)] += 1


def _outcome(error: BaseException) -> str:
    for family, word in OUTCOMES:
        if isinstance(error, family):
            return word
    return "refused"  # in a vendor's own words
