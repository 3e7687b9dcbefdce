"""Staff looking at the graph as a customer's person sees it: for whom, why and how long."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec


class ViewingTerms(msgspec.Struct, frozen=True):
    """What the firm allows."""

    by_member: bool
    """Are people members in the ledger? Where not, a viewing names an organisation and roles."""
    default_minutes: int = 15
    max_minutes: int = 60


class ViewingRecord(msgspec.Struct, frozen=True):
    """One viewing. Worth nothing without the credentials of the member of staff who began it."""

    id: str
    staff: str
    """An identity."""
    organisation: str
    reason: str
    created_at: datetime
    expires_at: datetime
    staff_name: str | None = None
    credential: str | None = None
    """The browser session in which it began; it ends with that one. None: it began with a bearer token."""
    member: str | None = None
    """The ledger's id of whom it shows; None where memberships are not kept in the ledger."""
    roles: tuple[str, ...] = ()
    """Where there is no such member: the roles of the person that it shows."""
    ended_at: datetime | None = None

    @property
    def runs(self) -> bool:
        """At this moment."""
        return self.ended_at is None and self.expires_at > datetime.now(UTC)


class ViewingStore(Protocol):
    """The ledger's book of viewings."""

    async def begin(self, viewing: ViewingRecord) -> None:
        """Refused: TOO_MANY."""

    async def end(self, viewing: str, staff: str) -> None:
        """Ending one again changes nothing. Refused: NOT_FOUND, also for somebody else's."""

    async def begun_by(self, staff: str, viewing: str) -> ViewingRecord | None:
        """One's own, answered from memory. None where there is no such viewing or somebody else has begun it, which cost
        the same."""

    async def viewings(self, ids: Sequence[str]) -> Sequence[ViewingRecord | None]:
        """In the order asked, whoever's; answered from memory."""
