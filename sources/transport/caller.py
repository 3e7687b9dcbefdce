"""For whom a call to a vendor is made: how urgent it is, and which organisation's it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum


class Urgency(IntEnum):
    """Who goes first where a vendor's budget is short; the smaller, the sooner."""

    INTERACTIVE = 0
    """A customer waits for a page."""
    DASHBOARD = 1
    """The firm's own people look at many customers."""
    BACKGROUND = 2
    """Nobody waits: matching, copying, reading ahead."""


Caller = tuple[Urgency, str | None]
"""The organisation is None where the call is the firm's own."""

_caller: ContextVar[Caller] = ContextVar("caller", default=(Urgency.BACKGROUND, None))


@contextmanager
def calling_for(urgency: Urgency, organisation: str | None = None) -> Iterator[None]:
    """All calls made inside are made for this caller."""
    token = _caller.set((urgency, organisation))
    try:
        yield
    finally:
        _caller.reset(token)


def caller() -> Caller:
    """Work that nobody asked for is in the background."""
    return _caller.get()
