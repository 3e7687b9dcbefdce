"""One deadline per request; every wait inside takes from it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

DEFAULT_SECONDS = 5.0
"""For work that no request's deadline covers, such as the start-up's own calls."""


class _Deadline:
    """``over``: what it was for has ended, so that it binds nobody who still has it in a copied context: work that goes on,
    and a connection's next request, whose reading a server may resume in the context of the one before."""

    __slots__ = ("ends_at", "over")

    def __init__(self, ends_at: float) -> None:
        self.ends_at, self.over = ends_at, False


_deadline: ContextVar[_Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(seconds: float, since: float | None = None) -> Iterator[None]:
    """All calls made inside must be answered within ``seconds`` from now, or from ``since`` on the loop's clock; an outer,
    earlier deadline stays."""
    ends_at = (asyncio.get_running_loop().time() if since is None else since) + seconds
    outer = _deadline.get()
    inner = _Deadline(ends_at if outer is None or outer.over else min(ends_at, outer.ends_at))
    token = _deadline.set(inner)
    try:
        yield
    finally:
        inner.over = True
        _deadline.reset(token)


def remaining() -> float:
    """Seconds left, never negative."""
    current = _deadline.get()
    if current is None or current.over:
        return DEFAULT_SECONDS
    return max(0.0, current.ends_at - asyncio.get_running_loop().time())
