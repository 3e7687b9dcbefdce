"""For whom a call to a vendor is made: how urgent it is, and which organisation's it is."""

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


call_for, call_as_before = _caller.set, _caller.reset
"""What ``calling_for`` is made of, for where each request passes: the block takes three times as long."""


class calling_for:  # noqa: N801 - said as ``with calling_for(...)``
    """All calls made inside are made for this caller."""

    __slots__ = ("_caller", "_token")

    def __init__(self, urgency: Urgency, organisation: str | None = None) -> None:
        self._caller = urgency, organisation

    def __enter__(self) -> None:
        self._token = _caller.set(self._caller)

    def __exit__(self, *error: object) -> None:
        _caller.reset(self._token)


caller = _caller.get
"""Work that nobody asked for is in the background."""
