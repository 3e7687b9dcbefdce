"""The terms of calls that nobody waits for."""

from collections.abc import Iterator
from contextlib import contextmanager

from sources.transport.caller import Urgency, calling_for
from sources.transport.deadline import deadline

BACKGROUND_SECONDS = 60.0
"""In which such a call must find its place within the vendor's limits and be answered."""


@contextmanager
def in_background() -> Iterator[None]:
    """For one call or a few: after everybody else's, with time."""
    with calling_for(Urgency.BACKGROUND), deadline(BACKGROUND_SECONDS):
        yield
