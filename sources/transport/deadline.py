"""One deadline per request; every wait inside takes from it."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

DEFAULT_SECONDS = 5.0
"""For work that no request's deadline covers, such as the start-up's own calls."""


ANSWER_PART = 0.25
"""Of the time that is left, what a wait must leave for the call itself and for what is asked because of its answer."""


class _Deadline:
    """``over``: what it was for has ended, so that it binds nobody who still has it in a copied context: work that goes on,
    and a connection's next request, whose reading a server may resume in the context of the one before. No generator, as
    each request and call has one."""

    __slots__ = ("_token", "ends_at", "over", "unhurried")

    def __init__(self, ends_at: float, unhurried: float) -> None:
        self.ends_at, self.unhurried, self.over = ends_at, unhurried, False

    def __enter__(self) -> None:
        self._token = _deadline.set(self)

    def __exit__(self, *error: object) -> None:
        self.over = True
        _deadline.reset(self._token)


_deadline: ContextVar[_Deadline | None] = ContextVar("deadline", default=None)


def deadline(
    seconds: float, since: float | None = None, unhurried: float | None = None
) -> AbstractContextManager[None]:
    """All calls made inside must be answered within ``seconds`` from now, or from ``since`` on the loop's clock; an outer,
    earlier deadline stays. ``unhurried``: the seconds that it would be had the client not asked for less."""
    began = asyncio.get_running_loop().time() if since is None else since
    ends_at, others = began + seconds, began + (seconds if unhurried is None else unhurried)
    outer = _deadline.get()
    if outer is not None and not outer.over:
        ends_at, others = min(ends_at, outer.ends_at), min(others, outer.unhurried)
    return _Deadline(ends_at, others)


def shared_deadline() -> AbstractContextManager[None]:
    """For a call that others may wait for as well: one client's hurry does not end it, but whoever asked first has no
    more than the gateway gives."""
    outer, now = _deadline.get(), asyncio.get_running_loop().time()
    ends_at = now + DEFAULT_SECONDS if outer is None or outer.over else outer.unhurried
    return _Deadline(ends_at, ends_at)


@contextmanager
def no_deadline() -> Iterator[None]:
    """What is begun inside is bound by none but its own."""
    token = _deadline.set(None)
    try:
        yield
    finally:
        _deadline.reset(token)


def overrun() -> float:
    """Seconds since the deadline passed; negative before, and where there is none."""
    current = _deadline.get()
    if current is None or current.over:
        return -DEFAULT_SECONDS
    return asyncio.get_running_loop().time() - current.ends_at


def remaining() -> float:
    """Seconds left, never negative."""
    current = _deadline.get()
    if current is None or current.over:
        return DEFAULT_SECONDS
    return max(0.0, current.ends_at - asyncio.get_running_loop().time())


def longest_wait() -> float:
    """Seconds that may pass before a call is made; whoever would wait longer is better told so at once."""
    return remaining() * (1.0 - ANSWER_PART)
