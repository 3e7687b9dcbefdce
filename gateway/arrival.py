"""Where a request comes from, what it is called and how it is doing, for whoever tells of it on its way or at the end. An
operation on a socket is one of its own."""

from contextvars import ContextVar
from time import perf_counter

import msgspec


class Arrival(msgspec.Struct, gc=False):
    """Whatever is done for it finds it as ``arrival.get()``."""

    client: str
    """Its network address, empty where it has none."""
    request_id: str
    """By what logs, errors and the audit trail know it."""
    stays: bool = False
    """Is it a connection that stays open, or an operation on one?"""
    began: float = msgspec.field(default_factory=perf_counter)
    status: int = 0
    """Of its answer over HTTP; 0 while it has none."""
    kind: str | None = None
    """Of its operation; None where it has none."""
    outcome: str = ""
    codes: tuple[str, ...] = ()
    """Of the errors in its answer."""
    sources: tuple[str, ...] = ()
    """Those that failed it."""


_NOBODYS = Arrival("", "")

arrival: ContextVar[Arrival] = ContextVar("arrival", default=_NOBODYS)
"""What is done outside of a request is noted with nobody's."""
