"""What befalls a vendor, and what the home page may then say of its fields."""

from typing import Any

import msgspec

from tests.chaos.portal import DEADLINE, Portal
from tests.chaos.road import Trouble

WINDOW = 0.7
"""Seconds that a fault lasts at least."""


class Fault(msgspec.Struct, frozen=True):
    """One of the vendor's, in its own words, or of the road to it."""

    name: str
    code: str
    """What the fields say."""
    left_alone: bool = False
    """May they say SOURCE_UNAVAILABLE, too, as the circuit breaker opens?"""
    road: Trouble | None = None
    box: tuple[str, dict[str, Any]] | None = None
    """The sandbox's fault and its settings."""
    seconds: float = WINDOW

    async def begin(self, portal: Portal, vendor: str) -> None:
        if self.road is not None:
            await portal.roads[vendor].begin(self.road)
        if self.box is not None:
            kind, settings = self.box
            portal.door.boxes[vendor].faults.add(kind, **settings)  # type: ignore[arg-type]

    async def end(self, portal: Portal, vendor: str) -> None:
        if self.road is not None:
            await portal.roads[vendor].end()
        portal.door.boxes[vendor].faults.clear()

    @property
    def may_say(self) -> frozenset[str]:
        """What the source's fields may say."""
        return frozenset((self.code, "SOURCE_UNAVAILABLE") if self.left_alone else (self.code,))

    def codes(self) -> str:
        """The same in words."""
        return ", then ".join([self.code, *(self.may_say - {self.code})])


_LONG = DEADLINE + WINDOW

FAULTS = (
    Fault("connection refused", "SOURCE_UNAVAILABLE", True, road="refused"),
    Fault("hang", "SOURCE_TIMEOUT", True, road="hang", seconds=_LONG),
    Fault("slow drip", "SOURCE_TIMEOUT", True, road="drip", seconds=_LONG),
    Fault("reset mid-body", "SOURCE_BAD_RESPONSE", True, road="reset"),
    # Longer than a page can wait.
    Fault("429 with Retry-After", "SOURCE_RATE_LIMITED", box=("rate_limit", {"retry_after": 2})),
    # Pages wait for the second that the source is given, and find it as it was.
    Fault("429 without", "SOURCE_RATE_LIMITED", box=("rate_limit", {}), seconds=_LONG),
    Fault("500 burst", "SOURCE_UNAVAILABLE", True, box=("fail", {"status": 500})),
    Fault("garbage", "SOURCE_BAD_RESPONSE", True, road="garbage"),
    Fault("truncated gzip", "SOURCE_BAD_RESPONSE", True, road="cut gzip"),
    Fault("wrong length", "SOURCE_BAD_RESPONSE", True, road="wrong length"),
    Fault("TLS: certificate expired", "SOURCE_UNAVAILABLE", True, road="expired"),
)
