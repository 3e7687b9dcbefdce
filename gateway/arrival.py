"""Where a request comes from, what it is called and how it is doing, for whoever tells of it on its way or at the end. An
operation on a socket is one of its own."""

from contextvars import ContextVar
from time import perf_counter


class Arrival:
    """Whatever is done for it finds it as ``arrival.get()``."""

    __slots__ = ("began", "client", "codes", "kind", "outcome", "request_id", "sources", "status", "stays")

    def __init__(self, client: str, request_id: str, stays: bool = False) -> None:
        self.client, self.request_id = client, request_id
        """Its network address, empty where it has none; and by what logs, errors and the audit trail know it."""
        self.began = perf_counter()
        self.stays = stays
        """Is it a connection that stays open, or an operation on one?"""
        self.status = 0
        """Of its answer over HTTP; 0 while it has none."""
        self.kind: str | None = None
        """Of its operation; None where it has none."""
        self.outcome = ""
        self.codes: tuple[str, ...] = ()
        """Of the errors in its answer."""
        self.sources: tuple[str, ...] = ()
        """Those that failed it."""


_NOBODYS = Arrival("", "")

arrival: ContextVar[Arrival] = ContextVar("arrival", default=_NOBODYS)
"""What is done outside of a request is noted with nobody's."""
