"""Durations counted into buckets, as Prometheus' histograms want them: cheap to count, put together when asked for."""

from bisect import bisect_left
from collections.abc import Sequence

CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Prometheus' own choice: from an answer of a cache in the next room to one after every deadline."""

AGE_SECONDS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""How old something is that is shown although it is due."""


class Histogram:
    """Of one series."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = CALL_SECONDS) -> None:
        self.bounds = bounds
        """The upper, inclusive ones, smallest first."""
        self.counts = [0] * (len(bounds) + 1)
        """By bucket, each without those before it; the last one is of what is above all bounds."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: "Histogram") -> None:
        """What another series of the same bounds has counted."""
        for bucket, count in enumerate(other.counts):
            self.counts[bucket] += count
        self.total += other.total
