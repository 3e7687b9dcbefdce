"""How the connected systems are doing, as operators see it."""

from datetime import datetime
from enum import Enum

import msgspec

from sources.ports.links import LinkState


class SourceState(Enum):
    """Whether a system can be asked."""

    HEALTHY = "healthy"
    LIMITED = "limited"
    """Over one of its limits: only what was read before is given for a while."""
    RECOVERING = "recovering"
    """It failed; single calls try whether it answers again."""
    FAILING = "failing"
    """It is left alone for a moment."""


class SourceHealth(msgspec.Struct, frozen=True):
    """One system, as the process knows it that was asked."""

    name: str
    kind: str
    state: SourceState
    trouble: str | None = None
    """In words."""
    retry_after: float | None = None
    waiting: int = 0
    """Calls that wait for a place within its limits."""
    answered_at: datetime | None = None
    """When it last answered a read; None: it was not asked yet, or nothing is remembered (``[cache]`` is off). Of one that
    is copied: up to when the copy reaches."""
    lag_seconds: float | None = None
    """Since then: what it changed meanwhile nobody here has seen."""
    live: int = 0
    """Records and lists that were read from it since the process started."""
    cached: int = 0
    stale: int = 0


class AccountSync(msgspec.Struct, frozen=True):
    """How one account stands in one system."""

    source: SourceHealth
    link: LinkState | None = None
    """How it was found there; None: it is the CRM's own, or was never looked for."""
