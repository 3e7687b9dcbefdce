"""One deadline per request; every wait inside takes from it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

DEFAULT_SECONDS = 5.0
"""For work that no request's deadline covers, such as the start-up's own calls."""

_ends_at: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(seconds: float, since: float | None = None) -> Iterator[None]:
    """All calls made inside must be answered within ``seconds`` from now, or from ``since`` on the loop's clock; an outer,
    earlier deadline stays."""
    ends_at = (asyncio.get_running_loop().time() if since is None else since) + seconds
    outer = _ends_at.get()
    token = _ends_at.set(ends_at if outer is None else min(ends_at, outer))
    try:
        yield
    finally:
        _ends_at.reset(token)


def remaining() -> float:
    """Seconds left, never negative."""
    ends_at = _ends_at.get()
    if ends_at is None:
        return DEFAULT_SECONDS
    return max(0.0, ends_at - asyncio.get_running_loop().time())
